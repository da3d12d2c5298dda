//! The responses of the scheme endpoints. They are the same as those of ZAAS, the authentication service of API ML
//! (Zowe's API Mediation Layer): see docs/reference/zaas-endpoints.md#answers. In this file, "the gateway" is the
//! gateway of API ML.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, COOKIE, WWW_AUTHENTICATE},
};
use serde::Serialize;

use super::call::{BadCall, SchemeKind};
use crate::{
    api::{MAX_BODY_LEN, ResponseBody},
    audit::CredentialKind,
    headers::{BasicCredentials, split_scheme},
    identity::MapError,
    layer::{Failure, X_ZOWE_AUTH_FAILURE},
    log_limit::log_limited,
    messages::{self, ApiMessage, Template},
    passticket::SafReturnCodes,
    revocation::CheckError,
    token::TokenError,
};

static OIDC_TOKEN: HeaderName = HeaderName::from_static("oidc-token");
static X_SAF_TOKEN: HeaderName = HeaderName::from_static("x-saf-token");

/// The text of API ML if the user of an identity provider is mapped to no z/OS user.
const NO_IDENTITY: &str = "No mainframe identity found.";

/// The body of the response to a request for a PassTicket (a one-time password of z/OS). It contains a secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ticket<'a> {
    /// Always empty, as in API ML.
    token: &'static str,
    user_id: &'a str,
    application_name: &'a str,
    ticket: &'a str,
}

/// The body of the response to a request for a token. The gateway sends the token to the service in this cookie or
/// header. The body contains a secret.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    cookie_name: Option<&'a str>,
    header_name: Option<&'a str>,
    token: &'a str,
}

/// Returns the response with the credential that a scheme has prepared. `headers` are the headers that the scheme has
/// set, and no others.
pub(super) fn prepared(
    kind: SchemeKind,
    application: &str,
    headers: &HeaderMap,
) -> Response<ResponseBody> {
    let body = match kind {
        SchemeKind::PassTicket => ticket(application, headers),
        SchemeKind::ZoweJwt | SchemeKind::Zosmf => cookie(headers),
        SchemeKind::SafIdt => saf_token(headers),
    };
    body.unwrap_or_else(|| {
        log_limited!(
            error, "the scheme set other headers", { ?kind },
            "the scheme has not set the header that contains the credential for the gateway"
        );
        message(StatusCode::INTERNAL_SERVER_ERROR, ApiMessage::new(&messages::INTERNAL))
    })
}

fn ticket(application_name: &str, headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    let (_, encoded) = split_scheme(headers.get(AUTHORIZATION)?.as_bytes());
    let basic = BasicCredentials::decode(encoded)?;
    let user_id = str::from_utf8(basic.user()).ok()?;
    let ticket = str::from_utf8(basic.password()).ok()?;
    json(&Ticket { token: "", user_id, application_name, ticket })
}

fn cookie(headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    // The request of the scheme has no other cookies.
    let (name, token) = headers.get(COOKIE)?.to_str().ok()?.split_once('=')?;
    json(&Token { cookie_name: Some(name), header_name: None, token })
}

fn saf_token(headers: &HeaderMap) -> Option<Response<ResponseBody>> {
    let token = headers.get(&X_SAF_TOKEN)?.to_str().ok()?;
    json(&Token { cookie_name: None, header_name: Some("X-SAF-Token"), token })
}

fn json(body: &impl Serialize) -> Option<Response<ResponseBody>> {
    let mut response =
        Response::new(ResponseBody::from(Bytes::from(serde_json::to_vec(body).ok()?)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(secure(response))
}

#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    /// `None` if the response has no body.
    message: Option<ApiMessage>,
    /// The text of `X-Zowe-Auth-Failure`. With a 401, the gateway passes this text on to the service and to the client.
    /// If it is `None`, the gateway uses its own text.
    auth_failure: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, message: ApiMessage) -> Self {
        Self { status, message: Some(message), auth_failure: None }
    }

    fn unauthorized(template: &'static Template, url: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ApiMessage::with(template, &[url]))
    }

    fn with_failure(self, template: &'static Template) -> Self {
        Self { auth_failure: Some(ApiMessage::new(template).line()), ..self }
    }

    /// The client has no valid credential.
    fn not_authenticated(url: &str) -> Self {
        Self::unauthorized(&messages::AUTHENTICATION_REQUIRED, url)
            .with_failure(&messages::MISSING_AUTHENTICATION)
    }

    fn unavailable() -> Self {
        let message = ApiMessage::new(&messages::AUTHENTICATION_UNAVAILABLE);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

/// `url` is the path of the request.
fn refusal(kind: SchemeKind, failure: &Failure, credential: CredentialKind, url: &str) -> Refusal {
    match failure {
        Failure::NoCredential
        | Failure::NoCertificate
        | Failure::WrongKind
        | Failure::UserMismatch
        | Failure::Password(_)
        | Failure::OutOfScope { .. }
        | Failure::Token(TokenError::Issuer)
        | Failure::Revocation(CheckError::Revoked(_)) => Refusal::not_authenticated(url),
        Failure::Revocation(CheckError::Unavailable)
            if credential == CredentialKind::PersonalAccessToken =>
        {
            Refusal::not_authenticated(url)
        }
        Failure::Token(TokenError::Expired { .. }) => {
            Refusal::unauthorized(&messages::TOKEN_EXPIRED_FOR_URL, url)
        }
        Failure::Token(TokenError::Unavailable(_))
        | Failure::Identity(MapError::Unavailable | MapError::Failed(_))
        | Failure::Revocation(_) => Refusal::unavailable(),
        Failure::Identity(_)
            if credential == CredentialKind::Certificate && kind != SchemeKind::PassTicket =>
        {
            Refusal { status: StatusCode::UNAUTHORIZED, message: None, auth_failure: None }
        }
        Failure::Token(TokenError::Subject(_)) | Failure::Identity(_) => {
            Refusal::new(StatusCode::UNAUTHORIZED, ApiMessage::new(&messages::NO_USER))
                .with_failure(&messages::NO_USER)
        }
        Failure::Token(_) => Refusal::unauthorized(&messages::TOKEN_NOT_VALID_FOR_URL, url)
            .with_failure(&messages::INVALID_TOKEN),
        Failure::Generate(error) => {
            let status = match error.codes() {
                SafReturnCodes::NO_PROFILE => StatusCode::BAD_REQUEST,
                _ if error.is_not_authenticated() => StatusCode::UNAUTHORIZED,
                // Even if a later request can succeed, API ML answers 500.
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Refusal::new(status, ApiMessage::with(&messages::TICKET_FAILED, &[&error.text()]))
        }
        Failure::Scheme(_) => scheme_failed(kind, failure.message(), url),
    }
}

fn scheme_failed(kind: SchemeKind, message: ApiMessage, url: &str) -> Refusal {
    // z/OSMF (IBM's management server on z/OS) has refused to log the user in. The status must be 401: after another
    // status, the gateway would ask another ZAAS, and that ZAAS would send another PassTicket of this user to z/OSMF.
    if kind == SchemeKind::Zosmf && message.number() == messages::ZOSMF_TOKEN_FAILED.number() {
        return Refusal::unauthorized(&messages::INVALID_CREDENTIALS, url);
    }
    let (status, template, reason) = match kind {
        SchemeKind::Zosmf => (
            StatusCode::SERVICE_UNAVAILABLE,
            &messages::ZOSMF_TOKEN_FAILED,
            "z/OSMF cannot be reached",
        ),
        SchemeKind::SafIdt => (
            StatusCode::INTERNAL_SERVER_ERROR,
            &messages::SAF_TOKEN_FAILED,
            "The server that makes the tokens cannot be reached",
        ),
        SchemeKind::ZoweJwt => (
            StatusCode::INTERNAL_SERVER_ERROR,
            &messages::ZOWE_TOKEN_FAILED,
            "The token could not be made",
        ),
        SchemeKind::PassTicket => {
            return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    };
    let is_exact = message.number() == template.number();
    let message = if is_exact { message } else { ApiMessage::with(template, &[reason]) };
    Refusal::new(status, message)
}

/// Returns the response after a failure. `token` returns the token of the client, if it is known.
pub(super) fn failed<'t>(
    kind: SchemeKind,
    failure: &Failure,
    credential: CredentialKind,
    url: &str,
    token: impl FnOnce() -> Option<&'t str>,
) -> Response<ResponseBody> {
    let is_unmapped_person = matches!(failure, Failure::Identity(MapError::NotMapped))
        && credential == CredentialKind::ExternalToken;
    let mut refusal = refusal(kind, failure, credential, url);
    if is_unmapped_person && let Some(token) = token() {
        // The service may accept the token of the identity provider. So the gateway passes this token on.
        if kind == SchemeKind::ZoweJwt {
            let body = Token { cookie_name: None, header_name: Some("OIDC-token"), token };
            if let Some(response) = json(&body) {
                return response;
            }
        }
        refusal.auth_failure = Some(NO_IDENTITY.to_owned());
        let mut response = refused(refusal);
        if let Ok(mut value) = HeaderValue::from_str(token) {
            value.set_sensitive(true);
            response.headers_mut().insert(&OIDC_TOKEN, value);
        }
        return response;
    }
    refused(refusal)
}

fn refused(Refusal { status, message, auth_failure }: Refusal) -> Response<ResponseBody> {
    let mut response = match message {
        Some(text) => self::message(status, text),
        None => empty(status),
    };
    if let Some(value) = auth_failure.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(&X_ZOWE_AUTH_FAILURE, value);
    }
    response
}

pub(super) fn certificate_required(url: &str) -> Response<ResponseBody> {
    refused(Refusal::not_authenticated(url))
}

pub(super) fn bad_call(kind: SchemeKind, bad: BadCall) -> Response<ResponseBody> {
    let with = |status, name, value| {
        let mut response = empty(status);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    };
    // API ML answers 404 to a wrong method, content type or body, and its tests expect this status.
    let not_found = StatusCode::NOT_FOUND;
    match bad {
        BadCall::Options => with(StatusCode::OK, ALLOW, "POST,OPTIONS"),
        BadCall::Method => with(not_found, ALLOW, "POST"),
        BadCall::ContentType => with(not_found, ACCEPT, "application/json, application/*+json"),
        BadCall::Body => empty(StatusCode::NOT_FOUND),
        BadCall::TooLong => {
            let limit = MAX_BODY_LEN.to_string();
            let text = ApiMessage::with(&messages::CONTENT_TOO_LARGE, &[&limit]);
            message(StatusCode::PAYLOAD_TOO_LARGE, text)
        }
        BadCall::Incomplete => {
            let text = ApiMessage::with(&messages::BAD_REQUEST, &["the body is incomplete"]);
            message(StatusCode::BAD_REQUEST, text)
        }
        BadCall::Application => {
            let text = ApiMessage::new(&messages::INVALID_APPLICATION_NAME);
            message(StatusCode::BAD_REQUEST, text)
        }
        BadCall::NoScheme => no_scheme(kind),
    }
}

fn no_scheme(kind: SchemeKind) -> Response<ResponseBody> {
    let with_reason =
        |status, template| message(status, ApiMessage::with(template, &["It is not configured"]));
    let (unavailable, internal) =
        (StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR);
    match kind {
        SchemeKind::Zosmf => with_reason(unavailable, &messages::ZOSMF_TOKEN_FAILED),
        SchemeKind::SafIdt => with_reason(internal, &messages::SAF_TOKEN_FAILED),
        SchemeKind::ZoweJwt => with_reason(internal, &messages::ZOWE_TOKEN_FAILED),
        SchemeKind::PassTicket => message(internal, ApiMessage::new(&messages::INTERNAL)),
    }
}

pub(super) fn not_found(path: &str) -> Response<ResponseBody> {
    message(StatusCode::NOT_FOUND, ApiMessage::with(&messages::NO_SUCH_ENDPOINT, &[path]))
}

fn message(status: StatusCode, text: ApiMessage) -> Response<ResponseBody> {
    let mut response = text.into_response(status).map(ResponseBody::from);
    if status == StatusCode::UNAUTHORIZED {
        challenge(response.headers_mut());
    }
    response
}

fn empty(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = status;
    if status == StatusCode::UNAUTHORIZED {
        challenge(response.headers_mut());
    }
    secure(response)
}

/// A 401 response must have `WWW-Authenticate` (RFC 9110 §11.6.1).
fn challenge(headers: &mut HeaderMap) {
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"zowe\""));
}

fn secure(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    messages::set_security_headers(response.headers_mut());
    response
}
