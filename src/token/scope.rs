//! Service ids, and the scopes of a Personal Access Token (PAT). The scopes are the ids of the services that accept the
//! PAT.

use std::{fmt, str::FromStr, sync::Arc};

/// The id of a service, as in request paths and in the scopes of a PAT.
///
/// A service id has 1 to 64 characters: `a-z`, `0-9`, `-`, `_` and `.`. At least one character is not a dot. Upper case
/// is converted to lower case, as in API ML (Zowe's API Mediation Layer).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(Arc<str>);

impl ServiceId {
    /// Parses a service id. White space before and after the id is removed.
    ///
    /// # Errors
    /// [`ServiceIdError`] if `value` is not a service id. The error contains up to 80 characters of the value.
    pub fn new(value: &str) -> Result<Self, ServiceIdError> {
        let value = value.trim();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        // "." and ".." have a special meaning in a path.
        let only_dots = value.bytes().all(|b| b == b'.');
        if value.is_empty() || value.len() > 64 || !value.bytes().all(allowed) || only_dots {
            return Err(ServiceIdError(value.chars().take(80).collect()));
        }
        Ok(Self(value.to_ascii_lowercase().into()))
    }

    /// Returns the id, in lower case.
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

/// The text is not a service id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a service id; write 1 to 64 characters of a-z 0-9 - _ .")]
pub struct ServiceIdError(String);

/// The services that accept a PAT, sorted and without duplicates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scopes(Arc<[ServiceId]>);

impl Scopes {
    /// Parses the list of service ids in a request for a new PAT. An item of the list may contain several ids,
    /// separated by commas. White space around an id is removed, and upper case is converted to lower case. Empty items
    /// and duplicates are ignored (docs/decisions.md#d3).
    ///
    /// # Errors
    /// [`ScopesError::Empty`] if there is no id. [`ScopesError::ServiceId`] if an item is not a service id.
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

    /// Reads the scopes of a verified token. Items that are not service ids are ignored, because they cannot match a
    /// service. Empty scopes match no service.
    pub(super) fn from_claim(items: &[String]) -> Self {
        Self::from_ids(items.iter().filter_map(|id| ServiceId::new(id).ok()).collect())
    }

    fn from_ids(mut ids: Vec<ServiceId>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into())
    }

    /// Returns whether `service` accepts the PAT.
    pub fn contains(&self, service: &ServiceId) -> bool {
        self.0.binary_search(service).is_ok()
    }

    /// Returns the services, sorted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ServiceId> {
        self.0.iter()
    }
}

/// The reason why a list of scopes is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopesError {
    /// The list names no service.
    #[error("no service is named; list the service ids that the token is for")]
    Empty,
    /// An item is not a service id.
    #[error(transparent)]
    ServiceId(#[from] ServiceIdError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_scopes_are_lower_case_sorted_and_unique() {
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
    fn an_item_with_a_comma_in_a_claim_matches_no_service() {
        let scopes = Scopes::from_claim(&["a,b".to_owned(), "C".to_owned()]);
        let matches = |id| scopes.contains(&ServiceId::new(id).unwrap());
        assert!(!matches("a") && !matches("b") && matches("c"));
    }
}
