//! Compares the reference with the code that reads the settings, and with the page in docs/.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::{
    DefaultValue::{Required, Value},
    SECTION, Setting,
    ValueKind::{self, Boolean, List, Mapping, Number, Path, Text, Words},
    find,
    lookup::is_chosen,
    markdown, settings,
};
use crate::config::{
    Loaded, Problem, Report, load,
    tests::{DISTRIBUTED, ENHANCED, Setup},
};

const PAGE: &str = include_str!("../../../../../docs/reference/settings.md");

/// Pairs of settings. If the first setting is present, the program does not read the keys below the second setting, or
/// reads them in another way.
const HIDING: [(&str, &str); 8] = [
    ("signingKey", "signingKeys"),
    ("delegation.callers[].user", "delegation.callers[].certificate"),
    ("tokenExchange.callers[].user", "tokenExchange.callers[].certificate"),
    ("cluster.redis.url", "cluster.redis.sentinel"),
    ("ptktdata[].key.file", "ptktdata[].key.pkcs11"),
    ("ptktdata[].key.env", "ptktdata[].key.pkcs11"),
    ("ptktdata[].nextKey.key.file", "ptktdata[].nextKey.key.pkcs11"),
    ("ptktdata[].nextKey.key.env", "ptktdata[].nextKey.key.pkcs11"),
];

/// Returns a valid value for a setting. If the setting had no valid value, the program would not read the other
/// settings of the same mapping.
fn example(key: &str) -> Option<Json> {
    Some(match key {
        "signingKey" | "signingKeys[].file" => json!("jwt.key"),
        "signingKeys[].signs" => json!(true),
        "users" => json!("users.yml"),
        "saf" => json!("saf.yml"),
        "identities" => json!("identities.yml"),
        "apiDefs" => json!(["api-defs"]),
        "cors.allowedOrigins" | "services.ID.cors.allowedOrigins" => {
            json!(["https://app.example.com"])
        }
        "services.ID.rateLimit.requests" => json!(10),
        "cluster.name" => json!("prod"),
        "cluster.node" => json!("gateway-1"),
        "cluster.redis.url" => json!("redis://127.0.0.1:6379"),
        "cluster.redis.sentinel.master" => json!("mymaster"),
        "cluster.redis.sentinel.nodes" => json!(["redis://127.0.0.1:26379"]),
        "discovery.eureka" => json!(["https://zos1:7553/eureka/"]),
        "discovery.services.ID.hosts" => json!(["zos1"]),
        "discovery.services.ID.schemes" => json!(["zoweJwt"]),
        "zaas.gateways[].subject" => json!("CN=gateway"),
        "zowe.url" => json!("https://zowe:7554"),
        "zowe.revocations.mode" => json!("query"),
        "oidc[].issuer" => json!("https://idp.example.com"),
        "oidc[].jwksUri" => json!("https://idp.example.com/jwks"),
        "oidc[].audience" => json!("gateway"),
        "oidc[].registry" => json!("idp.example.com"),
        "delegation.callers[].user" | "tokenExchange.callers[].user" => json!("OPERATOR"),
        "ptktdata[].applid" => json!("ZOWEAPPL"),
        "ptktdata[].algorithm" | "ptktdata[].nextKey.algorithm" => json!("enhanced-mixed"),
        "ptktdata[].key.file" => json!("ptktdata/ZOWEAPPL.key"),
        "ptktdata[].nextKey.key.file" => json!("ptktdata/NEXT.key"),
        "ptktdata[].nextKey.from" => json!("2099-12-01T02:00:00Z"),
        _ if key.ends_with(".applids") || key.ends_with(".users") => json!("*"),
        _ if key.ends_with("clientCertificate.certificate") => json!("tls/server.pem"),
        _ if key.ends_with("clientCertificate.key") => json!("tls/server.key"),
        _ => return None,
    })
}

/// Optional settings that the smallest document contains. Without them, other settings would have no effect, or the
/// document would not be valid.
const OPTIONAL: [&str; 19] = [
    "signingKey",
    "users",
    "saf",
    "identities",
    "apiDefs",
    "cors.allowedOrigins",
    "services.ID.cors.allowedOrigins",
    "services.ID.rateLimit.requests",
    "services.ID.routes.URL",
    "cluster.redis.url",
    "oidc[].registry",
    "delegation.callers[].user",
    "tokenExchange.callers[].user",
    "ptktdata[].algorithm",
    "ptktdata[].key.file",
    "ptktdata[].nextKey",
    "ptktdata[].nextKey.key.file",
    "zaas.gateways[].subject",
    "zowe.revocations",
];

fn all_keys() -> Json {
    let mut section = json!({});
    for setting in settings() {
        let value = example(setting.key).unwrap_or_else(|| sample(&setting.value));
        // `at` makes a mapping together with the first key in it.
        if setting.value != Mapping && setting.value != List(&Mapping) {
            *at(&mut section, setting.key) = value;
        }
    }
    section
}

fn sample(value: &ValueKind) -> Json {
    match value {
        Boolean => json!(true),
        Number(range, _) => json!(range.start()),
        Words(words) => json!(words[0]),
        Text(_) | Path(_) => json!("?"),
        List(item) => json!([sample(item)]),
        Mapping => json!({}),
    }
}

/// A valid document in which each mapping is present, with its required keys.
fn smallest() -> Json {
    let mut section = json!({});
    for setting in settings() {
        let is_hidden = HIDING.iter().any(|(_, below)| is_in(setting.key, below));
        let is_needed = setting.default == Required || OPTIONAL.contains(&setting.key);
        if !is_hidden
            && is_needed
            && let Some(value) = example(setting.key)
        {
            *at(&mut section, setting.key) = value;
        }
    }
    section
}

/// A variant of the smallest document in which `key` has an effect.
fn context_of(key: &str) -> Json {
    let mut section = smallest();
    if is_in(key, "signingKeys") {
        remove(&mut section, "signingKey");
        section["signingKeys"] = json!([{"file": "jwt.key", "signs": true}]);
    }
    if key == "ptktdata[].source" || key == "ptktdata[].windowSeconds" {
        remove(&mut section, "ptktdata[].nextKey");
    }
    if is_in(key, "zaas") {
        section["zaas"]["enabled"] = json!(true);
    }
    if is_in(key, "accessLog") {
        section["accessLog"] = json!({"file": "access.jsonl"});
    }
    section
}

fn is_in(key: &str, mapping: &str) -> bool {
    let rest = key.strip_prefix(mapping);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Splits a key into its parts. The boolean says whether the part is a list. A placeholder for a name, such as `ID`,
/// becomes a name that exists in the example.
fn parts(key: &str) -> impl Iterator<Item = (&str, bool)> {
    let is_of_discovery = key.starts_with("discovery");
    key.split('.').map(move |part| {
        let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        let name = match name {
            "ID" if is_of_discovery => "found",
            "ID" => "dcpassticket",
            "URL" => "api/v1",
            "PATH" => "api/v1/admin",
            name => name,
        };
        (name, is_list)
    })
}

/// Returns the value of a key in a document. Makes the mappings and lists that contain it.
fn at<'j>(section: &'j mut Json, key: &str) -> &'j mut Json {
    let mut place = section;
    for (name, is_list) in parts(key) {
        if !place.is_object() {
            *place = Json::Object(Map::new());
        }
        place = &mut place[name];
        if is_list {
            if !place.is_array() {
                *place = json!([null]);
            }
            place = &mut place[0];
        }
    }
    place
}

fn remove(section: &mut Json, key: &str) {
    let mapping = match key.rsplit_once('.') {
        Some((mapping, _)) => at(section, mapping),
        None => section,
    };
    if let (Some(mapping), Some((name, _))) = (mapping.as_object_mut(), parts(key).last()) {
        mapping.remove(name);
    }
}

fn shown(key: &str) -> String {
    let parts =
        parts(key).map(|(name, is_list)| format!("{name}{}", if is_list { "[0]" } else { "" }));
    format!("{SECTION}.{}", parts.collect::<Vec<_>>().join("."))
}

/// Writes the zowe.yaml with this section. JSON is YAML, and has each value in line 1.
fn write(setup: &Setup, section: &Json) {
    let document = json!({
        "zowe": {"certificate": {"pem": {
            "certificate": "tls/server.pem",
            "key": "tls/server.key",
            "certificateAuthorities": "tls/ca.pem",
        }}},
        "components": {
            "gateway": {"port": 7554, "apiml": {
                "service": {"corsEnabled": true},
                "security": {
                    "personalAccessToken": {"enabled": true},
                    "x509": {"enabled": true},
                    "oidc": {"registry": "ldaps://us.example.com"},
                },
            }},
            "passticket-proxy": section,
        },
    });
    setup.write("zowe.yaml", &document.to_string(), 0o644);
}

fn new_setup() -> Setup {
    let setup = Setup::new();
    setup.write("ptktdata/NEXT.key", &ENHANCED.replace('0', "F"), 0o600);
    setup.write("identities.yml", DISTRIBUTED, 0o644);
    setup
}

fn problems(setup: &Setup, section: &Json) -> Vec<Problem> {
    write(setup, section);
    match setup.load() {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems.iter().cloned().collect(),
    }
}

#[test]
fn the_program_reads_the_keys_of_the_reference_and_no_others() {
    let setup = new_setup();
    let mut read = BTreeSet::new();
    let all = all_keys();
    let mut without_hiding = all.clone();
    for (key, _) in HIDING {
        remove(&mut without_hiding, key);
    }
    for section in [all, without_hiding] {
        write(&setup, &section);
        let report = Report::default();
        let _ = load(&setup.path("zowe.yaml"), &|_| None, &report);
        read.extend(
            report
                .keys()
                .into_iter()
                .filter_map(|key| Some(key.strip_prefix(SECTION)?.strip_prefix('.')?.to_owned())),
        );
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let known: BTreeSet<_> = settings()
        // A name that the operator chooses is not read as a key. Only the keys below it are read.
        .filter(|setting| !is_chosen(&last(setting.key)))
        // Without the feature `pkcs11`, the program reports the key `pkcs11`, and reads nothing below it.
        .filter(|setting| cfg!(feature = "pkcs11") || !setting.key.contains(".pkcs11."))
        .map(|setting| shown(setting.key)[SECTION.len() + 1..].to_owned())
        .collect();
    let missing: Vec<_> = read.difference(&known).collect();
    let never_read: Vec<_> = known.difference(&read).collect();
    assert!(missing.is_empty(), "add these keys to config/reference: {missing:#?}");
    assert!(never_read.is_empty(), "the program does not read these keys: {never_read:#?}");
}

#[test]
fn the_smallest_document_is_valid() {
    let setup = new_setup();
    write(&setup, &smallest());
    if let Err(problems) = setup.load() {
        panic!("{problems}");
    }
}

#[test]
fn a_wrong_value_causes_a_problem_that_names_the_permitted_values() {
    let setup = new_setup();
    let mut failures = Vec::new();
    for setting in settings() {
        let (value, item) = match &setting.value {
            List(item) => (*item, "[0]"),
            value => (value, ""),
        };
        let want: Vec<String> = match value {
            Boolean => vec!["neither true nor false".to_owned()],
            Number(range, _) => vec![format!("from {} to {}", range.start(), range.end())],
            Words(words) => words.iter().map(ToString::to_string).collect(),
            Text(_) | Path(_) | List(_) | Mapping => continue,
        };
        let mut section = context_of(setting.key);
        *at(&mut section, setting.key) = if item.is_empty() { json!("?") } else { json!(["?"]) };
        let place = format!("{}{item}", shown(setting.key));
        let problems = problems(&setup, &section);
        let is_named = |problem: &Problem| {
            problem.place().key() == place && want.iter().all(|word| problem.text().contains(word))
        };
        if !problems.iter().any(is_named) {
            failures.push(format!("{place}: {want:?}: {problems:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// The test below cannot check the defaults of these settings. `Config` has `callsPerMinute`, `refusals`,
/// `rotateAtMegabytes` and `keep` only if the file contains them. The `Debug` output of `Config` does not show `http`.
const APPLIED_LATER: [&str; 6] = [
    "accessLog.rotateAtMegabytes",
    "accessLog.keep",
    "delegation.callsPerMinute",
    "tokenExchange.callsPerMinute",
    "services.ID.http",
    "ptktdata[].refusals",
];

#[test]
fn a_default_has_the_same_effect_as_an_absent_key() {
    let setup = new_setup();
    let mut failures = Vec::new();
    for setting in settings() {
        let Value(default) = setting.default else { continue };
        if APPLIED_LATER.contains(&setting.key) {
            continue;
        }
        let mut section = context_of(setting.key);
        remove(&mut section, setting.key);
        let absent = outcome(&setup, &section);
        *at(&mut section, setting.key) = json!(default.trim_matches('"'));
        let present = outcome(&setup, &section);
        if present != absent {
            let new: Vec<_> = present.iter().filter(|line| !absent.contains(line)).collect();
            failures.push(format!("{}: the default is another one: {new:?}", setting.key));
        }
        let Some(other) = other_value(&setting.value, default) else { continue };
        *at(&mut section, setting.key) = other;
        if outcome(&setup, &section) == absent {
            failures.push(format!("{}: another value has no effect", setting.key));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn other_value(value: &ValueKind, default: &str) -> Option<Json> {
    match value {
        Boolean => Some(json!(default == "false")),
        Number(range, _) if range.start().to_string() != default => Some(json!(range.start())),
        Number(range, _) => Some(json!(range.end())),
        Words(words) => words.iter().find(|word| **word != default).map(|word| json!(word)),
        List(item) => other_value(item, default).map(|item| json!([item])),
        Text(_) | Path(_) | Mapping => None,
    }
}

/// Returns the `Debug` output of the configuration as sorted lines, or the problems. The document has only one line, so
/// all present keys are in line 1. The place of an absent key also gets the line 1. The lines are sorted, because the
/// order in a hash map is random.
fn outcome(setup: &Setup, section: &Json) -> Vec<String> {
    write(setup, section);
    let text = match setup.load() {
        Ok(Loaded { config, .. }) => {
            // `Debug` of routes and identity providers shows only their names. So their other values are added.
            let routes = config.routes.iter().map(|route| {
                (route.security_headers(), route.client_basic(), route.rate_limit(), route.mode())
            });
            let routes: Vec<_> = routes.collect();
            let providers = config
                .oidc
                .iter()
                .map(|provider| (&provider.algorithms, &provider.user_id_fields, provider.refresh));
            let providers: Vec<_> = providers.collect();
            format!("{config:#?}\n{routes:#?}\n{providers:#?}").replace("line: 0", "line: 1")
        }
        Err(problems) => problems.to_string(),
    };
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn defaults_are_values_that_the_setting_can_have() {
    for Setting { key, value, default, .. } in settings() {
        let Value(default) = *default else { continue };
        let value = match value {
            List(item) => item,
            value => value,
        };
        assert!(
            match value {
                Boolean => ["true", "false"].contains(&default),
                Number(range, _) => range.contains(&default.parse().unwrap()),
                Words(words) => words.contains(&default),
                Text(_) | Path(_) => !default.is_empty(),
                List(_) | Mapping => false,
            },
            "{key}"
        );
    }
}

#[test]
fn each_key_occurs_once_and_after_its_mapping() {
    let mut seen = BTreeSet::new();
    for Setting { key, .. } in settings() {
        if let Some((mapping, _)) = key.rsplit_once('.') {
            assert!(seen.contains(mapping.trim_end_matches("[]")), "{key}: {mapping} is missing");
        }
        assert!(seen.insert(*key), "{key} stands twice");
    }
}

#[test]
fn meanings_are_sentences() {
    for Setting { key, meaning, .. } in settings() {
        assert!(meaning.starts_with(char::is_uppercase) && meaning.ends_with('.'), "{key}");
    }
}

#[test]
fn the_page_is_up_to_date() {
    assert!(
        PAGE == markdown(),
        "the page differs; run: passticket-proxy config reference --markdown > docs/reference/settings.md"
    );
}

#[test]
fn a_key_selects_a_setting_and_what_is_below_it() {
    let keys = |key: &str| -> Vec<_> { find(key).unwrap().iter().map(|it| it.key).collect() };
    for key in [
        "limits.connections",
        "components.passticket-proxy.limits.connections",
        "passticketProxy.limits.connections",
        " limits.connections ",
    ] {
        assert_eq!(keys(key), ["limits.connections"], "{key}");
    }
    for key in ["ptktdata[0].nextKey.from", "ptktdata[].nextKey.from", "ptktdata.nextKey.from"] {
        assert_eq!(keys(key), ["ptktdata[].nextKey.from"], "{key}");
    }
    for key in ["services.files.requestHeaders", "services.ID.requestHeaders"] {
        let want = ["", ".remove", ".keep"].map(|end| format!("services.ID.requestHeaders{end}"));
        assert_eq!(keys(key), want, "{key}");
    }
    assert_eq!(keys("services.files.routes.api/v1.paths"), ["services.ID.routes.URL.paths"]);
    for key in ["", SECTION, "passticketProxy"] {
        assert_eq!(keys(key).len(), settings().count(), "{key}");
    }
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    for (key, want) in [
        ("limits.conections", "did you mean limits.connections?"),
        ("limit.connections", "did you mean limits?"),
        ("singingKey", "did you mean signingKey?"),
        ("ptktdata[0].algoritm", "did you mean ptktdata[0].algorithm?"),
        ("services.files.onFailur", "did you mean services.files.onFailure?"),
        ("maximumPerUser", "did you mean personalAccessToken.maximumPerUser?"),
        ("ui.colour", "known here: enabled, path"),
        ("ui.path.more", "did you mean"),
        ("zowe.certificate.pem.key", "is no setting"),
        ("limits.", "is no setting"),
        (".", "is no setting"),
        ("components.gateway.port", "is no setting"),
        ("E001193519561977", "(not shown"),
    ] {
        let error = find(key).unwrap_err().to_string();
        assert!(error.contains(want), "{key}: {error}");
    }
}
