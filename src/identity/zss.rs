//! Maps identities to user ids with ZSS (Zowe System Services), a server on z/OS.
//!
//! ZSS calls R_usermap, a service of the security product (RACF, ACF2 or Top Secret).

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use super::{
    certificate::PeerCertificate,
    distributed::DistributedIdentity,
    mapper::{DistributedMapper, IdentityMapper, MapError, MapFuture},
};
use crate::{
    clock::Clock,
    log_limit::log_limited,
    passticket::UserId,
    remote::{
        Address, CachePolicy, Client, Connect, RemoteError, Reply, SingleFlightCache, TokenSource,
    },
};

/// The longest certificate that R_usermap accepts, in bytes (docs/reference/identity-and-saf.md#zss-limits).
const MAX_CERTIFICATE: usize = 4096;

/// Maps client certificates to user ids with ZSS (Zowe System Services, a server on z/OS). The mapper
/// sends `POST {address}` with the certificate in DER
/// (docs/reference/identity-and-saf.md#zss-certificate).
///
/// The gateway calls ZSS under its own user id, with a token from `T`. A certificate has a user only if the response
/// has a status 2xx, all four return codes are 0, and there is a user id. API ML (Zowe's API Mediation Layer) does not
/// check the return codes. A certificate of more than 4096 bytes has no user, because R_usermap does not accept it.
///
/// The mapper caches results and errors for each certificate, within the limits of [`CachePolicy`]. Concurrent look-ups
/// of the same certificate share one call.
pub struct ZssCertificates<C, T> {
    zss: Arc<Zss<C, T>>,
    cache: Arc<SingleFlightCache<[u8; 32], UserId, MapError>>,
}

impl<C, T> ZssCertificates<C, T> {
    /// Creates a mapper that calls ZSS at `address` with `client`. `asking` is the user id under which the gateway
    /// calls ZSS (Zowe's default is `ZWESVUSR`). `tokens` provides a token for this user id.
    pub fn new(client: Client<C>, address: Address, asking: UserId, tokens: T) -> Self {
        Self {
            zss: Arc::new(Zss { client, address, asking, tokens }),
            cache: Arc::new(SingleFlightCache::new(CachePolicy::default())),
        }
    }

    /// Sets how many responses are cached, how long they are cached, and the clock that measures this time.
    #[must_use]
    pub fn with_cache(self, policy: CachePolicy, clock: Arc<dyn Clock>) -> Self {
        Self { cache: Arc::new(SingleFlightCache::new(policy).with_clock(clock)), ..self }
    }
}

impl<C, T> IdentityMapper for ZssCertificates<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        let der = certificate.der_bytes().clone();
        if der.len() > MAX_CERTIFICATE {
            let (subject, bytes) = (certificate.subject(), der.len());
            tracing::info!(
                subject,
                bytes,
                "client certificate not mapped: it is longer than the limit of 4096 bytes"
            );
            return Box::pin(async { Err(MapError::NotMapped) });
        }
        let fingerprint = *certificate.sha256();
        let (zss, cache) = (self.zss.clone(), self.cache.clone());
        Box::pin(
            async move { cache.get(&fingerprint, zss.ask(der)).await?.ok_or(MapError::NotMapped) },
        )
    }
}

/// Maps distributed identities (names in registries outside z/OS) to user ids with ZSS (Zowe System
/// Services, a server on z/OS). The mapper sends `POST {address}` with a JSON object that has the members
/// `dn` (the name) and `registry` (docs/reference/identity-and-saf.md#distributed-identities).
///
/// The mapper sends the name and the registry unchanged. The security product decides whether upper and lower case
/// matter. This mapper evaluates and caches responses in the same way as [`ZssCertificates`].
pub struct ZssIdentities<C, T> {
    zss: Arc<Zss<C, T>>,
    cache: Arc<SingleFlightCache<DistributedIdentity, UserId, MapError>>,
}

impl<C, T> ZssIdentities<C, T> {
    /// Creates a mapper that calls ZSS at `address` with `client`. `asking` is the user id under which the gateway
    /// calls ZSS (Zowe's default is `ZWESVUSR`). `tokens` provides a token for this user id.
    pub fn new(client: Client<C>, address: Address, asking: UserId, tokens: T) -> Self {
        Self {
            zss: Arc::new(Zss { client, address, asking, tokens }),
            cache: Arc::new(SingleFlightCache::new(CachePolicy::default())),
        }
    }

    /// Sets how many responses are cached, how long they are cached, and the clock that measures this time.
    #[must_use]
    pub fn with_cache(self, policy: CachePolicy, clock: Arc<dyn Clock>) -> Self {
        Self { cache: Arc::new(SingleFlightCache::new(policy).with_clock(clock)), ..self }
    }
}

impl<C, T> DistributedMapper for ZssIdentities<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
        let identity = identity.clone();
        let (zss, cache) = (self.zss.clone(), self.cache.clone());
        Box::pin(async move {
            let request = IdentityRequest { dn: identity.name(), registry: identity.registry() };
            // Serializing a struct of two strings cannot fail.
            let body = serde_json::to_vec(&request).unwrap_or_default();
            cache.get(&identity, zss.ask(body.into())).await?.ok_or(MapError::NotMapped)
        })
    }
}

#[derive(Serialize)]
struct IdentityRequest<'a> {
    dn: &'a str,
    registry: &'a str,
}

macro_rules! clone_and_debug {
    ($type:ident) => {
        impl<C, T> Clone for $type<C, T> {
            fn clone(&self) -> Self {
                Self { zss: self.zss.clone(), cache: self.cache.clone() }
            }
        }

        impl<C, T> fmt::Debug for $type<C, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("address", &self.zss.address)
                    .field("asking", &self.zss.asking)
                    .finish_non_exhaustive()
            }
        }
    };
}

clone_and_debug!(ZssCertificates);
clone_and_debug!(ZssIdentities);

struct Zss<C, T> {
    client: Client<C>,
    address: Address,
    asking: UserId,
    tokens: T,
}

impl<C, T> Zss<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    async fn ask(&self, body: Bytes) -> Result<Option<UserId>, MapError> {
        let (address, asking) = (&self.address, &self.asking);
        let request = self.request(body).inspect_err(|reason| {
            log_limited!(warn, ("ZSS token", address), { %address, %asking, %reason }, "identity mapping failed: no token for the request to ZSS");
        })?;
        self.client.call(request).await.and_then(evaluate).map_err(|reason| {
            log_limited!(warn, ("ZSS mapping", address), { %address, %asking, %reason }, "identity mapping failed");
            reason.into()
        })
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, MapError> {
        let token = self.tokens.token(&self.asking);
        let token = token.map_err(|error| MapError::Failed(error.to_string()))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.address.uri();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json.clone());
        // As in Zowe API ML, the content type is always JSON, although a certificate is DER.
        request.headers_mut().insert(CONTENT_TYPE, json);
        token.authenticate(&mut request);
        Ok(request)
    }
}

impl From<RemoteError> for MapError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Unavailable(_) => Self::Unavailable,
            RemoteError::Answer(reason) => Self::Failed(reason),
        }
    }
}

/// The JSON body of a response of ZSS. If ZSS has called R_usermap, the body has this form for every HTTP status.
/// Unknown fields are ignored. (In Zowe API ML, they are an error.)
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    userid: String,
    /// The value of register 15 after the call of R_usermap.
    return_code: i64,
    saf_return_code: i64,
    racf_return_code: i64,
    racf_reason_code: i64,
}

/// Returns the user id of a response, or `None` if no user is mapped.
///
/// The return codes decide, and not the status: ZSS sends the same status for different return codes, and also for
/// requests that it rejects. A response without return codes is an error. If all codes are 0 but the status is not 2xx,
/// this is also an error.
fn evaluate(reply: Reply) -> Result<Option<UserId>, RemoteError> {
    let answer = match reply.json::<Answer>() {
        Ok(answer) => answer,
        Err(error) => {
            reply.successful()?;
            return Err(error);
        }
    };
    let Answer { userid, return_code, saf_return_code, racf_return_code, racf_reason_code } =
        answer;
    let codes = (saf_return_code, racf_return_code, racf_reason_code);
    match codes {
        (0, 0, 0) if return_code == 0 => {
            reply.successful()?;
        }
        (8, 8, 16 | 28 | 32 | 48) => return Ok(None),
        (saf, racf, reason) => {
            let why = explain(codes);
            let codes =
                format!("return code {return_code}, SAF {saf}, RACF {racf}, reason {reason}");
            return Err(RemoteError::Answer(format!("{codes}: {why}")));
        }
    }
    // ZSS pads the user id with blanks or nulls.
    let user = userid.trim_matches([' ', '\0']);
    if user.is_empty() {
        return Ok(None);
    }
    UserId::new(user).map(Some).map_err(|error| RemoteError::Answer(error.to_string()))
}

/// Explains return codes of R_usermap to an operator (*z/OS Security Server RACF Callable Services*, R_usermap;
/// docs/reference/identity-and-saf.md#zss-return-codes).
fn explain(codes: (i64, i64, i64)) -> &'static str {
    match codes {
        (0, 0, 0) => "the codes contradict each other",
        (4, 0, 0) => "RACF is not installed",
        (8, 8, 4) => "error in the parameter list; ACF2 needs the fix LU01316",
        (8, 8, 8 | 12) => "error within the security product",
        (8, 8, 20) => {
            "the user id that calls ZSS needs READ in class FACILITY: on IRR.RUSERMAP for \
             certificates, on IRR.IDIDMAP.QUERY for other identities"
        }
        (8, 8, 40) => "the name is empty or too long for the security product",
        (8, 8, 44) => "the registry is empty or too long for the security product",
        _ => "unknown return codes",
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_user_is_mapped_if_all_codes_are_0_and_the_response_has_a_user_id() {
        const FAILED: Result<Option<&str>, &str> = Err("failed");
        const UNAVAILABLE: Result<Option<&str>, &str> = Err("unavailable");
        let answer = |userid: &str, codes: [i64; 4]| {
            let [rc, saf, racf, reason] = codes;
            format!(
                r#"{{"userid":"{userid}","returnCode":{rc},"safReturnCode":{saf},
                    "racfReturnCode":{racf},"racfReasonCode":{reason}}}"#
            )
        };
        let ok = [0; 4];
        for (status, body, want) in [
            (200, answer("USER", ok), Ok(Some("USER"))),
            (201, answer(" user   ", ok), Ok(Some("USER"))),
            (200, answer("USER\\u0000", ok), Ok(Some("USER"))),
            (200, answer("USER", ok).replace('{', r#"{"new":[1],"#), Ok(Some("USER"))),
            (200, answer("", ok), Ok(None)),
            (200, answer("   ", ok), Ok(None)),
            (200, answer("NINECHARS", ok), FAILED),
            (200, answer("A B", ok), FAILED),
            (200, answer("USER", [8, 0, 0, 0]), FAILED),
            (200, answer("USER", [0, 8, 0, 0]), FAILED),
            (200, answer("USER", [0, 0, 8, 0]), FAILED),
            (200, answer("USER", [0, 0, 0, 8]), FAILED),
            (200, answer("USER", [8, 8, 8, 48]), Ok(None)),
            (401, answer("", [8, 8, 8, 16]), Ok(None)),
            (401, answer("", [8, 8, 8, 28]), Ok(None)),
            (401, answer("", [8, 8, 8, 32]), Ok(None)),
            (401, answer("", [8, 8, 8, 48]), Ok(None)),
            (401, answer("", [8, 8, 8, 20]), FAILED),
            (400, answer("", [8, 8, 8, 4]), FAILED),
            (500, answer("", [8, 8, 8, 44]), FAILED),
            (500, answer("", [8, 8, 8, 40]), FAILED),
            (500, answer("", [4, 4, 0, 0]), FAILED),
            // The status contradicts the codes.
            (500, answer("USER", ok), UNAVAILABLE),
            (401, answer("USER", ok), FAILED),
            (302, answer("USER", ok), FAILED),
            // A field is missing or has the wrong type, or the body is not a JSON object.
            (200, r#"{"userid":"USER"}"#.to_owned(), FAILED),
            (200, answer("USER", ok).replace("\"returnCode\":0", "\"returnCode\":\"0\""), FAILED),
            (200, answer("USER", ok).replace("\"USER\"", "null"), FAILED),
            (200, answer("USER", ok).replace("\"USER\"", "1"), FAILED),
            (200, r#"["USER",0,0,0,0]"#.to_owned(), FAILED),
            (200, "null".to_owned(), FAILED),
            (200, "<html>".to_owned(), FAILED),
            (204, String::new(), FAILED),
            (400, r#"{"error":"dn field not included in request body"}"#.to_owned(), FAILED),
            (401, String::new(), FAILED),
            (404, r#"{"messages":[]}"#.to_owned(), FAILED),
            (500, String::new(), UNAVAILABLE),
            (503, "<html>".to_owned(), UNAVAILABLE),
        ] {
            let got = evaluate(Reply::new(StatusCode::from_u16(status).unwrap(), &body));
            let got = got.as_ref().map(|user| user.as_ref().map(UserId::as_str));
            let got = got.map_err(|error| match error {
                RemoteError::Unavailable(_) => "unavailable",
                RemoteError::Answer(_) => "failed",
            });
            assert_eq!(got, want, "{status} {body}");
        }
    }

    #[test]
    fn the_error_text_explains_the_reason_code() {
        for (reason, want) in [(4, "LU01316"), (20, "IRR.IDIDMAP.QUERY"), (44, "registry")] {
            let body = format!(
                r#"{{"userid":"","returnCode":8,"safReturnCode":8,"racfReturnCode":8,
                    "racfReasonCode":{reason}}}"#
            );
            let error = evaluate(Reply::new(StatusCode::OK, &body)).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains(&format!("reason {reason}")), "{error}");
        }
    }
}
