//! Service ids, and the set of them that a Personal Access Token is good for.

use std::{fmt, str::FromStr, sync::Arc};

/// The id of a service, as it stands in paths and in the scopes of a PAT: lower case.
///
/// 1 to 64 characters of `a-z 0-9 - _ .`; upper case is folded on entry, since the reference
/// folds both the scopes of a token and the service that is asked for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(Arc<str>);

impl ServiceId {
    /// Parses a service id; surrounding blanks are not part of it.
    ///
    /// # Errors
    /// [`ServiceIdError`] carries the value.
    pub fn new(value: &str) -> Result<Self, ServiceIdError> {
        let value = value.trim();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        // "." and ".." would be path segments with a meaning of their own.
        let only_dots = value.bytes().all(|b| b == b'.');
        if value.is_empty() || value.len() > 64 || !value.bytes().all(allowed) || only_dots {
            return Err(ServiceIdError(value.chars().take(80).collect()));
        }
        Ok(Self(value.to_ascii_lowercase().into()))
    }

    /// The id, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceId {
    type Err = ServiceIdError;

    fn from_str(value: &str) -> Result<Self, ServiceIdError> {
        Self::new(value)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceId").field(&self.as_str()).finish()
    }
}

/// A text that is no service id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no service id; write 1 to 64 characters of a-z 0-9 - _ .")]
pub struct ServiceIdError(String);

/// The services that a PAT is good for: at least one, sorted, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scopes(Arc<[ServiceId]>);

impl Scopes {
    /// Reads the scopes of a request for a PAT: a list whose items may be comma-joined. Blanks
    /// are trimmed, upper case is folded, empty items and duplicates are dropped.
    ///
    /// # Errors
    /// [`ScopesError::Empty`] when nothing is left, [`ScopesError::ServiceId`] for an item that
    /// no service can have.
    pub fn parse<I>(items: I) -> Result<Self, ScopesError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut ids = Vec::new();
        for item in items {
            for id in item.as_ref().split(',').filter(|id| !id.trim().is_empty()) {
                ids.push(ServiceId::new(id)?);
            }
        }
        if ids.is_empty() {
            return Err(ScopesError::Empty);
        }
        Ok(Self::from_ids(ids))
    }

    /// The scopes of a token that somebody signed: an item that no service can have cannot match
    /// one either, and is dropped. May be empty, and then matches nothing.
    pub(super) fn from_claim(items: &[String]) -> Self {
        Self::from_ids(items.iter().filter_map(|id| ServiceId::new(id).ok()).collect())
    }

    fn from_ids(mut ids: Vec<ServiceId>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into())
    }

    /// Whether `service` is among them.
    pub fn contains(&self, service: &ServiceId) -> bool {
        self.0.binary_search(service).is_ok()
    }

    /// The services, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ServiceId> {
        self.0.iter()
    }
}

/// Why a list is no set of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopesError {
    /// No service is named.
    #[error("no service is named; list the service ids that the token is for")]
    Empty,
    /// An item is no service id.
    #[error(transparent)]
    ServiceId(#[from] ServiceIdError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_normalised() {
        let cases: [(&[&str], Option<&[&str]>); 8] = [
            (&["zosmf"], Some(&["zosmf"])),
            (&["B,a", " A ", "b"], Some(&["a", "b"])),
            (&["<serviceId_1>,<serviceId_2>"], None),
            (&["a,,b,"], Some(&["a", "b"])),
            (&[], None),
            (&["", " , "], None),
            (&["a b"], None),
            (&[".."], None),
        ];
        for (items, expected) in cases {
            let got = Scopes::parse(items).ok();
            let got = got.as_ref().map(|s| s.iter().map(ServiceId::as_str).collect::<Vec<_>>());
            assert_eq!(got.as_deref(), expected, "{items:?}");
        }
    }

    #[test]
    fn a_claim_never_matches_by_a_part_of_an_item() {
        let scopes = Scopes::from_claim(&["a,b".to_owned(), "C".to_owned()]);
        let matches = |id| scopes.contains(&ServiceId::new(id).unwrap());
        assert!(!matches("a") && !matches("b") && matches("c"));
    }
}
