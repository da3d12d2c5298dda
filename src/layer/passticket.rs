//! The scheme `httpBasicPassTicket`: the service receives `Authorization: Basic user:PassTicket`.

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use zeroize::Zeroizing;

#[cfg(feature = "proxy")]
use super::{scheme::ReadyToForward, schemes::TicketAnswer};
use super::{
    schemes::{Accepts, Authorization, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
    technical_users::TechnicalUsers,
};
#[cfg(feature = "proxy")]
use crate::ticket_breaker::{PathClass, RefusedStatuses, RouteTickets, Sent, TicketBreaker, Tried};
use crate::{
    audit::{AuditRecord, Event},
    passticket::{Applid, PassTicket, PassTicketGenerator, Replay, UserId},
};

/// The names of two headers that the service receives in addition to `Authorization`: one with the user id, and one
/// with the PassTicket. In Zowe, the settings are `customUserHeader` and `customAuthHeader` under
/// `apiml.security.auth.passticket`. There, one of these settings alone has no effect. So this type always has both
/// names.
///
/// If a client sends headers with these names, the gateway replaces them. If there is no ticket, it removes them.
#[derive(Clone, Debug)]
pub struct CustomHeaders([HeaderName; 2]);

impl CustomHeaders {
    /// Sets the names of the headers: `user` for the user id, and `ticket` for the PassTicket.
    pub fn new(user: HeaderName, ticket: HeaderName) -> Self {
        Self([user, ticket])
    }

    /// Returns the name of the header for the user id.
    pub fn user(&self) -> &HeaderName {
        &self.0[0]
    }

    /// Returns the name of the header for the PassTicket.
    pub fn ticket(&self) -> &HeaderName {
        &self.0[1]
    }
}

/// The scheme `httpBasicPassTicket`: the service receives `Authorization: Basic base64(user:ticket)`. The ticket is a
/// PassTicket (a one-time password of z/OS).
///
/// For each attempt to make a ticket, the audit log gets one [`Ticket`](Event::Ticket) record. If the attempt fails,
/// the log of the program also shows the user, the APPLID (the name of the application) and the return codes.
///
/// ```
/// use tower_passticket::{
///     layer::{PassTicketScheme, Route},
///     passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator},
///     token::ServiceId,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let applid = Applid::new("IZUDFLT")?;
/// let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")?;
/// let generator = LocalGenerator::new(KeyProfiles::new([profile])?);
/// let route = Route::new(
///     ServiceId::new("ibmzosmf")?,
///     "api/v1",
///     "https://zos.example.com/zosmf".parse()?,
///     PassTicketScheme::new(applid, generator),
/// )?;
/// assert_eq!(route.scheme().name(), "httpBasicPassTicket");
/// # Ok(())
/// # }
/// ```
pub struct PassTicketScheme<G> {
    applid: Applid,
    generator: Arc<G>,
    custom: Option<CustomHeaders>,
    technical_users: Option<Arc<TechnicalUsers>>,
    #[cfg(feature = "proxy")]
    breaker: Option<RouteTickets>,
}

impl<G: PassTicketGenerator> PassTicketScheme<G> {
    /// Creates a scheme that gets tickets for the application `applid` from `generator`. The service must check the
    /// tickets with the same APPLID.
    pub fn new(applid: Applid, generator: G) -> Self {
        Self {
            applid,
            generator: Arc::new(generator),
            custom: None,
            technical_users: None,
            #[cfg(feature = "proxy")]
            breaker: None,
        }
    }

    /// Asks `breaker` before each ticket. z/OS counts each refused ticket as a wrong password, and revokes a user after
    /// too many wrong passwords. So after services have refused some tickets of a user, the breaker permits no more
    /// tickets of this user. The module [`ticket_breaker`](crate::ticket_breaker) has the details.
    ///
    /// `prefix` is the prefix of the route, such as `/ibmzosmf/api/v1`. An answer with one of the statuses in `refused`
    /// counts as a refusal of the ticket. With [`RefusedStatuses::NONE`], no answer counts, and the scheme does not use
    /// the breaker.
    ///
    /// The innermost Tower service must be [`Forward`](crate::proxy::Forward), because only `Forward` reports answers
    /// to the breaker. Without reports, the breaker does not know whether a ticket was accepted. Then it permits only
    /// one request of a user at a time. After the second request of a user, it also permits no tickets of this user for
    /// some time.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn with_breaker(
        self,
        breaker: &TicketBreaker,
        prefix: &str,
        refused: RefusedStatuses,
    ) -> Self {
        let tickets = || RouteTickets::new(breaker, self.applid, prefix, refused);
        let breaker = (!refused.is_none()).then(tickets);
        Self { breaker, ..self }
    }

    /// Also sends the user id and the ticket in the headers `custom`.
    #[must_use]
    pub fn with_custom_headers(self, custom: CustomHeaders) -> Self {
        Self { custom: Some(custom), ..self }
    }

    /// Makes tickets for technical users, by the rules `technical_users`. A person whom a rule matches needs no user of
    /// their own. In this crate, only this scheme uses such rules, because a PassTicket is valid only for one APPLID.
    /// The credentials of other schemes can be valid for several servers.
    #[must_use]
    pub fn with_technical_users(self, technical_users: Arc<TechnicalUsers>) -> Self {
        Self { technical_users: Some(technical_users), ..self }
    }

    /// Returns the application that the tickets are for.
    pub fn applid(&self) -> Applid {
        self.applid
    }

    /// Makes a ticket if the breaker permits it. If the breaker cannot decide yet, waits.
    #[cfg(feature = "proxy")]
    fn watched(
        &self,
        breaker: &RouteTickets,
        user: UserId,
        token: Option<&str>,
        class: PathClass,
    ) -> SchemeFuture {
        let waits = match breaker.try_now(user, class) {
            Tried::Stopped(error) => return SchemeFuture::ready(Err(error.into())),
            Tried::Wait => Err(class),
            Tried::Send(sent) => {
                if let Some(generated) = self.generator.try_generate_now(&user, &self.applid) {
                    let headers = generated.map(|ticket| {
                        headers(&user, &ticket, self.custom.as_ref()).with_sent(sent)
                    });
                    return SchemeFuture::ready(headers.map_err(Into::into));
                }
                Ok(sent)
            }
        };
        let token = token.filter(|_| self.generator.needs_token());
        let token = token.map(|token| Zeroizing::new(token.to_owned()));
        let (breaker, generator) = (breaker.clone(), self.generator.clone());
        let (applid, custom) = (self.applid, self.custom.clone());
        SchemeFuture::pending(async move {
            let sent: Sent = match waits {
                Ok(sent) => sent,
                Err(class) => breaker.wait(user, class).await?,
            };
            let ticket = match generator.try_generate_now(&user, &applid) {
                Some(generated) => generated?,
                None => {
                    let token = token.as_ref().map(|token| token.as_str());
                    generator.generate_with_token(&user, &applid, token).await?
                }
            };
            Ok(headers(&user, &ticket, custom.as_ref()).with_sent(sent))
        })
    }

    fn headers_for(&self, user: UserId, token: Option<&str>) -> SchemeFuture {
        if let Some(generated) = self.generator.try_generate_now(&user, &self.applid) {
            let headers = generated.map(|ticket| headers(&user, &ticket, self.custom.as_ref()));
            return SchemeFuture::ready(headers.map_err(Into::into));
        }
        let future = self.generator.generate_with_token(&user, &self.applid, token);
        let custom = self.custom.clone();
        SchemeFuture::pending(async move { Ok(headers(&user, &future.await?, custom.as_ref())) })
    }
}

impl<G> Clone for PassTicketScheme<G> {
    fn clone(&self) -> Self {
        Self {
            applid: self.applid,
            generator: self.generator.clone(),
            custom: self.custom.clone(),
            technical_users: self.technical_users.clone(),
            #[cfg(feature = "proxy")]
            breaker: self.breaker.clone(),
        }
    }
}

impl<G> fmt::Debug for PassTicketScheme<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassTicketScheme")
            .field("applid", &self.applid)
            .field("custom", &self.custom)
            .finish_non_exhaustive()
    }
}

impl<G: PassTicketGenerator> Scheme for PassTicketScheme<G> {
    fn name(&self) -> &'static str {
        "httpBasicPassTicket"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        #[cfg(feature = "proxy")]
        if let Some(breaker) = &self.breaker {
            let class = breaker.class(request.method(), request.uri().path());
            return self.watched(breaker, *request.user(), request.login_token(), class);
        }
        self.headers_for(*request.user(), request.login_token())
    }

    fn prepare_again(&self, authorization: &Authorization<'_>) -> Option<SchemeFuture> {
        #[cfg(feature = "proxy")]
        if let Some(breaker) = &self.breaker {
            let (user, token) = (*authorization.user(), authorization.login_token());
            return Some(self.watched(breaker, user, token, authorization.sent?.watched.class()));
        }
        Some(self.headers_for(*authorization.user(), authorization.login_token()))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        self.custom.as_ref().map_or(&[], |custom| &custom.0)
    }

    fn technical_users(&self) -> Option<Arc<TechnicalUsers>> {
        self.technical_users.clone()
    }

    fn event(&self) -> Event {
        Event::Ticket
    }

    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        record.with_applid(self.applid)
    }

    fn replay(&self) -> Replay {
        self.generator.replay(&self.applid)
    }

    #[cfg(feature = "proxy")]
    fn answered(&self, answer: &TicketAnswer<'_>) {
        let Some(breaker) = &self.breaker else { return };
        let TicketAnswer { user, watched, status, headers, extensions } = *answer;
        let sent = || extensions.get::<ReadyToForward>()?.sent();
        if breaker.answered(user, watched, status, headers, sent) {
            // The generator must not return the refused ticket again.
            self.generator.forget(&user, &self.applid);
        }
    }

    fn accepts(&self) -> Accepts {
        match self.generator.needs_token() {
            true => Accepts::AnyCredentialWithToken,
            false => Accepts::AnyCredential,
        }
    }
}

fn headers(user: &UserId, ticket: &PassTicket, custom: Option<&CustomHeaders>) -> SchemeHeaders {
    let headers = SchemeHeaders::new().with(AUTHORIZATION, basic(user, ticket));
    match custom {
        Some(custom) => headers
            .with(custom.user().clone(), printable(user.as_bytes()))
            .with(custom.ticket().clone(), printable(ticket.expose_bytes())),
        None => headers,
    }
}

/// Returns the value of `Authorization: Basic` (RFC 7617 §2). A user id and a PassTicket never contain a colon.
fn basic(user: &UserId, ticket: &PassTicket) -> HeaderValue {
    // A user id, a colon and a PassTicket have at most 8 + 1 + 8 = 17 bytes, which are 24 bytes in base64.
    let mut plain = Zeroizing::new([0; 17]);
    let (user, ticket) = (user.as_bytes(), ticket.expose_bytes());
    let len = user.len() + 1 + ticket.len();
    plain[..user.len()].copy_from_slice(user);
    plain[user.len()] = b':';
    plain[user.len() + 1..len].copy_from_slice(ticket);
    let mut line = Zeroizing::new([0; 30]);
    line[..6].copy_from_slice(b"Basic ");
    let encoded = BASE64_STANDARD
        .encode_slice(&plain[..len], &mut line[6..])
        .expect("at most 17 bytes are encoded to at most 24 bytes, and the buffer has room for 24");
    printable(&line[..6 + encoded])
}

fn printable(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("user ids, PassTickets and base64 are printable ASCII")
}
