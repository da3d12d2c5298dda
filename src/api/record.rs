//! Creates and writes the audit record of a request.
//!
//! The documentation of the module [`api`](super) lists which requests have a record. The record starts as a draft in
//! the extensions of the request. The endpoint [adds](add_to_record) fields to the draft. `AuthApi` writes the record
//! after the endpoint has answered.

use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;

use super::{
    delegation::DelegationRefusal,
    endpoint::Endpoint,
    error::{ApiError, NotRotated, OidcRefusal, PatRefusal},
};
use crate::{
    audit::{Audit, AuditRecord, CredentialKind, Event, Outcome, ReasonCode},
    clock::Clock,
    request_facts::RequestFacts,
    token::{TokenError, VerifiedToken},
};

/// Returns the audit event of a request to `endpoint`, or `None` if requests to `endpoint` are not audited.
pub(super) fn event(endpoint: Endpoint) -> Option<Event> {
    match endpoint {
        Endpoint::Login => Some(Event::Login),
        Endpoint::Logout => Some(Event::Logout),
        Endpoint::Query
        | Endpoint::Validate
        | Endpoint::ValidateOidc
        | Endpoint::ListTokens
        | Endpoint::GetToken
        | Endpoint::Permissions
        | Endpoint::OwnToken => Some(Event::Authentication),
        Endpoint::Refresh => Some(Event::Refresh),
        Endpoint::Ticket => Some(Event::Ticket),
        Endpoint::DelegatedTicket => Some(Event::DelegatedTicket),
        Endpoint::ExchangeToken => Some(Event::TokenExchange),
        Endpoint::Generate | Endpoint::CreateToken => Some(Event::TokenMinted),
        Endpoint::Revoke | Endpoint::DeleteToken => Some(Event::TokenRevoked),
        Endpoint::RevokeOwn
        | Endpoint::RevokeUser
        | Endpoint::RevokeService
        | Endpoint::DeleteTokens => Some(Event::RuleMade),
        Endpoint::Evict | Endpoint::EvictRevocations => Some(Event::Evicted),
        Endpoint::ChangeToken => Some(Event::TokenChanged),
        Endpoint::RotateToken | Endpoint::RotateOwnToken => Some(Event::TokenRotated),
        // These endpoints evaluate no credential, and they change nothing.
        Endpoint::Describe
        | Endpoint::PublicKeyPem
        | Endpoint::PublicKeySet
        | Endpoint::CurrentPublicKeySet => None,
    }
}

#[derive(Clone)]
struct Draft(Arc<Mutex<AuditRecord>>);

/// Applies `edit` to the record of the request, if the request has a record.
///
/// If `edit` sets a `reason` and the endpoint then answers with an [`ApiError`], the record has this reason, and not
/// that of the error. So the record can be more exact than the response.
pub(super) fn add_to_record(request: &Parts, edit: impl FnOnce(&mut AuditRecord)) {
    if let Some(Draft(record)) = request.extensions.get() {
        edit(&mut record.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Adds the kind and the fingerprint of a valid token to the record, and the user of a login token or a PAT. If the
/// token is not valid, adds the reason.
pub(super) fn add_token_to_record(request: &Parts, token: &Result<VerifiedToken, TokenError>) {
    add_to_record(request, |record| match token {
        Ok(VerifiedToken::Jwt(jwt)) => {
            record.credential = Some(CredentialKind::LoginToken);
            (record.user, record.token_id) = (Some(*jwt.user()), Some(jwt.fingerprint()));
        }
        Ok(VerifiedToken::Pat(pat)) => {
            record.credential = Some(CredentialKind::PersonalAccessToken);
            (record.user, record.token_id) = (Some(*pat.user()), Some(pat.fingerprint()));
        }
        Ok(VerifiedToken::External(token)) => {
            record.credential = Some(CredentialKind::ExternalToken);
            record.token_id = Some(token.fingerprint());
        }
        Err(error) => {
            record.credential = Some(CredentialKind::Token);
            record.reason = Some(error.into());
        }
    });
}

/// Writes the record of a request after the response is ready.
///
/// If the client disconnects or a time limit passes before the response is ready, this guard is dropped, and writes the
/// record with the reason `abandoned`.
pub(super) struct RecordGuard {
    audit: Audit,
    clock: Arc<dyn Clock>,
    draft: Option<Draft>,
    facts: Option<RequestFacts>,
}

impl RecordGuard {
    /// Starts the record of `request`. There is no record if `event` is `None`, or if neither the audit log nor the
    /// access log needs a record.
    pub(super) fn start(
        audit: &Audit,
        clock: &Arc<dyn Clock>,
        event: Option<Event>,
        request: &mut Parts,
    ) -> Self {
        let facts = request.extensions.get::<RequestFacts>().cloned();
        let event = event.filter(|_| audit.is_on() || facts.is_some());
        let draft = event.map(|event| {
            let record = AuditRecord::new(event, Outcome::Error, clock.now());
            let record = record.with_request(&request.method, &request.uri, &request.extensions);
            Draft(Arc::new(Mutex::new(record)))
        });
        if let Some(draft) = &draft {
            request.extensions.insert(draft.clone());
        }
        Self { audit: audit.clone(), clock: clock.clone(), draft, facts }
    }

    /// Writes the record of a request whose response is ready. `error` is `None` if the request succeeded.
    pub(super) fn finish(mut self, error: Option<&ApiError>) {
        self.write(|record| match error {
            None => (record.outcome, record.reason) = (Outcome::Success, None),
            Some(error) => {
                if let ApiError::Ticket(error) = error.cause() {
                    record.codes = Some(error.codes());
                }
                fail(record, record.reason.unwrap_or(error.cause().into()));
            }
        });
    }

    fn write(&mut self, edit: impl FnOnce(&mut AuditRecord)) {
        let Some(Draft(record)) = self.draft.take() else { return };
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.time = self.clock.now();
        edit(&mut record);
        if let Some(facts) = &self.facts
            && let Some(credential) = record.credential
        {
            facts.set_credential(credential, record.user);
        }
        self.audit.record(|| record.clone());
    }
}

impl Drop for RecordGuard {
    fn drop(&mut self) {
        self.write(|record| fail(record, ReasonCode::Abandoned));
    }
}

fn fail(record: &mut AuditRecord, reason: ReasonCode) {
    (record.outcome, record.reason) = (reason.outcome(), Some(reason));
    if reason == ReasonCode::NoCredential {
        record.credential = Some(CredentialKind::None);
    }
}

impl From<&ApiError> for ReasonCode {
    fn from(error: &ApiError) -> Self {
        match error {
            ApiError::Exchange(error) => error.cause().into(),
            ApiError::NotFound
            | ApiError::MethodNotAllowed { .. }
            | ApiError::BodyTooLarge
            | ApiError::BodyBroken
            | ApiError::InvalidBody(_)
            | ApiError::FieldMissing(_)
            | ApiError::InvalidLoginInput
            | ApiError::InvalidLoginBody(_)
            | ApiError::PasswordChangeUnsupported
            | ApiError::InvalidTicketBody(_)
            | ApiError::InvalidPatBody(_)
            | ApiError::TooManyScopes
            | ApiError::PatWithoutScopes
            | ApiError::InvalidDelegateBody(_)
            | ApiError::InvalidExchange(_)
            | ApiError::InvalidCheckBody(_)
            | ApiError::NoSuchService
            | ApiError::NoSuchToken
            | ApiError::InvalidQuery(_)
            | ApiError::NotRotated(NotRotated::AlreadyRotated)
            | ApiError::InvalidRuleBody(_) => Self::BadRequest,
            ApiError::CrossOrigin | ApiError::ScriptRequest => Self::CrossOrigin,
            ApiError::NewPasswordRefused => Self::NewPasswordRefused,
            ApiError::TooManyAttempts { .. } => Self::TooManyAttempts,
            ApiError::WrongCredentials => Self::WrongPassword,
            ApiError::Platform(error) => error.reason(),
            ApiError::AuthenticationRequired
            | ApiError::NoCredential
            | ApiError::TokenNotProvided
            | ApiError::OnlyCertificate => Self::NoCredential,
            ApiError::NoUser | ApiError::NoUserOfEmail => Self::NoUser,
            ApiError::TooManyCalls { .. } | ApiError::TooManyPats { .. } => Self::RateLimited,
            ApiError::Delegation(DelegationRefusal::Applid(_)) => Self::ApplidNotAllowed,
            ApiError::Delegation(DelegationRefusal::Target(_)) => Self::TargetNotAllowed,
            ApiError::Delegation(DelegationRefusal::Protected(_)) => Self::TargetProtected,
            ApiError::Saf(_) => Self::SafUnavailable,
            ApiError::Unavailable => Self::Unavailable,
            ApiError::StoreUnavailable => Self::StoreUnavailable,
            ApiError::AuditUnavailable => Self::AuditUnavailable,
            ApiError::CertificateRequired => Self::CertificateRequired,
            ApiError::Token(error)
            | ApiError::Pat(PatRefusal::Token(error))
            | ApiError::NotValid(PatRefusal::Token(error))
            | ApiError::Oidc(OidcRefusal::Token(error)) => error.into(),
            ApiError::PersonalAccessToken
            | ApiError::NotALoginToken
            | ApiError::Oidc(OidcRefusal::WrongKind | OidcRefusal::NoProvider)
            | ApiError::Pat(PatRefusal::NotAPat)
            | ApiError::NotValid(PatRefusal::NotAPat) => Self::WrongKind,
            ApiError::NotRotated(NotRotated::Expired) => Self::TokenExpired,
            ApiError::ActorIsSubject | ApiError::ActorIsNotClient => Self::UserMismatch,
            ApiError::LoggedOut | ApiError::NotRotated(NotRotated::Revoked) => Self::TokenRevoked,
            ApiError::Ticket(error) => error.into(),
            ApiError::Pat(PatRefusal::Revoked(by))
            | ApiError::NotValid(PatRefusal::Revoked(by))
            | ApiError::Oidc(OidcRefusal::Revoked(by)) => (*by).into(),
            ApiError::Pat(PatRefusal::OutOfScope)
            | ApiError::NotValid(PatRefusal::OutOfScope)
            | ApiError::ServiceToken { .. } => Self::OutOfScope,
            ApiError::ScopeNotAllowed { .. } => Self::ScopeNotAllowed,
            ApiError::NotPermitted(_) | ApiError::AccessRefused { .. } => Self::SafRefused,
            ApiError::Internal => Self::Internal,
        }
    }
}
