//! The records about tokens that the nodes of a cluster share.

use std::fmt;

use super::{Revocation, access_tokens::Entry};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{ServiceId, TokenFingerprint},
};

/// The length of a salt in bytes.
pub const SALT_LEN: usize = 64;

/// The maximum length of the value of a record in bytes. An [`IssuedRecord`] always fits: the text of a PAT has room
/// for at most about 2,200 services, and each service takes 8 bytes in the record.
const MAX_VALUE: usize = 64 * 1024;

/// One fact about tokens. The nodes of a cluster exchange their records, so that each node knows all records.
///
/// Two records with the same [key](Self::parts) are merged: usually, the record with the later time stays
/// ([`RecordKind::merge`]). A record never removes a record with another key. So nodes can exchange records in any
/// order, and more than once. Only a [`RuleOfNow`](Self::RuleOfNow) depends on the order.
///
/// A fingerprint in a record is salted with the salt of the file of one of the nodes. A node knows the salts of all
/// nodes, because salts are records, too.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A revocation.
    Revocation(Revocation),
    /// A rule with the current time, for a user or a service. It also revokes PATs with a later issue time, if their
    /// [`Issued`](Self::Issued) records are before this record in the log (docs/decisions.md#d8).
    RuleOfNow(Revocation),
    /// A PAT that a node has issued.
    Issued(IssuedRecord),
    /// A salt with which a node has salted fingerprints.
    Salt([u8; SALT_LEN]),
    /// An entry of the registry of issued PATs.
    AccessToken(AccessTokenRecord),
}

/// An entry of the registry of issued PATs (docs/decisions.md#d36). Nodes merge two entries of a token field by field.
/// If an entry lacks a newer field of the merged entry, the merged entry has a larger
/// [version](RecordKind::AccessToken), and replaces the entry. So all nodes finally have the newer fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokenRecord(pub(super) Entry);

/// A PAT (Personal Access Token) that a node has issued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedRecord {
    /// The salted fingerprint of the token.
    pub token: TokenFingerprint,
    /// The user of the token.
    pub user: UserId,
    /// Hashes of the services that accept the token, 8 bytes for each service.
    pub scope_hashes: Vec<u8>,
    /// The issue time in the token.
    pub issued_at: Timestamp,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// The kind of a record. The store that the nodes share keeps each kind under its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// The revocation of one token. The key is the salted fingerprint, and the value is the expiry time of the token.
    Token,
    /// A rule for a user. The key is the user id, and the value is the time of the rule.
    User,
    /// A rule for a service. The key is the service id, and the value is the time of the rule.
    Service,
    /// An issued PAT. The key consists of its issue time and its salted fingerprint.
    Issued,
    /// A salt. The key is the salt, and the value has no meaning.
    Salt,
    /// An entry of the registry of issued PATs. The key consists of the salted fingerprint and the user. The value
    /// begins with the version of the entry and the expiry time of the PAT, each in 20 decimal digits.
    AccessToken,
}

/// How two values of the same key are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Both values are decimal numbers. The larger value stays.
    Larger,
    /// The first value stays.
    First,
    /// Both values begin with a number of 20 decimal digits. The value with the larger number stays.
    Newest,
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Token, Self::User, Self::Service, Self::Issued, Self::Salt, Self::AccessToken];

    /// Returns the letter that stands for this kind in the store that the nodes share.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Token => "t",
            Self::User => "u",
            Self::Service => "s",
            Self::Issued => "p",
            Self::Salt => "x",
            Self::AccessToken => "a",
        }
    }

    /// Returns the kind with this letter, if there is one.
    pub fn from_letter(letter: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.letter().as_bytes() == letter)
    }

    /// Returns how two values of this kind are merged.
    pub fn merge(self) -> Merge {
        match self {
            Self::Token | Self::User | Self::Service => Merge::Larger,
            Self::Issued | Self::Salt => Merge::First,
            Self::AccessToken => Merge::Newest,
        }
    }
}

/// A record as bytes, for the store that the nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordParts {
    /// The kind.
    pub kind: RecordKind,
    /// Identifies the record among the records of its kind.
    pub key: Vec<u8>,
    /// The value. Two values are merged as [`RecordKind::merge`] says.
    pub value: Vec<u8>,
    /// Whether the record is a [`Record::RuleOfNow`].
    pub is_of_now: bool,
}

/// The bytes are not a record, or a newer version of this program has written them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared record is malformed, or has the format of a newer version of this program")]
pub struct RecordError;

impl Record {
    /// Converts the record to bytes.
    pub fn parts(&self) -> RecordParts {
        let is_of_now = matches!(self, Self::RuleOfNow(_));
        let (kind, key, value) = match self {
            Self::Revocation(revocation) | Self::RuleOfNow(revocation) => match revocation {
                Revocation::Token { token, expires_at } => {
                    (RecordKind::Token, token.as_bytes().to_vec(), decimal(*expires_at))
                }
                Revocation::User { user, up_to } => {
                    (RecordKind::User, user.as_str().into(), decimal(*up_to))
                }
                Revocation::Service { service, up_to } => {
                    (RecordKind::Service, service.as_str().into(), decimal(*up_to))
                }
            },
            Self::Issued(issued) => {
                let IssuedRecord { token, user, scope_hashes, issued_at, expires_at } = issued;
                let key = [&issued_at.as_millis().to_be_bytes()[..], token.as_bytes()].concat();
                let user = user.as_str().as_bytes();
                // A user id has at most 8 characters.
                let user_len = [u8::try_from(user.len()).unwrap_or(u8::MAX)];
                let expires_at = expires_at.as_millis().to_be_bytes();
                (RecordKind::Issued, key, [&expires_at[..], &user_len, user, scope_hashes].concat())
            }
            Self::Salt(salt) => (RecordKind::Salt, salt.to_vec(), b"1".to_vec()),
            Self::AccessToken(AccessTokenRecord(entry)) => {
                let key = [&entry.token.as_bytes()[..], entry.user.as_str().as_bytes()].concat();
                let head = format!("{:020}{:020}", entry.version(), entry.expires_at.as_millis());
                (RecordKind::AccessToken, key, [head.as_bytes(), &entry.to_bytes()].concat())
            }
        };
        RecordParts { kind, key, value, is_of_now }
    }

    /// Returns the approximate number of bytes in the [parts](Self::parts).
    pub(crate) fn size(&self) -> usize {
        const WITHOUT_SCOPE: usize = 100;
        match self {
            Self::Issued(issued) => WITHOUT_SCOPE + issued.scope_hashes.len(),
            Self::AccessToken(AccessTokenRecord(entry)) => WITHOUT_SCOPE + entry.to_bytes().len(),
            _ => WITHOUT_SCOPE,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] if the parts are not a record that this version knows.
    pub fn from_parts(parts: &RecordParts) -> Result<Self, RecordError> {
        read(parts).ok_or(RecordError)
    }
}

fn decimal(time: Timestamp) -> Vec<u8> {
    time.as_millis().to_string().into_bytes()
}

fn time(decimal: &[u8]) -> Option<Timestamp> {
    let is_decimal = !decimal.is_empty() && decimal.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(decimal).ok().filter(|_| is_decimal)?;
    text.parse().ok().map(Timestamp::from_millis)
}

fn read(parts: &RecordParts) -> Option<Record> {
    let RecordParts { kind, key, value, is_of_now } = parts;
    if value.len() > MAX_VALUE {
        return None;
    }
    let revocation = match kind {
        RecordKind::Token => {
            let token = TokenFingerprint::from_bytes(key.as_slice().try_into().ok()?);
            Revocation::Token { token, expires_at: time(value)? }
        }
        RecordKind::User => {
            let user = UserId::new(std::str::from_utf8(key).ok()?).ok()?;
            Revocation::User { user, up_to: time(value)? }
        }
        RecordKind::Service => {
            let service = ServiceId::new(std::str::from_utf8(key).ok()?).ok()?;
            Revocation::Service { service, up_to: time(value)? }
        }
        RecordKind::Issued => {
            let (issued_at, token) = key.split_first_chunk()?;
            let (expires_at, rest) = value.split_first_chunk()?;
            let (len, rest) = rest.split_first()?;
            let (user, scope_hashes) = rest.split_at_checked(usize::from(*len))?;
            return Some(Record::Issued(IssuedRecord {
                token: TokenFingerprint::from_bytes(token.try_into().ok()?),
                user: UserId::new(std::str::from_utf8(user).ok()?).ok()?,
                scope_hashes: scope_hashes.to_vec(),
                issued_at: Timestamp::from_millis(u64::from_be_bytes(*issued_at)),
                expires_at: Timestamp::from_millis(u64::from_be_bytes(*expires_at)),
            }));
        }
        RecordKind::Salt => return key.as_slice().try_into().ok().map(Record::Salt),
        RecordKind::AccessToken => {
            let (token, user) = key.split_first_chunk()?;
            let user = UserId::new(std::str::from_utf8(user).ok()?).ok()?;
            let (version, rest) = value.split_first_chunk::<20>()?;
            let (expires_at, bytes) = rest.split_first_chunk::<20>()?;
            let entry =
                Entry::from_bytes(user, TokenFingerprint::from_bytes(*token), bytes).ok()?;
            let is_right = time(version)?.as_millis() == entry.version()
                && time(expires_at)? == entry.expires_at;
            return is_right.then_some(Record::AccessToken(AccessTokenRecord(entry)));
        }
    };
    Some(if *is_of_now { Record::RuleOfNow(revocation) } else { Record::Revocation(revocation) })
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revocation(revocation) => f.debug_tuple("Revocation").field(revocation).finish(),
            Self::RuleOfNow(rule) => f.debug_tuple("RuleOfNow").field(rule).finish(),
            Self::Issued(issued) => f.debug_tuple("Issued").field(issued).finish(),
            Self::Salt(_) => f.write_str("Salt"),
            Self::AccessToken(record) => record.fmt(f),
        }
    }
}

impl fmt::Debug for RecordParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key: _, value: _, is_of_now } = self;
        let mut parts = f.debug_struct("RecordParts");
        parts.field("kind", kind).field("is_of_now", is_of_now).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{revocation::IssuedPat, token::Scopes};

    fn records() -> Vec<Record> {
        let (user, service) = (UserId::new("USER").unwrap(), ServiceId::new("zosmf").unwrap());
        let (token, at) = (TokenFingerprint::from_bytes([7; 32]), Timestamp::from_millis(5));
        vec![
            Record::Revocation(Revocation::Token { token, expires_at: at }),
            Record::Revocation(Revocation::User { user, up_to: at }),
            Record::RuleOfNow(Revocation::User { user, up_to: at }),
            Record::Revocation(Revocation::Service { service, up_to: at }),
            Record::Issued(IssuedRecord {
                token,
                user,
                scope_hashes: vec![1; 16],
                issued_at: at,
                expires_at: Timestamp::from_millis(u64::MAX),
            }),
            Record::Salt([9; SALT_LEN]),
            Record::AccessToken(AccessTokenRecord(Entry::new(
                &IssuedPat {
                    token,
                    user,
                    scopes: Scopes::parse(["zosmf"]).unwrap(),
                    issued_at: at,
                    expires_at: at,
                },
                Default::default(),
            ))),
        ]
    }

    #[test]
    fn a_record_is_read_back_and_other_parts_are_errors() {
        for record in records() {
            let parts = record.parts();
            assert_eq!(RecordKind::from_letter(parts.kind.letter().as_bytes()), Some(parts.kind));
            assert_eq!(Record::from_parts(&parts).as_ref(), Ok(&record));
            let without_key = RecordParts { key: Vec::new(), ..parts.clone() };
            assert_eq!(Record::from_parts(&without_key), Err(RecordError), "{record:?}");
            if parts.kind != RecordKind::Salt {
                for value in [&b""[..], b"x", b"+1", &[b'9'; 30]] {
                    let wrong = RecordParts { value: value.to_vec(), ..parts.clone() };
                    assert_eq!(Record::from_parts(&wrong), Err(RecordError), "{record:?}");
                }
            }
        }
        assert_eq!(RecordKind::from_letter(b"y"), None);
    }
}
