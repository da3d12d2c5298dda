//! Tests that an operator can replace the signing key while users are logged in.

use std::{fs, os::unix::fs::PermissionsExt};

use reqwest::StatusCode;
use serde_json::Value;
use test_support::pki;

use crate::support::Demo;

const ONE_KEY: &str = "  signingKey: keys/jwt.pem\n";

/// Replaces the setting `signingKey` or `signingKeys` of a demo by `entries`, and restarts the program.
fn with_keys(demo: Demo, entries: &str) -> Demo {
    let path = demo.directory.join("zowe.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let start = yaml.find("    signingKey").unwrap();
    let end = start + yaml[start..].find("\n    users:").unwrap() + 1;
    fs::write(&path, format!("{}{entries}{}", &yaml[..start], &yaml[end..])).unwrap();
    demo.restarted()
}

async fn query(demo: &Demo, token: &str) -> StatusCode {
    demo.client().get(demo.auth("query")).bearer_auth(token).send().await.unwrap().status()
}

/// Returns the `kid` (key id) of each key in the list at `keys/public/PATH`.
async fn ids(demo: &Demo, path: &str) -> Vec<Option<String>> {
    let url = demo.auth(&format!("keys/public/{path}"));
    let set: Value = demo.client().get(url).send().await.unwrap().json().await.unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_rotation_of_the_signing_key_does_not_log_users_out() {
    let demo = Demo::reconfigured(|yaml| {
        assert!(yaml.contains(ONE_KEY), "{yaml}");
        yaml
    });
    let key = demo.directory.join("keys/new.pem");
    fs::write(&key, pki::OTHER_SIGNING_KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let old = demo.login().await;
    assert_eq!(ids(&demo, "all").await, [None]);

    // 1. The operator adds the new key. It does not sign yet, so that all nodes can learn it first.
    let demo = with_keys(
        demo,
        "    signingKeys:\n    - {file: keys/jwt.pem, signs: true}\n    - {file: keys/new.pem, kid: new}\n",
    );
    assert_eq!(query(&demo, &old).await, 200);
    assert_eq!(ids(&demo, "all").await, [None, Some("new".to_owned())]);
    assert_eq!(ids(&demo, "current").await, [None]);

    // 2. The operator lets the new key sign.
    let demo = with_keys(
        demo,
        "    signingKeys:\n    - {file: keys/jwt.pem}\n    - {file: keys/new.pem, kid: new, signs: true}\n",
    );
    let new = demo.login().await;
    assert_eq!([query(&demo, &old).await, query(&demo, &new).await], [200, 200]);
    assert_eq!(ids(&demo, "all").await, [Some("new".to_owned()), None]);
    assert_eq!(ids(&demo, "current").await, [Some("new".to_owned())]);
    assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid.as_deref(), Some("new"));

    // 3. The operator removes the old key.
    let demo =
        with_keys(demo, "    signingKeys:\n    - {file: keys/new.pem, kid: new, signs: true}\n");
    assert_eq!([query(&demo, &old).await, query(&demo, &new).await], [401, 200]);
    assert_eq!(ids(&demo, "all").await, [Some("new".to_owned())]);
}
