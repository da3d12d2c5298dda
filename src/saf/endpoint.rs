//! SAF checks by the SAF endpoint of Zowe. SAF is the z/OS interface to the security product. The endpoint is usually
//! part of ZSS (Zowe System Services), an HTTP server on z/OS.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::Deserialize;

use super::{Access, AccessLevel, CheckFuture, SafError, SafProvider};
use crate::{
    clock::Clock,
    log_limit::log_limited,
    passticket::UserId,
    remote::{
        Address, CachePolicy, Client, Connect, RemoteError, Reply, SingleFlightCache, TokenSource,
    },
};

const CLASS: &str = "ZOWE";

/// The maximum length of a resource name in RACF (class descriptor table).
const MAX_RESOURCE: usize = 246;

/// A [`SafProvider`] that calls the SAF endpoint of Zowe. In the configuration of Zowe, the setting
/// `apiml.security.authorization.endpoint.url` contains the address of the endpoint
/// (docs/reference/identity-and-saf.md#saf-endpoint).
///
/// The request is `GET {address}/{resource}/{level}` with a token of the user. The [`TokenSource`] `T` provides the
/// token. The request does not contain the class, because the endpoint checks only one class. This class is `ZOWE`, or
/// the class that [`with_class`](Self::with_class) sets. A check in any other class gives
/// [`SafError::UnsupportedClass`].
///
/// Access is granted only by a 2xx answer with both `"error": false` and `"authorized": true`. Answers are cached. By
/// default, granted access is cached for 30 s, refused access for 5 s, and an error for 1 s. Concurrent checks of the
/// same user, resource and level share one request.
pub struct EndpointSaf<C, T> {
    endpoint: Arc<Endpoint<C, T>>,
    answers: Arc<CheckAnswers>,
    class: Arc<str>,
}

type CheckAnswers = SingleFlightCache<Check, (), SafError>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Check {
    user: UserId,
    resource: Arc<str>,
    level: AccessLevel,
}

impl<C, T> EndpointSaf<C, T> {
    /// Makes a provider that calls the endpoint at `address` with `client`. `tokens` provides the tokens of
    /// users.
    pub fn new(client: Client<C>, address: Address, tokens: T) -> Self {
        let policy = CachePolicy::default()
            .with_found(Duration::from_secs(30))
            .with_not_found(Duration::from_secs(5));
        Self {
            endpoint: Arc::new(Endpoint { client, address, tokens }),
            answers: Arc::new(SingleFlightCache::new(policy)),
            class: CLASS.into(),
        }
    }

    /// Sets the name of the class that the endpoint checks. Upper and lower case do not matter.
    #[must_use]
    pub fn with_class(self, class: &str) -> Self {
        Self { class: class.into(), ..self }
    }

    /// Sets how long answers are cached, and the clock that measures this time.
    #[must_use]
    pub fn with_cache(self, policy: CachePolicy, clock: Arc<dyn Clock>) -> Self {
        Self { answers: Arc::new(SingleFlightCache::new(policy).with_clock(clock)), ..self }
    }
}

impl<C, T> Clone for EndpointSaf<C, T> {
    fn clone(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            answers: self.answers.clone(),
            class: self.class.clone(),
        }
    }
}

impl<C, T> fmt::Debug for EndpointSaf<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSaf")
            .field("address", &self.endpoint.address)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

impl<C, T> SafProvider for EndpointSaf<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> CheckFuture {
        if !class.eq_ignore_ascii_case(&self.class) {
            let class = class.chars().take(80).collect();
            let error = SafError::UnsupportedClass { class, supported: self.class.to_string() };
            return Box::pin(async { Err(error) });
        }
        if resource.len() > MAX_RESOURCE {
            let len = resource.len();
            let error = format!("the resource name has {len} bytes, more than {MAX_RESOURCE}");
            return Box::pin(async { Err(SafError::Failed(error)) });
        }
        let check = Check { user: *user, resource: resource.into(), level };
        let (endpoint, answers) = (self.endpoint.clone(), self.answers.clone());
        Box::pin(async move {
            Ok(match answers.get(&check, endpoint.ask(&check)).await? {
                Some(()) => Access::Granted,
                None => Access::Refused,
            })
        })
    }
}

struct Endpoint<C, T> {
    client: Client<C>,
    address: Address,
    tokens: T,
}

impl<C, T> Endpoint<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    async fn ask(&self, check: &Check) -> Result<Option<()>, SafError> {
        let (address, Check { user, resource, level }) = (&self.address, check);
        let request = self.request(check).inspect_err(|reason| {
            log_limited!(warn, ("SAF token", address), { %address, %user, %resource, %level, %reason }, "the SAF check could not be sent");
        })?;
        self.client.call(request).await.and_then(decide).map_err(|reason| {
            log_limited!(warn, ("SAF check", address), { %address, %user, %resource, %level, %reason }, "the SAF check failed");
            reason.into()
        })
    }

    fn request(&self, check: &Check) -> Result<Request<Full<Bytes>>, SafError> {
        let segments = [&*check.resource, check.level.as_str()];
        let uri = self.address.join(&segments).ok_or_else(|| {
            SafError::Failed(format!("{:?} is not a resource name", check.resource))
        })?;
        let token = self.tokens.token(&check.user);
        let token = token.map_err(|error| SafError::Failed(error.to_string()))?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json.clone());
        request.headers_mut().insert(CONTENT_TYPE, json);
        token.authenticate(&mut request);
        Ok(request)
    }
}

impl From<RemoteError> for SafError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Unavailable(_) => Self::Unavailable,
            RemoteError::Answer(reason) => Self::Failed(reason),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    authorized: bool,
    error: bool,
    message: Option<String>,
}

fn decide(reply: Reply) -> Result<Option<()>, RemoteError> {
    let answer: Answer = reply.successful()?.json()?;
    if answer.error {
        let message: String = answer.message.unwrap_or_default().chars().take(200).collect();
        return Err(RemoteError::Answer(format!("the endpoint reports an error: {message:?}")));
    }
    Ok(answer.authorized.then_some(()))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn only_a_2xx_answer_with_authorized_true_and_no_error_grants_access() {
        let failed = Err("failed");
        for (status, body, want) in [
            (200, r#"{"authorized":true,"error":false,"message":""}"#, Ok(Some(()))),
            (200, r#"{"authorized":true,"error":false}"#, Ok(Some(()))),
            (201, r#"{"authorized":true,"error":false,"message":null,"x":1}"#, Ok(Some(()))),
            (200, r#"{"authorized":false,"error":false,"message":"no"}"#, Ok(None)),
            (200, r#"{"authorized":true,"error":true,"message":"broken"}"#, failed),
            (200, r#"{"authorized":false,"error":true,"message":"broken"}"#, failed),
            (200, r#"{"authorized":true}"#, failed),
            (200, r#"{"error":false}"#, failed),
            (200, r#"{"authorized":1,"error":false}"#, failed),
            (200, r#"{"authorized":"true","error":false}"#, failed),
            (200, r#"{"authorized":true,"error":null}"#, failed),
            (200, r#"{"authorized":true,"error":false,"authorized":true}"#, failed),
            (200, r#"{"authorized":true,"error":false}}"#, failed),
            (200, r#"[true,false,"x"]"#, failed),
            (200, "null", failed),
            (200, "", failed),
            (204, "", failed),
            (302, r#"{"authorized":true,"error":false}"#, failed),
            (401, r#"{"authorized":true,"error":false}"#, failed),
            (404, "", failed),
            (500, r#"{"authorized":true,"error":false}"#, Err("unavailable")),
            (503, "", Err("unavailable")),
        ] {
            let got = decide(Reply::new(StatusCode::from_u16(status).unwrap(), body));
            let got = got.map_err(|error| match error {
                RemoteError::Unavailable(_) => "unavailable",
                RemoteError::Answer(_) => "failed",
            });
            assert_eq!(got, want, "{status} {body}");
        }
    }
}
