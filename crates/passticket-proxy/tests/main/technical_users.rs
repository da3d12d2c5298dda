//! Tests of services whose users act through technical users: the file of `technicalUsers`, and its audit records.

use std::{fs, path::Path, time::Duration};

use jsonwebtoken::Algorithm::RS256;
use serde_json::{Value, json};
use test_support::{PATIENCE, pki};
use tokio::time::{Instant, sleep};

use crate::oidc::{Gateway, ISSUER, Provider, token};

const KEY: &str = pki::OTHER_SIGNING_KEY;

/// Returns the file with these rules for the service `svc`: claim, value and user.
fn rules(rules: &[(&str, &str, &str)]) -> String {
    let rule = |(claim, value, user): &(&str, &str, &str)| {
        format!(
            "  - {{issuer: {ISSUER}, services: svc, claim: '{claim}', value: '{value}', user: {user}}}\n"
        )
    };
    format!("technicalUsers:\n{}", rules.iter().map(rule).collect::<String>())
}

async fn start(provider: &Provider, first: &[(&str, &str, &str)]) -> Gateway {
    provider.send_keys(&[KEY]);
    let edit = |directory: &Path, yaml: String| {
        fs::write(directory.join("technical.yml"), rules(first)).unwrap();
        yaml + "    technicalUsers: technical.yml\n"
    };
    Gateway::start_with(provider, edit).await
}

/// Waits until the audit file has `count` records of the event.
async fn records(gateway: &Gateway, event: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(gateway.directory.path().join("audit.jsonl")).unwrap();
        let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let all = complete.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found: Vec<_> = all.filter(|record| record["event"] == event).collect();
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_a_token_selects_the_technical_user_and_the_audit_log_names_the_person() {
    let first = [
        ("groups", "batch", "BATCHUSR"),
        ("realm_access.roles", "nightly", "BATCHUSR"),
        ("realm_access.roles", "cics", "CICSUSR"),
        ("scope", "files.read", "FILESRO"),
    ];
    let gateway = start(&Provider::default(), &first).await;
    let user = |name: &str| (200, name.to_owned());
    let refused = || (401, String::new());
    let joe = |mut claims: Value| {
        claims["email"] = "joe@example.com".into();
        token(KEY, RS256, claims)
    };
    let roles = |roles: Value| json!({"realm_access": {"roles": roles}});
    for (case, token, want) in [
        ("list", joe(json!({"groups": ["a", "batch"]})), user("BATCHUSR")),
        ("text", joe(json!({"groups": "batch"})), user("BATCHUSR")),
        ("nested list", joe(roles(json!(["nightly"]))), user("BATCHUSR")),
        ("item of the scope", joe(json!({"scope": "openid files.read"})), user("FILESRO")),
        ("a user of the own", token(KEY, RS256, json!({"groups": ["batch"]})), user("BATCHUSR")),
        ("two users", joe(roles(json!(["nightly", "cics"]))), refused()),
        ("other value, no user id", joe(json!({"groups": ["staff"]})), refused()),
        ("part of a value", joe(json!({"groups": "x batch"})), refused()),
        ("other value", token(KEY, RS256, json!({"groups": ["staff"]})), user("JANE")),
        (
            "key of another issuer",
            token(pki::SIGNING_KEY, RS256, json!({"groups": ["batch"]})),
            refused(),
        ),
        ("our own", gateway.own_token.clone(), user("USER")),
    ] {
        for _ in 0..2 {
            assert_eq!(gateway.get(&token).await, want, "{case}");
        }
    }
    let records = records(&gateway, "technical-user", 12).await;
    let first = &records[0];
    assert_eq!(first["outcome"], "success");
    assert_eq!(first["user"], "BATCHUSR");
    assert_eq!(first["subject"], json!({"issuer": ISSUER, "name": "joe@example.com"}));
    assert_eq!(first["rule_claim"], json!({"claim": "groups", "value": "batch"}));
    assert_eq!((&first["service"], &first["path"]), (&"svc".into(), &"/svc/api/v1/x".into()));
    let refused: Vec<_> = records.iter().filter(|it| it["outcome"] == "refused").collect();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[0]["reason"], "ambiguous-user");
    assert_eq!(refused[0]["subject"]["name"], "joe@example.com");
    // The record of the ticket names the person, too.
    let tickets = self::records(&gateway, "ticket", 14).await;
    assert_eq!(tickets[0]["user"], "BATCHUSR");
    assert_eq!(tickets[0]["subject"]["name"], "joe@example.com");
    let token_ids = (&tickets[0]["token_id"], &first["token_id"]);
    assert_eq!(token_ids.0, token_ids.1);
}

/// The gateway has already verified and cached the token. The new rules must apply to the cached token, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_applies_to_a_known_token_and_a_wrong_file_changes_nothing() {
    let provider = Provider::default();
    let gateway = start(&provider, &[("groups", "batch", "BATCHUSR")]).await;
    let file = gateway.directory.path().join("technical.yml");
    let write = |text: &str| {
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &file).unwrap();
    };
    let jane = token(KEY, RS256, json!({"groups": ["batch", "cics"]}));
    assert_eq!(gateway.get(&jane).await, (200, "BATCHUSR".to_owned()));
    // The gateway applies new rules without fetching the keys again.
    provider.send("503 Service Unavailable", "", "");
    for (text, want) in [
        (rules(&[("groups", "cics", "CICSUSR")]), (200, "CICSUSR".to_owned())),
        (
            rules(&[("groups", "cics", "CICSUSR"), ("groups", "batch", "BATCHUSR")]),
            (401, String::new()),
        ),
        (rules(&[("groups", "other", "BATCHUSR")]), (200, "JANE".to_owned())),
    ] {
        write(&text);
        let deadline = Instant::now() + PATIENCE;
        while gateway.get(&jane).await != want {
            assert!(Instant::now() < deadline, "{text}");
            sleep(Duration::from_millis(50)).await;
        }
    }
    write("technicalUsers: [{issuer: x}]\n");
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        assert_eq!(gateway.get(&jane).await, (200, "JANE".to_owned()));
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_in_the_common_event_format_has_no_forged_field() {
    let provider = Provider::default();
    provider.send_keys(&[KEY]);
    let gateway = Gateway::start_with(&provider, |directory, yaml| {
        let first = [("groups", "batch", "BATCHUSR")];
        fs::write(directory.join("technical.yml"), rules(&first)).unwrap();
        let json = "    audit:\n      file: audit.jsonl\n";
        assert!(yaml.contains(json), "{yaml}");
        let yaml = yaml.replace(json, "    audit:\n      file: audit.cef\n      format: cef\n");
        yaml + "    technicalUsers: technical.yml\n"
    })
    .await;
    let name = "joe suid=IBMUSER|act=x\\@example.com";
    let joe = token(KEY, RS256, json!({"email": name, "groups": ["batch"]}));
    assert_eq!(gateway.get(&joe).await, (200, "BATCHUSR".to_owned()));
    let file = gateway.directory.path().join("audit.cef");
    let deadline = Instant::now() + PATIENCE;
    let lines = loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() == 3 && text.ends_with('\n') {
            break lines;
        }
        assert!(Instant::now() < deadline, "{text}");
        sleep(Duration::from_millis(20)).await;
    };
    for (line, event) in lines.iter().zip(["technical-user", "authentication", "ticket"]) {
        assert!(line.starts_with("CEF:0|tower-passticket|passticket-proxy|"), "{line}");
        assert!(line.contains(&format!("|{event}|")), "{line}");
        let suser = " suser=joe suid\\=IBMUSER|act\\=x\\\\@example.com PassticketProxyTokenIssuer=";
        assert!(line.contains(suser), "{line}");
        assert!(line.contains(" suid=BATCHUSR duser=BATCHUSR "), "{line}");
        assert!(line.contains(" dvchost=") && line.contains(" src=127.0.0.1 "), "{line}");
    }
}
