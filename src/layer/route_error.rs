//! The error of a route or a table of routes.

/// Why a route or a table of routes cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The text is not the URL of a service.
    #[error(
        "{0:?} is not the URL of a service; write http:// or https://, host, port and path, without user, query or dot segments"
    )]
    Upstream(String),
    /// The text cannot be a part of a path.
    #[error("{0:?} cannot be part of a path; write segments like api/v1")]
    GatewayUrl(String),
    /// Two routes have the same prefix.
    #[error("two routes have the prefix {0}")]
    Duplicate(String),
}

impl RouteError {
    pub(super) fn upstream(url: &str) -> Self {
        Self::Upstream(match url.contains('@') {
            true => "(a URL with '@')".to_owned(),
            false => url.chars().take(200).collect(),
        })
    }
}
