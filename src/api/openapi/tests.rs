use std::sync::LazyLock;

use super::*;
use crate::{
    api::{Compatibility, GuardingResources, endpoint::Switches},
    auth_prefix::AuthPrefix,
    token::Validity,
};

static PREFIX: LazyLock<AuthPrefix> = LazyLock::new(AuthPrefix::default);
static RESOURCES: LazyLock<GuardingResources> = LazyLock::new(GuardingResources::default);
static EVERYTHING: LazyLock<Settings<'_>> = LazyLock::new(|| Settings {
    prefix: &PREFIX,
    switches: Switches::ALL,
    certificates: true,
    compatibility: Compatibility::Documented,
    cookie: "apimlAuthenticationToken",
    max_validity: Validity::MAX,
    guarding_resources: &RESOURCES,
});
static LEAST: LazyLock<Settings<'_>> = LazyLock::new(|| Settings {
    switches: Switches { tickets: true, ..Switches::default() },
    certificates: false,
    compatibility: Compatibility::ZoweV3,
    ..*EVERYTHING
});

fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations_of = |(path, verbs)| {
        let verbs: &Map<_, _> = Value::as_object(verbs).unwrap();
        verbs.iter().map(move |(verb, o)| (String::as_str(path), verb.as_str(), o))
    };
    paths.flat_map(operations_of).collect()
}

/// Calls `visit` for each member of each object in `value`.
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
fn every_endpoint_that_is_on_is_described_once() {
    for (settings, count) in [(*EVERYTHING, ENDPOINTS.len()), (*LEAST, 9)] {
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
fn references_and_security_schemes_exist() {
    for settings in [*EVERYTHING, *LEAST] {
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
fn common_responses_are_described_for_each_endpoint() {
    for settings in [*EVERYTHING, *LEAST] {
        for (path, verb, operation) in operations(&document(&settings)) {
            let responses = &operation["responses"];
            let allow = &responses["405"]["headers"]["Allow"];
            let methods = match verb {
                _ if path.ends_with("/access-tokens/{id}") => {
                    "GET, HEAD, PATCH, DELETE, OPTIONS".to_owned()
                }
                _ if path.ends_with("/access-tokens") => {
                    "GET, HEAD, POST, DELETE, OPTIONS".to_owned()
                }
                "get" => "GET, HEAD, OPTIONS".to_owned(),
                verb => format!("{}, OPTIONS", verb.to_ascii_uppercase()),
            };
            let want = json!({ "required": true, "schema": { "enum": [methods] } });
            assert_eq!(*allow, want, "{path}");
            let reads_body = operation.get("requestBody").is_some();
            assert_eq!(responses.get("413").is_some(), reads_body, "{path}");
            let challenge = &responses["401"]["headers"]["WWW-Authenticate"];
            assert_eq!(responses.get("401").is_some(), challenge["required"] == true, "{path}");
            let security = operation["security"].as_array().unwrap();
            let takes_password = security.contains(&json!({ "basic": [] }));
            let limited = takes_password
                || path.ends_with("/delegate/passticket")
                || path.ends_with("/token")
                || path.ends_with("/access-tokens/self/rotate");
            let throttled = responses["429"]["headers"]["Retry-After"]["required"] == true;
            assert_eq!(throttled, limited, "{path}");
            let successes = responses.as_object().unwrap().keys().filter(|s| s.starts_with('2'));
            assert_eq!(successes.count(), 1, "{path}");
            assert!(
                responses
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|r| { r["description"].as_str().is_some_and(|text| !text.is_empty()) })
            );
        }
    }
}

#[test]
fn the_document_depends_on_the_settings() {
    let at = |document: &Value, pointer: &str| {
        let prefix = PREFIX.as_str().replace('/', "~1");
        document.pointer(&format!("/paths/{prefix}~1{pointer}")).cloned()
    };
    let (all, least) = (document(&EVERYTHING), document(&LEAST));
    for path in ["refresh", "access-token~1generate", "access-token~1evict"] {
        assert!(at(&all, path).is_some() && at(&least, path).is_none(), "{path}");
    }
    let login = at(&all, "login/post/security").unwrap();
    assert_eq!(login, json!([{ "basic": [] }, { "certificate": [] }, {}]));
    assert_eq!(at(&least, "login/post/security").unwrap(), json!([{ "basic": [] }, {}]));

    let ticket = |document| at(document, "ticket/post/responses").unwrap();
    let examples =
        |document| ticket(document)["403"]["content"]["application/json"]["examples"].clone();
    assert!(examples(&all)["ZWEAG167E"].is_object());
    assert!(examples(&least)["ZWEAG167E"].is_null());
    let has_ticket_error = |status: &str| {
        ticket(&all)[status]["content"]["application/json"]["examples"]["ZWEAG141E"].is_object()
    };
    assert!(has_ticket_error("400") && has_ticket_error("500"));

    let settings = Settings {
        compatibility: Compatibility::ZoweV3,
        cookie: "other",
        max_validity: Validity::requested(Some(7)),
        ..*EVERYTHING
    };
    let other = document(&settings);
    assert_eq!(other["components"]["securitySchemes"]["cookie"]["name"], "other");
    let validate = |document| at(document, "access-token~1validate/post/responses").unwrap();
    assert!(validate(&all).get("200").is_some() && validate(&all).get("204").is_none());
    assert!(validate(&other).get("204").is_some() && validate(&other).get("200").is_none());
    let validity = "access-token~1generate/post/requestBody/content/application~1json/schema\
                    /properties/validity/description";
    assert!(at(&other, validity).unwrap().as_str().unwrap().contains("missing field mean 7"));
}

#[test]
fn paths_and_messages_have_the_prefix() {
    let prefix = AuthPrefix::new("/zaas/api/v1/auth").unwrap();
    let document = document(&Settings { prefix: &prefix, ..*EVERYTHING });
    assert!(operations(&document).iter().all(|(path, ..)| path.starts_with("/zaas/api/v1/auth/")));
    let text = document.to_string();
    assert!(text.contains("for URL '/zaas/api/v1/auth/login'") && !text.contains("/gateway/"));
}
