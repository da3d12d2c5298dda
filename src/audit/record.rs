//! The audit record, and its conversion to JSON.

use std::{net::SocketAddr, sync::Arc};

use http::{Extensions, Method, Uri};

use super::{
    event::{CredentialKind, Event, Outcome, RuleKind},
    line::Object,
    reason::ReasonCode,
    request_id::RequestId,
    request_line::RequestLine,
};
use crate::{
    clock::Timestamp,
    connection::{ClientAddress, ConnectionInfo},
    identity::{EmailAddress, Fingerprint, Forwarder, PeerCertificate, UnlistedPeer},
    passticket::{Applid, SafReturnCodes, UserId},
    revocation::{AccessTokenId, Evicted},
    token::{ExternalSubject, ExternalToken, Scopes, ServiceId, TokenFingerprint},
};

/// Facts that only one kind of event has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// [`Event::RuleMade`]: the new rule.
    Rule {
        /// Whether the rule applies to a user or to a service.
        kind: RuleKind,
        /// The rule revokes tokens that were issued up to this time.
        up_to: Timestamp,
    },
    /// [`Event::TokenMinted`]: the scopes and the lifetime of the token.
    Minted {
        /// The scopes of the token.
        scopes: Scopes,
        /// The lifetime in days.
        days: u8,
    },
    /// [`Event::TokenRotated`], [`Event::TokenChanged`] and [`Event::TokenRevoked`]: the token. `AuthApi` uses this
    /// variant only if the client has named the token by its id.
    AccessToken {
        /// The id in the registry of issued tokens.
        id: AccessTokenId,
    },
    /// [`Event::DelegatedTicket`]: the user of the ticket, as named in the request.
    Delegation {
        /// The e-mail address in the request.
        email: EmailAddress,
    },
    /// [`Event::TokenExchange`]: the tokens, and the actors. An actor acts for the user of the ticket.
    Exchange(Box<ExchangeDetail>),
    /// [`Event::TechnicalUser`]: the rule that matched.
    TechnicalUser {
        /// The name of the claim.
        claim: Arc<str>,
        /// The value of the claim.
        value: Arc<str>,
    },
    /// [`Event::Evicted`]: how many revocations were removed.
    Evicted(Evicted),
    /// [`Event::Login`]: the request also asks for a new password.
    PasswordChange,
    /// [`Event::Registration`]: the refused instance. The program that registered it may have chosen parts of both
    /// texts.
    Registration {
        /// The id of the instance.
        instance: Box<str>,
        /// The reason why the instance was refused.
        why: Box<str>,
    },
    /// [`Event::Scheme`]: which scheme was called.
    Scheme {
        /// The name of the scheme.
        name: &'static str,
    },
    /// [`Event::TicketsStopped`]: what an operator should check. [`Event::TicketsResumed`]: why the gateway makes
    /// PassTickets again.
    Check {
        /// The text.
        check: &'static str,
    },
}

/// The tokens in a token exchange (RFC 8693), and the actors. An actor acts for the user of the ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExchangeDetail {
    /// The kind of the subject token. The fingerprint of this token is [`AuditRecord::token_id`].
    pub subject: Option<CredentialKind>,
    /// The fingerprint of the actor token. `None` if the request has no actor token, or if the token was not verified.
    pub actor_token: Option<TokenFingerprint>,
    /// The actors, the latest first: the user id of the actor of this exchange, and then the actors in the claim `act`
    /// of the subject token. An actor in this claim has the name that the identity provider gives it. If this actor has
    /// a claim `iss`, its name is written as `ISSUER#NAME`.
    pub actors: Vec<Box<str>>,
}

/// The record of one decision.
///
/// Make it with [`succeeded`](Self::succeeded) or [`failed`](Self::failed), and then call the methods `with_…`. None of
/// these methods takes a value that can contain a secret. A sink reads the fields, or calls [`to_json`](Self::to_json).
/// The methods `with_…` format no text, so making a record is cheap. A field is `None` if it does not apply to the
/// event, or if its value is not known.
///
/// ```
/// use tower_passticket::{
///     audit::{AuditRecord, Event, ReasonCode},
///     clock::Timestamp,
///     passticket::UserId,
/// };
///
/// let record = AuditRecord::failed(Event::Login, ReasonCode::WrongPassword, Timestamp::from_secs(0))
///     .with_user(UserId::new("USER")?);
/// assert_eq!(
///     record.to_json(),
///     r#"{"time":"1970-01-01T00:00:00.000Z","event":"login","outcome":"refused","reason":"wrong-password","user":"USER"}"#,
/// );
/// # Ok::<(), tower_passticket::passticket::NameError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditRecord {
    /// The kind of decision.
    pub event: Event,
    /// The result.
    pub outcome: Outcome,
    /// The time of the decision.
    pub time: Timestamp,
    /// The reason, if the event did not succeed.
    pub reason: Option<ReasonCode>,
    /// The id of the request.
    pub request_id: Option<RequestId>,
    /// The address and port of the peer of the connection. If a header of the PROXY protocol contains an address of the
    /// client, this is that address.
    pub peer: Option<SocketAddr>,
    /// The address of the client, if a trusted proxy has announced it in a header. If this field is `None`, the client
    /// is the [`peer`](Self::peer).
    pub client: Option<ClientAddress>,
    /// The certificate of the trusted gateway or proxy that sent the request for its client
    /// ([`Forwarder`]).
    pub gateway: Option<PeerCertificate>,
    /// The method and path of the request.
    pub request: Option<RequestLine>,
    /// The kind of credential that the client sent.
    pub credential: Option<CredentialKind>,
    /// The fingerprint of the token that the client sent, if the token was verified.
    pub token_id: Option<TokenFingerprint>,
    /// The fingerprint of the token that was issued.
    pub issued_token_id: Option<TokenFingerprint>,
    /// The client certificate.
    pub certificate: Option<PeerCertificate>,
    /// The user id. If the event did not succeed, this may be the unverified user id that the client has sent.
    pub user: Option<UserId>,
    /// A second user that the event concerns: the user for whom a ticket was requested, or the user whose tokens the
    /// request lists or revokes.
    pub target: Option<UserId>,
    /// The token of a person who acts through a technical user (a user id that many persons share).
    /// [`user`](Self::user) is then the technical user. An identity provider has issued the token. In JSON, the record
    /// contains the name of the person, and not the token.
    pub subject: Option<ExternalToken>,
    /// The service that the event concerns.
    pub service: Option<ServiceId>,
    /// The APPLID (the name of an application on z/OS) that the event concerns.
    pub applid: Option<Applid>,
    /// The return codes of SAF (the z/OS interface to the security product), if no ticket was made.
    pub codes: Option<SafReturnCodes>,
    /// Facts that only this kind of event has.
    pub detail: Option<Detail>,
}

impl AuditRecord {
    /// Makes a record without a reason. Most callers use [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
    pub fn new(event: Event, outcome: Outcome, time: Timestamp) -> Self {
        Self {
            event,
            outcome,
            time,
            reason: None,
            request_id: None,
            peer: None,
            client: None,
            gateway: None,
            request: None,
            credential: None,
            token_id: None,
            issued_token_id: None,
            certificate: None,
            user: None,
            target: None,
            subject: None,
            service: None,
            applid: None,
            codes: None,
            detail: None,
        }
    }

    /// Makes a record of an event that succeeded.
    pub fn succeeded(event: Event, time: Timestamp) -> Self {
        Self::new(event, Outcome::Success, time)
    }

    /// Makes a record of an event that did not succeed. The reason determines the outcome.
    pub fn failed(event: Event, reason: impl Into<ReasonCode>, time: Timestamp) -> Self {
        let reason = reason.into();
        Self { reason: Some(reason), ..Self::new(event, reason.outcome(), time) }
    }

    /// Sets the method and path of the request. Sets further fields from `extensions`: the request id from the
    /// [`RequestId`], the peer and the client from the [`ConnectionInfo`], and the gateway from the [`Forwarder`]. If
    /// one of these extensions is absent, its fields become `None`. If the record has no client certificate, and there
    /// is an [`UnlistedPeer`], sets the certificate to that of the `UnlistedPeer`.
    #[must_use]
    pub fn with_request(self, method: &Method, uri: &Uri, extensions: &Extensions) -> Self {
        let connection = extensions.get::<ConnectionInfo>();
        Self {
            request_id: extensions.get().copied(),
            peer: connection.map(|connection| connection.peer),
            client: connection.and_then(ConnectionInfo::announced_client),
            gateway: extensions.get::<Forwarder>().map(|it| it.certificate().clone()),
            certificate: self
                .certificate
                .or_else(|| Some(extensions.get::<UnlistedPeer>()?.certificate().clone())),
            request: Some(RequestLine::new(method, uri)),
            ..self
        }
    }

    /// Returns the address of the client. This is [`client`](Self::client) if it is present, and otherwise the address
    /// of the [`peer`](Self::peer).
    pub fn client_address(&self) -> Option<ClientAddress> {
        self.client.or_else(|| Some(self.peer?.ip().into()))
    }

    /// Sets the user id.
    #[must_use]
    pub fn with_user(self, user: UserId) -> Self {
        Self { user: Some(user), ..self }
    }

    /// Sets the kind of credential.
    #[must_use]
    pub fn with_credential(self, credential: CredentialKind) -> Self {
        Self { credential: Some(credential), ..self }
    }

    /// Sets the fingerprint of the token that the client sent. The caller must have verified the token. An unverified
    /// text could be a password, and with its fingerprint, an attacker could test guesses of the password.
    #[must_use]
    pub fn with_token_id(self, token: TokenFingerprint) -> Self {
        Self { token_id: Some(token), ..self }
    }

    /// Sets the fingerprint of the token that was issued.
    #[must_use]
    pub fn with_issued_token_id(self, token: TokenFingerprint) -> Self {
        Self { issued_token_id: Some(token), ..self }
    }

    /// Sets the client certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: &PeerCertificate) -> Self {
        Self { certificate: Some(certificate.clone()), ..self }
    }

    /// Sets the service that the event concerns.
    #[must_use]
    pub fn with_service(self, service: &ServiceId) -> Self {
        Self { service: Some(service.clone()), ..self }
    }

    /// Sets the APPLID that the event concerns.
    #[must_use]
    pub fn with_applid(self, applid: Applid) -> Self {
        Self { applid: Some(applid), ..self }
    }

    /// Sets the second user that the event concerns.
    #[must_use]
    pub fn with_target(self, target: UserId) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Sets the token of the person who acts through a technical user.
    #[must_use]
    pub fn with_subject(self, token: &ExternalToken) -> Self {
        Self { subject: Some(token.clone()), ..self }
    }

    /// Sets the SAF return codes.
    #[must_use]
    pub fn with_codes(self, codes: SafReturnCodes) -> Self {
        Self { codes: Some(codes), ..self }
    }

    /// Sets the reason. The reason determines the outcome.
    #[must_use]
    pub fn with_reason(self, reason: impl Into<ReasonCode>) -> Self {
        let reason = reason.into();
        Self { reason: Some(reason), outcome: reason.outcome(), ..self }
    }

    /// Sets facts that only this kind of event has.
    #[must_use]
    pub fn with_detail(self, detail: Detail) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// Returns the record as a JSON object in one line, without a newline. See the
    /// [schema](super#schema).
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::with_capacity(512);
        self.write_json(&mut bytes);
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }

    pub(super) fn write_json(&self, bytes: &mut Vec<u8>) {
        let mut line = Object::begin(bytes);
        self.write_to(&mut line);
        line.end();
    }

    /// Writes a line that describes `count` requests. `self` is the record of the first of these requests.
    pub(super) fn write_sum(&self, count: u64, bytes: &mut Vec<u8>) {
        let mut line = Object::begin(bytes);
        self.write_to(&mut line);
        line.number("count", count);
        line.end();
    }

    fn write_to(&self, line: &mut Object<'_>) {
        line.plain("time", self.time);
        line.plain("event", self.event.as_str());
        line.plain("outcome", self.outcome.as_str());
        line.plain_if_any("reason", self.reason.map(ReasonCode::as_str));
        line.plain_if_any("request_id", self.request_id);
        line.plain_if_any("peer", self.peer);
        line.plain_if_any("client", self.client);
        if let Some(gateway) = &self.gateway {
            line.text("gateway", gateway.subject());
        }
        if let Some(request) = &self.request {
            line.request(request);
        }
        line.plain_if_any("credential", self.credential.map(CredentialKind::as_str));
        line.plain_if_any("token_id", self.token_id);
        line.plain_if_any("issued_token_id", self.issued_token_id);
        if let Some(certificate) = &self.certificate {
            let mut object = line.object("certificate");
            object.text("subject", certificate.subject());
            object.plain("sha256", Fingerprint::from(*certificate.sha256()));
            object.end();
        }
        line.plain_if_any("user", self.user);
        line.plain_if_any("target", self.target);
        if let Some(token) = &self.subject {
            let mut object = line.object("subject");
            object.text("issuer", token.issuer());
            object.text("name", name_of(token));
            object.end();
        }
        line.plain_if_any("service", self.service.as_ref());
        line.plain_if_any("applid", self.applid);
        if let Some(SafReturnCodes { saf, racf, reason }) = self.codes {
            let mut object = line.object("codes");
            object.number("saf", saf.into());
            object.number("racf", racf.into());
            object.number("reason", reason.into());
            object.end();
        }
        if let Some(detail) = &self.detail {
            detail.write_to(line);
        }
    }
}

pub(super) fn name_of(token: &ExternalToken) -> &str {
    match token.subject() {
        ExternalSubject::User(user) => user.as_str(),
        ExternalSubject::Identity(identity) => identity.name(),
    }
}

impl Detail {
    fn write_to(&self, line: &mut Object<'_>) {
        match self {
            Self::Rule { kind, up_to } => {
                let mut object = line.object("rule");
                object.plain("kind", kind.as_str());
                object.plain("up_to", *up_to);
                object.end();
            }
            Self::Minted { scopes, days } => {
                let mut object = line.object("minted");
                object.plain_list("scopes", scopes.iter());
                object.number("days", (*days).into());
                object.end();
            }
            Self::AccessToken { id } => line.plain("access_token", *id),
            Self::TechnicalUser { claim, value } => {
                let mut object = line.object("rule_claim");
                object.text("claim", claim);
                object.text("value", value);
                object.end();
            }
            Self::Delegation { email } => line.text("email", email.as_str()),
            Self::Exchange(exchange) => {
                let ExchangeDetail { subject, actor_token, actors } = &**exchange;
                let mut object = line.object("exchange");
                object.plain_if_any("subject", subject.map(CredentialKind::as_str));
                object.plain_if_any("actor_token_id", *actor_token);
                object.text_list("act", actors.iter().map(|actor| &**actor));
                object.end();
            }
            Self::Evicted(Evicted { tokens, users, services }) => {
                let mut object = line.object("evicted");
                for (key, count) in [("tokens", tokens), ("users", users), ("services", services)] {
                    object.number(key, *count as u64);
                }
                object.end();
            }
            Self::PasswordChange => line.set_true("password_change"),
            Self::Registration { instance, why } => {
                let mut object = line.object("registration");
                object.text("instance", instance);
                object.text("why", why);
                object.end();
            }
            Self::Scheme { name } => line.text("scheme", name),
            Self::Check { check } => line.text("check", check),
        }
    }
}
