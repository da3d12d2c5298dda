//! The responses of an endpoint that refuses.
//!
//! They are made from [`ApiError`]s by the code that answers with them, so status, message and headers
//! cannot differ from what is sent.

use std::collections::BTreeMap;

use http::{
    HeaderValue,
    header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::{Map, Value, json};

use super::model::reference;
use crate::{
    api::{compatibility::Compatibility, error::ApiError},
    layer::X_ZOWE_AUTH_FAILURE,
};

/// The responses to a request for `url` for each status of `errors`.
pub(super) fn responses(
    errors: Vec<ApiError>,
    url: &str,
    compatibility: Compatibility,
) -> Map<String, Value> {
    let mut statuses = BTreeMap::<String, Refusals>::new();
    for error in errors {
        let (status, _) = compatibility.refusal(&error, url);
        let refusals = statuses.entry(status.as_str().to_owned()).or_default();
        refusals.add(error, url, compatibility);
    }
    statuses.into_iter().map(|(status, refusals)| (status, refusals.into_response())).collect()
}

/// The errors of one endpoint that have the same status.
#[derive(Default)]
struct Refusals {
    /// The errors, as a list in Markdown.
    causes: Vec<String>,
    /// The headers and the values that each can have. An error may lack a header.
    headers: BTreeMap<&'static str, Vec<String>>,
    /// Whether an error has a message in the body.
    has_message: bool,
    /// Messages by their numbers.
    examples: BTreeMap<&'static str, Value>,
}

impl Refusals {
    fn add(&mut self, error: ApiError, url: &str, compatibility: Compatibility) {
        match compatibility.refusal(&error, url).1 {
            Some(message) => {
                self.has_message = true;
                self.causes.push(format!("- {}: {error}", message.number()));
                // We have made it, so it is JSON.
                let example = serde_json::from_slice(&message.to_json()).unwrap_or_default();
                self.examples.entry(message.number()).or_insert(example);
            }
            None => self.causes.push(format!("- without a body: {error}")),
        }
        let response = compatibility.response(error, url);
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
        let Self { causes, headers, has_message, examples } = self;
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
        if has_message {
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
