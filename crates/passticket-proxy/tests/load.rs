//! Tests revocation under load. The gateway caches verified tokens. When it has confirmed the revocation of a token, it
//! must refuse the token in each new request, although the token is in the cache.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use support::Demo;
use tokio::{task::JoinSet, time::sleep};

const ROUTE: &str = "/dcpassticket/api/v1/request";

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_immediately_under_load() {
    let demo = Demo::start();
    let pat = demo.pat(&["dcpassticket"]).await;
    let revoked_by_rule = demo.pat(&["dcpassticket"]).await;
    let jwt = demo.login().await;

    let revoke = |client: reqwest::Client| client.delete(demo.auth("access-token/revoke"));
    let body = serde_json::json!({ "token": &pat });
    let one = revoke(demo.client()).json(&body);
    use_while_revoking(&demo, &pat, one).await;

    let all = demo.client().delete(demo.auth("access-token/revoke/tokens"));
    use_while_revoking(&demo, &revoked_by_rule, all.basic_auth("USER", Some("validPassword")))
        .await;

    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&jwt);
    use_while_revoking(&demo, &jwt, logout).await;
}

/// Eight clients send requests with `token`. At the same time, another client sends `revoke`. Asserts that the gateway
/// refuses each request that a client sends after the response to `revoke`.
async fn use_while_revoking(demo: &Demo, token: &str, revoke: reqwest::RequestBuilder) {
    let revoked = Arc::new(AtomicBool::new(false));
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let client = demo.builder().http1_only().build().unwrap();
        let (url, token) = (demo.at(ROUTE), token.to_owned());
        let (revoked, accepted, refused) = (revoked.clone(), accepted.clone(), refused.clone());
        clients.spawn(async move {
            let mut sent_after_revocation = 0;
            while sent_after_revocation < 20 {
                let is_revoked = revoked.load(SeqCst);
                let response = client.get(&url).bearer_auth(&token).send().await.unwrap();
                let failure = response.headers().contains_key("x-zowe-auth-failure");
                response.bytes().await.unwrap();
                if is_revoked {
                    assert!(failure, "a revoked token was accepted");
                    sent_after_revocation += 1;
                }
                if failure { &refused } else { &accepted }.fetch_add(1, SeqCst);
            }
        });
    }
    while accepted.load(SeqCst) < 200 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(refused.load(SeqCst), 0);
    let response = revoke.send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.status());
    revoked.store(true, SeqCst);
    while let Some(result) = clients.join_next().await {
        result.unwrap();
    }
}
