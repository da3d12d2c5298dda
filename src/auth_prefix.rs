//! The path below which the auth API is served.

use std::{fmt, str::FromStr, sync::Arc};

const DEFAULT: &str = "/gateway/api/v1/auth";

#[cfg(all(feature = "api", feature = "proxy"))]
const ZAAS: &str = "/zaas/api/v1/auth";

/// The path below which a gateway serves its auth API: `/gateway/api/v1/auth` by default.
///
/// The path begins with `/` and does not end with `/`. It has no empty segment and no dot segment (`.` or `..`).
/// Segments consist of ASCII letters, digits, `-`, `.`, `_` and `~`, which clients do not percent-encode (RFC 3986
/// §2.3).
///
/// The auth API and the gateway in front of it must be configured with the same prefix.
///
/// ```
/// use tower_passticket::api::AuthPrefix;
///
/// assert_eq!(AuthPrefix::default().as_str(), "/gateway/api/v1/auth");
/// assert!(AuthPrefix::new("/zaas/api/v1/auth").is_ok());
/// assert!(AuthPrefix::new("/zaas/").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthPrefix(Arc<str>);

impl AuthPrefix {
    /// Creates a prefix from `path`.
    ///
    /// # Errors
    /// [`AuthPrefixError`] if the path violates one of the rules at [`AuthPrefix`]. The error names the beginning of
    /// the path, the rule, and a valid example.
    pub fn new(path: &str) -> Result<Self, AuthPrefixError> {
        let broken = |rule| AuthPrefixError { path: path.chars().take(MAX_SHOWN).collect(), rule };
        let segments = path.strip_prefix('/').ok_or_else(|| broken(Rule::Begin))?;
        for segment in segments.split('/') {
            match segment {
                "" => return Err(broken(Rule::EmptySegment)),
                "." | ".." => return Err(broken(Rule::DotSegment)),
                _ => {}
            }
            let is_unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            if let Some(c) = segment.chars().find(|c| !is_unreserved(*c)) {
                return Err(broken(Rule::Character(c)));
            }
        }
        Ok(Self(path.into()))
    }

    /// Returns the path below which ZAAS, the authentication service of API ML, serves its auth API.
    #[cfg(all(feature = "api", feature = "proxy"))]
    pub(crate) fn of_zaas() -> Self {
        Self(ZAAS.into())
    }

    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part of `path` after the prefix, with the leading slash, such as `/login`. Returns `None` if `path`
    /// is not below the prefix.
    pub(crate) fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&*self.0).filter(|rest| rest.starts_with('/'))
    }
}

impl AuthPrefix {
    /// Returns whether `path` is this path or is below it.
    pub fn contains(&self, path: &str) -> bool {
        path.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Default for AuthPrefix {
    fn default() -> Self {
        Self(DEFAULT.into())
    }
}

impl FromStr for AuthPrefix {
    type Err = AuthPrefixError;

    fn from_str(path: &str) -> Result<Self, AuthPrefixError> {
        Self::new(path)
    }
}

impl fmt::Display for AuthPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The maximum number of characters of the path in [`AuthPrefixError`].
const MAX_SHOWN: usize = 80;

/// A path cannot be the prefix of the auth API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the auth API cannot be served below {path:?}, which {rule}; use a path like {DEFAULT}")]
pub struct AuthPrefixError {
    path: String,
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Rule {
    #[error("does not begin with /")]
    Begin,
    #[error("has an empty segment, or a / at its end")]
    EmptySegment,
    #[error("has a dot segment")]
    DotSegment,
    #[error("has the character {0:?}")]
    Character(char),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_accepts_plain_absolute_paths_only() {
        for path in ["/gateway/api/v1/auth", "/zaas/api/v1/auth", "/auth", "/a-b/c.d_e~f"] {
            assert_eq!(AuthPrefix::new(path).unwrap().as_str(), path);
        }
        for (path, rule) in [
            ("", "does not begin with /"),
            ("auth", "does not begin with /"),
            ("https://host/auth", "does not begin with /"),
            ("/", "has an empty segment"),
            ("/auth/", "has an empty segment"),
            ("/a//b", "has an empty segment"),
            ("/./a", "has a dot segment"),
            ("/a/..", "has a dot segment"),
            ("/a b", "has the character ' '"),
            ("/a%2Fb", "has the character '%'"),
            ("/a?b", "has the character '?'"),
            ("/a;b", "has the character ';'"),
            ("/\u{e4}", "has the character '\u{e4}'"),
        ] {
            let error = AuthPrefix::new(path).unwrap_err().to_string();
            assert!(error.contains(rule), "{path}: {error}");
            assert!(error.contains(&format!("{path:?}")), "{path}: {error}");
        }
    }

    #[test]
    fn below_compares_whole_segments() {
        let prefix = AuthPrefix::default();
        for (path, want) in [
            ("/gateway/api/v1/auth/login", Some("/login")),
            ("/gateway/api/v1/auth/", Some("/")),
            ("/gateway/api/v1/auth", None),
            ("/gateway/api/v1/authlogin", None),
            ("/GATEWAY/api/v1/auth/login", None),
            ("/zaas/api/v1/auth/login", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(prefix.below(path), want, "{path}");
        }
    }
}
