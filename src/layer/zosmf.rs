//! The scheme `zosmf`: the service receives a token of z/OSMF, IBM's management server on z/OS.

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, header::COOKIE};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    authentication::Proof,
    failure::Failure,
    scheme_error::SchemeError,
    scheme_ticket::TicketExchange,
    schemes::{Accepts, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
};
use crate::{
    audit::AuditRecord,
    clock::Timestamp,
    headers::cookie,
    messages::{self, ApiMessage},
    passticket::{Applid, PassTicket, PassTicketGenerator, Replay, UserId},
    remote::Connect,
    ticket_breaker::TicketBreaker,
    token::TokenOrigin,
    zosmf::{Zosmf, ZosmfError, ZosmfSession, ZosmfSessions},
};

/// The issuer of the JWTs of z/OSMF.
const ISSUER: &str = "zOSMF";

/// The scheme `zosmf`: the service receives a token of z/OSMF. The token is a JWT in the cookie `jwtToken`, or an LTPA
/// token (an opaque token of IBM servers) in the cookie `LtpaToken2`.
///
/// The scheme uses the first of these tokens that exists:
///
/// 1. The token of the client, if it is a JWT of z/OSMF. If it is a login token of API ML (Zowe's API Mediation Layer)
///    with the claim `ltpa`, the token in this claim.
/// 2. The token of a session in [`ZosmfSessions`]. [`ZosmfLogin`](../api/struct.ZosmfLogin.html) stores it there when
///    the user logs in.
/// 3. The token of a session that the scheme opens with a PassTicket (a one-time password of z/OS) for the APPLID (the
///    name of the application) of z/OSMF. The scheme keeps the sessions of at most 5,000 users. It removes a session a
///    minute before the session expires, and when the user logs out. For each user, the scheme opens one session at a
///    time.
///
/// If z/OSMF refuses the PassTicket, the failure is a [`SchemeError`] with `ZWEAZ601W`. For a minute, the scheme then
/// sends no PassTicket of this user, because the security product counts refused PassTickets as wrong passwords. Clones
/// share the sessions.
///
/// ```no_run
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower_passticket::{
///     layer::ZosmfScheme,
///     passticket::{Applid, KeyProfiles, LocalGenerator},
///     remote::{Client, ClientLimits},
///     zosmf::{Zosmf, ZosmfSessions},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // For TLS, use `tls::Connector` instead of `HttpConnector`.
/// let client = Client::new(HttpConnector::new(), ClientLimits::default());
/// let zosmf = Zosmf::new(client, "http://localhost:10443".parse()?);
/// let tickets = LocalGenerator::new(KeyProfiles::default());
/// let sessions = ZosmfSessions::default();
/// let scheme = ZosmfScheme::new(zosmf, tickets, Applid::new("IZUDFLT")?, sessions);
/// # Ok(())
/// # }
/// ```
pub struct ZosmfScheme<C, G>(Arc<Shared<C, G>>);

struct Shared<C, G> {
    zosmf: Zosmf<C>,
    logins: ZosmfSessions,
    /// The sessions that this scheme has opened.
    opened: TicketExchange<G, ZosmfSession>,
}

impl<C: Connect, G: PassTicketGenerator> ZosmfScheme<C, G> {
    /// Creates a scheme that opens sessions at `zosmf`, with PassTickets of `tickets` for `applid`. `logins` contains
    /// the sessions of users who have logged in with a password.
    pub fn new(zosmf: Zosmf<C>, tickets: G, applid: Applid, logins: ZosmfSessions) -> Self {
        Self(Arc::new(Shared { zosmf, logins, opened: TicketExchange::new(tickets, applid) }))
    }

    /// Asks `breaker` before each PassTicket. After z/OSMF has refused PassTickets of a user, the breaker permits no
    /// PassTickets of this user for some time ([`ticket_breaker`](crate::ticket_breaker)).
    #[must_use]
    pub fn with_breaker(self, breaker: &TicketBreaker) -> Self {
        self.0.opened.set_breaker(breaker, "zosmf");
        self
    }
}

impl<C, G> Clone for ZosmfScheme<C, G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C, G> fmt::Debug for ZosmfScheme<C, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZosmfScheme")
            .field("zosmf", &self.0.zosmf)
            .field("applid", &self.0.opened.applid())
            .finish_non_exhaustive()
    }
}

impl<C: Connect, G: PassTicketGenerator> Scheme for ZosmfScheme<C, G> {
    fn name(&self) -> &'static str {
        "zosmf"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        let (user, headers) = (*request.user(), request.headers());
        if let Some(own) = request.token().and_then(|token| own_token(request.proof(), token)) {
            return SchemeFuture::ready(match &own {
                OwnToken::Jwt(jwt) => with_cookie(headers, "jwtToken", jwt),
                OwnToken::Ltpa(ltpa) => with_cookie(headers, "LtpaToken2", ltpa),
            });
        }
        if let Some(session) = self.0.logins.get(&user) {
            return SchemeFuture::ready(with_session(headers, &session));
        }
        if let Some(opened) = self.0.opened.kept(&user) {
            let session = opened.and_then(|session| session.ok_or_else(refused));
            return SchemeFuture::ready(
                session.and_then(|session| with_session(headers, &session)),
            );
        }
        let token = match self.0.opened.token_for(&user, request.login_token()) {
            Ok(token) => token,
            Err(failure) => return SchemeFuture::ready(Err(failure)),
        };
        let cookies = headers.get_all(COOKIE).iter().map(|line| (COOKIE, line.clone()));
        let (shared, cookies) = (self.0.clone(), cookies.collect::<HeaderMap>());
        SchemeFuture::pending(async move {
            let open = |ticket| shared.open(&user, ticket);
            // The scheme drops a session if its user has logged out, or if there are too many sessions. z/OSMF accepts
            // a session until it expires. So the scheme also ends the session at z/OSMF.
            let end = |user, session| shared.zosmf.end(user, session);
            let session = shared.opened.get(user, token, open, end).await?;
            let session = session.ok_or_else(refused)?;
            with_session(&cookies, &session)
        })
    }

    /// Earlier layers already remove the cookies of z/OSMF.
    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        record.with_applid(self.0.opened.applid())
    }

    fn accepts(&self) -> Accepts {
        Accepts::AnyCredentialWithToken
    }

    /// Ends the sessions of `user` at z/OSMF in the background. If the scheme is opening a session at this time, it
    /// ends the session as soon as it is open. This method needs a tokio runtime.
    fn logged_out(&self, user: &UserId) {
        let sessions = [self.0.opened.forget(user), self.0.logins.take(user)];
        for session in sessions.into_iter().flatten() {
            self.0.zosmf.end(*user, session);
        }
    }

    fn replay(&self) -> Replay {
        Replay::Allowed
    }
}

impl<C: Connect, G: PassTicketGenerator> Shared<C, G> {
    /// Opens a session. Returns the session and when it expires, or `None` if z/OSMF refuses the PassTicket.
    async fn open(
        &self,
        user: &UserId,
        ticket: PassTicket,
    ) -> Result<Option<(ZosmfSession, Timestamp)>, Failure> {
        let now = self.opened.now();
        match self.zosmf.open_session(user, ticket.expose_bytes(), now).await {
            Ok(session) => {
                self.logins.remember(&session);
                let expires_at = session.expires_at();
                Ok(Some((session, expires_at)))
            }
            Err(ZosmfError::Refused) => Ok(None),
            Err(error) => Err(SchemeError::unavailable(error.to_string(), None).into()),
        }
    }
}

fn refused() -> Failure {
    let message = ApiMessage::with(&messages::ZOSMF_TOKEN_FAILED, &["The login was refused"]);
    SchemeError::failed(
        "z/OSMF refuses the PassTicket of the user; check zOSMF.applId and its PassTicket key, and whether the user may \
         use z/OSMF",
    )
    .with_message(message)
    .into()
}

fn with_session(headers: &HeaderMap, session: &ZosmfSession) -> Result<SchemeHeaders, Failure> {
    let (name, value) = session.cookie();
    with_cookie(headers, name, value)
}

fn with_cookie(headers: &HeaderMap, name: &str, value: &str) -> Result<SchemeHeaders, Failure> {
    let line = cookie::joined_with(headers, name, value).ok_or_else(|| {
        SchemeError::failed("the token of z/OSMF has a character that a cookie cannot contain")
    })?;
    Ok(SchemeHeaders::new().with(COOKIE, line))
}

/// A token of z/OSMF that the client has sent.
enum OwnToken<'a> {
    Jwt(&'a str),
    Ltpa(Zeroizing<String>),
}

/// Returns the token of z/OSMF in the verified `token`: `token` itself, or the text in its claim `ltpa`. If the key of
/// the gateway has verified a login token, its claims are not read.
fn own_token<'a>(proof: &Proof, token: &'a str) -> Option<OwnToken<'a>> {
    #[derive(Deserialize)]
    struct Claims {
        iss: Option<String>,
        ltpa: Option<Zeroizing<String>>,
    }

    match proof {
        Proof::External(external) if external.issuer().eq_ignore_ascii_case(ISSUER) => {
            Some(OwnToken::Jwt(token))
        }
        // Tokens of the gateway never contain the claim `ltpa`. If API ML has the same key as the gateway, tokens of
        // API ML also have the origin `Gateway`, and their claim is ignored (docs/decisions.md#d48).
        Proof::Jwt(jwt) if jwt.origin() != TokenOrigin::Gateway => {
            let payload = token.split('.').nth(1)?;
            let payload = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?);
            let claims: Claims = serde_json::from_slice(&payload).ok()?;
            match claims {
                Claims { iss: Some(iss), .. } if iss.eq_ignore_ascii_case(ISSUER) => {
                    Some(OwnToken::Jwt(token))
                }
                Claims { ltpa, .. } => ltpa.filter(|ltpa| !ltpa.is_empty()).map(OwnToken::Ltpa),
            }
        }
        _ => None,
    }
}
