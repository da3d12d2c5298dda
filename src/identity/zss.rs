//! Identity mapping by ZSS, Zowe's server on z/OS, which asks the security product there.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{ACCEPT, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use super::{
    DistributedIdentity, DistributedMapper, IdentityMapper, MapError, MapFuture, PeerCertificate,
};
use crate::{
    clock::Clock,
    passticket::UserId,
    remote::{
        Address, CachePolicy, Client, Connect, RemoteError, Reply, SingleFlightCache, TokenSource,
    },
};

/// The longest certificate that R_usermap takes, in bytes (demand §1.3).
const MAX_CERTIFICATE: usize = 4096;

/// Maps client certificates: `POST {address}` with the DER (zowe-endpoints §5.2).
///
/// The request is made as the user that is given, whose token `T` gives. A certificate is mapped
/// when all four return codes of the answer are 0 and it has a user id, which is more than the
/// reference asks for. One of more than 4096 bytes is not sent: nobody can be mapped to it.
///
/// SingleFlightCache are remembered as [`CachePolicy`] says, by the fingerprint of the certificate. All who ask
/// for the same at once wait for one call.
pub struct ZssCertificates<C, T> {
    zss: Arc<Zss<C, T>>,
    answers: Arc<SingleFlightCache<[u8; 32], UserId, MapError>>,
}

impl<C, T> ZssCertificates<C, T> {
    /// Maps at `address`, through `client`, as `asking`, which is
    /// `ZWESVUSR` in the reference, with the tokens of `tokens`.
    pub fn new(client: Client<C>, address: Address, asking: UserId, tokens: T) -> Self {
        Self {
            zss: Arc::new(Zss { client, address, asking, tokens }),
            answers: Arc::new(SingleFlightCache::new(CachePolicy::default())),
        }
    }

    /// Says what is remembered, and by which clock.
    #[must_use]
    pub fn remembering(self, memory: CachePolicy, clock: Arc<dyn Clock>) -> Self {
        Self { answers: Arc::new(SingleFlightCache::new(memory).with_clock(clock)), ..self }
    }
}

impl<C, T> IdentityMapper for ZssCertificates<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        let der = certificate.der().clone();
        if der.len() > MAX_CERTIFICATE {
            let (subject, bytes) = (certificate.subject(), der.len());
            tracing::info!(subject, bytes, "no security product maps a certificate of this length");
            return Box::pin(async { Err(MapError::NotMapped) });
        }
        let fingerprint = *certificate.sha256();
        let (zss, answers) = (self.zss.clone(), self.answers.clone());
        Box::pin(async move {
            answers.get(&fingerprint, zss.ask(der)).await?.ok_or(MapError::NotMapped)
        })
    }
}

/// Maps distributed identities: `POST {address}` with `{"dn", "registry"}` (zowe-endpoints §5.3).
///
/// Name and registry are sent to the letter; whether upper and lower case are the same is for the
/// security product to say. An identity is mapped as a certificate is ([`ZssCertificates`]), and
/// answers are remembered likewise.
pub struct ZssIdentities<C, T> {
    zss: Arc<Zss<C, T>>,
    answers: Arc<SingleFlightCache<DistributedIdentity, UserId, MapError>>,
}

impl<C, T> ZssIdentities<C, T> {
    /// Maps at `address`, through `client`, as `asking`, which is
    /// `ZWESVUSR` in the reference, with the tokens of `tokens`.
    pub fn new(client: Client<C>, address: Address, asking: UserId, tokens: T) -> Self {
        Self {
            zss: Arc::new(Zss { client, address, asking, tokens }),
            answers: Arc::new(SingleFlightCache::new(CachePolicy::default())),
        }
    }

    /// Says what is remembered, and by which clock.
    #[must_use]
    pub fn remembering(self, memory: CachePolicy, clock: Arc<dyn Clock>) -> Self {
        Self { answers: Arc::new(SingleFlightCache::new(memory).with_clock(clock)), ..self }
    }
}

impl<C, T> DistributedMapper for ZssIdentities<C, T>
where
    C: Connect + Clone + Send + Sync + 'static,
    T: TokenSource,
{
    fn map_identity(&self, identity: &DistributedIdentity) -> MapFuture {
        let identity = identity.clone();
        let (zss, answers) = (self.zss.clone(), self.answers.clone());
        Box::pin(async move {
            let question = Question { dn: identity.name(), registry: identity.registry() };
            // Two strings under fixed names always have a JSON form.
            let body = serde_json::to_vec(&question).unwrap_or_default();
            answers.get(&identity, zss.ask(body.into())).await?.ok_or(MapError::NotMapped)
        })
    }
}

#[derive(Serialize)]
struct Question<'a> {
    dn: &'a str,
    registry: &'a str,
}

macro_rules! clone_and_debug {
    ($type:ident) => {
        impl<C, T> Clone for $type<C, T> {
            fn clone(&self) -> Self {
                Self { zss: self.zss.clone(), answers: self.answers.clone() }
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
            tracing::warn!(%address, %asking, %reason, "cannot ask for a mapping");
        })?;
        self.client.call(request).await.and_then(judge).map_err(|reason| {
            tracing::warn!(%address, %asking, %reason, "the mapping failed");
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
        // Of a certificate too: the reference sends it so.
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

/// What ZSS answers, whatever the status. The reference refuses fields that it does not know; there
/// is no harm in them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    userid: String,
    /// Of the service as a whole; 8 when one of the others is not 0.
    return_code: i64,
    saf_return_code: i64,
    racf_return_code: i64,
    racf_reason_code: i64,
}

/// With return codes in it an answer is judged by them, else by its status: ZSS says with 400, 401
/// and 500 that somebody is not mapped, but also that it has not let us ask.
fn judge(reply: Reply) -> Result<Option<UserId>, RemoteError> {
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
    // ASCII blanks and, from a fixed field, nulls.
    let user = userid.trim_matches([' ', '\0']);
    if user.is_empty() {
        return Ok(None);
    }
    UserId::new(user).map(Some).map_err(|error| RemoteError::Answer(error.to_string()))
}

/// The codes of R_usermap that tell an operator what to do (*z/OS Security Server RACF Callable
/// Services*, R_usermap; zowe-endpoints §5.3).
fn explain(codes: (i64, i64, i64)) -> &'static str {
    match codes {
        (0, 0, 0) => "the codes contradict each other",
        (4, 0, 0) => "RACF is not installed",
        (8, 8, 4) => "error in the parameter list; ACF2 needs the fix LU01316",
        (8, 8, 8 | 12) => "error within the security product",
        (8, 8, 20) => {
            "the user that asks needs READ in class FACILITY: on IRR.RUSERMAP for certificates, on \
             IRR.IDIDMAP.QUERY for other identities"
        }
        (8, 8, 40) => "the name is empty or too long for the security product",
        (8, 8, 44) => "the registry is empty or too long for the security product",
        _ => "not known",
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn an_answer_maps_when_all_of_it_says_so() {
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
            // ZSS, by the reason.
            (401, answer("", [8, 8, 8, 16]), Ok(None)),
            (401, answer("", [8, 8, 8, 28]), Ok(None)),
            (401, answer("", [8, 8, 8, 32]), Ok(None)),
            (401, answer("", [8, 8, 8, 48]), Ok(None)),
            (401, answer("", [8, 8, 8, 20]), FAILED),
            (400, answer("", [8, 8, 8, 4]), FAILED),
            (500, answer("", [8, 8, 8, 44]), FAILED),
            (500, answer("", [8, 8, 8, 40]), FAILED),
            (500, answer("", [4, 4, 0, 0]), FAILED),
            // A status and codes that contradict each other.
            (500, answer("USER", ok), UNAVAILABLE),
            (401, answer("USER", ok), FAILED),
            (302, answer("USER", ok), FAILED),
            // No codes.
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
            let got = judge(Reply::new(StatusCode::from_u16(status).unwrap(), &body));
            let got = got.as_ref().map(|user| user.as_ref().map(UserId::as_str));
            let got = got.map_err(|error| match error {
                RemoteError::Unavailable(_) => "unavailable",
                RemoteError::Answer(_) => "failed",
            });
            assert_eq!(got, want, "{status} {body}");
        }
    }

    #[test]
    fn an_operator_reads_what_to_do() {
        for (reason, want) in [(4, "LU01316"), (20, "IRR.IDIDMAP.QUERY"), (44, "registry")] {
            let body = format!(
                r#"{{"userid":"","returnCode":8,"safReturnCode":8,"racfReturnCode":8,
                    "racfReasonCode":{reason}}}"#
            );
            let error = judge(Reply::new(StatusCode::OK, &body)).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains(&format!("reason {reason}")), "{error}");
        }
    }
}
