//! Rules of CORS (Fetch Standard §3.2).

use std::time::Duration;

use http::Method;

use super::origin::Origin;

/// The default of [`CorsRules::with_max_age`].
const MAX_AGE: Duration = Duration::from_secs(600);

/// The rules by which web pages of other origins may use a service (CORS, Fetch Standard §3.2).
///
/// ```
/// use http::Method;
/// use tower_passticket::layer::{CorsRules, OriginPolicy};
/// use tower_passticket::token::ServiceId;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rules = CorsRules::for_origins(["https://app.example.com".parse()?])
///     .with_methods([Method::GET, Method::HEAD]);
/// let policy = OriginPolicy::default().with_cors(ServiceId::new("files")?, rules);
/// # let _ = policy;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsRules {
    origins: AllowedOrigins,
    methods: Vec<Method>,
    max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum AllowedOrigins {
    /// Pages of these origins, with the credentials of the browser.
    Listed(Vec<Origin>),
    /// Pages of all origins, without credentials.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// With the credentials that the browser attaches.
    WithCredentials,
    /// Without credentials.
    Anonymous,
}

impl CorsRules {
    /// Creates rules for listed origins. Pages of `origins` may use the service with the credentials that a browser
    /// attaches, such as cookies. Pages of other origins may not use the service, except pages of the gateway itself.
    /// The default methods are GET, HEAD, POST, DELETE, PUT and OPTIONS, as in Zowe's API Mediation Layer.
    pub fn for_origins(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self::new(AllowedOrigins::Listed(origins.into_iter().collect()))
    }

    /// Creates rules for all origins. Pages of all origins may send requests without credentials, and read the
    /// responses. It is not possible to allow credentials for all origins, because then any page could act for the
    /// user.
    pub fn for_any_origin() -> Self {
        Self::new(AllowedOrigins::Any)
    }

    fn new(origins: AllowedOrigins) -> Self {
        let methods = vec![
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::DELETE,
            Method::PUT,
            Method::OPTIONS,
        ];
        Self { origins, methods, max_age: MAX_AGE }
    }

    /// Sets the methods that pages may use.
    #[must_use]
    pub fn with_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        Self { methods: methods.into_iter().collect(), ..self }
    }

    /// Sets how long a browser may use the answer to a preflight request. The default is 10 minutes.
    #[must_use]
    pub fn with_max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// Returns how a page of `origin` may use the service with `method`, or `None` if it may not. `origin` is `None` if
    /// the request has no valid origin, such as `Origin: null`.
    pub(super) fn access(&self, origin: Option<&Origin>, method: &[u8]) -> Option<Access> {
        let access = match (&self.origins, origin) {
            (AllowedOrigins::Any, _) => Access::Anonymous,
            (AllowedOrigins::Listed(listed), Some(origin)) if listed.contains(origin) => {
                Access::WithCredentials
            }
            (AllowedOrigins::Listed(_), _) => return None,
        };
        let is_allowed = self.methods.iter().any(|allowed| allowed.as_str().as_bytes() == method);
        is_allowed.then_some(access)
    }

    /// Returns the methods that pages may use.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    pub(super) fn max_age(&self) -> Duration {
        self.max_age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_origins_may_use_credentials_and_the_methods_of_the_rules() {
        use Access::{Anonymous, WithCredentials};
        let app: Origin = "https://app.example".parse().unwrap();
        let other: Origin = "https://other.example".parse().unwrap();
        let listed = CorsRules::for_origins([app.clone()]);
        let any = CorsRules::for_any_origin();
        let only_get = listed.clone().with_methods([Method::GET]);
        for (rules, origin, method, want) in [
            (&listed, Some(&app), "GET", Some(WithCredentials)),
            (&listed, Some(&app), "OPTIONS", Some(WithCredentials)),
            (&listed, Some(&app), "PATCH", None),
            (&listed, Some(&app), "get", None),
            (&listed, Some(&other), "GET", None),
            (&listed, None, "GET", None),
            (&only_get, Some(&app), "GET", Some(WithCredentials)),
            (&only_get, Some(&app), "POST", None),
            (&any, Some(&app), "POST", Some(Anonymous)),
            (&any, None, "GET", Some(Anonymous)),
            (&any, Some(&app), "PATCH", None),
        ] {
            assert_eq!(rules.access(origin, method.as_bytes()), want, "{rules:?} {method}");
        }
    }
}
