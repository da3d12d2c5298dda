//! `POST access-token/validate` and `DELETE access-token/revoke`. A client can validate or revoke a Personal Access
//! Token that it has, and needs no other credential (docs/reference/auth-endpoints.md#validate,
//! docs/reference/auth-endpoints.md#revoke).

use http::request::Parts;
use http_body::Body;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    body,
    compatibility::Compatibility,
    error::{ApiError, BodyField, PatRefusal},
    record::{add_to_record, add_token_to_record},
    response::{Answer, empty},
    revocations::Revocations,
    validation_answer::ValidationAnswer,
};
use crate::{
    revocation::CheckError,
    token::{Pat, RequestFacts, Rs256Verifier, ServiceId, VerifiedToken},
};

// A missing field and the value `null` are the same. Unknown fields are ignored, whatever type their values have.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidateBody {
    token: Option<Zeroizing<String>>,
    service_id: Option<String>,
    method: Option<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
struct RevokeBody {
    token: Option<Zeroizing<String>>,
}

#[derive(Clone, Copy)]
pub(super) struct HeldTokens<'a> {
    pub(super) verifier: &'a Rs256Verifier,
    pub(super) revocations: &'a Revocations,
    pub(super) compatibility: Compatibility,
}

impl HeldTokens<'_> {
    /// Answers whether a token is valid for a service, or for a request to a service. If the token is not valid and the
    /// client asks for JSON, the answer contains a reason code, except in the profile `ZoweV3`.
    pub(super) async fn validate<B: Body>(self, request: &Parts, body: B) -> Answer {
        let answer = ValidationAnswer::to(request, self.compatibility);
        match self.pat_for_service(request, body).await {
            Ok(pat) => answer.valid(&pat),
            Err(error) => Err(answer.refused(error)),
        }
    }

    async fn pat_for_service<B: Body>(self, request: &Parts, body: B) -> Result<Pat, ApiError> {
        let body = body::read(body).await?;
        let ValidateBody { token, service_id, method, path } =
            body::object(&body).map_err(ApiError::InvalidBody)?;
        let service_id = service_id.ok_or(ApiError::FieldMissing(BodyField::ServiceId))?;
        let service = ServiceId::new(&service_id);
        if let Ok(service) = &service {
            add_to_record(request, |record| record.service = Some(service.clone()));
        }
        let pat = self.valid_pat(request, token).await?;
        // All scopes of a token begin with a service id, so a text that is not a service id is in none of the scopes.
        let service = service.map_err(|_| PatRefusal::OutOfScope)?;
        // A scope with the suffix `:read` permits a request only if the caller names its method. A scope with a path
        // permits a request only if the caller names its path.
        let facts = || {
            let facts = RequestFacts::unknown();
            let facts = method.as_deref().map_or(facts, |method| facts.with_method(method));
            path.as_deref().map_or(facts, |path| facts.with_path(path))
        };
        if !pat.scopes().permits(&service, facts) {
            return Err(PatRefusal::OutOfScope.into());
        }
        Ok(pat)
    }

    pub(super) async fn revoke<B: Body>(self, request: &Parts, body: B) -> Answer {
        let body = body::read(body).await?;
        let RevokeBody { token } = body::object(&body).map_err(ApiError::InvalidBody)?;
        let pat = self.valid_pat(request, token).await?;
        self.revocations.revoke(&pat.clone().into()).await?;
        let (url, user, token) = (request.uri.path(), pat.user(), pat.fingerprint());
        tracing::info!(url, %user, ?token, "revoked a Personal Access Token");
        Ok(empty(self.compatibility.success()))
    }

    /// Checks that `token` is a Personal Access Token, and that it is valid and not revoked. Unlike API ML (Zowe's API
    /// Mediation Layer), refuses a login token (docs/reference/auth-endpoints.md#quirks).
    async fn valid_pat(
        self,
        request: &Parts,
        token: Option<Zeroizing<String>>,
    ) -> Result<Pat, ApiError> {
        let token = token.ok_or(ApiError::FieldMissing(BodyField::Token))?;
        let token = self.verifier.verify(&token);
        add_token_to_record(request, &token);
        let VerifiedToken::Pat(pat) = token.map_err(PatRefusal::Token)? else {
            return Err(PatRefusal::NotAPat.into());
        };
        match self.revocations.check(&pat.clone().into()).await {
            Ok(()) => Ok(pat),
            Err(CheckError::Revoked(by)) => Err(PatRefusal::Revoked(by).into()),
            Err(CheckError::Unavailable) => Err(ApiError::StoreUnavailable),
        }
    }
}
