//! `POST access-token/generate` (docs/reference/auth-endpoints.md#generate, docs/decisions.md#d3).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, request::Parts};
use http_body::Body;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{
    authenticate::Callers,
    body, credentials,
    error::ApiError,
    record::add_to_record,
    response::{Answer, typed},
    revocations::Revocations,
};
use crate::{
    audit::Detail,
    log_limit::log_limited,
    revocation::IssuedPat,
    token::{MAX_TOKEN_LEN, Scopes, ScopesError, TokenFingerprint, TokenIssuer, Validity},
};

/// The parsed body of a request for a Personal Access Token.
#[derive(Debug)]
struct PatRequest {
    validity: Validity,
    scopes: Scopes,
}

/// Answers with a Personal Access Token that is valid for at most `max_validity`. As in API ML (Zowe's API Mediation
/// Layer), the body is checked before the credentials. The token is registered before the response is sent. So a rule
/// that revokes tokens later applies to it.
pub(super) async fn generate<B: Body>(
    request: &Parts,
    body: B,
    callers: Callers<'_>,
    issuer: &TokenIssuer,
    revocations: &Revocations,
    max_validity: Validity,
) -> Answer {
    let PatRequest { validity, scopes } = parse_generate_body(&body::read(body).await?)?;
    let user = callers.log_in(credentials::basic(request)?, request).await?;
    let validity = validity.min(max_validity);
    add_to_record(request, |record| {
        record.detail = Some(Detail::Minted { scopes: scopes.clone(), days: validity.days() });
    });
    let issued = issuer.personal_access_token(&user, &scopes, validity).map_err(|error| {
        log_limited!(error, "issue PAT", { %error }, "the Personal Access Token could not be issued");
        ApiError::Internal
    })?;
    let token = issued.expose();
    if token.len() > MAX_TOKEN_LEN {
        // The gateway refuses longer tokens in requests, so it does not issue this one.
        tracing::info!(%user, len = token.len(), "too many scopes for one token");
        return Err(ApiError::TooManyScopes);
    }
    let pat = IssuedPat {
        token: TokenFingerprint::of(token),
        user,
        scopes: scopes.clone(),
        issued_at: issued.issued_at(),
        expires_at: issued.issued_at().plus(Duration::from_secs(issued.lifetime_secs())),
    };
    let id = pat.token;
    revocations.register(pat).await?;
    add_to_record(request, |record| record.issued_token_id = Some(id));
    tracing::info!(%user, ?scopes, days = validity.days(), "issued a Personal Access Token");
    let token = Bytes::copy_from_slice(token.as_bytes());
    Ok(typed(token, HeaderValue::from_static("text/plain")))
}

/// Parses `{"validity": days, "scopes": [service id, …]}`. Any other field is an error. `validity` may be
/// missing, `null`, a number or a string of digits. An item of `scopes` may name several services,
/// separated by commas.
///
/// # Errors
/// [`ApiError::PatWithoutScopes`] if the body names no service. [`ApiError::InvalidPatBody`] if anything else is wrong.
fn parse_generate_body(body: &[u8]) -> Result<PatRequest, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct GenerateBody {
        #[serde(default, deserialize_with = "days")]
        validity: Option<i32>,
        #[serde(default, deserialize_with = "scopes")]
        scopes: Option<Result<Scopes, ScopesError>>,
    }

    if body.is_empty() {
        return Err(ApiError::PatWithoutScopes);
    }
    let GenerateBody { validity, scopes } = body::object(body).map_err(ApiError::InvalidPatBody)?;
    let scopes = scopes.unwrap_or(Err(ScopesError::Empty));
    let scopes = scopes.map_err(|_| ApiError::PatWithoutScopes)?;
    Ok(PatRequest { validity: Validity::requested(validity.map(i64::from)), scopes })
}

/// Deserializes a number of days like API ML, which uses a Java `int` and the JSON parser Jackson. A blank string
/// counts as a missing number. Jackson would truncate a number with a fraction, but this function returns an error.
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

/// Deserializes the scopes. If an item is not a service id, the outer `Err` contains its position in the body. If there
/// is no service, the inner `Err` becomes [`ApiError::PatWithoutScopes`].
fn scopes<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Result<Scopes, ScopesError>>, D::Error> {
    let Some(items) = Option::<Vec<String>>::deserialize(d)? else { return Ok(None) };
    match Scopes::parse(items) {
        Err(ScopesError::ServiceId(_)) => Err(D::Error::custom(
            "`scopes` has an item that is not a service id of 1 to 64 characters of a-z 0-9 - _ .",
        )),
        scopes => Ok(Some(scopes)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::ServiceId;

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
            let got = got.as_ref().map(|PatRequest { validity, scopes }| {
                (validity.days(), scopes.iter().map(ServiceId::as_str).collect::<Vec<_>>())
            });
            let got = got.map_err(|error| match error {
                ApiError::InvalidPatBody(_) => &Invalid,
                ApiError::PatWithoutScopes => &Empty,
                other => panic!("{body}: {other}"),
            });
            let want = want.as_ref().map(|(days, ids)| (*days, ids.to_vec()));
            assert_eq!(got, want, "{body}");
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
