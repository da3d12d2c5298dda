//! One record for each request of an endpoint that decides something. What the endpoints find out
//! they [note](note) on the draft among the extensions of the request; the service ends it.

use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;

use super::{
    delegation::DelegationRefusal,
    error::{ApiError, PatRefusal},
    service::Endpoint,
};
use crate::{
    audit::{Audit, AuditRecord, CredentialKind, Event, Outcome, ReasonCode},
    clock::Clock,
};

/// What a request of `endpoint` is recorded as, if it decides anything. See the table in
/// [`api`](super).
fn event(endpoint: Endpoint) -> Option<Event> {
    match endpoint {
        Endpoint::Login => Some(Event::Login),
        Endpoint::Logout => Some(Event::Logout),
        Endpoint::Query | Endpoint::Validate => Some(Event::Authentication),
        Endpoint::Refresh => Some(Event::Refresh),
        Endpoint::Ticket => Some(Event::Ticket),
        Endpoint::DelegatedTicket => Some(Event::DelegatedTicket),
        Endpoint::Generate => Some(Event::TokenMinted),
        Endpoint::Revoke => Some(Event::TokenRevoked),
        Endpoint::RevokeOwn | Endpoint::RevokeUser | Endpoint::RevokeService => {
            Some(Event::RuleMade)
        }
        Endpoint::Evict => Some(Event::Evicted),
        // Whoever asks these is nobody in particular, and changes nothing.
        Endpoint::Describe | Endpoint::PublicKeyPem | Endpoint::PublicKeySet => None,
    }
}

/// The record of a request, as far as it is known.
#[derive(Clone)]
struct Draft(Arc<Mutex<AuditRecord>>);

/// Adds what was found out to the record of the request, if there is to be one.
///
/// A `reason` that is set here counts more than the one that the [`ApiError`] in the end stands for:
/// the client is not told as much.
pub(super) fn note(request: &Parts, edit: impl FnOnce(&mut AuditRecord)) {
    if let Some(Draft(record)) = request.extensions.get() {
        edit(&mut record.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Writes the record when the request is answered, and also when it is not: the client may go away,
/// but what it asked for may have been done.
pub(super) struct Entry {
    audit: Audit,
    clock: Arc<dyn Clock>,
    draft: Option<Draft>,
}

impl Entry {
    /// Begins the record of `request`.
    pub(super) fn begin(
        audit: &Audit,
        clock: &Arc<dyn Clock>,
        endpoint: Endpoint,
        request: &mut Parts,
    ) -> Self {
        let event = event(endpoint).filter(|_| audit.is_on());
        let draft = event.map(|event| {
            let record = AuditRecord::new(event, Outcome::Error, clock.now());
            Draft(Arc::new(Mutex::new(record.with_request(&request.extensions))))
        });
        if let Some(draft) = &draft {
            request.extensions.insert(draft.clone());
        }
        Self { audit: audit.clone(), clock: clock.clone(), draft }
    }

    /// Ends it with the answer: `None`, or what it failed with.
    pub(super) fn end(mut self, error: Option<&ApiError>) {
        self.write(|record| match error {
            None => (record.outcome, record.reason) = (Outcome::Success, None),
            Some(error) => {
                if let ApiError::Ticket(error) = error {
                    record.codes = Some(error.codes());
                }
                fail(record, record.reason.unwrap_or(error.into()));
            }
        });
    }

    fn write(&mut self, edit: impl FnOnce(&mut AuditRecord)) {
        let Some(Draft(record)) = self.draft.take() else { return };
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.time = self.clock.now();
        edit(&mut record);
        self.audit.record(|| record.clone());
    }
}

impl Drop for Entry {
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
            | ApiError::InvalidRuleBody(_) => Self::BadRequest,
            ApiError::NewPasswordRefused => Self::NewPasswordRefused,
            ApiError::TooManyAttempts { .. } => Self::TooManyAttempts,
            ApiError::WrongCredentials => Self::WrongPassword,
            ApiError::AuthenticationRequired
            | ApiError::TokenNotProvided
            | ApiError::OnlyCertificate => Self::NoCredential,
            ApiError::NoUser | ApiError::NoUserOfEmail => Self::NoUser,
            ApiError::TooManyCalls { .. } => Self::RateLimited,
            ApiError::Delegation(DelegationRefusal::Applid(_)) => Self::ApplidNotAllowed,
            ApiError::Delegation(DelegationRefusal::Target(_)) => Self::TargetNotAllowed,
            ApiError::Delegation(DelegationRefusal::Protected(_)) => Self::TargetProtected,
            ApiError::Saf(_) => Self::SafUnavailable,
            ApiError::Unavailable => Self::Unavailable,
            ApiError::StoreUnavailable => Self::StoreUnavailable,
            ApiError::AuditUnavailable => Self::AuditUnavailable,
            ApiError::CertificateRequired => Self::CertificateRequired,
            ApiError::Token(error) | ApiError::Pat(PatRefusal::Token(error)) => error.into(),
            ApiError::PersonalAccessToken
            | ApiError::NotALoginToken
            | ApiError::Pat(PatRefusal::NotAPat) => Self::WrongKind,
            ApiError::LoggedOut => Self::TokenRevoked,
            ApiError::Ticket(error) => error.into(),
            ApiError::Pat(PatRefusal::Revoked(by)) => (*by).into(),
            ApiError::Pat(PatRefusal::OutOfScope) => Self::OutOfScope,
            ApiError::NotPermitted(_) => Self::SafRefused,
            ApiError::Internal => Self::Internal,
        }
    }
}
