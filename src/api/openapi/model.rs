//! Types that describe an endpoint, and the schemas that several endpoints share.

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::api::{error::ApiError, exchange_request::FORM};

pub(super) struct Description {
    pub(super) summary: &'static str,
    pub(super) security: Security,
    /// The parameters in the path and in the query.
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<RequestBody>,
    pub(super) success: Success,
    /// The errors of this endpoint, without those that `Settings::error_responses` adds for many endpoints.
    pub(super) errors: Vec<ApiError>,
}

/// The credentials that an endpoint accepts. The document mentions a client certificate if the endpoint requires one,
/// or if client certificates are on (`Settings::certificates`).
#[derive(Clone, Copy)]
pub(super) enum Security {
    /// No credential is needed.
    None,
    /// HTTP Basic, else credentials in the body, else a client certificate.
    Login,
    /// HTTP Basic, else a client certificate.
    User,
    /// A login token in the cookie or in a Bearer header.
    LoginToken,
    /// A client certificate, and in addition a login token.
    CertificateAndLoginToken,
    /// A client certificate.
    Certificate,
    /// A login token, else HTTP Basic, else a client certificate.
    Any,
    /// A Personal Access Token.
    AccessToken,
    /// Tokens in the body, and in some cases a client certificate.
    BodyAndPerhapsCertificate,
}

/// The format of the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    Json,
    /// `application/x-www-form-urlencoded`. The error responses of the endpoint are those of RFC 6749 §5.2.
    Form,
}

impl BodyFormat {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Form => FORM,
        }
    }
}

pub(super) struct RequestBody {
    pub(super) format: BodyFormat,
    pub(super) required: bool,
    pub(super) schema: Value,
    pub(super) example: Value,
}

pub(super) struct Success {
    pub(super) status: StatusCode,
    pub(super) description: &'static str,
    pub(super) headers: Value,
    /// The content types and their schemas.
    pub(super) content: Vec<(HeaderValue, Value)>,
}

impl Success {
    pub(super) fn empty(status: StatusCode, description: &'static str) -> Self {
        Self { status, description, headers: json!({}), content: Vec::new() }
    }

    /// Describes a response with status 204 and the login cookie.
    pub(super) fn login(description: &'static str) -> Self {
        let cookie = format!("^[^=]+={TOKEN}; Path=/; SameSite=Strict; HttpOnly; Secure$");
        let headers = json!({
            "Set-Cookie": { "required": true, "schema": { "type": "string", "pattern": cookie } },
        });
        Self { headers, ..Self::empty(StatusCode::NO_CONTENT, description) }
    }

    pub(super) fn json(description: &'static str, schema: Value) -> Self {
        Self::of_type(HeaderValue::from_static("application/json"), description, schema)
    }

    pub(super) fn of_type(
        content_type: HeaderValue,
        description: &'static str,
        schema: Value,
    ) -> Self {
        let content = vec![(content_type, schema)];
        Self { content, ..Self::empty(StatusCode::OK, description) }
    }
}

impl Success {
    pub(super) fn or(mut self, content_type: HeaderValue, schema: Value) -> Self {
        self.content.push((content_type, schema));
        self
    }
}

/// A regular expression that matches a signed token: a JWS in compact form (RFC 7515 §3.1).
pub(super) const TOKEN: &str = "[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+";

/// A regular expression that matches a Personal Access Token, with or without prefix and checksum.
pub(super) const PAT: &str = "^([A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\
                              |zowepat_[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[0-9a-f]{8})$";

/// Returns the schemas that the document refers to by name.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "ApiMessage": {
            "description": "An error message: what happened, why, and what to do about it.",
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
                        "messageNumber": { "type": "string", "pattern": "^ZWE(A[A-Z]|SG)[0-9]{3}E$" },
                        "messageContent": text,
                        "messageAction": text,
                        "messageReason": text,
                        "messageKey": { "type": "string", "pattern": "^org\\.zowe\\.apiml\\." },
                    },
                },
            }},
        },
        "OAuthError": {
            "description": "An error of RFC 6749 §5.2. The description begins with the number of a message of Zowe.",
            "type": "object",
            "required": ["error", "error_description"],
            "additionalProperties": false,
            "properties": {
                "error": { "type": "string", "pattern": "^[a-z_]+$" },
                "error_description": {
                    "type": "string",
                    "pattern": "^ZWE[A-Z]{2}[0-9]{3}E [\\x20\\x21\\x23-\\x5B\\x5D-\\x7E]*$",
                },
            },
        },
        "JwkSet": {
            "description": "A JWK set (RFC 7517 §5).",
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
        "TokenEntry": {
            "description": "The entry of a Personal Access Token. It does not contain the token.",
            "type": "object",
            "required": [
                "id", "user", "name", "description", "scopes", "createdAt", "expiresAt", "lastUsedAt",
                "lastUsedFrom", "lastUsedService", "state",
            ],
            "additionalProperties": false,
            "properties": {
                "id": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
                "user": text,
                "name": { "type": ["string", "null"], "maxLength": 64 },
                "description": { "type": "string", "maxLength": 256 },
                "scopes": { "type": "array", "items": text },
                "createdAt": { "type": "string", "format": "date-time" },
                "expiresAt": { "type": "string", "format": "date-time" },
                "lastUsedAt": { "type": ["string", "null"], "format": "date-time" },
                "lastUsedFrom": { "description": "The IP address of the client.", "type": ["string", "null"] },
                "lastUsedService": { "type": ["string", "null"] },
                "state": { "enum": ["active", "expired", "revoked"] },
            },
        },
        "TokenPage": {
            "type": "object",
            "required": ["tokens", "next"],
            "additionalProperties": false,
            "properties": {
                "tokens": { "type": "array", "maxItems": 100, "items": reference("TokenEntry") },
                "next": {
                    "description": "The parameter `cursor` of the next page. null if this is the last page.",
                    "type": ["string", "null"],
                },
            },
        },
        "NewToken": {
            "description": "A new Personal Access Token. It is shown only once.",
            "type": "object",
            "required": ["id", "token", "name", "scopes", "createdAt", "expiresAt"],
            "additionalProperties": false,
            "properties": {
                "id": { "type": ["string", "null"], "pattern": "^[0-9a-f]{32}$" },
                "token": { "type": "string", "pattern": PAT },
                "name": { "type": ["string", "null"] },
                "scopes": { "type": "array", "items": text },
                "createdAt": { "type": "string", "format": "date-time" },
                "expiresAt": { "type": "string", "format": "date-time" },
            },
        },
        "ValidToken": {
            "description": "The Personal Access Token is valid for the service.",
            "type": "object",
            "required": ["valid", "expiresAt"],
            "additionalProperties": false,
            "properties": {
                "valid": { "const": true },
                "expiresAt": { "type": "string", "format": "date-time" },
            },
        },
        "NotValidToken": {
            "description": "The Personal Access Token is not valid for the service. The response has this form only with `Accept: application/json`.",
            "type": "object",
            "required": ["valid", "reason", "messages"],
            "additionalProperties": false,
            "properties": {
                "valid": { "const": false },
                "reason": {
                    "description": "Why: the token has expired, is revoked, is revoked by a rule for its user or for one of \
                                    its services, is not for this service, or is of another kind. `invalid` stands for \
                                    each token that this gateway did not issue.",
                    "enum": ["expired", "revoked", "rule", "scope", "notAPat", "invalid"],
                },
                "messages": { "type": "array", "minItems": 1, "maxItems": 1, "items": { "type": "object" } },
            },
        },
        "ServiceId": {
            "description": "A service id, which is converted to lower case. At least one character must not be a dot.",
            "type": "string",
            "maxLength": 64,
            "pattern": "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$",
        },
        "UserId": {
            "description": "A user id, which is converted to upper case.",
            "type": "string",
            "pattern": "^[A-Za-z0-9#@$]{1,8}$",
        },
        "Timestamp": {
            "description": "Milliseconds since 1970-01-01, as an integer or a string of digits. \
                            Tokens that were issued at this time or before are revoked. A missing, \
                            null or blank timestamp, or 0, means the current time.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": u64::MAX },
                { "type": "string", "pattern": "^ *[0-9]{0,19} *$" },
                { "type": "null" },
            ],
        },
    })
}

pub(super) fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Returns the schema of an object with these properties. The schema allows other properties, because the endpoints
/// ignore them.
pub(super) fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": true,
    })
}
