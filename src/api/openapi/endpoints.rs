//! The description of each endpoint in the OpenAPI document.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{
    model::{
        BodyFormat, Description, PAT, RequestBody, Security, Success, TOKEN, object, reference,
    },
    settings::Settings,
};
use crate::{
    api::{
        body::BodyProblem,
        compatibility::Compatibility,
        delegation::DelegationRefusal,
        endpoint::Endpoint,
        error::{
            ApiError, BodyField, ExchangeError, ExchangePart, NotRotated, OidcRefusal, PatRefusal,
        },
        exchange_request::{ExchangeProblem, GRANT_TYPE, PASSTICKET, TokenKind},
        permission::GuardedTask,
    },
    passticket::{Applid, GenerateError, NoTimeSlot, SafReturnCodes, UserId},
    revocation::RevokedBy,
    saf::SafError,
    token::{Scope, Scopes, ServiceId, TokenError},
};

impl Settings<'_> {
    pub(super) fn describe(&self, endpoint: Endpoint) -> Description {
        let problem = BodyProblem::example;
        match endpoint {
            Endpoint::Describe => Description {
                summary: "Get this document",
                security: Security::None,
                parameters: Vec::new(),
                body: None,
                success: Success::json(
                    "An OpenAPI document.",
                    json!({ "type": "object", "required": ["openapi", "info", "paths"] }),
                ),
                errors: Vec::new(),
            },
            Endpoint::Login => Description {
                summary: "Log in",
                security: Security::Login,
                parameters: Vec::new(),
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: false,
                    schema: object(
                        &["username", "password"],
                        json!({
                            "username": { "type": "string", "minLength": 1 },
                            "password": { "type": "string", "minLength": 1, "format": "password" },
                            "newPassword": {
                                "description": "A new password that replaces the old one. It is not allowed together with Basic.",
                                "type": ["string", "null"],
                                "minLength": 1,
                                "format": "password",
                            },
                        }),
                    ),
                    example: json!({ "username": "USER", "password": "validPassword" }),
                }),
                success: Success::login("The caller is logged in. The cookie has the login token."),
                errors: vec![
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
                security: Security::LoginToken,
                parameters: Vec::new(),
                body: None,
                success: Success::empty(StatusCode::NO_CONTENT, "The login token is revoked."),
                errors: login_token([ApiError::NotALoginToken]),
            },
            Endpoint::Query => Description {
                summary: "Get the content of the login token",
                security: Security::LoginToken,
                parameters: Vec::new(),
                body: None,
                success: Success::json(
                    "The content of the token. Times are in milliseconds since 1970-01-01.",
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
                errors: login_token([ApiError::Internal]),
            },
            Endpoint::Refresh => Description {
                summary: "Get a new login token and revoke the old one",
                security: Security::CertificateAndLoginToken,
                parameters: Vec::new(),
                body: None,
                success: Success::login("The cookie has the new login token."),
                errors: login_token([ApiError::CertificateRequired, ApiError::Internal]),
            },
            Endpoint::DelegatedTicket => Description {
                summary: "Get a PassTicket for the user of an e-mail address",
                security: Security::Certificate,
                parameters: Vec::new(),
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: true,
                    schema: object(
                        &["applId", "emailId"],
                        json!({
                            "applId": {
                                "description": "The APPLID: the name of the application in the security product.",
                                "type": "string",
                                "pattern": "^ *[A-Za-z0-9#@$]{1,8} *$",
                            },
                            "emailId": {
                                "description": "An e-mail address of at most 246 bytes. The PassTicket is for the user of this address.",
                                "type": "string",
                                "pattern": "^[^@\\s]+@[^@\\s]+$",
                                "maxLength": 246,
                            },
                        }),
                    ),
                    example: json!({ "applId": "ZOWEAPPL", "emailId": "user@example.com" }),
                }),
                success: Success::json(
                    "The PassTicket and the user id.",
                    json!({
                        "type": "object",
                        "required": ["passticket", "tsoUserid"],
                        "additionalProperties": false,
                        "properties": {
                            "passticket": { "type": "string", "minLength": 8, "maxLength": 8 },
                            "tsoUserid": { "type": "string", "minLength": 1, "maxLength": 8 },
                        },
                    }),
                ),
                errors: self.delegated_ticket(),
            },
            Endpoint::Ticket => Description {
                summary: "Get a PassTicket",
                security: Security::CertificateAndLoginToken,
                parameters: Vec::new(),
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: true,
                    schema: object(
                        &["applicationName"],
                        json!({ "applicationName": {
                            "description": "The APPLID: the name of the application in the security product.",
                            "type": "string",
                            "pattern": "^ *[A-Za-z0-9#@$]{1,8} *$",
                        }}),
                    ),
                    example: json!({ "applicationName": "ZOWEAPPL" }),
                }),
                success: Success::json(
                    "The PassTicket with its user id and APPLID, and the caller's login token.",
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
                ),
                errors: {
                    let mut errors = login_token([
                        ApiError::CertificateRequired,
                        ApiError::InvalidTicketBody(problem()),
                        ApiError::Internal,
                    ]);
                    errors.extend(no_ticket());
                    errors
                },
            },
            Endpoint::ExchangeToken => Description {
                summary: "Exchange a token for a PassTicket (RFC 8693)",
                security: Security::BodyAndPerhapsCertificate,
                parameters: Vec::new(),
                body: Some(exchange_body()),
                success: {
                    let success = Success::json("The PassTicket and the user id.", exchanged());
                    let pragma = json!({ "required": true, "schema": { "const": "no-cache" } });
                    Success { headers: json!({ "Pragma": pragma }), ..success }
                },
                errors: self.exchange_errors(),
            },
            Endpoint::PublicKeyPem => Description {
                summary: "Get the public key in PEM",
                security: Security::None,
                parameters: Vec::new(),
                body: None,
                success: Success::of_type(
                    self.compatibility.pem_type(),
                    "The key that verifies tokens. The body is PEM, whatever the content type is.",
                    json!({ "type": "string", "pattern": "^-----BEGIN PUBLIC KEY-----" }),
                ),
                errors: Vec::new(),
            },
            Endpoint::PublicKeySet => Description {
                summary: "Get the public keys as a JWK set",
                security: Security::None,
                parameters: Vec::new(),
                body: None,
                success: Success::json("The keys that verify tokens.", reference("JwkSet")),
                errors: Vec::new(),
            },
            Endpoint::CurrentPublicKeySet => Description {
                summary: "Get the public key of new tokens as a JWK set",
                security: Security::None,
                parameters: Vec::new(),
                body: None,
                success: Success::json(
                    "The key that verifies the tokens that are issued now.",
                    reference("JwkSet"),
                ),
                errors: Vec::new(),
            },
            Endpoint::Generate => Description {
                summary: "Get a new Personal Access Token",
                security: Security::User,
                parameters: Vec::new(),
                body: Some(self.generate_body()),
                success: Success::of_type(
                    HeaderValue::from_static("text/plain"),
                    "The token. With `Accept: application/json`, also its id, name, scopes and times.",
                    json!({ "type": "string", "pattern": PAT }),
                )
                .or(HeaderValue::from_static("application/json"), reference("NewToken")),
                errors: vec![
                    ApiError::PatWithoutScopes,
                    ApiError::InvalidPatBody(problem()),
                    ApiError::TooManyScopes,
                    scope_not_allowed(),
                    ApiError::TooManyPats { limit: 50 },
                    ApiError::InvalidLoginInput,
                    ApiError::WrongCredentials,
                    ApiError::Unavailable,
                    ApiError::StoreUnavailable,
                    ApiError::Internal,
                ],
            },
            Endpoint::Validate => Description {
                summary: "Check whether a Personal Access Token is valid for a service, or for a request to it",
                security: Security::None,
                parameters: Vec::new(),
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: true,
                    schema: object(
                        &["token", "serviceId"],
                        json!({
                            "token": { "type": "string" },
                            "serviceId": { "type": "string" },
                            "method": {
                                "description": "The method of the request. A scope such as `zosmf:read` is valid \
                                                only for GET, HEAD and OPTIONS, and not without a method.",
                                "type": ["string", "null"],
                            },
                            "path": {
                                "description": "The path of the request after the prefix of the route. A scope such \
                                                as `zosmf:/a` is valid only for its path and the paths below it, and \
                                                not without a path.",
                                "type": ["string", "null"],
                            },
                        }),
                    ),
                    example: json!({ "token": "eyJ…", "serviceId": "zosmf", "method": "GET", "path": "/info" }),
                }),
                success: self.valid(),
                errors: self.not_valid(),
            },
            Endpoint::ListTokens => Description {
                summary: "List Personal Access Tokens",
                security: Security::Any,
                parameters: list_parameters(),
                body: None,
                success: Success::json("A page of tokens.", reference("TokenPage")),
                errors: self.registry_of_any_user([]),
            },
            Endpoint::CreateToken => Description {
                summary: "Create a Personal Access Token",
                security: Security::Any,
                parameters: Vec::new(),
                body: Some(self.generate_body()),
                success: Success {
                    status: StatusCode::CREATED,
                    ..Success::json("The new token.", reference("NewToken"))
                },
                errors: self.registry([
                    ApiError::PatWithoutScopes,
                    ApiError::InvalidPatBody(problem()),
                    ApiError::TooManyScopes,
                    scope_not_allowed(),
                    ApiError::TooManyPats { limit: 50 },
                    ApiError::Internal,
                ]),
            },
            Endpoint::DeleteTokens => Description {
                summary: "Revoke the Personal Access Tokens of a user or for a service that were issued up to a time",
                security: Security::Any,
                parameters: group_parameters(),
                body: None,
                success: Success::empty(StatusCode::NO_CONTENT, "The tokens are revoked."),
                errors: {
                    let mut errors = self.registry([ApiError::InvalidQuery(GROUP_PROBLEM)]);
                    errors.extend(self.guarded(GuardedTask::ManageTokens));
                    errors
                },
            },
            Endpoint::Permissions => Description {
                summary: "Get the tasks of administrators that the caller may do",
                security: Security::Any,
                parameters: Vec::new(),
                body: None,
                success: Success::json("The permissions.", permissions()),
                errors: {
                    let mut errors = self.registry([]);
                    errors.extend(self.guarded(GuardedTask::ManageTokens));
                    errors.retain(|error| !matches!(error, ApiError::NotPermitted(_)));
                    errors
                },
            },
            Endpoint::EvictRevocations => Description {
                summary: "Remove revocations that no longer apply to any valid token, and count them",
                security: Security::Any,
                parameters: Vec::new(),
                body: None,
                success: Success::json("The numbers of removed revocations.", evicted()),
                errors: {
                    let mut errors = self.registry([]);
                    errors.extend(self.guarded(GuardedTask::Evict));
                    errors
                },
            },
            Endpoint::GetToken => Description {
                summary: "Get the entry of a Personal Access Token",
                security: Security::Any,
                parameters: vec![id_parameter(), user_parameter()],
                body: None,
                success: Success::json("The entry.", reference("TokenEntry")),
                errors: self.registry_of_any_user([ApiError::NoSuchToken]),
            },
            Endpoint::ChangeToken => Description {
                summary: "Change the name or the description of a Personal Access Token",
                security: Security::Any,
                parameters: vec![id_parameter()],
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: true,
                    schema: json!({
                        "type": "object",
                        "additionalProperties": false,
                        "minProperties": 1,
                        "properties": {
                            "name": label("The new name.", 64),
                            "description": label("The new description.", 256),
                        },
                    }),
                    example: json!({ "name": "jenkins" }),
                }),
                success: Success::json("The changed entry.", reference("TokenEntry")),
                errors: self
                    .registry([ApiError::InvalidBody(problem()), ApiError::NoSuchToken]),
            },
            Endpoint::DeleteToken => Description {
                summary: "Revoke a Personal Access Token by its id",
                security: Security::Any,
                parameters: vec![id_parameter(), user_parameter()],
                body: None,
                success: Success::empty(StatusCode::NO_CONTENT, "The token is revoked."),
                errors: self.registry_of_any_user([ApiError::NoSuchToken]),
            },
            Endpoint::RotateToken => Description {
                summary: "Replace a Personal Access Token by a new one",
                security: Security::Any,
                parameters: vec![id_parameter()],
                body: Some(rotate_body()),
                success: Success::json("The new token.", reference("NewToken")),
                errors: {
                    let mut errors = self.registry([ApiError::NoSuchToken]);
                    errors.extend(not_rotated());
                    errors
                },
            },
            Endpoint::OwnToken => Description {
                summary: "Get the entry of the Personal Access Token of the request",
                security: Security::AccessToken,
                parameters: Vec::new(),
                body: None,
                success: Success {
                    headers: json!({ "X-Zowe-Token-Expires": {
                        "description": "When the token expires, in whole seconds.",
                        "required": true,
                        "schema": { "type": "string", "format": "date-time" },
                    }}),
                    ..Success::json("The entry.", reference("TokenEntry"))
                },
                errors: presented([ApiError::NoSuchToken]),
            },
            Endpoint::RotateOwnToken => Description {
                summary: "Replace the Personal Access Token of the request by a new one",
                security: Security::AccessToken,
                parameters: Vec::new(),
                body: Some(rotate_body()),
                success: Success::json("The new token.", reference("NewToken")),
                errors: {
                    let mut errors = presented([ApiError::NoSuchToken]);
                    errors.extend(not_rotated());
                    errors
                },
            },
            Endpoint::ValidateOidc => Description {
                summary: "Check whether a token of an identity provider is valid",
                security: Security::None,
                parameters: Vec::new(),
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: true,
                    schema: object(&["token"], json!({ "token": { "type": "string" } })),
                    example: json!({ "token": "eyJ…" }),
                }),
                success: Success::empty(StatusCode::NO_CONTENT, "The token is valid."),
                errors: vec![
                    ApiError::InvalidBody(problem()),
                    ApiError::FieldMissing(BodyField::OidcToken),
                    OidcRefusal::Token(TokenError::Signature).into(),
                    OidcRefusal::Token(TokenError::Expired { secs_ago: 1 }).into(),
                    OidcRefusal::WrongKind.into(),
                    OidcRefusal::Revoked(RevokedBy::Token).into(),
                    OidcRefusal::NoProvider.into(),
                    ApiError::Unavailable,
                    ApiError::StoreUnavailable,
                ],
            },
            Endpoint::Revoke => Description {
                summary: "Revoke a Personal Access Token",
                security: Security::None,
                parameters: Vec::new(),
                body: Some(RequestBody {
                    format: BodyFormat::Json,
                    required: true,
                    schema: object(&["token"], json!({ "token": { "type": "string" } })),
                    example: json!({ "token": "eyJ…" }),
                }),
                success: Success::empty(self.compatibility.success(), "The token is revoked."),
                errors: pat([]),
            },
            Endpoint::RevokeOwn => Description {
                summary: "Revoke the caller's Personal Access Tokens that were issued up to a time",
                body: Some(rule_body(None)),
                ..self.rule(self.caller())
            },
            Endpoint::RevokeUser => Description {
                summary: "Revoke a user's Personal Access Tokens that were issued up to a time",
                body: Some(rule_body(Some(("userId", "UserId", "OTHER")))),
                ..self.rule(self.administrator(GuardedTask::Revoke))
            },
            Endpoint::RevokeService => Description {
                summary: "Revoke the Personal Access Tokens for a service that were issued up to a time",
                body: Some(rule_body(Some(("serviceId", "ServiceId", "zosmf")))),
                ..self.rule(self.administrator(GuardedTask::Revoke))
            },
            Endpoint::Evict => Description {
                summary: "Remove revocations that no longer apply to any valid token",
                security: Security::User,
                parameters: Vec::new(),
                body: None,
                success: Success::empty(StatusCode::NO_CONTENT, "The revocations are removed."),
                errors: {
                    let mut errors = self.administrator(GuardedTask::Evict);
                    errors.push(ApiError::StoreUnavailable);
                    errors
                },
            },
        }
    }

    /// Returns the errors in `more`, and the common errors of the endpoints below `access-tokens` that accept the
    /// credential of a user.
    fn registry<const N: usize>(&self, more: [ApiError; N]) -> Vec<ApiError> {
        let mut errors = self.caller();
        errors.extend(login_token([]));
        errors.retain(|error| *error != ApiError::TokenNotProvided);
        errors.extend(more);
        errors
    }

    /// Like [`registry`](Self::registry), but for an endpoint with a query in which an administrator may name another
    /// user.
    fn registry_of_any_user<const N: usize>(&self, more: [ApiError; N]) -> Vec<ApiError> {
        let mut errors = self.registry([ApiError::InvalidQuery(QUERY_PROBLEM)]);
        errors.extend(more);
        errors.extend(self.guarded(GuardedTask::ManageTokens));
        errors
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
                        "Days, as a number or a string of digits. A value above {max} or below 1, a blank \
                         string, null and a missing field mean {max}."
                    ),
                    "anyOf": [
                        { "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX },
                        { "type": "string", "pattern": "^ *([+-]?[0-9]{1,9})? *$" },
                        { "type": "null" },
                    ],
                },
                "scopes": {
                    "description": "The scopes of the token, at least one. A scope is a service, which is converted to \
                                    lower case. After it, `:read` limits the token to GET, HEAD and OPTIONS, and a path \
                                    such as `:/a/b` limits it to the path and the paths below it. An item may contain \
                                    several scopes, separated by commas. Blanks around a scope are removed.",
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "string", "pattern": "^[A-Za-z0-9._~!$&'()+=:@%/, -]*$" },
                },
                "expiresAt": expires_at("When the token expires. It replaces `validity`."),
                "name": label("The name of the token in the list of tokens.", 64),
                "description": label("The description of the token in the list of tokens.", 256),
            },
        });
        RequestBody {
            format: BodyFormat::Json,
            required: true,
            schema,
            example: json!({ "validity": 1, "scopes": ["dcpassticket", "zosmf:read,ims:/a"] }),
        }
    }

    /// Describes an endpoint that creates a revocation rule, except for `summary` and `body`.
    fn rule(&self, mut errors: Vec<ApiError>) -> Description {
        errors.push(ApiError::InvalidRuleBody(BodyProblem::example()));
        errors.push(ApiError::StoreUnavailable);
        Description {
            summary: "",
            security: Security::User,
            parameters: Vec::new(),
            body: None,
            success: Success::empty(self.compatibility.success(), "The tokens are revoked."),
            errors,
        }
    }

    /// Returns the errors of an endpoint that accepts a password or a certificate. `login` and `access-token/generate`
    /// have other errors, and do not use this function.
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

    fn administrator(&self, task: GuardedTask) -> Vec<ApiError> {
        let mut errors = self.caller();
        errors.extend(self.guarded(task));
        errors
    }

    fn delegated_ticket(&self) -> Vec<ApiError> {
        let mut errors = vec![
            ApiError::OnlyCertificate,
            ApiError::NoUser,
            ApiError::TooManyCalls { retry_after: Duration::from_secs(60) },
            ApiError::InvalidDelegateBody(BodyProblem::example()),
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

    fn exchange_errors(&self) -> Vec<ApiError> {
        use ExchangePart::{Actor, Client, Request, Subject, Ticket};
        let mut errors = vec![
            (Request, ExchangeProblem::ContentType.into()),
            (Request, ExchangeProblem::Encoding.into()),
            (Request, ExchangeProblem::TooLarge.into()),
            (Request, ExchangeProblem::Repeated.into()),
            (Request, ExchangeProblem::Missing("grant_type").into()),
            (Request, ExchangeProblem::GrantType.into()),
            (Request, ExchangeProblem::RequestedTokenType.into()),
            (Request, ExchangeProblem::TokenType("subject_token_type").into()),
            (Request, ExchangeProblem::ActorTypeAlone.into()),
            (Request, ExchangeProblem::Audience.into()),
            (Request, ExchangeProblem::Resource.into()),
            (Request, ExchangeProblem::Scope.into()),
            (Request, ApiError::AuditUnavailable),
            (Client, ApiError::OnlyCertificate),
            (Client, ApiError::NoUser),
            (Client, ApiError::Unavailable),
            (Actor, TokenError::Signature.into()),
            (Actor, ApiError::PersonalAccessToken),
            (Actor, ApiError::ActorIsNotClient),
            (Subject, TokenError::Signature.into()),
            (Subject, TokenError::Expired { secs_ago: 1 }.into()),
            (Subject, TokenError::Unavailable("the keys are missing".into()).into()),
            (Subject, ApiError::LoggedOut),
            (Subject, ApiError::NoUser),
            (Subject, PatRefusal::Revoked(RevokedBy::Token).into()),
            (Subject, PatRefusal::OutOfScope.into()),
            (Subject, ApiError::ActorIsSubject),
            (Subject, ApiError::StoreUnavailable),
            (Ticket, ApiError::TooManyCalls { retry_after: Duration::from_secs(60) }),
            (Ticket, ApiError::Internal),
        ];
        if let Ok(service) = ServiceId::new("zosmf") {
            errors.push((Subject, ApiError::ServiceToken { service }));
        }
        errors.extend(self.guarded(GuardedTask::Delegate).map(|error| (Ticket, error)));
        if let (Ok(user), Ok(applid)) = (UserId::new("USER"), Applid::new("ZOWEAPPL")) {
            errors.push((Ticket, DelegationRefusal::Applid(applid).into()));
            errors.push((Ticket, DelegationRefusal::Target(user).into()));
        }
        errors.extend(no_ticket().into_iter().map(|error| (Ticket, error)));
        let errors = errors.into_iter();
        errors.map(|(part, cause)| ApiError::Exchange(ExchangeError::new(part, cause))).collect()
    }

    fn guarded(&self, task: GuardedTask) -> [ApiError; 4] {
        let failed = SafError::Failed("the answer is not valid".to_owned());
        let class = self.guarding_resources.class().to_owned();
        let unsupported = SafError::UnsupportedClass { supported: "ZOWE".to_owned(), class };
        [
            ApiError::NotPermitted(self.guarding_resources.permission(task)),
            ApiError::Saf(SafError::Unavailable),
            ApiError::Saf(failed),
            ApiError::Saf(unsupported),
        ]
    }
}

impl Settings<'_> {
    fn valid(&self) -> Success {
        let status = self.compatibility.success();
        match self.compatibility {
            Compatibility::ZoweV3 => Success::empty(status, "The token is valid for the service."),
            Compatibility::Documented => Success::empty(
                status,
                "The token is valid for the service. Without `Accept: application/json`, there is no body.",
            )
            .or(HeaderValue::from_static("application/json"), reference("ValidToken")),
        }
    }

    fn not_valid(&self) -> Vec<ApiError> {
        let errors =
            pat([PatRefusal::OutOfScope.into(), ApiError::FieldMissing(BodyField::ServiceId)]);
        if self.compatibility == Compatibility::ZoweV3 {
            return errors;
        }
        let in_json = errors.iter().filter_map(|error| match error {
            ApiError::Pat(refusal) => Some(ApiError::NotValid(refusal.clone())),
            _ => None,
        });
        let in_json: Vec<_> = in_json.collect();
        errors.into_iter().chain(in_json).collect()
    }
}

/// Returns the errors of an endpoint whose credential is a login token: the errors of the token, and the errors in
/// `more`.
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

/// Returns the errors of an endpoint that takes a Personal Access Token in the body: the errors of the token, the
/// errors of the body, and the errors in `more`.
fn pat<const N: usize>(more: [ApiError; N]) -> Vec<ApiError> {
    let mut errors = vec![
        ApiError::InvalidBody(BodyProblem::example()),
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

/// Returns the errors of an endpoint whose credential is a Personal Access Token: the errors of the token, and the
/// errors in `more`.
fn presented<const N: usize>(more: [ApiError; N]) -> Vec<ApiError> {
    let mut errors = pat(more);
    errors.retain(|error| !matches!(error, ApiError::FieldMissing(_) | ApiError::InvalidBody(_)));
    errors.push(ApiError::TokenNotProvided);
    errors
}

fn scope_not_allowed() -> ApiError {
    let scope = |id| Scope::from(ServiceId::new(id).expect("the example is a service id"));
    ApiError::ScopeNotAllowed { scope: scope("ims"), allowed: Scopes::from_iter([scope("zosmf")]) }
}

fn not_rotated() -> [ApiError; 8] {
    [
        scope_not_allowed(),
        ApiError::TooManyScopes,
        ApiError::InvalidBody(BodyProblem::example()),
        ApiError::NotRotated(NotRotated::Expired),
        ApiError::NotRotated(NotRotated::Revoked),
        ApiError::NotRotated(NotRotated::AlreadyRotated),
        ApiError::TooManyPats { limit: 50 },
        ApiError::Internal,
    ]
}

const GROUP_PROBLEM: &str = "a parameter is unknown; use user, service or upTo";

const QUERY_PROBLEM: &str = "`limit` must be a number from 1 to 100";

fn rotate_body() -> RequestBody {
    RequestBody {
        format: BodyFormat::Json,
        required: false,
        schema: json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "expiresAt": expires_at(
                    "When the new token expires. It must not be later than the expiry of the old token, which is the \
                     default.",
                ),
                "graceSeconds": {
                    "description": "How long the old token stays valid. The default is 0.",
                    "type": ["integer", "null"],
                    "minimum": 0,
                    "maximum": 604_800,
                },
            },
        }),
        example: json!({ "graceSeconds": 3600 }),
    }
}

fn expires_at(description: &str) -> Value {
    json!({ "description": description, "type": ["string", "null"], "format": "date-time" })
}

fn label(description: &str, max: usize) -> Value {
    json!({
        "description": format!("{description} It has no control characters."),
        "type": ["string", "null"],
        "maxLength": max,
    })
}

fn id_parameter() -> Value {
    json!({
        "name": "id",
        "in": "path",
        "required": true,
        "schema": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
    })
}

fn query_parameter(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn user_parameter() -> Value {
    query_parameter(
        "user",
        "The user of the token. For another user than the caller, the caller needs READ on APIML.SERVICES.",
        reference("UserId"),
    )
}

fn group_parameters() -> Vec<Value> {
    vec![
        query_parameter(
            "user",
            "Revoke the tokens of this user. The default is the caller. For another user, the caller needs READ on \
             APIML.SERVICES.",
            reference("UserId"),
        ),
        query_parameter(
            "service",
            "Revoke the tokens for this service, instead of the tokens of a user. The caller needs READ on \
             APIML.SERVICES.",
            reference("ServiceId"),
        ),
        query_parameter(
            "upTo",
            "Revoke only tokens that were issued up to this time. The default is now. The time must not be in the future.",
            json!({ "type": "string", "format": "date-time" }),
        ),
    ]
}

fn permissions() -> Value {
    object(
        &["user", "manageTokens", "evict"],
        json!({
            "user": reference("UserId"),
            "manageTokens": {
                "description": "Whether the caller may see and revoke the tokens of other users.",
                "type": "boolean",
            },
            "evict": {
                "description": "Whether the caller may remove expired revocations.",
                "type": "boolean",
            },
        }),
    )
}

fn evicted() -> Value {
    let count = |of: &str| json!({ "description": of, "type": "integer", "minimum": 0 });
    object(
        &["tokens", "users", "services"],
        json!({
            "tokens": count("Revocations of single tokens."),
            "users": count("Rules for users."),
            "services": count("Rules for services."),
        }),
    )
}

fn list_parameters() -> Vec<Value> {
    vec![
        query_parameter(
            "state",
            "Only tokens in this state.",
            json!({ "enum": ["active", "expired", "revoked"] }),
        ),
        query_parameter("service", "Only tokens for this service.", reference("ServiceId")),
        query_parameter(
            "name",
            "Only tokens whose name contains this text. Upper and lower case are the same.",
            json!({ "type": "string", "minLength": 1 }),
        ),
        query_parameter(
            "limit",
            "The maximum number of tokens on the page. A page may have fewer, even if there is a next page.",
            json!({ "type": "integer", "minimum": 1, "maximum": 100 }),
        ),
        query_parameter(
            "cursor",
            "The value of `next` of the page before this one.",
            json!({ "type": "string" }),
        ),
        user_parameter(),
        query_parameter(
            "all",
            "The tokens of all users. The caller needs READ on APIML.SERVICES.",
            json!({ "type": "boolean" }),
        ),
    ]
}

fn exchange_body() -> RequestBody {
    let token = |description: &str| json!({ "description": description, "type": "string" });
    let kinds = TokenKind::ALL.map(|(urn, _)| urn);
    let schema = object(
        &["grant_type", "requested_token_type", "audience", "subject_token", "subject_token_type"],
        json!({
            "grant_type": { "const": GRANT_TYPE },
            "requested_token_type": { "const": PASSTICKET },
            "audience": {
                "description": "The APPLID: the name of the application in the security product.",
                "type": "string",
                "pattern": "^[A-Za-z0-9#@$]{1,8}$",
            },
            "subject_token": token(
                "The token of the user: a login token, a token of an identity provider or a Personal Access \
                 Token.",
            ),
            "subject_token_type": { "enum": kinds },
            "actor_token": token(
                "The token of the client that acts for the user. It is not needed if the client has a \
                 certificate.",
            ),
            "actor_token_type": { "enum": kinds },
        }),
    );
    let example = json!({
        "grant_type": GRANT_TYPE,
        "requested_token_type": PASSTICKET,
        "audience": "ZOWEAPPL",
        "subject_token": "eyJ…",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    });
    RequestBody { format: BodyFormat::Form, required: true, schema, example }
}

fn exchanged() -> Value {
    json!({
        "type": "object",
        "required": ["access_token", "issued_token_type", "token_type", "user_id"],
        "additionalProperties": false,
        "properties": {
            "access_token": {
                "description": "The PassTicket.",
                "type": "string",
                "minLength": 8,
                "maxLength": 8,
            },
            "issued_token_type": { "const": PASSTICKET },
            "token_type": { "const": "N_A" },
            "expires_in": {
                "description": "The PassTicket is valid for at least this number of seconds.",
                "type": "integer",
                "minimum": 0,
            },
            "user_id": { "type": "string", "minLength": 1, "maxLength": 8 },
        },
    })
}

/// Returns one error for each status that a failed generation of a PassTicket can have.
fn no_ticket() -> Vec<ApiError> {
    let codes = [SafReturnCodes::NO_PROFILE, SafReturnCodes::NOT_AUTHORIZED];
    // A test checks that both names are valid.
    let (Ok(user), Ok(applid)) = (UserId::new("USER"), Applid::new("ZOWEAPPL")) else {
        return Vec::new();
    };
    let all_taken = NoTimeSlot::AllTaken {
        spare: Duration::from_secs(60),
        retry_after: Duration::from_secs(1),
    };
    let mut errors = codes.map(|codes| GenerateError::new(user, applid, codes).into()).to_vec();
    errors.push(GenerateError::no_slot(user, applid, all_taken).into());
    errors.push(GenerateError::not_authenticated(user, applid).into());
    errors
}

/// Describes the body of a request for a revocation rule. The body may contain a time. In a rule for a user or a
/// service, a field names the user or the service. `target` contains the name, the schema and an example of this field.
/// For a rule for the caller's own tokens, `target` is `None`.
fn rule_body(target: Option<(&str, &str, &str)>) -> RequestBody {
    let mut properties = json!({ "timestamp": reference("Timestamp") });
    let mut example = json!({ "timestamp": "1582239600000" });
    let mut required = Vec::new();
    if let Some((field, schema, value)) = target {
        properties[field] = reference(schema);
        example[field] = value.into();
        required.push(field);
    }
    // Only a rule for the caller's own tokens needs no body. Without a body, the rule has the current time.
    let schema = object(&required, properties);
    RequestBody { format: BodyFormat::Json, required: target.is_some(), schema, example }
}
