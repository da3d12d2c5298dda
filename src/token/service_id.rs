//! Service ids.

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
