//! Collects and checks the metadata of a service: the keys below `customMetadata` of an api-def, joined with dots, and
//! the settings in its `authentication`. The page docs/reference/service-metadata.md shows the table of this file.
//!
//! API ML is Zowe's API Mediation Layer.

use std::collections::BTreeMap;

use super::{
    key_effect::{
        Effect::{Elsewhere, Honoured, Warning},
        Key,
        Values::{Any, Is},
        key,
    },
    problem::suggest,
    reader::Field,
};

pub(super) const SCHEME: &str = "apiml.authentication.scheme";
pub(super) const APPLID: &str = "apiml.authentication.applid";
pub(super) const CERTIFICATE_HEADERS: &str = "apiml.authentication.headers";
pub(super) const ENCODED_CHARACTERS: &str = "apiml.enableUrlEncodedCharacters";
pub(super) const HEADERS_TO_IGNORE: &str = "apiml.headersToIgnore";
pub(super) const LOAD_BALANCING: &str = "apiml.lb.type";
pub(super) const CORS_ENABLED: &str = "apiml.corsEnabled";
pub(super) const CORS_ORIGINS: &str = "apiml.corsAllowedOrigins";
pub(super) const CORS_METHODS: &str = "apiml.service.corsAllowedMethods";
pub(super) const RATE_LIMIT: &str = "apiml.gateway.applyRateLimiterFilter";
pub(super) const CONNECT_TIMEOUT: &str = "connect-timeout";
pub(super) const RESPONSE_TIMEOUT: &str = "response-timeout";

const NOT_IN_VERSION_3: &str = "Zowe API ML 3 ignores this key, too; to limit the time to the \
                                head of an answer, set response-timeout";

const IN_LIST: &str = "for the API Catalog; if the service comes from Eureka, the answer to `GET /gateway/api/v1/services` contains the value";

const KEYS: &[Key] = &[
    key("apiml.apiInfo", Elsewhere("for the API Catalog")),
    key(APPLID, Honoured("like `authentication.applid`, which it replaces")),
    key(CERTIFICATE_HEADERS, Honoured("the headers of the scheme `x509`, separated by commas")),
    key(SCHEME, Honoured("like `authentication.scheme`, which it replaces")),
    key("apiml.authentication.sso", Elsewhere("information for clients")),
    key("apiml.catalog", Elsewhere("for the API Catalog")),
    key("apiml.connectTimeout", Warning(Any, NOT_IN_VERSION_3)),
    key("apiml.connectionManagerTimeout", Warning(Any, NOT_IN_VERSION_3)),
    key(
        CORS_ORIGINS,
        Honoured(
            "with `apiml.corsEnabled`: origins whose pages may use the service, separated by commas; `*` allows each \
             page, without credentials; the default is the list in `components.passticket-proxy.cors`",
        ),
    ),
    key(
        CORS_ENABLED,
        Honoured(
            "with `true`, web pages of other origins may use the service, see [CORS](../operating/cors.md)",
        ),
    ),
    key(
        ENCODED_CHARACTERS,
        Honoured(
            "with any value other than `true`, the answer to a path with `%`, `;` or `\\` is 400",
        ),
    ),
    key(
        RATE_LIMIT,
        Honoured(
            "with `true`, the service has the [rate limit](../operating/limits.md#rate) of Zowe's settings for rate limits",
        ),
    ),
    key(HEADERS_TO_IGNORE, Honoured("removes these headers from requests, separated by commas")),
    key(
        "apiml.lb.cacheRecordExpirationTimeInHours",
        Elsewhere("nothing is stored for `apiml.lb.type`, so nothing expires"),
    ),
    key(
        LOAD_BALANCING,
        Honoured("with `authentication`, all requests of a user go to one instance"),
    ),
    key(
        "apiml.okToRetryOnAllOperations",
        Honoured(
            "if no byte of a request was sent, the gateway tries once more, whatever the method is; it does so even without this key",
        ),
    ),
    key("apiml.readTimeout", Warning(Any, NOT_IN_VERSION_3)),
    key("apiml.response-timeout", Warning(Any, NOT_IN_VERSION_3)),
    key("apiml.response.compress", Warning(Is("true"), "answers are not compressed")),
    key("apiml.response.compressRoutes", Elsewhere("see `apiml.response.compress`")),
    key("apiml.routes", Warning(Any, "add the route to `routes`")),
    key(
        "apiml.service.apimlId",
        Warning(Any, "the paths of the gateway begin with the id of the service"),
    ),
    key(
        CORS_METHODS,
        Honoured("the methods that web pages of other origins may use, separated by commas"),
    ),
    key("apiml.service.description", Elsewhere(IN_LIST)),
    key("apiml.service.externalUrl", Warning(Any, "requests go to `instanceBaseUrls`")),
    key(
        "apiml.service.supportClientCertForwarding",
        Warning(Is("true"), "the service does not receive the certificate of the client"),
    ),
    key("apiml.service.title", Elsewhere(IN_LIST)),
    key(CONNECT_TIMEOUT, Honoured("milliseconds for connecting to the service, at most 10,000")),
    key(RESPONSE_TIMEOUT, Honoured("milliseconds until the service must begin its answer")),
    key("version", Elsewhere("the version of the metadata")),
];

/// Returns the row of the table that covers the key `name`. If several rows do, the row with the longest path applies.
fn row(name: &str) -> Option<&'static Key> {
    let is_below = |key: &&Key| {
        name.strip_prefix(key.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    KEYS.iter().filter(is_below).max_by_key(|key| key.path.len())
}

/// The values of a service, by their names. No value is blank.
#[derive(Clone, Default)]
pub(super) struct Metadata<'a>(BTreeMap<String, Field<'a>>);

impl<'a> Metadata<'a> {
    /// Sets the value of the key `name`, and replaces an earlier value. A blank value counts as absent, so it has no
    /// effect.
    pub(super) fn set(&mut self, name: &str, field: Field<'a>) {
        if !field.is_blank() {
            self.0.insert(name.to_owned(), field);
        }
    }

    /// Sets the values of `customMetadata`. The names of nested keys are joined with dots. A list is reported, because
    /// Zowe API ML does not use an instance with a list in its metadata. Two spellings of one name are reported, too:
    /// otherwise, a restriction under one of the two names could be ignored.
    pub(super) fn set_all(&mut self, custom: &Field<'a>) {
        let mut values = Self::default();
        values.set_below("", custom);
        self.replace(&values);
    }

    fn set_below(&mut self, prefix: &str, section: &Field<'a>) {
        for (name, field) in section.section().fields() {
            let name = format!("{prefix}{name}");
            if field.is_mapping() {
                self.set_below(&format!("{name}."), &field);
            } else if field.is_list() {
                field.at.error("is a list, which metadata cannot have; write the values with commas between them");
            } else if let Some(first) = self.get(&name).filter(|_| !field.is_blank()) {
                field.at.error(format_args!(
                    "is the same key as {} in {}, in another spelling; remove one of them",
                    first.at.key, first.at
                ));
            } else {
                self.set(&name, field);
            }
        }
    }

    /// Returns the value of a key, which is never blank.
    pub(super) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.0.get(name)
    }

    /// Returns the values that clients see in the list of services. As in Zowe API ML, these are the values whose names
    /// do not begin with `apiml.`.
    pub(super) fn listed(&self) -> BTreeMap<String, String> {
        let listed = self.0.iter().filter(|(name, _)| !name.starts_with("apiml."));
        listed
            .filter_map(|(name, field)| Some((name.clone(), field.unchecked_text()?.to_owned())))
            .collect()
    }

    /// Adds the values of `other` that this metadata lacks.
    pub(super) fn add_missing(&mut self, other: &Self) {
        for (name, field) in &other.0 {
            self.0.entry(name.clone()).or_insert_with(|| field.clone());
        }
    }

    pub(super) fn replace(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(name, field)| (name.clone(), field.clone())));
    }

    /// Reports the keys that do not have the effect that they have in Zowe API ML. Does not report keys that neither
    /// begin with `apiml.` nor are in the table, because such keys belong to other programs.
    pub(super) fn check(&self) {
        for (name, field) in &self.0 {
            match row(name) {
                Some(key) => key.report(field),
                None if name.starts_with("apiml.") => {
                    let hint = suggest(name, KEYS.iter().map(|key| key.path));
                    field.at.warning(format_args!("is not known here, so it has no effect{hint}"));
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        key_effect::{Values, rows},
        problem::Report,
        reader::Document,
    };

    const PAGE: &str = include_str!("../../../../docs/reference/service-metadata.md");

    fn problems(yaml: &str) -> [Vec<String>; 2] {
        let report = Report::default();
        let document = Document::parse("d".into(), yaml.as_bytes(), &report);
        let mut root = document.section(&report);
        let mut metadata = Metadata::default();
        metadata.set_all(&root.optional("customMetadata").unwrap());
        metadata.check();
        let texts = |problems: &[crate::config::Problem]| {
            problems.iter().map(ToString::to_string).collect()
        };
        match report.finish(Some(())) {
            Ok(((), warnings)) => [Vec::new(), texts(&warnings)],
            Err(errors) => [errors.iter().map(ToString::to_string).collect(), Vec::new()],
        }
    }

    fn with(name: &str, value: &str) -> [Vec<String>; 2] {
        problems(&format!("customMetadata: {{{name}: {value}}}"))
    }

    #[test]
    fn the_page_shows_the_table() {
        let want = rows(KEYS);
        let shown: String =
            PAGE.lines().filter(|line| line.starts_with("| `")).map(|l| format!("{l}\n")).collect();
        assert!(shown == want, "write these rows to the page:\n{want}");
    }

    #[test]
    fn the_table_is_sorted_and_each_key_causes_the_message_of_its_row() {
        assert!(KEYS.is_sorted_by(|a, b| a.path < b.path));
        for Key { path: name, effect } in KEYS {
            let none = [Vec::<String>::new(), Vec::new()];
            let (values, text) = match *effect {
                Warning(values, missing) => {
                    (values, format!("is not supported: {}", missing.replace('`', "")))
                }
                Honoured(_) | Elsewhere(_) => {
                    assert_eq!(with(name, "x"), none, "{name}");
                    continue;
                }
                other => panic!("{name}: {other:?}"),
            };
            let (bad, good) = match values {
                Any => ("x", "''"),
                Is(value) => (value, "something"),
                Values::IsNot(value) => ("something", value),
            };
            assert!(with(name, bad)[1][0].ends_with(&text), "{name}");
            assert_eq!(with(name, good), none, "{name}");
            assert_eq!(with(name, "''"), none, "{name}");
        }
    }

    #[test]
    fn two_spellings_of_a_key_are_an_error_in_either_order() {
        let (dotted, nested) =
            ("apiml.headersToIgnore: X-Admin", "apiml: {headersToIgnore: X-Other}");
        for custom in [format!("{{{dotted}, {nested}}}"), format!("{{{nested}, {dotted}}}")] {
            let want = "d:1: customMetadata.apiml.headersToIgnore: is the same key as \
                        customMetadata.apiml.headersToIgnore in d:1, in another spelling; remove one of them";
            let got = problems(&format!("customMetadata: {custom}"));
            assert_eq!(got, [vec![want.to_owned()], Vec::new()], "{custom}");
        }
        // A blank value counts as absent, so there is only one value.
        for custom in [
            "{apiml.headersToIgnore: , apiml: {headersToIgnore: X-Other}}",
            "{apiml: {headersToIgnore: X-Other}, apiml.headersToIgnore: ''}",
        ] {
            assert_eq!(
                problems(&format!("customMetadata: {custom}")),
                [[""; 0], [""; 0]],
                "{custom}"
            );
        }
    }

    #[test]
    fn nested_keys_are_joined_and_unknown_keys_of_api_ml_cause_a_warning() {
        let none: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        let unknown = "d:1: customMetadata.apiml.corsEnable: is not known here, so it has no effect; did you mean \
                       apiml.corsEnabled?";
        let cases = [
            ("{apiml: {authentication: {sso: true}}, zos: {sysname: A}, x: }", none.clone()),
            ("{apiml.service: {title: T}, apiml: {apiInfo: {0: {apiId: a}}}}", none),
            ("{apiml: {corsEnable: true}}", [Vec::new(), vec![unknown.to_owned()]]),
            (
                "{apiml: {corsAllowedOrigins: [a]}}",
                [
                    vec![
                        "d:1: customMetadata.apiml.corsAllowedOrigins: is a list, which metadata cannot have; \
                         write the values with commas between them"
                            .to_owned(),
                    ],
                    Vec::new(),
                ],
            ),
        ];
        for (custom, want) in cases {
            assert_eq!(problems(&format!("customMetadata: {custom}")), want, "{custom}");
        }
    }
}
