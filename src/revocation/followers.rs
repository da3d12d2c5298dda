//! Processes that follow the revocations of a [`DurableStore`](super::DurableStore): they have handed their work over, but
//! some of their responses are not finished.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use super::Revocation;
use crate::{clock::Timestamp, passticket::UserId, token::ServiceId};

/// The maximum number of revocations that a follower has not read. A follower that is further behind is dropped.
const MAX_UNREAD: usize = 65_536;

/// A revocation that a [`DurableStore`](super::DurableStore) has applied. It is only for a store with the same file:
/// fingerprints of tokens are salted with the salt of the file. `Display` and `FromStr` convert it to text and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedRevocation(pub(super) Revocation);

/// The text is not one of [`AppliedRevocation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation is malformed, or has the format of a newer version of this program")]
pub struct AppliedRevocationError;

impl fmt::Display for AppliedRevocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
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

fn parse(text: &str) -> Option<Revocation> {
    let words: Vec<_> = text.split(' ').collect();
    let [kind, subject, millis] = words.try_into().ok()?;
    let time = Timestamp::from_millis(millis.parse().ok()?);
    Some(match kind {
        "token" => Revocation::Token { token: subject.parse().ok()?, expires_at: time },
        "user" => Revocation::User { user: UserId::new(subject).ok()?, up_to: time },
        "service" => Revocation::Service { service: ServiceId::new(subject).ok()?, up_to: time },
        _ => return None,
    })
}

/// The revocations of a store, from the time at which a process began to follow it.
#[derive(Debug)]
pub struct RevocationFeed(mpsc::Receiver<AppliedRevocation>);

impl RevocationFeed {
    /// Polls the next revocation. The result is `None` if the store was dropped, or if more than 65,536 revocations were
    /// not read.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<AppliedRevocation>> {
        self.0.poll_recv(cx)
    }
}

/// The followers of a store. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Arc<Mutex<Vec<mpsc::Sender<AppliedRevocation>>>>);

impl Followers {
    pub(super) fn add(&self) -> RevocationFeed {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD);
        self.lock().push(sender);
        RevocationFeed(receiver)
    }

    /// Tells the followers about a revocation. This never waits.
    pub(super) fn tell(&self, revocation: &Revocation) {
        let mut followers = self.lock();
        if !followers.is_empty() {
            followers.retain(|it| it.try_send(AppliedRevocation(revocation.clone())).is_ok());
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
        for text in [&*token, "user USER 7", "service zosmf 18446744073709551615"] {
            assert_eq!(text.parse::<AppliedRevocation>().unwrap().to_string(), text);
        }
        for wrong in ["", "user USER", "user USER 7 8", "user USER x", "token 0a 5", "rule A 1"] {
            assert_eq!(wrong.parse::<AppliedRevocation>(), Err(AppliedRevocationError), "{wrong}");
        }
        let not_hex = format!("token {} 5", "+a".repeat(32));
        assert_eq!(not_hex.parse::<AppliedRevocation>(), Err(AppliedRevocationError));
    }
}
