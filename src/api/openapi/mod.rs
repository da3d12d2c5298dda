//! `GET openapi.json`: what the endpoints take and answer, for programs (OpenAPI 3.1.0).
//!
//! Methods and paths are those of the table that dispatches. What an endpoint says when it refuses
//! is made from the [`ApiError`]s that it can end with, by the code that answers with them: status,
//! message and headers cannot differ from what is sent.

use std::{collections::BTreeMap, iter, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::{
    body::{BodyProblem, MAX_BODY_LEN},
    compatibility::Compatibility,
    delegation::DelegationRefusal,
    error::{ApiError, BodyField, PatRefusal},
    permission::{GuardedTask, GuardingResources},
    service::{AuthApi, ENDPOINTS, Endpoint, PREFIX, Switches, typed},
};
use crate::{
    layer::X_ZOWE_AUTH_FAILURE,
    passticket::{Applid, GenerateError, NoTimeSlot, SafReturnCodes, UserId},
    revocation::RevokedBy,
    saf::SafError,
    token::{TokenError, Validity},
};

/// Everything that the description depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    pub(super) switches: Switches,
    /// Whether client certificates are credentials.
    pub(super) certificates: bool,
    pub(super) compatibility: Compatibility,
    /// The name of the cookie of login tokens.
    pub(super) cookie: &'a str,
    pub(super) max_validity: Validity,
    pub(super) guards: &'a GuardingResources,
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M> {
    /// Answers with the description of all that is switched on. It is made for the first who asks.
    pub(super) fn describe(&self) -> Response<Full<Bytes>> {
        let make = || document(&self.settings()).to_string().into();
        let description = self.description.get_or_init(make);
        typed(description.clone(), HeaderValue::from_static("application/json"))
    }

    pub(super) fn settings(&self) -> Settings<'_> {
        Settings {
            switches: self.switches,
            certificates: self.mapper.is_some(),
            compatibility: self.compatibility,
            cookie: self.cookies.jwt(),
            max_validity: self.max_validity,
            guards: &self.guards,
        }
    }
}

/// The description of the endpoints that are there with these settings.
pub(super) fn document(settings: &Settings<'_>) -> Value {
    let mut paths = Map::new();
    for (method, path, endpoint) in &ENDPOINTS {
        if endpoint.is_there(settings.switches) {
            let operation = settings.operation(method, path, *endpoint);
            let verb = method.as_str().to_ascii_lowercase();
            paths.insert(format!("{PREFIX}{path}"), json!({ verb: operation }));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The auth endpoints of tower-passticket",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Login, PassTickets and Personal Access Tokens, as Zowe API ML has them. Bodies are \
                 read as JSON, whatever their `Content-Type` says, and have at most {MAX_BODY_LEN} \
                 bytes. What is switched off is not described, and answers 404."
            ),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A login token. The cookie comes first.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": settings.cookie,
                    "description": "A login token, as `login` sets it.",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate that the listener trusts.",
                },
            },
        },
    })
}

/// What is said of one endpoint, beside its method and path.
struct Description {
    summary: &'static str,
    who: Who,
    body: Option<RequestBody>,
    success: Success,
    /// Beside those that every endpoint has.
    refusals: Vec<ApiError>,
}

/// What a caller has to show.
#[derive(Clone, Copy)]
enum Who {
    Everybody,
    /// Basic, else a certificate; else what the body says.
    Login,
    /// Basic, else a certificate.
    User,
    LoginToken,
    CertificateAndLoginToken,
    Certificate,
}

struct RequestBody {
    required: bool,
    schema: Value,
    example: Value,
}

struct Success {
    status: StatusCode,
    description: &'static str,
    headers: Value,
    /// Content type and schema.
    content: Option<(HeaderValue, Value)>,
}

impl Success {
    fn empty(status: StatusCode, description: &'static str) -> Self {
        Self { status, description, headers: json!({}), content: None }
    }

    /// 204 with the login cookie.
    fn login(description: &'static str) -> Self {
        let cookie = format!("^[^=]+={TOKEN}; Path=/; SameSite=Strict; HttpOnly; Secure$");
        let headers = json!({
            "Set-Cookie": { "required": true, "schema": { "type": "string", "pattern": cookie } },
            "Cache-Control": no_store(),
        });
        Self { headers, ..Self::empty(StatusCode::NO_CONTENT, description) }
    }

    fn json(description: &'static str, schema: Value) -> Self {
        Self::of_type(HeaderValue::from_static("application/json"), description, schema)
    }

    fn of_type(content_type: HeaderValue, description: &'static str, schema: Value) -> Self {
        let content = Some((content_type, schema));
        Self { content, ..Self::empty(StatusCode::OK, description) }
    }

    /// The same, and nobody may keep it.
    fn not_stored(self) -> Self {
        Self { headers: json!({ "Cache-Control": no_store() }), ..self }
    }
}

/// A JWS in compact form (RFC 7515 §3.1), as a regular expression.
const TOKEN: &str = "[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+";

fn no_store() -> Value {
    json!({ "required": true, "schema": { "const": "no-store" } })
}

/// What more than one endpoint takes or answers with.
fn schemas() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "ApiMessage": {
            "description": "What happened, why, and what to do.",
            "type": "object",
            "required": ["messages"],
            "additionalProperties": false,
            "properties": { "messages": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": {
                    "type": "object",
                    "required": ["messageType", "messageNumber", "messageContent", "messageKey"],
                    "additionalProperties": false,
                    "properties": {
                        "messageType": { "const": "ERROR" },
                        "messageNumber": { "type": "string", "pattern": "^ZWEA[A-Z][0-9]{3}E$" },
                        "messageContent": text,
                        "messageAction": text,
                        "messageReason": text,
                        "messageKey": { "type": "string", "pattern": "^org\\.zowe\\.apiml\\." },
                    },
                },
            }},
        },
        "JwkSet": {
            "description": "RFC 7517 §5.",
            "type": "object",
            "required": ["keys"],
            "properties": { "keys": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["kty", "use", "alg", "n", "e"],
                    "properties": {
                        "kty": { "const": "RSA" },
                        "use": { "const": "sig" },
                        "alg": { "const": "RS256" },
                        "n": { "type": "string", "pattern": "^[A-Za-z0-9_-]+$" },
                        "e": { "type": "string", "pattern": "^[A-Za-z0-9_-]+$" },
                    },
                },
            }},
        },
        "ServiceId": {
            "description": "Folded to lower case; no dots alone.",
            "type": "string",
            "maxLength": 64,
            "pattern": "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$",
        },
        "UserId": {
            "description": "Folded to upper case.",
            "type": "string",
            "pattern": "^[A-Za-z0-9#@$]{1,8}$",
        },
        "Timestamp": {
            "description": "Milliseconds since 1970-01-01, as a number or as its digits. Tokens \
                            that were issued up to then are revoked. Missing, null, blank and 0 \
                            are now.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": u64::MAX },
                { "type": "string", "pattern": "^ *[0-9]{0,19} *$" },
                { "type": "null" },
            ],
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// An object that has these properties, and others that nobody reads.
fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": true,
    })
}

impl Settings<'_> {
    fn operation(&self, method: &Method, path: &str, endpoint: Endpoint) -> Value {
        let Description { summary, who, body, success, refusals } = self.describe(endpoint);
        let mut responses = self.refused(method, path, body.is_some(), refusals);
        let mut answer = json!({ "description": success.description, "headers": success.headers });
        if let Some((content_type, schema)) = success.content {
            // Ours are all ASCII.
            let content_type = content_type.to_str().unwrap_or_default();
            answer["content"] = json!({ content_type: { "schema": schema } });
        }
        responses.insert(success.status.as_str().to_owned(), answer);
        let mut operation = json!({
            "operationId": operation_id(method, path),
            "summary": summary,
            "security": self.security(who),
            "responses": responses,
        });
        if let Some(RequestBody { required, schema, example }) = body {
            operation["requestBody"] = json!({
                "required": required,
                "content": { "application/json": { "schema": schema, "example": example } },
            });
        }
        operation
    }

    fn security(&self, who: Who) -> Value {
        let certificate = self.certificates.then(|| json!({ "certificate": [] }));
        let user = iter::once(json!({ "basic": [] })).chain(certificate);
        match who {
            Who::Everybody => json!([]),
            Who::Login => user.chain([json!({})]).collect(),
            Who::User => user.collect(),
            Who::LoginToken => json!([{ "cookie": [] }, { "bearer": [] }]),
            Who::CertificateAndLoginToken => json!([
                { "certificate": [], "cookie": [] },
                { "certificate": [], "bearer": [] },
            ]),
            Who::Certificate => json!([{ "certificate": [] }]),
        }
    }

    fn describe(&self, endpoint: Endpoint) -> Description {
        let problem = BodyProblem::somewhere;
        match endpoint {
            Endpoint::Describe => Description {
                summary: "This description",
                who: Who::Everybody,
                body: None,
                success: Success::json(
                    "An OpenAPI document.",
                    json!({ "type": "object", "required": ["openapi", "info", "paths"] }),
                ),
                refusals: Vec::new(),
            },
            Endpoint::Login => Description {
                summary: "Log in",
                who: Who::Login,
                body: Some(RequestBody {
                    required: false,
                    schema: object(
                        &["username", "password"],
                        json!({
                            "username": { "type": "string", "minLength": 1 },
                            "password": { "type": "string", "minLength": 1, "format": "password" },
                            "newPassword": {
                                "description": "Replaces the password. Not beside Basic.",
                                "type": ["string", "null"],
                                "minLength": 1,
                                "format": "password",
                            },
                        }),
                    ),
                    example: json!({ "username": "USER", "password": "validPassword" }),
                }),
                success: Success::login("Logged in: the cookie is the login token."),
                refusals: vec![
                    ApiError::InvalidLoginInput,
                    ApiError::InvalidLoginBody(problem()),
                    ApiError::PasswordChangeUnsupported,
                    ApiError::NewPasswordRefused,
                    ApiError::WrongCredentials,
                    ApiError::Unavailable,
                    ApiError::Internal,
                ],
            },
            Endpoint::Logout => Description {
                summary: "Log out: revoke the login token",
                who: Who::LoginToken,
                body: None,
                success: Success::empty(StatusCode::NO_CONTENT, "Logged out."),
                refusals: login_token([ApiError::NotALoginToken]),
            },
            Endpoint::Query => Description {
                summary: "What the login token says",
                who: Who::LoginToken,
                body: None,
                success: Success::json(
                    "Whose token it is; times in milliseconds since 1970-01-01.",
                    json!({
                        "type": "object",
                        "required": ["domain", "userId", "creation", "expiration"],
                        "additionalProperties": false,
                        "properties": {
                            "domain": { "type": ["string", "null"] },
                            "userId": { "type": "string" },
                            "creation": { "type": "integer", "minimum": 0 },
                            "expiration": { "type": "integer", "minimum": 0 },
                        },
                    }),
                ),
                refusals: login_token([ApiError::Internal]),
            },
            Endpoint::Refresh => Description {
                summary: "A new login token for the old one, which is revoked",
                who: Who::CertificateAndLoginToken,
                body: None,
                success: Success::login("The cookie is the new login token."),
                refusals: login_token([ApiError::CertificateRequired, ApiError::Internal]),
            },
            Endpoint::DelegatedTicket => Description {
                summary: "A PassTicket for the user that an e-mail address belongs to",
                who: Who::Certificate,
                body: Some(RequestBody {
                    required: true,
                    schema: object(
                        &["applId", "emailId"],
                        json!({
                            "applId": {
                                "description": "The APPLID.",
                                "type": "string",
                                "pattern": "^ *[A-Za-z0-9#@$]{1,8} *$",
                            },
                            "emailId": {
                                "description": "At most 246 bytes.",
                                "type": "string",
                                "pattern": "^[^@\\s]+@[^@\\s]+$",
                                "maxLength": 246,
                            },
                        }),
                    ),
                    example: json!({ "applId": "ZOWEAPPL", "emailId": "user@example.com" }),
                }),
                success: Success::json(
                    "The PassTicket, and whose it is.",
                    json!({
                        "type": "object",
                        "required": ["passticket", "tsoUserid"],
                        "additionalProperties": false,
                        "properties": {
                            "passticket": { "type": "string", "minLength": 8, "maxLength": 8 },
                            "tsoUserid": { "type": "string", "minLength": 1, "maxLength": 8 },
                        },
                    }),
                )
                .not_stored(),
                refusals: self.delegated_ticket(),
            },
            Endpoint::Ticket => Description {
                summary: "A PassTicket",
                who: Who::CertificateAndLoginToken,
                body: Some(RequestBody {
                    required: true,
                    schema: object(
                        &["applicationName"],
                        json!({ "applicationName": {
                            "description": "The APPLID.",
                            "type": "string",
                            "pattern": "^ *[A-Za-z0-9#@$]{1,8} *$",
                        }}),
                    ),
                    example: json!({ "applicationName": "ZOWEAPPL" }),
                }),
                success: Success::json(
                    "The PassTicket, and whose it is.",
                    json!({
                        "type": "object",
                        "required": ["token", "userId", "applicationName", "ticket"],
                        "additionalProperties": false,
                        "properties": {
                            "token": { "type": "string", "pattern": format!("^{TOKEN}$") },
                            "userId": { "type": "string" },
                            "applicationName": { "type": "string" },
                            "ticket": { "type": "string", "minLength": 8, "maxLength": 8 },
                        },
                    }),
                )
                .not_stored(),
                refusals: {
                    let mut errors = login_token([
                        ApiError::CertificateRequired,
                        ApiError::InvalidTicketBody(problem()),
                        ApiError::Internal,
                    ]);
                    errors.extend(no_ticket());
                    errors
                },
            },
            Endpoint::PublicKeyPem => Description {
                summary: "The public key in PEM",
                who: Who::Everybody,
                body: None,
                success: Success::of_type(
                    self.compatibility.pem_type(),
                    "The key that tokens verify under, in PEM, whatever the content type says.",
                    json!({ "type": "string", "pattern": "^-----BEGIN PUBLIC KEY-----" }),
                ),
                refusals: Vec::new(),
            },
            Endpoint::PublicKeySet => Description {
                summary: "The public key as a JWK set",
                who: Who::Everybody,
                body: None,
                success: Success::json("The keys that tokens verify under.", reference("JwkSet")),
                refusals: Vec::new(),
            },
            Endpoint::Generate => Description {
                summary: "A new Personal Access Token",
                who: Who::User,
                body: Some(self.generate_body()),
                success: Success::of_type(
                    HeaderValue::from_static("text/plain"),
                    "The token.",
                    json!({ "type": "string", "pattern": format!("^{TOKEN}$") }),
                )
                .not_stored(),
                refusals: vec![
                    ApiError::PatWithoutScopes,
                    ApiError::InvalidPatBody(problem()),
                    ApiError::TooManyScopes,
                    ApiError::InvalidLoginInput,
                    ApiError::WrongCredentials,
                    ApiError::Unavailable,
                    ApiError::Internal,
                ],
            },
            Endpoint::Validate => Description {
                summary: "Whether a Personal Access Token is good for a service",
                who: Who::Everybody,
                body: Some(RequestBody {
                    required: true,
                    schema: object(
                        &["token", "serviceId"],
                        json!({
                            "token": { "type": "string" },
                            "serviceId": { "type": "string" },
                        }),
                    ),
                    example: json!({ "token": "eyJ…", "serviceId": "zosmf" }),
                }),
                success: Success::empty(self.compatibility.success(), "It is."),
                refusals: pat([
                    PatRefusal::OutOfScope.into(),
                    ApiError::FieldMissing(BodyField::ServiceId),
                ]),
            },
            Endpoint::Revoke => Description {
                summary: "Revoke a Personal Access Token",
                who: Who::Everybody,
                body: Some(RequestBody {
                    required: true,
                    schema: object(&["token"], json!({ "token": { "type": "string" } })),
                    example: json!({ "token": "eyJ…" }),
                }),
                success: Success::empty(self.compatibility.success(), "It is revoked."),
                refusals: pat([]),
            },
            Endpoint::RevokeOwn => Description {
                summary: "Revoke all Personal Access Tokens of the caller up to a time",
                body: Some(rule_body(None)),
                ..self.rule(self.caller())
            },
            Endpoint::RevokeUser => Description {
                summary: "Revoke all Personal Access Tokens of a user up to a time",
                body: Some(rule_body(Some(("userId", "UserId", "OTHER")))),
                ..self.rule(self.administrator(GuardedTask::Revoke))
            },
            Endpoint::RevokeService => Description {
                summary: "Revoke all Personal Access Tokens for a service up to a time",
                body: Some(rule_body(Some(("serviceId", "ServiceId", "zosmf")))),
                ..self.rule(self.administrator(GuardedTask::Revoke))
            },
            Endpoint::Evict => Description {
                summary: "Forget revocations that can hit no token any more",
                who: Who::User,
                body: None,
                success: Success::empty(StatusCode::NO_CONTENT, "They are forgotten."),
                refusals: {
                    let mut errors = self.administrator(GuardedTask::Evict);
                    errors.push(ApiError::StoreUnavailable);
                    errors
                },
            },
        }
    }

    fn generate_body(&self) -> RequestBody {
        let max = self.max_validity.days();
        let schema = json!({
            "type": "object",
            "required": ["scopes"],
            "additionalProperties": false,
            "properties": {
                "validity": {
                    "description": format!(
                        "Days, as a number or as its digits. More than {max}, less than 1, blank, \
                         null and missing are {max}."
                    ),
                    "anyOf": [
                        { "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX },
                        { "type": "string", "pattern": "^ *([+-]?[0-9]{1,9})? *$" },
                        { "type": "null" },
                    ],
                },
                "scopes": {
                    "description": "The services that it is to be good for, at least one. An item \
                                    may be several, joined by commas. They are trimmed and folded \
                                    to lower case.",
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "string", "pattern": "^[A-Za-z0-9._, -]*$" },
                },
            },
        });
        RequestBody {
            required: true,
            schema,
            example: json!({ "validity": 1, "scopes": ["dcpassticket", "zosmf,ims"] }),
        }
    }

    /// A rule, but for its summary and its body.
    fn rule(&self, mut refusals: Vec<ApiError>) -> Description {
        refusals.push(ApiError::InvalidRuleBody(BodyProblem::somewhere()));
        refusals.push(ApiError::StoreUnavailable);
        Description {
            summary: "",
            who: Who::User,
            body: None,
            success: Success::empty(self.compatibility.success(), "They are revoked."),
            refusals,
        }
    }

    /// A response for each status of these refusals and of those that every endpoint has.
    fn refused(
        &self,
        method: &Method,
        path: &str,
        reads_body: bool,
        mut errors: Vec<ApiError>,
    ) -> Map<String, Value> {
        let (other, allowed) = (Method::PUT, method.clone());
        errors.push(ApiError::MethodNotAllowed { method: other, allowed });
        if reads_body {
            errors.extend([ApiError::BodyTooLarge, ApiError::BodyBroken]);
        }
        if errors.contains(&ApiError::WrongCredentials) {
            // Whoever takes passwords slows down who guesses them.
            errors.push(ApiError::TooManyAttempts { retry_after: Duration::from_secs(60) });
        }
        let mut statuses = BTreeMap::<String, Refusals>::new();
        let url = format!("{PREFIX}{path}");
        for error in errors {
            let (status, _) = self.compatibility.refusal(&error, &url);
            let refusals = statuses.entry(status.as_str().to_owned()).or_default();
            refusals.add(error, &url, self.compatibility);
        }
        statuses.into_iter().map(|(status, refusals)| (status, refusals.into_response())).collect()
    }

    /// Why nobody is taken for the caller where no login is asked for.
    fn caller(&self) -> Vec<ApiError> {
        let mut errors = vec![
            ApiError::AuthenticationRequired,
            ApiError::WrongCredentials,
            ApiError::Unavailable,
        ];
        if self.certificates {
            errors.push(ApiError::NoUser);
        }
        errors
    }

    /// Why nobody is taken for one who may do this.
    fn administrator(&self, task: GuardedTask) -> Vec<ApiError> {
        let mut errors = self.caller();
        errors.extend(self.guarded(task));
        errors
    }

    /// Why there is no PassTicket for another.
    fn delegated_ticket(&self) -> Vec<ApiError> {
        let mut errors = vec![
            ApiError::OnlyCertificate,
            ApiError::NoUser,
            ApiError::TooManyCalls { retry_after: Duration::from_secs(60) },
            ApiError::InvalidDelegateBody(BodyProblem::somewhere()),
            ApiError::NoUserOfEmail,
            ApiError::Unavailable,
            ApiError::AuditUnavailable,
        ];
        errors.extend(self.guarded(GuardedTask::Delegate));
        if let (Ok(user), Ok(applid)) = (UserId::new("USER"), Applid::new("ZOWEAPPL")) {
            errors.push(DelegationRefusal::Applid(applid).into());
            errors.push(DelegationRefusal::Target(user).into());
        }
        errors.extend(no_ticket());
        errors
    }

    /// Why somebody may not do this, or nobody can say.
    fn guarded(&self, task: GuardedTask) -> [ApiError; 4] {
        let failed = SafError::Failed("its answer makes no sense".to_owned());
        let class = self.guards.class().to_owned();
        let unsupported = SafError::UnsupportedClass { supported: "ZOWE".to_owned(), class };
        [
            ApiError::NotPermitted(self.guards.permission(task)),
            ApiError::Saf(SafError::Unavailable),
            ApiError::Saf(failed),
            ApiError::Saf(unsupported),
        ]
    }
}

/// Why there is no login token, with `more` behind.
fn login_token<const N: usize>(more: [ApiError; N]) -> Vec<ApiError> {
    let mut errors = vec![
        ApiError::TokenNotProvided,
        TokenError::Signature.into(),
        TokenError::Expired { secs_ago: 1 }.into(),
        ApiError::PersonalAccessToken,
        ApiError::LoggedOut,
        ApiError::StoreUnavailable,
    ];
    errors.extend(more);
    errors
}

/// Why what is in the body is no valid Personal Access Token, with `more` behind.
fn pat<const N: usize>(more: [ApiError; N]) -> Vec<ApiError> {
    let mut errors = vec![
        ApiError::InvalidBody(BodyProblem::somewhere()),
        ApiError::FieldMissing(BodyField::Token),
        PatRefusal::Token(TokenError::Signature).into(),
        PatRefusal::Token(TokenError::Expired { secs_ago: 1 }).into(),
        PatRefusal::NotAPat.into(),
        PatRefusal::Revoked(RevokedBy::Token).into(),
        PatRefusal::Revoked(RevokedBy::UserRule).into(),
        PatRefusal::Revoked(RevokedBy::ServiceRule).into(),
        ApiError::StoreUnavailable,
    ];
    errors.extend(more);
    errors
}

/// Why there is no PassTicket: one for each status.
fn no_ticket() -> Vec<ApiError> {
    let codes = [SafReturnCodes::NO_PROFILE, SafReturnCodes::NOT_AUTHORIZED];
    // Both are names; without them all would be missing here, which a test would notice.
    let (Ok(user), Ok(applid)) = (UserId::new("USER"), Applid::new("ZOWEAPPL")) else {
        return Vec::new();
    };
    let all_taken = NoTimeSlot::AllTaken {
        spare: Duration::from_secs(60),
        retry_after: Duration::from_secs(1),
    };
    let mut errors = codes.map(|codes| GenerateError::new(user, applid, codes).into()).to_vec();
    errors.push(GenerateError::no_slot(user, applid, all_taken).into());
    errors
}

/// A body that says up to when tokens are revoked and, unless they are those of the caller, which:
/// the name of the field, its schema, an example.
fn rule_body(whose: Option<(&str, &str, &str)>) -> RequestBody {
    let mut properties = json!({ "timestamp": reference("Timestamp") });
    let mut example = json!({ "timestamp": "1582239600000" });
    let mut required = Vec::new();
    if let Some((field, schema, value)) = whose {
        properties[field] = reference(schema);
        example[field] = value.into();
        required.push(field);
    }
    // Without a body it is the caller's, up to now.
    RequestBody { required: whose.is_some(), schema: object(&required, properties), example }
}

/// `deleteAccessTokenRevokeTokens`: a method has a path once, so this is unique.
fn operation_id(method: &Method, path: &str) -> String {
    let mut id = method.as_str().to_ascii_lowercase();
    for word in path.split(['/', '-', '.']) {
        let (first, rest) = word.split_at(word.len().min(1));
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}

/// The refusals of one endpoint that have the same status.
#[derive(Default)]
struct Refusals {
    /// A list in Markdown.
    causes: Vec<String>,
    /// Header name and the values that it can have: several, and none for some of the causes.
    headers: BTreeMap<&'static str, Vec<String>>,
    /// Whether there is a message, and examples by its number.
    says: bool,
    examples: BTreeMap<&'static str, Value>,
}

impl Refusals {
    fn add(&mut self, error: ApiError, url: &str, compatibility: Compatibility) {
        match compatibility.refusal(&error, url).1 {
            Some(message) => {
                self.says = true;
                self.causes.push(format!("- {}: {error}", message.number()));
                // It is JSON of our own making.
                let example = serde_json::from_slice(&message.to_json()).unwrap_or_default();
                self.examples.entry(message.number()).or_insert(example);
            }
            None => self.causes.push(format!("- without a body: {error}")),
        }
        let response = error.into_response(url, compatibility);
        let names = [
            ("Allow", &ALLOW),
            ("Retry-After", &RETRY_AFTER),
            ("WWW-Authenticate", &WWW_AUTHENTICATE),
            ("X-Zowe-Auth-Failure", &X_ZOWE_AUTH_FAILURE),
        ];
        for (key, name) in names {
            if let Some(Ok(value)) = response.headers().get(name).map(HeaderValue::to_str) {
                self.headers.entry(key).or_default().push(value.to_owned());
            }
        }
    }

    fn into_response(self) -> Value {
        let Self { causes, headers, says, examples } = self;
        let mut response = json!({ "description": causes.join("\n") });
        for (name, mut values) in headers {
            let required = values.len() == causes.len();
            values.sort_unstable();
            values.dedup();
            let schema = match name {
                "Retry-After" => json!({ "type": "integer", "minimum": 1 }),
                _ => json!({ "enum": values }),
            };
            response["headers"][name] = json!({ "required": required, "schema": schema });
        }
        if says {
            let mut schema = reference("ApiMessage");
            if !examples.is_empty() {
                let numbers: Vec<_> = examples.keys().collect();
                let item = json!({ "properties": { "messageNumber": { "enum": numbers } } });
                let these = json!({ "properties": { "messages": { "items": item } } });
                schema = json!({ "allOf": [schema, these] });
            }
            let examples: Map<_, _> = examples
                .into_iter()
                .map(|(number, value)| (number.to_owned(), json!({ "value": value })))
                .collect();
            response["content"] =
                json!({ "application/json": { "schema": schema, "examples": examples } });
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static GUARDS: LazyLock<GuardingResources> = LazyLock::new(GuardingResources::default);
    static EVERYTHING: LazyLock<Settings<'_>> = LazyLock::new(|| Settings {
        switches: Switches { pats: true, refresh: true, delegation: true },
        certificates: true,
        compatibility: Compatibility::Documented,
        cookie: "apimlAuthenticationToken",
        max_validity: Validity::MAX,
        guards: &GUARDS,
    });
    static NOTHING: LazyLock<Settings<'_>> = LazyLock::new(|| Settings {
        switches: Switches::default(),
        certificates: false,
        compatibility: Compatibility::ZoweV3,
        ..*EVERYTHING
    });

    /// Path, method and operation.
    fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        let of_path = |(path, verbs)| {
            let verbs: &Map<_, _> = Value::as_object(verbs).unwrap();
            verbs.iter().map(move |(verb, o)| (String::as_str(path), verb.as_str(), o))
        };
        paths.flat_map(of_path).collect()
    }

    fn for_each(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    visit(name, member);
                    for_each(member, visit);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| for_each(item, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_endpoint_that_is_there_is_described_once() {
        for (settings, count) in [(*EVERYTHING, ENDPOINTS.len()), (*NOTHING, 8)] {
            let document = document(&settings);
            let operations = operations(&document);
            assert_eq!(operations.len(), count);
            let mut ids: Vec<_> =
                operations.iter().map(|(.., o)| o["operationId"].as_str().unwrap()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count);
        }
        assert_eq!(
            operation_id(&Method::DELETE, "/access-token/revoke/tokens/user"),
            "deleteAccessTokenRevokeTokensUser"
        );
    }

    #[test]
    fn every_reference_and_every_security_scheme_is_there() {
        for settings in [*EVERYTHING, *NOTHING] {
            let document = document(&settings);
            let mut references = 0;
            for_each(&document, &mut |name, value| {
                if name == "$ref" {
                    let pointer = value.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{pointer}");
                    references += 1;
                }
            });
            assert!(references > 20);
            for (path, _, operation) in operations(&document) {
                for scheme in operation["security"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|alternative| alternative.as_object().unwrap().keys())
                {
                    let schemes = &document["components"]["securitySchemes"];
                    assert!(schemes.get(scheme).is_some(), "{path}: {scheme}");
                }
            }
        }
    }

    #[test]
    fn what_every_endpoint_answers_is_with_each() {
        for settings in [*EVERYTHING, *NOTHING] {
            for (path, verb, operation) in operations(&document(&settings)) {
                let responses = &operation["responses"];
                let allow = &responses["405"]["headers"]["Allow"];
                let want = json!({
                    "required": true, "schema": { "enum": [verb.to_ascii_uppercase()] }
                });
                assert_eq!(*allow, want, "{path}");
                let reads_body = operation.get("requestBody").is_some();
                assert_eq!(responses.get("413").is_some(), reads_body, "{path}");
                let challenge = &responses["401"]["headers"]["WWW-Authenticate"];
                assert_eq!(responses.get("401").is_some(), challenge["required"] == true, "{path}");
                let security = operation["security"].as_array().unwrap();
                let takes_password = security.contains(&json!({ "basic": [] }));
                let limited = takes_password || path.ends_with("/delegate/passticket");
                let throttled = responses["429"]["headers"]["Retry-After"]["required"] == true;
                assert_eq!(throttled, limited, "{path}");
                let successes =
                    responses.as_object().unwrap().keys().filter(|s| s.starts_with('2'));
                assert_eq!(successes.count(), 1, "{path}");
                assert!(
                    responses.as_object().unwrap().values().all(|r| {
                        r["description"].as_str().is_some_and(|text| !text.is_empty())
                    })
                );
            }
        }
    }

    #[test]
    fn switches_profile_and_names_are_told() {
        let of = |settings: &Settings<'_>| document(settings);
        let at = |document: &Value, pointer: &str| {
            let prefix = PREFIX.replace('/', "~1");
            document.pointer(&format!("/paths/{prefix}~1{pointer}")).cloned()
        };
        let (all, none) = (of(&EVERYTHING), of(&NOTHING));
        for path in ["refresh", "access-token~1generate", "access-token~1evict"] {
            assert!(at(&all, path).is_some() && at(&none, path).is_none(), "{path}");
        }
        let login = at(&all, "login/post/security").unwrap();
        assert_eq!(login, json!([{ "basic": [] }, { "certificate": [] }, {}]));
        assert_eq!(at(&none, "login/post/security").unwrap(), json!([{ "basic": [] }, {}]));

        let ticket = |document| at(document, "ticket/post/responses").unwrap();
        assert!(ticket(&all)["403"]["content"].is_object());
        assert!(ticket(&none)["403"]["content"].is_null());
        let tickets = |status: &str| {
            ticket(&all)[status]["content"]["application/json"]["examples"]["ZWEAG141E"].is_object()
        };
        assert!(tickets("400") && tickets("500"));

        let settings = Settings {
            compatibility: Compatibility::ZoweV3,
            cookie: "other",
            max_validity: Validity::requested(Some(7)),
            ..*EVERYTHING
        };
        let other = of(&settings);
        assert_eq!(other["components"]["securitySchemes"]["cookie"]["name"], "other");
        let validate = |document| at(document, "access-token~1validate/post/responses").unwrap();
        assert!(validate(&all).get("200").is_some() && validate(&all).get("204").is_none());
        assert!(validate(&other).get("204").is_some() && validate(&other).get("200").is_none());
        let validity = "access-token~1generate/post/requestBody/content/application~1json/schema\
                        /properties/validity/description";
        assert!(at(&other, validity).unwrap().as_str().unwrap().contains("missing are 7"));
    }
}
