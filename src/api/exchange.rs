//! `POST token`: exchanges the token of a user for a PassTicket (RFC 8693, docs/decisions.md#d55).
//!
//! The subject is the user of the token in `subject_token`. The PassTicket (a one-time password of z/OS) is for the
//! subject. The actor is the user of the client's certificate, or of the token in `actor_token`. If a client sends
//! both, both must be of the same user. For the APPLIDs of [`TokenExchange::with_bearer_applids`], no actor is needed.
//! An APPLID is the name of an application in the security product.

use std::{mem::discriminant, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, header::PRAGMA, request::Parts};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;

use super::{
    authorize::Authorizer,
    body,
    certificates::ClientCertificates,
    delegation::TicketCaller,
    error::{ApiError, ExchangeError, ExchangePart, PatRefusal},
    exchange_policy::{ActorNames, TokenExchange, check_may_act, earlier_actors},
    exchange_request::{self, ExchangeRequest, PASSTICKET, PresentedToken, TokenKind},
    permission::GuardedTask,
    record::add_to_record,
    response::{Answer, json},
    revocations::Revocations,
};
use crate::{
    audit::{Audit, AuditRecord, CredentialKind, Detail, ExchangeDetail, ReasonCode},
    clock::Clock,
    identity::{MapError, PeerCertificate},
    log_limit::log_limited,
    passticket::{Applid, PassTicket, PassTicketGenerator, UserId},
    revocation::CheckError,
    token::{ExternalSubject, ExternalToken, TokenError, TokenVerifier, VerifiedToken},
};

/// The body of the response (RFC 8693 §2.2.1). Do not log it, because it contains a secret.
#[derive(Serialize)]
struct ExchangedTicket<'a> {
    access_token: &'a str,
    issued_token_type: &'a str,
    /// A PassTicket is not a bearer token for an `Authorization` header, so the type is `N_A`.
    token_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    user_id: &'a str,
}

#[derive(Clone, Copy)]
pub(super) struct TokenExchanges<'a> {
    pub(super) exchange: &'a TokenExchange,
    pub(super) certificates: ClientCertificates<'a>,
    /// The verifier of subject tokens and actor tokens. It verifies each token only with the keys of the token's
    /// issuer.
    pub(super) verifier: &'a dyn TokenVerifier,
    /// Whether Personal Access Tokens (PATs) are on. If not, the endpoint refuses PATs.
    pub(super) accepts_pats: bool,
    pub(super) revocations: &'a Revocations,
    pub(super) authorizer: Authorizer<'a>,
    pub(super) generator: &'a dyn PassTicketGenerator,
    pub(super) audit: &'a Audit,
    pub(super) clock: &'a dyn Clock,
}

/// A verified token that is not revoked, and its z/OS user. If an identity provider has issued the token, the z/OS user
/// is the user id in the token, or else the user to whom the identity in the token is mapped.
struct Proven {
    user: UserId,
    token: VerifiedToken,
}

struct Actor<'a> {
    user: UserId,
    /// The client certificate, which is mapped to `user`. `None` if the request has no certificate, or if client
    /// certificates are off.
    certificate: Option<&'a PeerCertificate>,
    token: Option<VerifiedToken>,
}

impl TokenExchanges<'_> {
    pub(super) async fn exchange<B: Body>(self, request: &Parts, body: B) -> Answer {
        let answer = self.decide(request, body).await;
        let url = request.uri.path();
        answer.map_err(|error| {
            let cause = ("token exchange", error.part(), discriminant(error.cause()));
            log_limited!(warn, cause, { url, reason = %error }, "did not exchange a token for a PassTicket");
            ApiError::Exchange(error)
        })
    }

    async fn decide<B: Body>(
        self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ExchangeError> {
        let at = |part| move |cause| ExchangeError::new(part, cause);
        let in_request = at(ExchangePart::Request);
        let in_ticket = at(ExchangePart::Ticket);
        // The audit log must record each exchange. While the audit log is unavailable, the endpoint refuses every
        // exchange.
        if !self.audit.is_available() {
            return Err(in_request(ApiError::AuditUnavailable));
        }
        exchange_request::check_content_type(&request.headers)
            .map_err(|problem| in_request(problem.into()))?;
        let body = body::read(body).await.map_err(|error| in_request(error.into()))?;
        let ExchangeRequest { subject, actor, applid } =
            exchange_request::parse(&body).map_err(|problem| in_request(problem.into()))?;
        drop(body);
        add_to_record(request, |record| record.applid = Some(applid));

        let actor = self.actor(request, actor).await?;
        match &actor {
            Some(actor) => self.count(&actor.user).map_err(in_ticket)?,
            // An exchange without an actor is possible only for the APPLIDs of `with_bearer_applids`. The endpoint
            // checks this before it verifies the subject token.
            None if !self.exchange.accepts_bearer(&applid) => {
                return Err(ExchangeError::new(ExchangePart::Client, ApiError::OnlyCertificate));
            }
            None => {}
        }
        let proven = self.subject(request, &subject, actor.as_ref()).await?;
        if actor.is_none() {
            self.count(&proven.user).map_err(in_ticket)?;
        }
        self.check_tokens(&proven, actor.as_ref(), &applid).map_err(at(ExchangePart::Subject))?;
        self.permit(request, actor.as_ref(), &proven.user, &applid).await.map_err(in_ticket)?;
        let ticket = self.make(&proven, &subject, &applid).await.map_err(in_ticket)?;
        let by = actor.as_ref().map(|actor| actor.user.as_str());
        let (url, user) = (request.uri.path(), &proven.user);
        tracing::info!(url, actor = by, %user, %applid, "exchanged a token for a PassTicket");
        self.respond(&ticket, &proven.user, &applid).map_err(in_ticket)
    }

    fn count(&self, user: &UserId) -> Result<(), ApiError> {
        self.exchange
            .count(user, self.clock.now())
            .map_err(|retry_after| ApiError::TooManyCalls { retry_after })
    }

    /// Authenticates the actor with the certificate, the actor token, or both. Returns `None` if the request has
    /// neither.
    async fn actor<'r>(
        &self,
        request: &'r Parts,
        token: Option<PresentedToken>,
    ) -> Result<Option<Actor<'r>>, ExchangeError>
    where
        Self: 'r,
    {
        let certificate = match request.extensions.get::<PeerCertificate>() {
            Some(certificate) if self.certificates.of(request).is_some() => {
                let user = self.certificates.user(request).await;
                let in_client = |cause| ExchangeError::new(ExchangePart::Client, cause);
                Some((certificate, user.map_err(in_client)?))
            }
            _ => None,
        };
        let Some(token) = token else {
            let Some((certificate, user)) = certificate else { return Ok(None) };
            add_to_record(request, |record| {
                exchange_detail(record, |detail| detail.actors = vec![user.as_str().into()]);
            });
            return Ok(Some(Actor { user, certificate: Some(certificate), token: None }));
        };
        let in_actor = |cause| ExchangeError::new(ExchangePart::Actor, cause);
        let verified = self.verify(&token).await;
        add_to_record(request, |record| match &verified {
            Ok(token) => record.credential = Some(kind_of(token)),
            Err(error) => {
                record.credential = Some(CredentialKind::Token);
                record.reason = Some(error.into());
            }
        });
        let verified = verified.map_err(|error| in_actor(error.into()))?;
        // The endpoint accepts a PAT only as the subject token (docs/decisions.md#d10).
        if matches!(verified, VerifiedToken::Pat(_)) {
            return Err(in_actor(ApiError::PersonalAccessToken));
        }
        let Proven { user, token } = self.prove(request, verified).await.map_err(in_actor)?;
        add_to_record(request, |record| {
            record.user = Some(user);
            exchange_detail(record, |detail| {
                detail.actor_token = Some(token.fingerprint());
                detail.actors = vec![user.as_str().into()];
            });
        });
        match certificate {
            Some((_, other)) if other != user => Err(in_actor(ApiError::ActorIsNotClient)),
            certificate => Ok(Some(Actor {
                user,
                certificate: certificate.map(|(certificate, _)| certificate),
                token: Some(token),
            })),
        }
    }

    async fn subject(
        &self,
        request: &Parts,
        presented: &PresentedToken,
        actor: Option<&Actor<'_>>,
    ) -> Result<Proven, ExchangeError> {
        let in_subject = |cause| ExchangeError::new(ExchangePart::Subject, cause);
        let verified = self.verify(presented).await;
        add_to_record(request, |record| {
            let kind = verified.as_ref().map_or(CredentialKind::Token, kind_of);
            match &verified {
                Ok(token) => {
                    record.token_id = Some(token.fingerprint());
                    // If the endpoint refuses the token later, for example because it is revoked, the record still has
                    // the user.
                    record.target = own_user(token);
                }
                Err(error) => record.reason = Some(error.into()),
            }
            exchange_detail(record, |detail| detail.subject = Some(kind));
            if actor.is_none() {
                record.credential = Some(kind);
                record.user = record.target;
            }
        });
        let verified = verified.map_err(|error| in_subject(error.into()))?;
        let proven = self.prove(request, verified).await.map_err(in_subject)?;
        add_to_record(request, |record| {
            record.target = Some(proven.user);
            if actor.is_none() {
                record.user = Some(proven.user);
            }
        });
        if let VerifiedToken::External(token) = &proven.token {
            let actors = earlier_actors(token.claim("act")).map_err(|error| {
                add_to_record(request, |record| record.reason = Some(ReasonCode::TokenClaims));
                in_subject(TokenError::Claims(error.to_string().into()).into())
            })?;
            add_to_record(request, |record| {
                exchange_detail(record, |detail| detail.actors.extend(actors));
            });
        }
        Ok(proven)
    }

    /// Verifies the signature, the times, the issuer and the type of a token.
    async fn verify(&self, presented: &PresentedToken) -> Result<VerifiedToken, TokenError> {
        let PresentedToken { text, kind } = presented;
        let verified = match self.verifier.try_verify_now(text.as_bytes()) {
            Some(verified) => verified?,
            None => self.verifier.verify_token(text.as_bytes()).await?,
        };
        if *kind == TokenKind::IdToken && !matches!(verified, VerifiedToken::External(_)) {
            return Err(TokenError::Claims("the token is not an ID token".into()));
        }
        // A verifier with a cache may accept a token that has expired since the verifier cached it.
        let (now, expires_at) = (self.clock.now(), verified.expires_at());
        if expires_at <= now {
            return Err(TokenError::Expired { secs_ago: now.as_secs() - expires_at.as_secs() });
        }
        Ok(verified)
    }

    /// Checks that a token is of an accepted kind and not revoked, and returns it with its z/OS user.
    async fn prove(&self, request: &Parts, token: VerifiedToken) -> Result<Proven, ApiError> {
        match &token {
            VerifiedToken::Pat(_) if !self.accepts_pats => {
                return Err(ApiError::PersonalAccessToken);
            }
            VerifiedToken::Jwt(jwt) => {
                // A service that has received a token for itself must not use it to act as the user at another service
                // (docs/decisions.md#d23).
                if let Some(service) = jwt.service() {
                    return Err(ApiError::ServiceToken { service: service.clone() });
                }
            }
            VerifiedToken::Pat(_) | VerifiedToken::External(_) => {}
        }
        self.revocations.check(&token).await.map_err(|error| match (error, &token) {
            (CheckError::Revoked(by), VerifiedToken::Pat(_)) => PatRefusal::Revoked(by).into(),
            (CheckError::Revoked(by), _) => {
                add_to_record(request, |record| record.reason = Some(by.into()));
                ApiError::LoggedOut
            }
            (CheckError::Unavailable, _) => ApiError::StoreUnavailable,
        })?;
        let user = match &token {
            VerifiedToken::Jwt(jwt) => *jwt.user(),
            VerifiedToken::Pat(pat) => *pat.user(),
            VerifiedToken::External(token) => self.map(request, token).await?,
        };
        Ok(Proven { user, token })
    }

    /// Returns the z/OS user of a token of an identity provider. If the token names a z/OS user, returns this user.
    /// Otherwise, maps the identity in the token.
    async fn map(&self, request: &Parts, token: &ExternalToken) -> Result<UserId, ApiError> {
        let mapped = match (token.subject(), self.exchange.identities()) {
            (ExternalSubject::User(user), _) => Ok(*user),
            (ExternalSubject::Identity(identity), Some(mapper)) => {
                mapper.map_identity(identity).await
            }
            (ExternalSubject::Identity(_), None) => Err(MapError::NotMapped),
        };
        mapped.map_err(|error| {
            add_to_record(request, |record| record.reason = Some((&error).into()));
            match error {
                MapError::Unavailable | MapError::Failed(_) => {
                    log_limited!(error, "identity mapping", { %error }, "the user of a token could not be mapped");
                    ApiError::Unavailable
                }
                _ => ApiError::NoUser,
            }
        })
    }

    /// Checks the scopes if the subject token is a PAT, and the claim `may_act` if it is an external token. Refuses an
    /// actor token that belongs to the subject.
    fn check_tokens(
        &self,
        subject: &Proven,
        actor: Option<&Actor<'_>>,
        applid: &Applid,
    ) -> Result<(), ApiError> {
        if actor.is_some_and(|actor| actor.token.is_some() && actor.user == subject.user) {
            return Err(ApiError::ActorIsSubject);
        }
        match &subject.token {
            VerifiedToken::Jwt(_) => Ok(()),
            VerifiedToken::Pat(pat) => Ok(self.exchange.check_scopes(pat.scopes(), applid)?),
            VerifiedToken::External(token) => {
                let names = actor.map(|actor| ActorNames {
                    user: &actor.user,
                    external: actor.token.as_ref().and_then(external_name),
                });
                check_may_act(token.claim("may_act"), token.issuer(), names)
                    .map_err(|error| TokenError::Claims(error.to_string().into()).into())
            }
        }
    }

    /// Checks that the user is not protected, and that the actor may get a PassTicket of this user for this
    /// application. Without an actor, checks only that the user is not protected.
    async fn permit(
        &self,
        request: &Parts,
        actor: Option<&Actor<'_>>,
        subject: &UserId,
        applid: &Applid,
    ) -> Result<(), ApiError> {
        self.exchange.check_protected(subject)?;
        let Some(actor) = actor else { return Ok(()) };
        // For the APPLIDs of `with_bearer_applids`, an actor that is the subject needs neither a grant nor the
        // permission in the security product.
        if actor.user == *subject && self.exchange.accepts_bearer(applid) {
            return Ok(());
        }
        self.authorizer.permit(request, &actor.user, GuardedTask::Delegate).await?;
        let caller = TicketCaller { user: actor.user, certificate: actor.certificate };
        Ok(self.exchange.check_grants(&caller, applid, subject)?)
    }

    /// Makes the PassTicket. A generator that gets its PassTickets from a running Zowe may send the token of the user
    /// to Zowe. It does not get a PAT, because Zowe makes no PassTicket for a PAT.
    async fn make(
        &self,
        subject: &Proven,
        presented: &PresentedToken,
        applid: &Applid,
    ) -> Result<PassTicket, ApiError> {
        let token = match &subject.token {
            VerifiedToken::Pat(_) => None,
            VerifiedToken::Jwt(_) | VerifiedToken::External(_) => Some(presented.text.as_str()),
        };
        let generated = match self.generator.try_generate_now(&subject.user, applid) {
            Some(generated) => generated,
            None => self.generator.generate_with_token(&subject.user, applid, token).await,
        };
        Ok(generated?)
    }

    fn respond(
        &self,
        ticket: &PassTicket,
        user: &UserId,
        applid: &Applid,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let mut response = json(&ExchangedTicket {
            access_token: ticket.expose(),
            issued_token_type: PASSTICKET,
            token_type: "N_A",
            expires_in: self.generator.lifetime(user, applid).as_ref().map(Duration::as_secs),
            user_id: user.as_str(),
        })?;
        // RFC 6749 §5.1 requires this header in addition to `Cache-Control: no-store`.
        response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
        Ok(response)
    }
}

fn kind_of(token: &VerifiedToken) -> CredentialKind {
    match token {
        VerifiedToken::Jwt(_) => CredentialKind::LoginToken,
        VerifiedToken::Pat(_) => CredentialKind::PersonalAccessToken,
        VerifiedToken::External(_) => CredentialKind::ExternalToken,
    }
}

/// Returns the z/OS user that a login token or a PAT names. Returns `None` for a token of an identity provider, because
/// the user of such a token may have to be mapped first.
fn own_user(token: &VerifiedToken) -> Option<UserId> {
    match token {
        VerifiedToken::Jwt(jwt) => Some(*jwt.user()),
        VerifiedToken::Pat(pat) => Some(*pat.user()),
        VerifiedToken::External(_) => None,
    }
}

/// Returns the name and the issuer if the user is a user of an identity provider. Returns `None` if the token names a
/// z/OS user.
fn external_name(token: &VerifiedToken) -> Option<(&str, &str)> {
    match token {
        VerifiedToken::External(token) => match token.subject() {
            ExternalSubject::Identity(identity) => Some((identity.name(), token.issuer())),
            ExternalSubject::User(_) => None,
        },
        VerifiedToken::Jwt(_) | VerifiedToken::Pat(_) => None,
    }
}

fn exchange_detail(record: &mut AuditRecord, edit: impl FnOnce(&mut ExchangeDetail)) {
    if !matches!(record.detail, Some(Detail::Exchange(_))) {
        record.detail = Some(Detail::Exchange(Box::default()));
    }
    if let Some(Detail::Exchange(detail)) = &mut record.detail {
        edit(detail);
    }
}
