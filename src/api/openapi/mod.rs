//! `GET openapi.json`: a machine-readable description of the endpoints (OpenAPI 3.1.0).
//!
//! Methods and paths come from the table `ENDPOINTS`.

mod endpoints;
mod error_responses;
mod model;
mod settings;
#[cfg(test)]
mod tests;

use std::{iter, time::Duration};

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    body::MAX_BODY_LEN,
    endpoint::{ENDPOINTS, Endpoint},
    error::{ApiError, ExchangeError, ExchangePart},
    platform_error::PlatformError,
};
use crate::messages::SECURITY_HEADERS;
use model::{BodyFormat, Description, RequestBody, Security, schemas};
pub(super) use settings::Settings;

pub(super) fn document(settings: &Settings<'_>) -> Value {
    let mut paths = Map::new();
    for (method, path, endpoint) in &ENDPOINTS {
        if endpoint.is_on(settings.switches) {
            let operation = settings.operation(method, path, *endpoint);
            let verb = method.as_str().to_ascii_lowercase();
            let operations = paths.entry(format!("{}{path}", settings.prefix));
            operations.or_insert_with(|| json!({}))[verb] = operation;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The auth endpoints of tower-passticket",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Logins, PassTickets and Personal Access Tokens, compatible with Zowe API ML. Bodies \
                 are read as JSON, whatever their `Content-Type` is, except that of `token`. They have at \
                 most {MAX_BODY_LEN} bytes. Endpoints that are off answer 404 and are not described."
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
                    "description": "A login token. If the request also has the cookie, only the cookie is evaluated.",
                },
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": settings.cookie,
                    "description": "A login token. `login` sets this cookie.",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A client certificate that the listener trusts.",
                },
            },
        },
    })
}

impl Settings<'_> {
    fn operation(&self, method: &Method, path: &str, endpoint: Endpoint) -> Value {
        let Description { summary, security, parameters, body, success, errors } =
            self.describe(endpoint);
        let format = body.as_ref().map(|body| body.format);
        let mut responses = self.error_responses(path, format, errors);
        let mut response =
            json!({ "description": success.description, "headers": success.headers });
        for (content_type, schema) in success.content {
            let content_type = content_type.to_str().unwrap_or_default();
            response["content"][content_type] = json!({ "schema": schema });
        }
        responses.insert(success.status.as_str().to_owned(), response);
        for response in responses.values_mut() {
            for (name, value) in &SECURITY_HEADERS {
                response["headers"][name.as_str()] =
                    json!({ "required": true, "schema": { "const": value } });
            }
        }
        let mut operation = json!({
            "operationId": operation_id(method, path),
            "summary": summary,
            "security": self.security(security),
            "responses": responses,
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(RequestBody { format, required, schema, example }) = body {
            operation["requestBody"] = json!({
                "required": required,
                "content": { format.media_type(): { "schema": schema, "example": example } },
            });
        }
        operation
    }

    fn security(&self, security: Security) -> Value {
        let certificate = self.certificates.then(|| json!({ "certificate": [] }));
        let user = iter::once(json!({ "basic": [] })).chain(certificate.clone());
        match security {
            Security::None => json!([]),
            Security::Login => user.chain([json!({})]).collect(),
            Security::User => user.collect(),
            Security::LoginToken => json!([{ "cookie": [] }, { "bearer": [] }]),
            Security::CertificateAndLoginToken => json!([
                { "certificate": [], "cookie": [] },
                { "certificate": [], "bearer": [] },
            ]),
            Security::Certificate => json!([{ "certificate": [] }]),
            Security::Any => {
                let tokens = [json!({ "cookie": [] }), json!({ "bearer": [] })];
                tokens.into_iter().chain(user).collect()
            }
            Security::AccessToken => json!([{ "bearer": [] }, { "cookie": [] }]),
            Security::BodyAndPerhapsCertificate => {
                certificate.into_iter().chain([json!({})]).collect()
            }
        }
    }

    /// Describes the responses for `errors`, and for the errors that several endpoints share: a wrong method, a page of
    /// another origin, a body that cannot be read, too many failed logins, and refusals of z/OS.
    fn error_responses(
        &self,
        path: &str,
        body: Option<BodyFormat>,
        mut errors: Vec<ApiError>,
    ) -> Map<String, Value> {
        // `PUT` is an example of a wrong method, because no endpoint supports it.
        let methods = ENDPOINTS.iter().filter(|(_, other, _)| *other == path);
        let allowed = methods.map(|(method, ..)| method.clone()).collect();
        errors.push(ApiError::MethodNotAllowed { method: Method::PUT, allowed });
        errors.push(ApiError::CrossOrigin);
        let unreadable = [ApiError::BodyTooLarge, ApiError::BodyBroken];
        match body {
            Some(BodyFormat::Json) => errors.extend(unreadable),
            Some(BodyFormat::Form) => {
                errors.extend(unreadable.map(|error| {
                    ApiError::Exchange(ExchangeError::new(ExchangePart::Request, error))
                }));
            }
            None => {}
        }
        if errors.contains(&ApiError::WrongCredentials) {
            // Each endpoint that checks passwords uses the login throttle, which answers 429.
            errors.push(ApiError::TooManyAttempts { retry_after: Duration::from_secs(60) });
            // A login provider that asks z/OS also returns these errors.
            let platform_errors = [
                PlatformError::WrongPassword,
                PlatformError::PasswordExpired,
                PlatformError::UserRevoked,
                PlatformError::Environment,
            ];
            errors.extend(platform_errors.map(ApiError::Platform));
        }
        let url = format!("{}{path}", self.prefix);
        error_responses::error_responses(errors, &url, self.compatibility)
    }
}

/// Returns the id of an operation, such as `deleteAccessTokenRevokeTokens`.
fn operation_id(method: &Method, path: &str) -> String {
    let mut id = method.as_str().to_ascii_lowercase();
    for word in path.split(['/', '-', '.', '{', '}']) {
        let (first, rest) = word.split_at(word.len().min(1));
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}
