//! `POST access-token/generate` (docs/reference/auth-endpoints.md#generate, docs/decisions.md#d3), and `POST
//! access-tokens`, which also accepts a login token (docs/reference/auth-endpoints.md#access-tokens).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, request::Parts};
use http_body::Body;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{
    access_tokens,
    any_credential::AnyCredential,
    authenticate::Callers,
    body::{self, BodyProblem},
    credentials,
    error::ApiError,
    record::add_to_record,
    registry::{Label, Registry},
    response::{Answer, typed},
    revocations::Revocations,
    token_bounds::{self, TokenBounds},
    token_json::{NewTokenFacts, new_token, wants_json},
};
use crate::{
    audit::Detail,
    clock::{Clock, Timestamp},
    log_limit::log_limited,
    passticket::UserId,
    revocation::{IssuedPat, TokenDescription, TokenName},
    token::{IssuedToken, Scopes, ScopesError, TokenIssuer, Validity},
};

const DAY_SECS: u64 = 86_400;

#[derive(Debug)]
struct PatRequest {
    lifetime: Lifetime,
    scopes: Scopes,
    label: Label,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    Days(Validity),
    Until(Timestamp),
}

/// The parts of the auth API that issue and register new tokens.
#[derive(Clone, Copy)]
pub(super) struct NewTokens<'a> {
    pub(super) callers: Callers<'a>,
    pub(super) issuer: &'a TokenIssuer,
    pub(super) revocations: &'a Revocations,
    /// `None` if there is no registry. New tokens then have no name and no description.
    pub(super) registry: Option<&'a Registry>,
    pub(super) bounds: TokenBounds<'a>,
    pub(super) clock: &'a dyn Clock,
}

impl NewTokens<'_> {
    /// Answers with a new Personal Access Token. As in API ML (Zowe's API Mediation Layer), the body is parsed before
    /// the credentials are checked. The token is registered before the response is sent. A rule that is made after the
    /// registration also revokes the token. This holds even if the clock was set back in between, so that the issue
    /// time of the token is later than the time of the rule.
    pub(super) async fn generate<B: Body>(self, request: &Parts, body: B) -> Answer {
        let pat = self.parse(&body::read(body).await?)?;
        let user = self.callers.log_in(credentials::basic(request)?, request).await?;
        let (issued, facts) = self.issue(request, user, pat).await?;
        if wants_json(&request.headers) {
            return new_token(&issued, facts);
        }
        let token = Bytes::copy_from_slice(issued.expose().as_bytes());
        Ok(typed(token, HeaderValue::from_static("text/plain")))
    }

    /// Answers 201 with a new Personal Access Token in JSON. Unlike [`generate`](Self::generate), this function also
    /// accepts a login token, and checks the credential before it parses the body. A Personal Access Token is no
    /// credential here, so it cannot create other tokens (docs/decisions.md#d10).
    pub(super) async fn create<B: Body>(
        self,
        credentials: AnyCredential<'_>,
        request: &Parts,
        body: B,
    ) -> Answer {
        let user = credentials.user(request).await?;
        let pat = self.parse(&body::read(body).await?)?;
        let (issued, facts) = self.issue(request, user, pat).await?;
        let mut response = new_token(&issued, facts)?;
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }

    /// Parses the body. Refuses an expiry time that is not allowed. Without a registry, also refuses a name and a
    /// description.
    fn parse(self, body: &[u8]) -> Result<PatRequest, ApiError> {
        let pat = parse_generate_body(body)?;
        if self.registry.is_none() && pat.label != Label::default() {
            let problem = BodyProblem::new(
                "`name` and `description` need the registry of tokens, which is off",
            );
            return Err(ApiError::InvalidPatBody(problem));
        }
        if let Lifetime::Until(expires_at) = pat.lifetime {
            self.check_expiry(expires_at)?;
        }
        Ok(pat)
    }

    async fn issue(
        self,
        request: &Parts,
        user: UserId,
        PatRequest { lifetime, scopes, label }: PatRequest,
    ) -> Result<(IssuedToken, NewTokenFacts), ApiError> {
        // The scopes are checked after the credentials, so that only an authenticated user learns which scopes are
        // allowed.
        self.bounds.check(&scopes)?;
        let (issued, days) = match lifetime {
            Lifetime::Days(validity) => {
                let validity = validity.min(self.bounds.max_validity);
                let issued = self.issuer.personal_access_token(&user, &scopes, validity);
                (issued, validity.days())
            }
            Lifetime::Until(expires_at) => {
                let issued = self.issuer.personal_access_token_until(&user, &scopes, expires_at);
                let secs = expires_at.as_secs().saturating_sub(self.issuer.now().as_secs());
                (issued, u8::try_from(secs.div_ceil(DAY_SECS)).unwrap_or(u8::MAX))
            }
        };
        add_to_record(request, |record| {
            record.detail = Some(Detail::Minted { scopes: scopes.clone(), days });
        });
        let issued = issued.map_err(|error| {
            log_limited!(error, "issue PAT", { %error }, "the Personal Access Token could not be issued");
            ApiError::Internal
        })?;
        token_bounds::check_len(&issued, &user)?;
        let pat = IssuedPat {
            token: issued.fingerprint(),
            user,
            scopes: scopes.clone(),
            issued_at: issued.issued_at(),
            expires_at: issued.issued_at().plus(Duration::from_secs(issued.lifetime_secs())),
        };
        let (id, created_at) = (pat.token, pat.issued_at);
        let entry = match self.registry {
            Some(registry) => Some(registry.issue(pat, label, self.clock).await?),
            None => {
                self.revocations.register(pat).await?;
                None
            }
        };
        add_to_record(request, |record| record.issued_token_id = Some(id));
        tracing::info!(%user, ?scopes, days, "issued a Personal Access Token");
        let (scopes, expires_at) =
            (scopes.iter().map(ToString::to_string).collect(), issued.expires_at());
        Ok((issued, NewTokenFacts { entry, scopes, created_at, expires_at }))
    }

    /// # Errors
    /// [`ApiError::InvalidPatBody`] if the time has passed, or if it is after the maximum validity.
    fn check_expiry(self, expires_at: Timestamp) -> Result<(), ApiError> {
        let now = self.issuer.now();
        let latest = self.bounds.latest_expiry(now);
        let problem = if expires_at.as_secs() <= now.as_secs() {
            "`expiresAt` is in the past"
        } else if expires_at > latest {
            "`expiresAt` is later than the maximum validity allows"
        } else {
            return Ok(());
        };
        Err(ApiError::InvalidPatBody(BodyProblem::new(problem)))
    }
}

/// Parses `{"validity": days, "scopes": [scope, …]}`. The body may also have `name`, `description` and `expiresAt`. If
/// it has `expiresAt`, this time decides, and not `validity`. Any other field is an error. `validity` may be missing,
/// `null`, a number or a string of digits. An item of `scopes` may contain several scopes, separated by commas.
///
/// # Errors
/// [`ApiError::PatWithoutScopes`] if the body names no service. [`ApiError::InvalidPatBody`] if anything else is wrong.
fn parse_generate_body(body: &[u8]) -> Result<PatRequest, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct GenerateBody {
        #[serde(default, deserialize_with = "days")]
        validity: Option<i32>,
        #[serde(default, deserialize_with = "access_tokens::expires_at")]
        expires_at: Option<Timestamp>,
        #[serde(default, deserialize_with = "scopes")]
        scopes: Option<Result<Scopes, ScopesError>>,
        #[serde(default, deserialize_with = "access_tokens::name")]
        name: Option<TokenName>,
        #[serde(default, deserialize_with = "access_tokens::description")]
        description: Option<TokenDescription>,
    }

    if body.is_empty() {
        return Err(ApiError::PatWithoutScopes);
    }
    let GenerateBody { validity, expires_at, scopes, name, description } =
        body::object(body).map_err(ApiError::InvalidPatBody)?;
    let scopes = scopes.unwrap_or(Err(ScopesError::Empty));
    let scopes = scopes.map_err(|_| ApiError::PatWithoutScopes)?;
    let lifetime = match (validity, expires_at) {
        (Some(_), Some(_)) => {
            let problem = BodyProblem::new("`validity` and `expiresAt` cannot be used together");
            return Err(ApiError::InvalidPatBody(problem));
        }
        (None, Some(expires_at)) => Lifetime::Until(expires_at),
        (days, None) => Lifetime::Days(Validity::requested(days.map(i64::from))),
    };
    Ok(PatRequest { lifetime, scopes, label: Label { name, description } })
}

/// Deserializes a number of days like Zowe API ML, which uses a Java `int` and the JSON parser Jackson. A blank string
/// counts as a missing number. A number with a fraction is an error here, but Jackson truncates it.
fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let days = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_i64().and_then(|days| days.try_into().ok()),
        _ => None,
    };
    days.map(Some).ok_or_else(|| D::Error::custom("`validity` is not a number of days"))
}

/// Deserializes the scopes. Returns `None` for `null`. If an item is not a scope, the outer `Result` is an error with a
/// position in the body. If the list names no service, the inner `Result` is an error, for which the gateway answers
/// with [`ApiError::PatWithoutScopes`].
fn scopes<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Result<Scopes, ScopesError>>, D::Error> {
    let Some(items) = Option::<Vec<String>>::deserialize(d)? else { return Ok(None) };
    match Scopes::parse(items) {
        Err(ScopesError::Scope(error)) => {
            let problem = error.problem();
            Err(D::Error::custom(format!("`scopes` has an item that is not a scope: {problem}")))
        }
        scopes => Ok(Some(scopes)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn generate_bodies_are_parsed_or_refused() {
        #[derive(Debug, PartialEq)]
        enum Fault {
            Invalid,
            Empty,
        }
        use Fault::{Empty, Invalid};
        type Want = Result<(u8, &'static [&'static str]), Fault>;
        let cases: &[(&str, Want)] = &[
            (r#"{"validity":10,"scopes":["a"]}"#, Ok((10, &["a"]))),
            (r#"{"scopes":["B, a","A"," b ",""]}"#, Ok((90, &["a", "b"]))),
            (r#"{"validity":null,"scopes":["a"]}"#, Ok((90, &["a"]))),
            (r#"{"validity":"","scopes":["a"]}"#, Ok((90, &["a"]))),
            (r#"{"validity":"10","scopes":["a"]}"#, Ok((10, &["a"]))),
            (r#"{"validity":0,"scopes":["a"]}"#, Ok((90, &["a"]))),
            (r#"{"validity":-3,"scopes":["a"]}"#, Ok((90, &["a"]))),
            (r#"{"validity":91,"scopes":["a"]}"#, Ok((90, &["a"]))),
            (r#"{"validity":2147483647,"scopes":["a"]}"#, Ok((90, &["a"]))),
            ("", Err(Empty)),
            ("{}", Err(Empty)),
            (r#"{"validity":10}"#, Err(Empty)),
            (r#"{"scopes":null}"#, Err(Empty)),
            (r#"{"scopes":[]}"#, Err(Empty)),
            (r#"{"scopes":[""," , "]}"#, Err(Empty)),
            ("null", Err(Invalid)),
            (" ", Err(Invalid)),
            (r#"[10,["a"]]"#, Err(Invalid)),
            (r#"{"scopes":["a"]"#, Err(Invalid)),
            (r#"{"scopes":["a"]} x"#, Err(Invalid)),
            (r#"{"scopes":["a"],"x":1}"#, Err(Invalid)),
            (r#"{"scopes":["a"],"scopes":["b"]}"#, Err(Invalid)),
            (r#"{"scopes":"a"}"#, Err(Invalid)),
            (r#"{"scopes":["A:read,a:/X","b:/x%2Cy"]}"#, Ok((90, &["a:read", "a:/X", "b:/x%2Cy"]))),
            (r#"{"scopes":["a:write"]}"#, Err(Invalid)),
            (r#"{"scopes":["a:read:/x"]}"#, Err(Invalid)),
            (r#"{"scopes":["a:/x/.."]}"#, Err(Invalid)),
            (r#"{"scopes":["a:/x;y"]}"#, Err(Invalid)),
            (r#"{"scopes":["a:/x,/y"]}"#, Err(Invalid)),
            (r#"{"scopes":[null]}"#, Err(Invalid)),
            (r#"{"scopes":[1]}"#, Err(Invalid)),
            (r#"{"scopes":["<serviceId_1>"]}"#, Err(Invalid)),
            (r#"{"validity":1.9,"scopes":["a"]}"#, Err(Invalid)),
            (r#"{"validity":"ten","scopes":["a"]}"#, Err(Invalid)),
            (r#"{"validity":true,"scopes":["a"]}"#, Err(Invalid)),
            (r#"{"validity":[1],"scopes":["a"]}"#, Err(Invalid)),
            (r#"{"validity":2147483648,"scopes":["a"]}"#, Err(Invalid)),
            (r#"{"validity":"2147483648","scopes":["a"]}"#, Err(Invalid)),
            (r#"{"validity":99999999999999999999,"scopes":["a"]}"#, Err(Invalid)),
        ];
        for (body, want) in cases {
            let got = parse_generate_body(body.as_bytes());
            let got = got.as_ref().map(|PatRequest { lifetime, scopes, label }| {
                let Lifetime::Days(validity) = lifetime else { panic!("{body}: {lifetime:?}") };
                assert_eq!(*label, Label::default(), "{body}");
                (validity.days(), scopes.iter().map(ToString::to_string).collect::<Vec<_>>())
            });
            let got = got.map_err(|error| match error {
                ApiError::InvalidPatBody(_) => &Invalid,
                ApiError::PatWithoutScopes => &Empty,
                other => panic!("{body}: {other}"),
            });
            let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
            let want = want.as_ref().map(|(days, scopes)| (*days, texts(scopes)));
            assert_eq!(got, want, "{body}");
        }
    }

    #[test]
    fn names_and_expiry_times_are_parsed_or_refused() {
        let body = |fields: &str| format!(r#"{{"scopes":["a"],{fields}}}"#);
        let parse = |fields: &str| parse_generate_body(body(fields).as_bytes());
        let request =
            parse(r#""name":" jenkins ","description":"x","expiresAt":"2027-01-15T08:00:00Z""#);
        let PatRequest { lifetime, label, .. } = request.unwrap();
        assert_eq!(lifetime, Lifetime::Until(Timestamp::from_secs(1_800_000_000)));
        assert_eq!(label.name.unwrap().as_str(), "jenkins");
        assert_eq!(label.description.unwrap().as_str(), "x");
        let PatRequest { lifetime, label, .. } =
            parse(r#""name":null,"description":null,"expiresAt":null"#).unwrap();
        assert_eq!((lifetime, label), (Lifetime::Days(Validity::MAX), Label::default()));
        for wrong in [
            r#""name":" ""#,
            r#""name":"a\nb""#,
            r#""name":5"#,
            r#""description":"\u0000""#,
            r#""expiresAt":"tomorrow""#,
            r#""expiresAt":1800000000"#,
            r#""expiresAt":"2027-01-15T08:00:00Z","validity":1"#,
            r#""name":"a","name":"b""#,
        ] {
            let error = parse(wrong);
            assert!(matches!(error, Err(ApiError::InvalidPatBody(_))), "{wrong}: {error:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_generate_body(&bytes);
            let _ = parse_generate_body(&[br#"{"scopes":"#, bytes.as_slice()].concat());
        }

        #[test]
        fn the_parser_never_panics_on_json(validity in "\\PC{0,12}", scope in "\\PC{0,12}") {
            let body = serde_json::json!({"validity": validity, "scopes": [scope]});
            let _ = parse_generate_body(body.to_string().as_bytes());
        }
    }
}
