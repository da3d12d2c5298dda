//! The scheme `safIdt`: the service receives a SAF identity token.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    failure::Failure,
    scheme_error::SchemeError,
    scheme_ticket::TicketExchange,
    schemes::{Accepts, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
};
use crate::{
    audit::AuditRecord,
    clock::Timestamp,
    messages::{self, ApiMessage},
    passticket::{Applid, PassTicket, PassTicketGenerator, Replay, UserId},
    remote::{Address, Client, Connect, RemoteError, Reply, UserToken},
    ticket_breaker::TicketBreaker,
};

static X_SAF_TOKEN: HeaderName = HeaderName::from_static("x-saf-token");

/// If a token has no claim `exp`, the scheme treats it as valid for this time.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Even if the claim `exp` is later, the scheme does not treat a token as valid for longer than this.
const MAX_LIFETIME: Duration = Duration::from_secs(8 * 60 * 60);

/// The maximum length of a token, in bytes. It limits the memory of the scheme.
const MAX_TOKEN: usize = 8 * 1024;

/// The scheme `safIdt`: the service receives a SAF identity token in the header `X-SAF-Token`. SAF, the z/OS interface
/// to the security product, makes these tokens. Each is for one user and one application.
///
/// The scheme makes a PassTicket (a one-time password of z/OS) for the APPLID (the name of the application) of the
/// service. It sends the PassTicket to ZSS (Zowe System Services, a server on z/OS), and ZSS answers with the token
/// (`docs/reference/zowe-site.md#schemes`). For each user, it sends one request at a time.
///
/// The scheme keeps the tokens of at most 5,000 users. It keeps a token for less than 8 hours. It removes the token a
/// minute before the token expires, and when the user logs out. Clones share the tokens.
///
/// If ZSS refuses the PassTicket, the failure is a [`SchemeError`] with `ZWEAG150E`. For a minute, the scheme then
/// sends no PassTicket of this user, because the security product counts refused PassTickets as wrong passwords.
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
    tokens: TicketExchange<G, UserToken>,
}

impl<C: Connect, G: PassTicketGenerator> SafIdtScheme<C, G> {
    /// Creates a scheme that requests tokens from ZSS at `address`, such as
    /// `https://zss.example:7557/saf/authenticate`. It sends PassTickets of `tickets` for `applid`.
    pub fn new(client: Client<C>, address: Address, tickets: G, applid: Applid) -> Self {
        Self(Arc::new(Shared { client, address, tokens: TicketExchange::new(tickets, applid) }))
    }

    /// Asks `breaker` before each PassTicket. After ZSS has refused PassTickets of a user, the breaker permits no
    /// PassTickets of this user for some time ([`ticket_breaker`](crate::ticket_breaker)).
    #[must_use]
    pub fn with_breaker(self, breaker: &TicketBreaker) -> Self {
        self.0.tokens.set_breaker(breaker, "safIdt");
        self
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
            .field("applid", &self.0.tokens.applid())
            .finish_non_exhaustive()
    }
}

impl<C: Connect, G: PassTicketGenerator> Scheme for SafIdtScheme<C, G> {
    fn name(&self) -> &'static str {
        "safIdt"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        let user = *request.user();
        if let Some(token) = self.0.tokens.kept(&user) {
            return SchemeFuture::ready(headers(token));
        }
        let token = match self.0.tokens.token_for(&user, request.login_token()) {
            Ok(token) => token,
            Err(failure) => return SchemeFuture::ready(Err(failure)),
        };
        let shared = self.0.clone();
        SchemeFuture::pending(async move {
            let ask = |ticket| shared.ask(&user, ticket);
            headers(shared.tokens.get(user, token, ask, |_, _| {}).await)
        })
    }

    /// Earlier layers already remove `X-SAF-Token`.
    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        record.with_applid(self.0.tokens.applid())
    }

    fn accepts(&self) -> Accepts {
        self.0.tokens.accepts()
    }

    fn logged_out(&self, user: &UserId) {
        self.0.tokens.forget(user);
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
    /// Requests a token from ZSS. Returns the token and when it expires, or `None` if ZSS refuses the PassTicket.
    async fn ask(
        &self,
        user: &UserId,
        ticket: PassTicket,
    ) -> Result<Option<(UserToken, Timestamp)>, Failure> {
        let request = request(&self.address, user, &ticket, &self.tokens.applid());
        let decided = match request {
            // The security product counts the second use of a PassTicket as a wrong password.
            Ok(request) => {
                self.client.call_once(request).await.and_then(|reply| decide(&reply, user))
            }
            Err(error) => Err(error),
        };
        match decided {
            Ok(Some(Issued { token, expires_at })) => {
                Ok(Some((token, used_until(expires_at, self.tokens.now()))))
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

struct Issued {
    token: UserToken,
    expires_at: Option<Timestamp>,
}

/// Returns the time until which the scheme treats a token as valid. `expires_at` is its claim `exp`.
fn used_until(expires_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let expires_at = expires_at.unwrap_or_else(|| now.plus(LIFETIME));
    expires_at.min(now.plus(MAX_LIFETIME))
}

/// Reads the response of ZSS. Returns `None` if ZSS refuses the PassTicket.
fn decide(reply: &Reply, user: &UserId) -> Result<Option<Issued>, RemoteError> {
    #[derive(Deserialize)]
    struct Body {
        jwt: Zeroizing<String>,
    }

    match reply.status() {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => Ok(None),
        StatusCode::OK | StatusCode::CREATED => {
            let jwt = reply.json::<Body>()?.jwt;
            if jwt.len() > MAX_TOKEN {
                return Err(RemoteError::Answer("the token is longer than 8 KiB".to_owned()));
            }
            let token = UserToken::new(jwt.as_str())
                .map_err(|error| RemoteError::Answer(error.to_string()))?;
            let expires_at =
                expiry(&token, user).map_err(|problem| RemoteError::Answer(problem.to_owned()))?;
            Ok(Some(Issued { token, expires_at }))
        }
        _ => Err(reply.unexpected_status()),
    }
}

/// Returns the claim `exp`, if the token is a JWT. Does not verify the signature, because ZSS itself has sent the
/// token.
///
/// # Errors
/// Why the token cannot be used: the claim `sub` is not the user, or the claims cannot be read. With such a token, the
/// service could act for a user who is not in the audit log.
fn expiry(token: &UserToken, user: &UserId) -> Result<Option<Timestamp>, &'static str> {
    #[derive(Deserialize)]
    struct Claims {
        sub: Option<Value>,
        exp: Option<Value>,
    }

    let payload = token.expose().split('.').nth(1);
    let payload = payload.and_then(|payload| BASE64_URL_SAFE_NO_PAD.decode(payload).ok());
    let Some(payload) = payload.map(Zeroizing::new) else { return Ok(None) };
    let Claims { sub, exp } = match serde_json::from_slice(&payload) {
        Ok(claims) => claims,
        // The claims are JSON, but cannot be read. For example, there are two claims `sub`.
        Err(error) if error.is_data() => return Err("the claims of the token cannot be read"),
        Err(_) => return Ok(None),
    };
    let is_user = |sub: &Value| sub.as_str().and_then(|sub| UserId::new(sub).ok()) == Some(*user);
    if sub.is_some_and(|sub| !is_user(&sub)) {
        return Err("the token is for another user");
    }
    Ok(exp.and_then(|exp| exp.as_u64()).map(Timestamp::from_secs))
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;
    use crate::layer::scheme_ticket::kept_until;

    fn kind(result: Result<Option<Issued>, RemoteError>) -> &'static str {
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
            assert_eq!(kind(decide(&reply, &user("USER"))), want, "{status} {body}");
        }
    }

    #[test]
    fn the_token_is_for_the_user_and_its_expiry_is_the_claim_exp() {
        let other = Err("the token is for another user");
        let unreadable = Err("the claims of the token cannot be read");
        for (claims, want) in [
            (r#"{"exp":5000}"#, Ok(Some(5000))),
            (r#"{"sub":"USER","exp":5000}"#, Ok(Some(5000))),
            (r#"{"sub":"user"}"#, Ok(None)),
            (r#"{"sub":"OTHER","exp":5000}"#, other),
            (r#"{"sub":"USER2"}"#, other),
            (r#"{"sub":""}"#, other),
            (r#"{"sub":["USER"]}"#, other),
            (r#"{"sub":"USER","sub":"OTHER"}"#, unreadable),
            ("{}", Ok(None)),
            ("x", Ok(None)),
        ] {
            let text = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
            let reply = Reply::new(StatusCode::CREATED, &format!(r#"{{"jwt":"{text}"}}"#));
            let decided = kind(decide(&reply, &user("USER")));
            assert_eq!(decided, if want.is_ok() { "token" } else { "answer" }, "{claims}");
            let token = UserToken::new(text).unwrap();
            let want = want.map(|exp: Option<u64>| exp.map(Timestamp::from_secs));
            assert_eq!(expiry(&token, &user("USER")), want, "{claims}");
        }
        assert_eq!(expiry(&UserToken::new("opaque").unwrap(), &user("USER")), Ok(None));
    }

    #[test]
    fn a_token_is_used_until_a_minute_before_it_expires_and_for_at_most_8_hours() {
        let now = Timestamp::from_secs(100_000);
        for (expires_at, want) in [
            (None, 100_240),
            (Some(100_600), 100_540),
            (Some(128_800), 128_740),
            (Some(128_801), 128_740),
            (Some(u64::MAX / 1000), 128_740),
            (Some(u64::MAX), 128_740),
            (Some(0), 0),
        ] {
            let got = kept_until(used_until(expires_at.map(Timestamp::from_secs), now));
            assert_eq!(got, Timestamp::from_secs(want), "{expires_at:?}");
        }
    }
}
