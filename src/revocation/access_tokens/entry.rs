//! An entry of the registry, and its form as bytes.

use std::net::IpAddr;

use super::{
    id::AccessTokenId,
    label::{TokenDescription, TokenName},
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    revocation::{IssuedPat, Revocation},
    token::{Scopes, ServiceId, TokenFingerprint},
};

/// The version of the bytes of an entry. A later version must be able to read entries of earlier versions.
const VERSION: u8 = 1;

/// The entry of one Personal Access Token (PAT), as a store keeps it. It never contains the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::revocation) struct Entry {
    pub(in crate::revocation) user: UserId,
    pub(in crate::revocation) token: TokenFingerprint,
    pub(in crate::revocation) scopes: Scopes,
    pub(in crate::revocation) issued_at: Timestamp,
    pub(in crate::revocation) expires_at: Timestamp,
    /// The id of the first token of a series of rotations. A token that was not made by a rotation is the first token
    /// of its own family.
    pub(in crate::revocation) family: AccessTokenId,
    pub(in crate::revocation) label: Label,
    pub(in crate::revocation) last_use: Option<LastUse>,
    pub(in crate::revocation) rotation: Option<Rotated>,
}

/// The parts of an entry that the user can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::revocation) struct Label {
    pub(in crate::revocation) name: Option<TokenName>,
    pub(in crate::revocation) description: TokenDescription,
    /// When the label was set or changed. 0 if the user has never given a label.
    pub(in crate::revocation) changed_at: Timestamp,
}

impl Default for Label {
    fn default() -> Self {
        let changed_at = Timestamp::from_millis(0);
        Self { name: None, description: TokenDescription::default(), changed_at }
    }
}

/// The last recorded use of a PAT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastUse {
    /// When the PAT was used. Later uses within a minute are not recorded.
    pub at: Timestamp,
    /// The address of the client.
    pub from: Option<IpAddr>,
    /// The service that was called. `None` if the PAT was used at the auth API.
    pub service: Option<ServiceId>,
}

impl LastUse {
    /// Creates the report of a use.
    pub fn new(at: Timestamp, from: Option<IpAddr>, service: Option<ServiceId>) -> Self {
        Self { at, from, service }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::revocation) struct Rotated {
    pub(in crate::revocation) at: Timestamp,
    /// The end of the grace period. The PAT is revoked at this time or shortly after.
    pub(in crate::revocation) until: Timestamp,
    pub(in crate::revocation) successor: AccessTokenId,
}

/// The bytes are not an entry, or a newer version of this program has written them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the entry of a Personal Access Token is malformed, or has the format of a newer version of this program"
)]
pub(in crate::revocation) struct EntryError;

impl Entry {
    /// Makes the entry of a new PAT. `pat` has the salted fingerprint.
    pub(in crate::revocation) fn new(pat: &IssuedPat, label: Label) -> Self {
        let IssuedPat { token, user, scopes, issued_at, expires_at } = pat;
        Self {
            user: *user,
            token: *token,
            scopes: scopes.clone(),
            issued_at: *issued_at,
            expires_at: *expires_at,
            family: AccessTokenId::of(token),
            label,
            last_use: None,
            rotation: None,
        }
    }

    pub(in crate::revocation) fn id(&self) -> AccessTokenId {
        AccessTokenId::of(&self.token)
    }

    /// Returns the PAT as it is registered, with the salted fingerprint.
    pub(in crate::revocation) fn pat(&self) -> IssuedPat {
        IssuedPat {
            token: self.token,
            user: self.user,
            scopes: self.scopes.clone(),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        }
    }

    pub(in crate::revocation) fn revocation(&self) -> Revocation {
        Revocation::Token { token: self.token, expires_at: self.expires_at }
    }

    /// Returns the bytes for a store. The user and the fingerprint are not in the bytes, because they are the key of
    /// the entry.
    pub(in crate::revocation) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_time(&mut bytes, self.issued_at);
        put_time(&mut bytes, self.expires_at);
        if self.family == self.id() {
            bytes.push(0);
        } else {
            bytes.push(1);
            bytes.extend(self.family.as_bytes());
        }
        let Label { name, description, changed_at } = &self.label;
        put_time(&mut bytes, *changed_at);
        put_text(&mut bytes, name.as_ref().map_or("", TokenName::as_str));
        put_text(&mut bytes, description.as_str());
        match &self.last_use {
            None => bytes.push(0),
            Some(LastUse { at, from, service }) => {
                bytes.push(1);
                put_time(&mut bytes, *at);
                match from {
                    None => bytes.push(0),
                    Some(IpAddr::V4(address)) => {
                        bytes.push(4);
                        bytes.extend(address.octets());
                    }
                    Some(IpAddr::V6(address)) => {
                        bytes.push(6);
                        bytes.extend(address.octets());
                    }
                }
                put_text(&mut bytes, service.as_ref().map_or("", ServiceId::as_str));
            }
        }
        match &self.rotation {
            None => bytes.push(0),
            Some(Rotated { at, until, successor }) => {
                bytes.push(1);
                put_time(&mut bytes, *at);
                put_time(&mut bytes, *until);
                bytes.extend(successor.as_bytes());
            }
        }
        let scopes: Vec<_> = self.scopes.iter().map(ToString::to_string).collect();
        put_text(&mut bytes, &scopes.join(","));
        bytes
    }

    /// Returns a number that rises with each change that a node makes to its entry. The version of a merged entry is at
    /// least as large as the versions of both entries. If the merged entry took a newer field from one entry, its
    /// version is larger than the version of the other entry.
    #[cfg(feature = "redis")]
    pub(in crate::revocation) fn version(&self) -> u64 {
        let last_use = self.last_use.as_ref().map_or(0, |last| last.at.as_millis());
        let rotation = self.rotation.as_ref().map_or(0, |it| it.at.as_millis());
        let of_family = u64::from(self.family != self.id());
        let changes = self.label.changed_at.as_millis().saturating_add(last_use);
        changes.saturating_add(rotation).saturating_add(of_family)
    }

    /// Merges the entries that two nodes have of one token. The newer value of each field stays. The result does not
    /// depend on the order of the entries.
    #[cfg(feature = "redis")]
    pub(in crate::revocation) fn merge(mut self, other: &Self) -> Self {
        let of_label = |entry: &Self| {
            let Label { name, description, changed_at } = entry.label.clone();
            let name = name.map(|name| name.as_str().to_owned());
            (changed_at, name, description.as_str().to_owned())
        };
        if of_label(other) > of_label(&self) {
            self.label = other.label.clone();
        }
        let of_use = |entry: &Self| {
            let last = entry.last_use.clone();
            last.map(|LastUse { at, from, service }| (at, from, service))
        };
        if of_use(other) > of_use(&self) {
            self.last_use = other.last_use.clone();
        }
        let of_rotation = |entry: &Self| {
            entry.rotation.map(|Rotated { at, until, successor }| (at, until, successor))
        };
        if of_rotation(other) > of_rotation(&self) {
            self.rotation = other.rotation;
        }
        // A node may have seen the token only in a request. It then does not know that the token came from a rotation,
        // and stores the token as the first of its own family.
        if self.family == self.id() {
            self.family = other.family;
        }
        self
    }

    /// Reads the bytes of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`EntryError`] if the bytes are not an entry that this version knows.
    pub(in crate::revocation) fn from_bytes(
        user: UserId,
        token: TokenFingerprint,
        bytes: &[u8],
    ) -> Result<Self, EntryError> {
        let mut rest = bytes;
        let entry = read(user, token, &mut rest).ok_or(EntryError)?;
        if rest.is_empty() { Ok(entry) } else { Err(EntryError) }
    }

    /// Reads only the expiry time. Returns `None` if the bytes have another version, or are malformed.
    #[cfg(feature = "store")]
    pub(in crate::revocation) fn expiry_of(mut bytes: &[u8]) -> Option<Timestamp> {
        if take_byte(&mut bytes)? != VERSION {
            return None;
        }
        take_time(&mut bytes)?;
        take_time(&mut bytes)
    }
}

fn read(user: UserId, token: TokenFingerprint, rest: &mut &[u8]) -> Option<Entry> {
    if take_byte(rest)? != VERSION {
        return None;
    }
    let (issued_at, expires_at) = (take_time(rest)?, take_time(rest)?);
    let family = match take_byte(rest)? {
        0 => AccessTokenId::of(&token),
        1 => AccessTokenId::from_bytes(take_array(rest)?),
        _ => return None,
    };
    let changed_at = take_time(rest)?;
    let name = match take_text(rest)? {
        "" => None,
        name => Some(TokenName::new(name).ok()?),
    };
    let description = TokenDescription::new(take_text(rest)?).ok()?;
    let label = Label { name, description, changed_at };
    let last_use = match take_byte(rest)? {
        0 => None,
        1 => {
            let at = take_time(rest)?;
            let from = match take_byte(rest)? {
                0 => None,
                4 => Some(IpAddr::from(take_array::<4>(rest)?)),
                6 => Some(IpAddr::from(take_array::<16>(rest)?)),
                _ => return None,
            };
            let service = match take_text(rest)? {
                "" => None,
                service => Some(ServiceId::new(service).ok()?),
            };
            Some(LastUse { at, from, service })
        }
        _ => return None,
    };
    let rotation = match take_byte(rest)? {
        0 => None,
        1 => {
            let (at, until) = (take_time(rest)?, take_time(rest)?);
            Some(Rotated { at, until, successor: AccessTokenId::from_bytes(take_array(rest)?) })
        }
        _ => return None,
    };
    let scopes = Scopes::parse([take_text(rest)?]).ok()?;
    Some(Entry { user, token, scopes, issued_at, expires_at, family, label, last_use, rotation })
}

/// Writes a number with 7 bits in each byte, the lowest bits first. The high bit is 1 in all bytes except the last one.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_time(bytes: &mut Vec<u8>, time: Timestamp) {
    put_number(bytes, time.as_millis());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(rest)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take_time(rest: &mut &[u8]) -> Option<Timestamp> {
    take_number(rest).map(Timestamp::from_millis)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(take_number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user() -> UserId {
        UserId::new("USER").unwrap()
    }

    fn entries() -> Vec<Entry> {
        let pat = IssuedPat {
            token: TokenFingerprint::of("a"),
            user: user(),
            scopes: Scopes::parse(["zosmf", "files"]).unwrap(),
            issued_at: Timestamp::from_millis(1_800_000_000_123),
            expires_at: Timestamp::from_secs(1_800_086_400),
        };
        let plain = Entry::new(&pat, Label::default());
        let label = Label {
            name: Some(TokenName::new("jenkins").unwrap()),
            description: TokenDescription::new("nightly build").unwrap(),
            changed_at: Timestamp::from_millis(u64::MAX),
        };
        let use_from = |from: &str, service: Option<&str>| {
            let service = service.map(|id| ServiceId::new(id).unwrap());
            Some(LastUse { at: Timestamp::from_millis(5), from: from.parse().ok(), service })
        };
        let successor = AccessTokenId::of(&TokenFingerprint::of("b"));
        let at = Timestamp::from_millis(7);
        let rotation = Some(Rotated { at, until: at, successor });
        vec![
            plain.clone(),
            Entry { label, ..plain.clone() },
            Entry { last_use: use_from("192.0.2.1", Some("zosmf")), ..plain.clone() },
            Entry { last_use: use_from("2001:db8::1", None), ..plain.clone() },
            Entry { last_use: use_from("", None), ..plain.clone() },
            Entry { rotation, family: successor, ..plain },
        ]
    }

    #[test]
    fn an_entry_is_read_back_and_cut_or_longer_bytes_are_errors() {
        for entry in entries() {
            let bytes = entry.to_bytes();
            let read = |bytes: &[u8]| Entry::from_bytes(entry.user, entry.token, bytes);
            assert_eq!(read(&bytes).as_ref(), Ok(&entry));
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len]), Err(EntryError), "{entry:?} {len}");
            }
            assert_eq!(read(&[&bytes[..], &[0]].concat()), Err(EntryError));
            assert_eq!(read(&[&[2], &bytes[1..]].concat()), Err(EntryError));
        }
        // An entry with a short name and a short description is small: a million of them fit into a small file.
        assert!(entries()[1].to_bytes().len() < 70);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_merged_entry_has_the_newer_fields_of_both_in_any_order() {
        let all = entries();
        let mut merged = all[0].clone();
        for entry in &all {
            let (one, other) = (merged.clone().merge(entry), entry.clone().merge(&merged));
            assert_eq!(one, other);
            assert!(one.version() >= merged.version().max(entry.version()), "{one:?}");
            assert_eq!(one.clone().merge(entry), one);
            merged = one;
        }
        assert_eq!(merged.label.name.as_ref().unwrap().as_str(), "jenkins");
        assert!(merged.last_use.is_some() && merged.rotation.is_some());
        assert_ne!(merged.family, merged.id());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_reader_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let token = TokenFingerprint::of("a");
            let _ = Entry::from_bytes(user(), token, &bytes);
            let _ = Entry::from_bytes(user(), token, &[&[VERSION][..], &bytes].concat());
        }

        #[test]
        fn numbers_are_read_back(number: u64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            prop_assert_eq!(take_number(&mut &bytes[..]), Some(number));
        }
    }
}
