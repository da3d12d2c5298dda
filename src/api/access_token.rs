//! `POST access-token/generate` (zowe-endpoints §1.7, design decision 3).

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{
    audit::note, authenticate, body, error::ApiError, provider::LoginProvider, service::AuthApi,
};
use crate::{
    audit::Detail,
    identity::IdentityMapper,
    token::{MAX_TOKEN_LEN, Scopes, ScopesError, TokenFingerprint, Validity},
};

/// What a client asks for.
#[derive(Debug)]
struct PatRequest {
    validity: Validity,
    scopes: Scopes,
}

impl<L: LoginProvider, R, S, G, M: IdentityMapper> AuthApi<L, R, S, G, M> {
    /// Answers with a Personal Access Token. The body is judged before the credentials, as in the
    /// reference.
    pub(super) async fn generate_access_token<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let PatRequest { validity, scopes } = parse_generate_body(&body::read(body).await?)?;
        let user = self.authenticate(authenticate::basic(request)?, request).await;
        let user = user.map_err(authenticate::as_login_input)?;
        let validity = validity.min(self.max_validity);
        note(request, |record| {
            record.detail = Some(Detail::Minted { scopes: scopes.clone(), days: validity.days() });
        });
        let token = self.shared.issuer.personal_access_token(&user, &scopes, validity).map_err(
            |error| {
                tracing::error!(%error, "no Personal Access Token");
                ApiError::Internal
            },
        )?;
        let token = token.expose();
        if token.len() > MAX_TOKEN_LEN {
            // We would not take it back.
            tracing::info!(%user, len = token.len(), "too many scopes for one token");
            return Err(ApiError::TooManyScopes);
        }
        note(request, |record| record.issued_token_id = Some(TokenFingerprint::of(token)));
        tracing::info!(%user, ?scopes, days = validity.days(), "issued a Personal Access Token");
        let mut response = Response::new(Full::new(Bytes::copy_from_slice(token.as_bytes())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// Reads `{"validity": days, "scopes": [service id, …]}` and nothing else. `validity` may be
/// missing, `null`, a number or a string of digits; an item of `scopes` may name several services,
/// joined by commas.
///
/// # Errors
/// [`ApiError::PatWithoutScopes`] when no service is named, [`ApiError::InvalidPatBody`] for any
/// other fault.
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

/// A Java `int`, as Jackson reads one for the reference: blank text counts as none. A fraction is
/// refused instead of cut.
fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let days = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_i64().and_then(|days| days.try_into().ok()),
        _ => None,
    };
    days.map(Some).ok_or_else(|| D::Error::custom("`validity` is no number of days"))
}

/// An item that no service can have is an error where it stands; that nothing is left is one of
/// the whole.
fn scopes<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<Result<Scopes, ScopesError>>, D::Error> {
    let Some(items) = Option::<Vec<String>>::deserialize(d)? else { return Ok(None) };
    match Scopes::parse(items) {
        Err(ScopesError::ServiceId(_)) => Err(D::Error::custom(
            "`scopes` has what is no service id of 1 to 64 characters of a-z 0-9 - _ .",
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
    fn a_generate_body_is_read_as_the_design_says() {
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
        fn no_body_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_generate_body(&bytes);
            let _ = parse_generate_body(&[br#"{"scopes":"#, bytes.as_slice()].concat());
        }

        #[test]
        fn no_json_makes_the_parser_panic(validity in "\\PC{0,12}", scope in "\\PC{0,12}") {
            let body = serde_json::json!({"validity": validity, "scopes": [scope]});
            let _ = parse_generate_body(body.to_string().as_bytes());
        }
    }
}
