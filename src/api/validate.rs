//! `POST access-token/validate` and `DELETE access-token/revoke`: whoever has a Personal Access
//! Token may ask what is with it, and give it up (zowe-endpoints §1.8, §1.9).

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body::Body;
use http_body_util::Full;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    audit::note,
    authenticate::note_token,
    body,
    error::{ApiError, BodyField, PatRefusal},
    service::{AuthApi, empty},
};
use crate::{
    revocation::{CheckError, Revocation, RevocationStore},
    token::{Pat, ServiceId, VerifiedToken},
};

// Fields that are absent or `null` are `None`; others than these are ignored, whatever they hold.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidateBody {
    token: Option<Zeroizing<String>>,
    service_id: Option<String>,
}

#[derive(Deserialize)]
struct RevokeBody {
    token: Option<Zeroizing<String>>,
}

impl<L, R: RevocationStore, S, G, M> AuthApi<L, R, S, G, M> {
    /// Says whether a token is good for a service.
    pub(super) async fn validate<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let body = body::read(body).await?;
        let ValidateBody { token, service_id } =
            body::object(&body).map_err(ApiError::InvalidBody)?;
        let service_id = service_id.ok_or(ApiError::FieldMissing(BodyField::ServiceId))?;
        let service = ServiceId::new(&service_id);
        if let Ok(service) = &service {
            note(request, |record| record.service = Some(service.clone()));
        }
        let pat = self.valid_pat(request, token).await?;
        // What no service can be called is in no scope.
        let service = service.map_err(|_| PatRefusal::OutOfScope)?;
        if !pat.scopes().contains(&service) {
            return Err(PatRefusal::OutOfScope.into());
        }
        Ok(empty(self.compatibility.success()))
    }

    /// Revokes the token in the body.
    pub(super) async fn revoke<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let body = body::read(body).await?;
        let RevokeBody { token } = body::object(&body).map_err(ApiError::InvalidBody)?;
        let pat = self.valid_pat(request, token).await?;
        let (token, expires_at) = (pat.fingerprint(), pat.expires_at());
        self.record(Revocation::Token { token, expires_at }).await?;
        let (url, user) = (request.uri.path(), pat.user());
        tracing::info!(url, %user, ?token, "revoked a Personal Access Token");
        Ok(empty(self.compatibility.success()))
    }

    /// A token that verifies, is a PAT and is not revoked. The reference takes login tokens too:
    /// one of the quirks that are not copied (zowe-endpoints §10.1).
    async fn valid_pat(
        &self,
        request: &Parts,
        token: Option<Zeroizing<String>>,
    ) -> Result<Pat, ApiError> {
        let token = token.ok_or(ApiError::FieldMissing(BodyField::Token))?;
        let token = self.shared.verifier.verify(&token);
        note_token(request, &token);
        let VerifiedToken::Pat(pat) = token.map_err(PatRefusal::Token)? else {
            return Err(PatRefusal::NotAPat.into());
        };
        match self.shared.revocations.check_token(&pat.clone().into()).await {
            Ok(()) => Ok(pat),
            Err(CheckError::Revoked(by)) => Err(PatRefusal::Revoked(by).into()),
            Err(CheckError::Unavailable) => Err(ApiError::StoreUnavailable),
        }
    }
}
