//! Processes that follow the revocations of a [`DurableStore`](super::DurableStore). Such a process has handed its work
//! over to a new process, but still has responses that are not finished.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use super::{Revocation, salt::Salt, salts::Salts};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{ServiceId, TokenFingerprint},
};

/// The maximum number of revocations that a follower has not read. A follower with more unread revocations is dropped.
const MAX_UNREAD: usize = 65_536;

/// A revocation that a [`DurableStore`](super::DurableStore) has applied, or a salt that later revocations need. Only a
/// store with the same file can use the value, because the fingerprints of tokens in it are salted for this file.
/// `Display` and `FromStr` convert it to text and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRevocation(pub(super) Applied);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Applied {
    Revocation(Revocation),
    /// A salt of fingerprints in later revocations. The follower may not know it yet.
    Salt([u8; Salt::LEN]),
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revocation(revocation) => revocation.fmt(f),
            Self::Salt(_) => f.write_str("Salt"),
        }
    }
}

/// The text is not an [`AppliedRevocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation is malformed, or has the format of a newer version of this program")]
pub struct AppliedRevocationError;

impl fmt::Display for AppliedRevocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revocation = match &self.0 {
            Applied::Revocation(revocation) => revocation,
            Applied::Salt(salt) => {
                f.write_str("salt ")?;
                return salt.iter().try_for_each(|byte| write!(f, "{byte:02x}"));
            }
        };
        match revocation {
            Revocation::Token { token, expires_at } => {
                write!(f, "token {token} {}", expires_at.as_millis())
            }
            Revocation::User { user, up_to } => write!(f, "user {user} {}", up_to.as_millis()),
            Revocation::Service { service, up_to } => {
                write!(f, "service {service} {}", up_to.as_millis())
            }
        }
    }
}

impl FromStr for AppliedRevocation {
    type Err = AppliedRevocationError;

    fn from_str(text: &str) -> Result<Self, AppliedRevocationError> {
        parse(text).map(Self).ok_or(AppliedRevocationError)
    }
}

fn parse(text: &str) -> Option<Applied> {
    if let Some(digits) = text.strip_prefix("salt ") {
        return parse_salt(digits).map(Applied::Salt);
    }
    let words: Vec<_> = text.split(' ').collect();
    let [kind, subject, millis] = words.try_into().ok()?;
    let time = Timestamp::from_millis(millis.parse().ok()?);
    Some(Applied::Revocation(match kind {
        "token" => Revocation::Token { token: subject.parse().ok()?, expires_at: time },
        "user" => Revocation::User { user: UserId::new(subject).ok()?, up_to: time },
        "service" => Revocation::Service { service: ServiceId::new(subject).ok()?, up_to: time },
        _ => return None,
    }))
}

fn parse_salt(digits: &str) -> Option<[u8; Salt::LEN]> {
    // A fingerprint has 64 digits, and a salt has twice as many.
    let (first, second) = digits.split_at_checked(Salt::LEN)?;
    let halves = [first.parse::<TokenFingerprint>().ok()?, second.parse().ok()?];
    halves.map(|half| *half.as_bytes()).as_flattened().try_into().ok()
}

/// The revocations of a store, from the time at which a process began to follow it.
#[derive(Debug)]
pub struct RevocationFeed(mpsc::Receiver<AppliedRevocation>);

impl RevocationFeed {
    /// Polls the next revocation. The result is `None` if the store was dropped, or if more than 65,536 revocations
    /// were not read.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<AppliedRevocation>> {
        self.0.poll_recv(cx)
    }
}

/// The followers of a store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Arc<Mutex<Vec<mpsc::Sender<AppliedRevocation>>>>);

impl Followers {
    /// Adds a follower, and sends it all salts except the one with which the file was opened.
    pub(super) fn add(&self, salts: &Salts) -> RevocationFeed {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD);
        let mut followers = self.lock();
        // The lock is held until the new follower is in the list, so that the follower receives these salts before the
        // first revocation.
        for salt in salts.foreign().chain(salts.adopted()) {
            // The channel has room for all salts.
            let _ = sender.try_send(AppliedRevocation(Applied::Salt(*salt.bytes())));
        }
        followers.push(sender);
        RevocationFeed(receiver)
    }

    /// Sends a revocation to the followers. This call never waits for a follower.
    pub(super) fn tell(&self, revocation: &Revocation) {
        self.send(|| Applied::Revocation(revocation.clone()));
    }

    /// Sends a salt to the followers. Call this before the first revocation that needs the salt.
    #[cfg(feature = "redis")]
    pub(super) fn tell_salt(&self, salt: &[u8; Salt::LEN]) {
        self.send(|| Applied::Salt(*salt));
    }

    fn send(&self, applied: impl Fn() -> Applied) {
        let mut followers = self.lock();
        if !followers.is_empty() {
            followers.retain(|it| it.try_send(AppliedRevocation(applied())).is_ok());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::Sender<AppliedRevocation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_read_back_and_other_texts_are_errors() {
        let token = format!("token {} 5", "0a".repeat(32));
        let salt = format!("salt {}", "0b".repeat(64));
        for text in [&*token, &salt, "user USER 7", "service zosmf 18446744073709551615"] {
            assert_eq!(text.parse::<AppliedRevocation>().unwrap().to_string(), text);
        }
        for wrong in ["", "user USER", "user USER 7 8", "user USER x", "token 0a 5", "rule A 1"] {
            assert_eq!(wrong.parse::<AppliedRevocation>(), Err(AppliedRevocationError), "{wrong}");
        }
        for wrong in ["salt 0b".to_owned(), format!("salt {}", "0b".repeat(65))] {
            assert_eq!(wrong.parse::<AppliedRevocation>(), Err(AppliedRevocationError), "{wrong}");
        }
        let not_hex = format!("token {} 5", "+a".repeat(32));
        assert_eq!(not_hex.parse::<AppliedRevocation>(), Err(AppliedRevocationError));
    }
}
