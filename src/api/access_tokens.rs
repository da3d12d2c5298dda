//! The endpoints below `access-tokens`: users list, rename, rotate and revoke their Personal Access Tokens (PATs)
//! (docs/reference/auth-endpoints.md#access-tokens, docs/decisions.md#d36).

use std::time::Duration;

use http::{StatusCode, request::Parts};
use http_body::Body;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    any_credential::AnyCredential,
    authorize::Authorizer,
    body::{self, BodyProblem},
    error::{ApiError, NotRotated, PatRefusal},
    permission::GuardedTask,
    record::{add_to_record, add_token_to_record},
    registry::{Label, Registry},
    response::{Answer, empty, json},
    revocations::Revocations,
    rfc3339,
    token_bounds::{self, TokenBounds},
    token_json::{NewTokenFacts, Permissions, TokenEntry, TokenPage, new_token},
    token_query::{Owner, TokenQuery, owner_of_one},
};
use crate::{
    audit::Detail,
    clock::{Clock, Timestamp},
    connection::ConnectionInfo,
    layer::{CookieNames, X_ZOWE_TOKEN_EXPIRES, presented_token, token_expires},
    log_limit::log_limited,
    passticket::UserId,
    revocation::{
        AccessTokenId, AccessTokenQuery, CheckError, IssuedPat, MAX_PAGE, RevokedBy, RotatedPat,
        TokenDescription, TokenName,
    },
    saf::Access,
    token::{Pat, Rs256Verifier, TokenError, TokenFingerprint, TokenIssuer, VerifiedToken},
};

/// The maximum grace period of a rotation: a week. During the grace period, the old token stays valid.
const MAX_GRACE_SECS: u64 = 7 * 24 * 60 * 60;

#[derive(Clone, Copy)]
pub(super) struct AccessTokens<'a> {
    pub(super) registry: &'a Registry,
    pub(super) credentials: AnyCredential<'a>,
    pub(super) authorizer: Authorizer<'a>,
    pub(super) issuer: &'a TokenIssuer,
    pub(super) verifier: &'a Rs256Verifier,
    pub(super) revocations: &'a Revocations,
    pub(super) bounds: TokenBounds<'a>,
    pub(super) cookies: &'a CookieNames,
    pub(super) clock: &'a dyn Clock,
}

impl AccessTokens<'_> {
    pub(super) async fn list(self, request: &Parts) -> Answer {
        let caller = self.credentials.user(request).await?;
        let query = TokenQuery::parse(request.uri.query())?;
        let TokenQuery { owner, state, service, name, cursor, limit } = query;
        let user = match owner {
            Owner::Caller => Some(caller),
            Owner::User(user) => Some(self.permitted(request, caller, user).await?),
            Owner::All => {
                self.authorizer.permit(request, &caller, GuardedTask::ManageTokens).await?;
                None
            }
        };
        let mut query = AccessTokenQuery::new(user);
        (query.state, query.service, query.name) = (state, service, name);
        (query.after, query.limit) = (cursor, limit.unwrap_or(MAX_PAGE));
        let page = self.registry.list(query, self.clock).await?;
        json(&TokenPage {
            tokens: page.tokens.into_iter().map(TokenEntry::from).collect(),
            next: page.next.map(|next| next.to_string()),
        })
    }

    /// Answers which tasks of administrators the caller may do. A client uses this answer to hide the other tasks. The
    /// endpoint of each task checks the permission again.
    pub(super) async fn permissions(self, request: &Parts) -> Answer {
        let caller = self.credentials.user(request).await?;
        json(&Permissions {
            user: caller.as_str(),
            manage_tokens: self.may(request, &caller, GuardedTask::ManageTokens).await?,
            evict: self.may(request, &caller, GuardedTask::Evict).await?,
        })
    }

    pub(super) async fn get(self, request: &Parts, id: &str) -> Answer {
        let caller = self.credentials.user(request).await?;
        let user = self.owner(request, caller).await?;
        let token = self.registry.find(user, token_id(id)?, self.clock).await?;
        json(&TokenEntry::from(token))
    }

    pub(super) async fn change<B: Body>(self, request: &Parts, id: &str, body: B) -> Answer {
        let caller = self.credentials.user(request).await?;
        let id = token_id(id)?;
        let ChangeBody { name, description } =
            body::object(&body::read(body).await?).map_err(ApiError::InvalidBody)?;
        if name.is_none() && description.is_none() {
            let problem = BodyProblem::new("it has neither `name` nor `description`");
            return Err(ApiError::InvalidBody(problem));
        }
        add_to_record(request, |record| record.detail = Some(Detail::AccessToken { id }));
        let label = Label { name, description };
        let token = self.registry.relabel(caller, id, label, self.clock).await?;
        tracing::info!(url = request.uri.path(), user = %caller, %id, "changed the name or the description of a Personal Access Token");
        json(&TokenEntry::from(token))
    }

    pub(super) async fn delete(self, request: &Parts, id: &str) -> Answer {
        let caller = self.credentials.user(request).await?;
        let user = self.owner(request, caller).await?;
        let id = token_id(id)?;
        add_to_record(request, |record| record.detail = Some(Detail::AccessToken { id }));
        self.registry.revoke(user, id, self.clock).await?;
        tracing::info!(url = request.uri.path(), %caller, %user, %id, "revoked a Personal Access Token");
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn rotate<B: Body>(self, request: &Parts, id: &str, body: B) -> Answer {
        let caller = self.credentials.user(request).await?;
        let id = token_id(id)?;
        let body = self.rotation(&body::read(body).await?)?;
        add_to_record(request, |record| record.detail = Some(Detail::AccessToken { id }));
        let old = self.registry.find(caller, id, self.clock).await?;
        let pat = IssuedPat {
            // `replace` reads only the user, the scopes and the expiry time, so the fingerprint is a placeholder.
            token: TokenFingerprint::from_bytes([0; 32]),
            user: caller,
            scopes: old.scopes,
            issued_at: old.created_at,
            expires_at: old.expires_at,
        };
        self.replace(request, RotatedPat::Entry(caller, id), &pat, body).await
    }

    /// Answers with the entry of the token that the client has presented. The response has the header
    /// [`X_ZOWE_TOKEN_EXPIRES`], which says when the token expires. Responses to routed requests with a PAT have the
    /// same header.
    pub(super) async fn own(self, request: &Parts) -> Answer {
        let pat = self.presented(request).await?;
        let from = request.extensions.get::<ConnectionInfo>();
        let from = from.map(|connection| connection.client().ip());
        let entry = self.registry.find_or_add(IssuedPat::from(&pat), from, self.clock).await?;
        let mut response = json(&TokenEntry::from(entry))?;
        response.headers_mut().insert(&X_ZOWE_TOKEN_EXPIRES, token_expires(&pat));
        Ok(response)
    }

    pub(super) async fn rotate_own<B: Body>(self, request: &Parts, body: B) -> Answer {
        let pat = IssuedPat::from(&self.presented(request).await?);
        let body = self.rotation(&body::read(body).await?)?;
        self.replace(request, RotatedPat::Verified(pat.clone()), &pat, body).await
    }

    async fn replace(
        self,
        request: &Parts,
        old: RotatedPat,
        pat: &IssuedPat,
        Rotation { expires_at, grace }: Rotation,
    ) -> Answer {
        if pat.expires_at <= self.clock.now() {
            return Err(ApiError::NotRotated(NotRotated::Expired));
        }
        let latest = self.bounds.latest_expiry(self.issuer.now());
        let expires_at = expires_at.unwrap_or(pat.expires_at.min(latest));
        let problem = if expires_at > pat.expires_at {
            Some("`expiresAt` is later than the expiry of the token")
        } else if expires_at > latest {
            Some("`expiresAt` is later than the maximum validity allows")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(ApiError::InvalidBody(BodyProblem::new(problem)));
        }
        let IssuedPat { user, scopes, .. } = pat;
        // The administrator may have changed the allowed scopes after the old token was issued.
        self.bounds.check(scopes)?;
        let issued = self.issuer.personal_access_token_until(user, scopes, expires_at);
        let issued = issued.map_err(|error| {
            log_limited!(error, "issue PAT", { %error }, "the Personal Access Token could not be issued");
            ApiError::Internal
        })?;
        // The new token can be longer than the old token. For example, only the new token may have a prefix.
        token_bounds::check_len(&issued, user)?;
        let new = IssuedPat {
            token: issued.fingerprint(),
            user: *user,
            scopes: scopes.clone(),
            issued_at: issued.issued_at(),
            expires_at: issued.expires_at(),
        };
        let (id, facts) = (new.token, (new.issued_at, new.expires_at));
        let entry = self.registry.rotate(old, new, grace, self.clock).await?;
        add_to_record(request, |record| record.issued_token_id = Some(id));
        tracing::info!(url = request.uri.path(), %user, id = %entry.id, "rotated a Personal Access Token");
        let (created_at, expires_at) = facts;
        let scopes = scopes.iter().map(ToString::to_string).collect();
        new_token(&issued, NewTokenFacts { entry: Some(entry), scopes, created_at, expires_at })
    }

    /// Verifies the PAT that the client has presented. The tokens that have replaced one another are a family. If the
    /// PAT was rotated and its grace period has ended, this function also revokes the active tokens of its family
    /// (docs/decisions.md#d36).
    async fn presented(self, request: &Parts) -> Result<Pat, ApiError> {
        let text = presented_token(&request.headers, self.cookies);
        let text = str::from_utf8(text.ok_or(ApiError::TokenNotProvided)?);
        let token = text.map_err(|_| TokenError::Malformed).and_then(|it| self.verifier.verify(it));
        add_token_to_record(request, &token);
        let VerifiedToken::Pat(pat) = token.map_err(PatRefusal::Token)? else {
            return Err(PatRefusal::NotAPat.into());
        };
        match self.revocations.check(&pat.clone().into()).await {
            Ok(()) => Ok(pat),
            Err(CheckError::Revoked(by)) => {
                if by == RevokedBy::Token {
                    self.report_misuse(request, &pat).await?;
                }
                Err(PatRefusal::Revoked(by).into())
            }
            Err(CheckError::Unavailable) => Err(ApiError::StoreUnavailable),
        }
    }

    async fn report_misuse(self, request: &Parts, pat: &Pat) -> Result<(), ApiError> {
        let revoked = self.registry.report_misuse(IssuedPat::from(pat), self.clock).await?;
        if revoked > 0 {
            let (url, user) = (request.uri.path(), pat.user());
            tracing::warn!(url, %user, revoked, "a rotated Personal Access Token was used after its grace period, so all active tokens of its family were revoked");
        }
        Ok(())
    }

    /// Returns the user to whom the token belongs: the user in the query, else the caller.
    async fn owner(self, request: &Parts, caller: UserId) -> Result<UserId, ApiError> {
        match owner_of_one(request.uri.query())? {
            Owner::User(user) => self.permitted(request, caller, user).await,
            Owner::Caller | Owner::All => Ok(caller),
        }
    }

    /// Checks that the caller may see and revoke the tokens of `user`, and returns `user`.
    async fn permitted(
        self,
        request: &Parts,
        caller: UserId,
        user: UserId,
    ) -> Result<UserId, ApiError> {
        add_to_record(request, |record| record.target = Some(user));
        if user != caller {
            self.authorizer.permit(request, &caller, GuardedTask::ManageTokens).await?;
        }
        Ok(user)
    }

    async fn may(
        self,
        request: &Parts,
        caller: &UserId,
        task: GuardedTask,
    ) -> Result<bool, ApiError> {
        let permission = self.authorizer.resources.permission(task);
        let (class, resource) = (permission.class(), permission.resource());
        let access = self.authorizer.access(request, caller, class, resource, permission.level());
        Ok(access.await? == Access::Granted)
    }

    fn rotation(self, body: &[u8]) -> Result<Rotation, ApiError> {
        let RotateBody { expires_at, grace_seconds } = if body.is_empty() {
            RotateBody::default()
        } else {
            body::object(body).map_err(ApiError::InvalidBody)?
        };
        // A token contains its expiry time in whole seconds. A token with an `expiresAt` in the current second has
        // already expired.
        let now = self.clock.now().as_secs();
        if expires_at.is_some_and(|expires_at| expires_at.as_secs() <= now) {
            return Err(ApiError::InvalidBody(BodyProblem::new("`expiresAt` is in the past")));
        }
        let grace = Duration::from_secs(grace_seconds.unwrap_or(0));
        Ok(Rotation { expires_at, grace })
    }
}

struct Rotation {
    expires_at: Option<Timestamp>,
    grace: Duration,
}

/// Parses the id of a token in a path. If the text is not an id, returns [`ApiError::NoSuchToken`], because no token
/// has this id.
fn token_id(id: &str) -> Result<AccessTokenId, ApiError> {
    id.parse().map_err(|_| ApiError::NoSuchToken)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    #[serde(default, deserialize_with = "name")]
    name: Option<TokenName>,
    #[serde(default, deserialize_with = "description")]
    description: Option<TokenDescription>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RotateBody {
    #[serde(default, deserialize_with = "expires_at")]
    expires_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "grace_seconds")]
    grace_seconds: Option<u64>,
}

pub(super) fn name<'de, D: Deserializer<'de>>(d: D) -> Result<Option<TokenName>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let problem = |error| D::Error::custom(format!("`name` is not valid: {error}"));
    TokenName::new(&text).map(Some).map_err(problem)
}

pub(super) fn description<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<TokenDescription>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let problem = |error| D::Error::custom(format!("`description` is not valid: {error}"));
    TokenDescription::new(&text).map(Some).map_err(problem)
}

pub(super) fn expires_at<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
    let problem = || D::Error::custom("`expiresAt` is not a time such as 2027-01-15T08:00:00Z");
    rfc3339::parse(&text).map(Some).ok_or_else(problem)
}

fn grace_seconds<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(d)? {
        Some(secs) if secs > MAX_GRACE_SECS => {
            Err(D::Error::custom("`graceSeconds` is more than 604800, which is a week"))
        }
        secs => Ok(secs),
    }
}
