//! What a record says.

use std::net::SocketAddr;

use http::Extensions;

use super::{ReasonCode, RequestId, line::Object};
use crate::{
    clock::Timestamp,
    connection::ConnectionInfo,
    identity::{EmailAddress, Fingerprint, PeerCertificate},
    passticket::{Applid, SafReturnCodes, UserId},
    revocation::Evicted,
    token::{Scopes, ServiceId, TokenFingerprint},
};

string_enum! {
    /// What was decided.
    pub enum Event {
        /// Who is asking, and whether they may go there: on routes, and at `query`.
        Authentication = "authentication",
        /// A PassTicket for who is asking.
        Ticket = "ticket",
        /// A PassTicket for somebody else.
        DelegatedTicket = "delegated-ticket",
        /// A login with a password or a certificate.
        Login = "login",
        /// The end of a login token.
        Logout = "logout",
        /// A new login token for an old one.
        Refresh = "refresh",
        /// A new Personal Access Token.
        TokenMinted = "token-minted",
        /// The end of one Personal Access Token.
        TokenRevoked = "token-revoked",
        /// The end of all Personal Access Tokens of a user, or for a service.
        RuleMade = "rule-made",
        /// Revocations that can hit nothing any more are forgotten.
        Evicted = "evicted",
    }
}

string_enum! {
    /// What came of it.
    pub enum Outcome {
        /// It was granted, and done.
        Success = "success",
        /// They may not, or could not prove who they are.
        Refused = "refused",
        /// Nobody could say, or it could not be done.
        Error = "error",
    }
}

string_enum! {
    /// What somebody showed to prove who they are.
    pub enum CredentialKind {
        /// Nothing that counts.
        None = "none",
        /// A user and a password.
        Password = "password",
        /// A token that did not verify, so that nobody knows of which kind it is.
        Token = "token",
        /// A login token.
        LoginToken = "login-token",
        /// A Personal Access Token.
        PersonalAccessToken = "personal-access-token",
        /// A token of another issuer.
        ExternalToken = "external-token",
        /// A client certificate.
        Certificate = "certificate",
    }
}

string_enum! {
    /// Whose tokens a rule is about.
    pub enum RuleKind {
        /// Those of one user: the `target`.
        User = "user",
        /// Those for one service: the `service`.
        Service = "service",
    }
}

/// What only some events have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// [`Event::RuleMade`]: the rule.
    Rule {
        /// Whose tokens it is about.
        kind: RuleKind,
        /// It hits what was issued up to then.
        up_to: Timestamp,
    },
    /// [`Event::TokenMinted`]: what the token is good for.
    Minted {
        /// For which services.
        scopes: Scopes,
        /// For how many days.
        days: u8,
    },
    /// [`Event::DelegatedTicket`]: the address by which the target was asked for.
    Delegation {
        /// Whosoever it is.
        email: EmailAddress,
    },
    /// [`Event::Evicted`]: how much was forgotten.
    Evicted(Evicted),
    /// [`Event::Login`]: a new password was to replace the old one.
    PasswordChange,
}

/// One decision. Cheap to make: nothing is written out before a sink does so.
///
/// Made with [`new`](Self::new) or [`failed`](Self::failed) and the setters, none of which takes what
/// a secret could be in. A sink reads the fields, or takes the JSON object of the
/// [schema](super#schema) from [`to_json`](Self::to_json). A field that is `None` has nothing to do
/// with the event, or is not known.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditRecord {
    /// What was decided.
    pub event: Event,
    /// What came of it.
    pub outcome: Outcome,
    /// When.
    pub time: Timestamp,
    /// Why it did not succeed.
    pub reason: Option<ReasonCode>,
    /// In which request.
    pub request_id: Option<RequestId>,
    /// Who was connected.
    pub peer: Option<SocketAddr>,
    /// What they showed.
    pub credential: Option<CredentialKind>,
    /// Which token they showed.
    pub token_id: Option<TokenFingerprint>,
    /// Which token they were given.
    pub issued_token_id: Option<TokenFingerprint>,
    /// Which certificate they showed.
    pub certificate: Option<PeerCertificate>,
    /// Who it was, or said they were.
    pub user: Option<UserId>,
    /// The other user that it is about.
    pub target: Option<UserId>,
    /// The service that it is about.
    pub service: Option<ServiceId>,
    /// The application that it is about.
    pub applid: Option<Applid>,
    /// The return codes that came instead of a ticket.
    pub codes: Option<SafReturnCodes>,
    /// What only this event has to say.
    pub detail: Option<Detail>,
}

impl AuditRecord {
    /// A record of what came of `event` at `time`. [`succeeded`](Self::succeeded) and
    /// [`failed`](Self::failed), which says why as well, are what is mostly meant.
    pub fn new(event: Event, outcome: Outcome, time: Timestamp) -> Self {
        Self {
            event,
            outcome,
            time,
            reason: None,
            request_id: None,
            peer: None,
            credential: None,
            token_id: None,
            issued_token_id: None,
            certificate: None,
            user: None,
            target: None,
            service: None,
            applid: None,
            codes: None,
            detail: None,
        }
    }

    /// A record of `event`, which succeeded.
    pub fn succeeded(event: Event, time: Timestamp) -> Self {
        Self::new(event, Outcome::Success, time)
    }

    /// A record of why `event` did not succeed. The reason says what the outcome is.
    pub fn failed(event: Event, reason: impl Into<ReasonCode>, time: Timestamp) -> Self {
        let reason = reason.into();
        Self { reason: Some(reason), ..Self::new(event, reason.outcome(), time) }
    }

    /// Takes [`RequestId`] and [`ConnectionInfo`] from the extensions of the request, if they are there.
    #[must_use]
    pub fn request(self, extensions: &Extensions) -> Self {
        let peer = extensions.get::<ConnectionInfo>().map(|connection| connection.peer);
        Self { request_id: extensions.get().copied(), peer, ..self }
    }

    /// Who it was, or, when they could not prove it, who they said they were.
    #[must_use]
    pub fn user(self, user: UserId) -> Self {
        Self { user: Some(user), ..self }
    }

    /// What they showed.
    #[must_use]
    pub fn credential(self, credential: CredentialKind) -> Self {
        Self { credential: Some(credential), ..self }
    }

    /// Which token they showed. Of one that did not verify nothing is said: it could be any text,
    /// and the hash of a password can be guessed at.
    #[must_use]
    pub fn token_id(self, token: TokenFingerprint) -> Self {
        Self { token_id: Some(token), ..self }
    }

    /// Which token they were given.
    #[must_use]
    pub fn issued_token_id(self, token: TokenFingerprint) -> Self {
        Self { issued_token_id: Some(token), ..self }
    }

    /// Which certificate they showed.
    #[must_use]
    pub fn certificate(self, certificate: &PeerCertificate) -> Self {
        Self { certificate: Some(certificate.clone()), ..self }
    }

    /// The service that it is about.
    #[must_use]
    pub fn service(self, service: &ServiceId) -> Self {
        Self { service: Some(service.clone()), ..self }
    }

    /// The application that it is about.
    #[must_use]
    pub fn applid(self, applid: Applid) -> Self {
        Self { applid: Some(applid), ..self }
    }

    /// The other user that it is about.
    #[must_use]
    pub fn target(self, target: UserId) -> Self {
        Self { target: Some(target), ..self }
    }

    /// The return codes that came instead of a ticket.
    #[must_use]
    pub fn codes(self, codes: SafReturnCodes) -> Self {
        Self { codes: Some(codes), ..self }
    }

    /// Why it did not succeed; the outcome becomes the one that goes with it.
    #[must_use]
    pub fn reason(self, reason: impl Into<ReasonCode>) -> Self {
        let reason = reason.into();
        Self { reason: Some(reason), outcome: reason.outcome(), ..self }
    }

    /// What only this event has to say.
    #[must_use]
    pub fn detail(self, detail: Detail) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// The JSON object of the [schema](super#schema), in one line.
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::new();
        self.write_json(&mut bytes);
        String::from_utf8(bytes).expect("JSON is text")
    }

    pub(super) fn write_json(&self, bytes: &mut Vec<u8>) {
        let mut line = Object::begin(bytes);
        line.plain("time", self.time);
        line.plain("event", self.event.as_str());
        line.plain("outcome", self.outcome.as_str());
        line.plain_if_any("reason", self.reason.map(ReasonCode::as_str));
        line.plain_if_any("request_id", self.request_id);
        line.plain_if_any("peer", self.peer);
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
            detail.write_to(&mut line);
        }
        line.end();
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
            Self::Delegation { email } => line.text("email", email.as_str()),
            Self::Evicted(Evicted { tokens, users, services }) => {
                let mut object = line.object("evicted");
                for (key, count) in [("tokens", tokens), ("users", users), ("services", services)] {
                    object.number(key, *count as u64);
                }
                object.end();
            }
            Self::PasswordChange => line.yes("password_change"),
        }
    }
}
