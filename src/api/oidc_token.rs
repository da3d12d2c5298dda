//! `POST oidc-token/validate` (docs/reference/auth-endpoints.md#oidc).

use std::sync::Arc;

use http::{StatusCode, request::Parts};
use http_body::Body;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    body,
    error::{ApiError, BodyField, OidcRefusal},
    record::add_token_to_record,
    response::{Answer, empty},
    revocations::Revocations,
};
use crate::{
    clock::Clock,
    revocation::CheckError,
    token::{TokenError, TokenVerifier, VerifiedToken},
};

#[derive(Deserialize)]
struct TokenBody {
    token: Option<Zeroizing<String>>,
}

#[derive(Clone, Copy)]
pub(super) struct OidcTokens<'a> {
    pub(super) verifier: Option<&'a Arc<dyn TokenVerifier>>,
    pub(super) revocations: &'a Revocations,
    pub(super) clock: &'a dyn Clock,
}

impl OidcTokens<'_> {
    /// Answers whether the token in the body is a valid token of an identity provider. The endpoint does not check
    /// whether the identity in the token belongs to a z/OS user.
    pub(super) async fn validate<B: Body>(self, request: &Parts, body: B) -> Answer {
        let body = body::read(body).await?;
        let TokenBody { token } = body::object(&body).map_err(ApiError::InvalidBody)?;
        let token = token.ok_or(ApiError::FieldMissing(BodyField::OidcToken))?;
        let verifier = self.verifier.ok_or(OidcRefusal::NoProvider)?;
        let verified = match verifier.try_verify_now(token.as_bytes()) {
            Some(verified) => verified,
            None => verifier.verify_token(token.as_bytes()).await,
        };
        let verified = verified.and_then(|token| self.check_expiry(token));
        add_token_to_record(request, &verified);
        let token = match verified {
            Ok(token @ VerifiedToken::External(_)) => token,
            Ok(_) => return Err(OidcRefusal::WrongKind.into()),
            Err(TokenError::Unavailable(_)) => return Err(ApiError::Unavailable),
            Err(error) => return Err(OidcRefusal::Token(error).into()),
        };
        match self.revocations.check(&token).await {
            Ok(()) => Ok(empty(StatusCode::NO_CONTENT)),
            Err(CheckError::Revoked(by)) => Err(OidcRefusal::Revoked(by).into()),
            Err(CheckError::Unavailable) => Err(ApiError::StoreUnavailable),
        }
    }

    /// Refuses a token that has expired, because a verifier with a cache may accept an expired token.
    fn check_expiry(self, token: VerifiedToken) -> Result<VerifiedToken, TokenError> {
        let (now, expires_at) = (self.clock.now(), token.expires_at());
        if expires_at <= now {
            return Err(TokenError::Expired { secs_ago: now.as_secs() - expires_at.as_secs() });
        }
        Ok(token)
    }
}
