//! The scheme `safIdt`: the service receives a SAF identity token.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    failure::Failure,
    scheme_error::SchemeError,
    scheme_ticket::{Token, ticket, token_for},
    schemes::{Accepts, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
};
use crate::{
    audit::AuditRecord,
    clock::{Clock, SystemClock, Timestamp},
    messages::{self, ApiMessage},
    passticket::{Applid, PassTicket, PassTicketGenerator, Replay, UserId},
    remote::{
        Address, CachePolicy, Client, Connect, RemoteError, Reply, SingleFlightCache, UserToken,
    },
};

static X_SAF_TOKEN: HeaderName = HeaderName::from_static("x-saf-token");

/// A token is not used in the last minute before it expires, so that it is still valid when the service checks it.
const MARGIN_MILLIS: u64 = 60_000;

/// A token without the claim `exp` is used for this time.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The number of users whose tokens are kept.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(5_000).expect("should not be zero");

/// The maximum length of a token, in bytes. It limits the memory for all tokens.
const MAX_TOKEN: usize = 8 * 1024;

/// After ZSS has refused a PassTicket of a user, the scheme sends no PassTicket of this user for this time. The
/// security product counts refused PassTickets as wrong passwords, and may revoke the user.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// The scheme `safIdt`: the service receives a SAF identity token in the header `X-SAF-Token`. SAF is the z/OS
/// interface to the security product. It makes such a token for a user and an application.
///
/// The scheme makes a PassTicket for the APPLID (application name) of the service, and sends it to ZSS (Zowe System
/// Services, a server on z/OS). ZSS answers with the token (`docs/reference/zowe-site.md#schemes`). The scheme keeps
/// the tokens of at most 5,000 users, each until a minute before it expires or until the user logs out. For each user,
/// it sends one request at a time.
///
/// If ZSS refuses the PassTicket, the failure is a [`SchemeError`] with `ZWEAG150E`. The scheme then sends no
/// PassTicket of this user for a minute, because the security product counts refused PassTickets as wrong passwords.
/// Clones share the tokens.
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower_passticket::{
///     layer::SafIdtScheme,
///     passticket::{Applid, KeyProfiles, LocalGenerator},
///     remote::{Client, ClientLimits},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // For TLS, use `tls::Connector` instead of `HttpConnector`.
/// let client = Client::new(HttpConnector::new(), ClientLimits::default());
/// let address = "http://localhost:7557/saf/authenticate".parse()?;
/// let tickets = LocalGenerator::new(KeyProfiles::default());
/// let scheme = SafIdtScheme::new(client, address, tickets, Applid::new("IDTAPPL")?);
/// # Ok(())
/// # }
/// ```
pub struct SafIdtScheme<C, G>(Arc<Shared<C, G>>);

struct Shared<C, G> {
    client: Client<C>,
    address: Address,
    tickets: G,
    applid: Applid,
    /// `None` if ZSS has refused the PassTicket.
    tokens: SingleFlightCache<UserId, Arc<UserToken>, Failure>,
    clock: Arc<dyn Clock>,
}

impl<C: Connect, G: PassTicketGenerator> SafIdtScheme<C, G> {
    /// Creates a scheme that requests tokens from ZSS, with PassTickets of `tickets` for `applid`. `address` is the URL
    /// of the endpoint, such as `https://zss.example:7557/saf/authenticate`.
    pub fn new(client: Client<C>, address: Address, tickets: G, applid: Applid) -> Self {
        let policy = CachePolicy::default().with_entries(CAPACITY).with_not_found(AFTER_REFUSAL);
        let tokens = SingleFlightCache::new(policy);
        let clock = Arc::new(SystemClock);
        Self(Arc::new(Shared { client, address, tickets, applid, tokens, clock }))
    }
}

impl<C, G> Clone for SafIdtScheme<C, G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C, G> fmt::Debug for SafIdtScheme<C, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SafIdtScheme")
            .field("address", &self.0.address)
            .field("applid", &self.0.applid)
            .finish_non_exhaustive()
    }
}

impl<C: Connect, G: PassTicketGenerator> Scheme for SafIdtScheme<C, G> {
    fn name(&self) -> &'static str {
        "safIdt"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        let user = *request.user();
        if let Some(token) = self.0.tokens.cached(&user) {
            return SchemeFuture::ready(headers(token));
        }
        let shared = self.0.clone();
        let token = token_for(&shared.tickets, request.login_token());
        SchemeFuture::pending(async move {
            headers(shared.tokens.get_until(&user, shared.ask(user, token)).await)
        })
    }

    /// Earlier layers remove `X-SAF-Token`.
    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        record.with_applid(self.0.applid)
    }

    fn accepts(&self) -> Accepts {
        match self.0.tickets.needs_token() {
            true => Accepts::AnyCredentialWithToken,
            false => Accepts::AnyCredential,
        }
    }

    fn logged_out(&self, user: &UserId) {
        self.0.tokens.remove(user);
    }

    fn replay(&self) -> Replay {
        Replay::Allowed
    }
}

fn headers(token: Result<Option<Arc<UserToken>>, Failure>) -> Result<SchemeHeaders, Failure> {
    let token = token?.ok_or_else(|| {
        let message = ApiMessage::with(&messages::SAF_TOKEN_FAILED, &["The request was refused"]);
        SchemeError::failed(
            "ZSS refuses the PassTicket of the user; check the PassTicket key of the APPLID, and whether the user \
             may use the application",
        )
        .with_message(message)
    })?;
    let value = HeaderValue::from_str(token.expose())
        .map_err(|_| SchemeError::failed("the token has a character that no header can contain"))?;
    Ok(SchemeHeaders::new().with(X_SAF_TOKEN.clone(), value))
}

impl<C: Connect, G: PassTicketGenerator> Shared<C, G> {
    /// Requests a token from ZSS. Returns the token and the time until which it is used, or `None` if ZSS refuses the
    /// PassTicket.
    async fn ask(
        &self,
        user: UserId,
        token: Token,
    ) -> Result<Option<(Arc<UserToken>, Timestamp)>, Failure> {
        let ticket = ticket(&self.tickets, &user, &self.applid, token).await?;
        let request = request(&self.address, &user, &ticket, &self.applid);
        let decided = match request {
            // A PassTicket is sent only once, because the security product would count a second use as a wrong
            // password.
            Ok(request) => self.client.call_once(request).await.and_then(|reply| decide(&reply)),
            Err(error) => Err(error),
        };
        match decided {
            Ok(Some(token)) => {
                let expires = expiry(&token).unwrap_or_else(|| self.clock.now().plus(LIFETIME));
                let until = expires.as_millis().saturating_sub(MARGIN_MILLIS);
                Ok(Some((Arc::new(token), Timestamp::from_millis(until))))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                let reason = format!("ZSS at {}: {error}", self.address);
                Err(SchemeError::unavailable(reason, None).into())
            }
        }
    }
}

fn request(
    address: &Address,
    user: &UserId,
    ticket: &PassTicket,
    applid: &Applid,
) -> Result<Request<Full<Bytes>>, RemoteError> {
    #[derive(Serialize)]
    struct Credentials<'a> {
        username: &'a str,
        pass: &'a str,
        appl: &'a str,
    }

    let credentials =
        Credentials { username: user.as_str(), pass: ticket.expose(), appl: applid.as_str() };
    let body = serde_json::to_vec(&credentials)
        .map_err(|error| RemoteError::Answer(format!("cannot encode as JSON: {error}")))?;
    let mut request = Request::new(Full::from(body));
    (*request.method_mut(), *request.uri_mut()) = (Method::POST, address.uri());
    let json = HeaderValue::from_static("application/json");
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    Ok(request)
}

/// Reads the token in a response. Returns `None` if ZSS refuses the PassTicket.
fn decide(reply: &Reply) -> Result<Option<UserToken>, RemoteError> {
    #[derive(Deserialize)]
    struct Issued {
        jwt: Zeroizing<String>,
    }

    match reply.status() {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => Ok(None),
        StatusCode::OK | StatusCode::CREATED => {
            let jwt = reply.json::<Issued>()?.jwt;
            if jwt.len() > MAX_TOKEN {
                return Err(RemoteError::Answer("the token is longer than 8 KiB".to_owned()));
            }
            let token = UserToken::new(jwt.as_str());
            token.map(Some).map_err(|error| RemoteError::Answer(error.to_string()))
        }
        status => {
            let text = format!("status {}", status.as_u16());
            Err(match status.is_server_error() {
                true => RemoteError::Unavailable(text),
                false => RemoteError::Answer(text),
            })
        }
    }
}

/// Reads the claim `exp` of a JWT. The signature is not verified, because ZSS itself has sent the token.
fn expiry(token: &UserToken) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }

    let payload = token.expose().split('.').nth(1)?;
    let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(Timestamp::from_secs(claims.exp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: Result<Option<UserToken>, RemoteError>) -> &'static str {
        match result {
            Ok(Some(_)) => "token",
            Ok(None) => "refused",
            Err(RemoteError::Unavailable(_)) => "unavailable",
            Err(RemoteError::Answer(_)) => "answer",
        }
    }

    #[test]
    fn only_a_usable_token_is_a_success_and_only_400_and_401_are_refusals() {
        let long = format!(r#"{{"jwt":"{}"}}"#, "x".repeat(MAX_TOKEN + 1));
        for (status, body, want) in [
            (201, r#"{"jwt":"e30.e30.c2ln"}"#, "token"),
            (200, r#"{"jwt":"e30.e30.c2ln","more":1}"#, "token"),
            (201, r#"{"jwt":""}"#, "answer"),
            (201, r#"{"jwt":"a b"}"#, "answer"),
            (201, r#"{"jwt":1}"#, "answer"),
            (201, "{}", "answer"),
            (201, "<html>", "answer"),
            (201, &long, "answer"),
            (204, "", "answer"),
            (302, r#"{"jwt":"e30.e30.c2ln"}"#, "answer"),
            (400, "", "refused"),
            (401, r#"{"jwt":"e30.e30.c2ln"}"#, "refused"),
            (403, "", "answer"),
            (404, "", "answer"),
            (500, r#"{"jwt":"e30.e30.c2ln"}"#, "unavailable"),
            (503, "", "unavailable"),
        ] {
            let reply = Reply::new(StatusCode::from_u16(status).unwrap(), body);
            assert_eq!(kind(decide(&reply)), want, "{status} {body}");
        }
    }

    #[test]
    fn the_expiry_is_the_claim_exp() {
        for (claims, want) in [(r#"{"exp":5000}"#, Some(5000)), ("{}", None), ("x", None)] {
            let text = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
            let token = UserToken::new(text).unwrap();
            assert_eq!(expiry(&token), want.map(Timestamp::from_secs), "{claims}");
        }
        assert_eq!(expiry(&UserToken::new("opaque").unwrap()), None);
    }
}
