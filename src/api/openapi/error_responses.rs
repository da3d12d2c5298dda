//! Describes the error responses of an endpoint.
//!
//! [`Compatibility`] creates the HTTP response for an [`ApiError`]. The description contains the status, the message
//! and the headers of this response.

use std::collections::{BTreeMap, BTreeSet};

use http::{
    HeaderValue,
    header::{ALLOW, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value, json};

use super::model::reference;
use crate::{
    api::{compatibility::Compatibility, error::ApiError},
    layer::X_ZOWE_AUTH_FAILURE,
};

/// Describes the responses for `errors`. Errors with the same status share one description. `url` is the path of the
/// request.
pub(super) fn error_responses(
    errors: Vec<ApiError>,
    url: &str,
    compatibility: Compatibility,
) -> Map<String, Value> {
    let mut statuses = BTreeMap::<String, ErrorResponse>::new();
    for error in errors {
        let status = match &error {
            ApiError::Exchange(exchange) => exchange.status(),
            error => compatibility.status_and_message(error, url).0,
        };
        let response = statuses.entry(status.as_str().to_owned()).or_default();
        response.add(error, url, compatibility);
    }
    statuses.into_iter().map(|(status, response)| (status, response.into_json())).collect()
}

/// The description of one response, which all errors of the endpoint with the same status share.
#[derive(Default)]
struct ErrorResponse {
    /// The errors, as lines of a list in Markdown.
    causes: Vec<String>,
    /// The values of each header in the responses for the errors. Some responses may not have the header.
    headers: BTreeMap<&'static str, Vec<String>>,
    /// Whether at least one of the errors has a message in the body.
    has_message: bool,
    /// The codes of the errors that have the form of RFC 6749 §5.2.
    codes: BTreeSet<&'static str>,
    /// Whether at least one of the errors has a reason code in the body, if the client asks for JSON.
    has_reason: bool,
    /// An example message for each message number.
    examples: BTreeMap<&'static str, Value>,
}

impl ErrorResponse {
    fn add(&mut self, error: ApiError, url: &str, compatibility: Compatibility) {
        if let ApiError::Exchange(exchange) = &error {
            self.codes.insert(exchange.code().as_str());
            self.causes.push(format!("- {}: {}", exchange.code().as_str(), exchange.cause()));
            return self.add_headers(error, url, compatibility);
        }
        if let ApiError::NotValid(refusal) = &error {
            self.has_reason = true;
            self.causes.push(format!("- reason {}: {error}", refusal.code()));
            return self.add_headers(error, url, compatibility);
        }
        match compatibility.status_and_message(&error, url).1 {
            Some(message) => {
                self.has_message = true;
                self.causes.push(format!("- {}: {error}", message.number()));
                let example = serde_json::from_slice(&message.to_json()).unwrap_or_default();
                self.examples.entry(message.number()).or_insert(example);
            }
            None => self.causes.push(format!("- without a body: {error}")),
        }
        self.add_headers(error, url, compatibility);
    }

    fn add_headers(&mut self, error: ApiError, url: &str, compatibility: Compatibility) {
        let response = compatibility.response(error, url);
        let names = [
            ("Allow", &ALLOW),
            ("Pragma", &PRAGMA),
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

    fn into_json(self) -> Value {
        let Self { causes, headers, has_message, codes, has_reason, examples } = self;
        let mut response = json!({ "description": causes.join("\n") });
        for (name, mut values) in headers {
            let required = values.len() == causes.len();
            values.sort_unstable();
            values.dedup();
            let schema = match name {
                "Retry-After" => json!({ "type": "integer", "minimum": 1, "maximum": 10 }),
                _ => json!({ "enum": values }),
            };
            response["headers"][name] = json!({ "required": required, "schema": schema });
        }
        if !codes.is_empty() {
            // Only errors of the endpoint `token` have codes. If one of its errors has a code, all its errors with the
            // same status have the form of RFC 6749.
            let allowed = json!({ "properties": { "error": { "enum": codes } } });
            let schema = json!({ "allOf": [reference("OAuthError"), allowed] });
            response["content"] = json!({ "application/json": { "schema": schema } });
        } else if has_message {
            let mut schema = reference("ApiMessage");
            if !examples.is_empty() {
                let numbers: Vec<_> = examples.keys().collect();
                let item = json!({ "properties": { "messageNumber": { "enum": numbers } } });
                let allowed = json!({ "properties": { "messages": { "items": item } } });
                schema = json!({ "allOf": [schema, allowed] });
            }
            if has_reason {
                schema = json!({ "anyOf": [schema, reference("NotValidToken")] });
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
