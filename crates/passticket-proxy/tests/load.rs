//! Revocation under load: no request that starts after the answer to a revocation is accepted,
//! although the gateway caches verified tokens.

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
async fn a_revoked_token_is_refused_at_once_under_load() {
    let demo = Demo::start();
    let pat = demo.pat(&["dcpassticket"]).await;
    let by_rule = demo.pat(&["dcpassticket"]).await;
    let jwt = demo.login().await;

    let revoke = |client: reqwest::Client| client.delete(demo.auth("access-token/revoke"));
    let body = serde_json::json!({ "token": &pat });
    let one = revoke(demo.client()).json(&body);
    use_while_revoking(&demo, &pat, one).await;

    let all = demo.client().delete(demo.auth("access-token/revoke/tokens"));
    use_while_revoking(&demo, &by_rule, all.basic_auth("USER", Some("validPassword"))).await;

    let logout = demo.client().post(demo.auth("logout")).bearer_auth(&jwt);
    use_while_revoking(&demo, &jwt, logout).await;
}

/// Uses `token` on many connections while `revoke` is sent.
async fn use_while_revoking(demo: &Demo, token: &str, revoke: reqwest::RequestBuilder) {
    let revoked = Arc::new(AtomicBool::new(false));
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let client = demo.builder().http1_only().build().unwrap();
        let (url, token) = (demo.at(ROUTE), token.to_owned());
        let (revoked, accepted, refused) = (revoked.clone(), accepted.clone(), refused.clone());
        clients.spawn(async move {
            let mut after = 0;
            while after < 20 {
                let started_after = revoked.load(SeqCst);
                let response = client.get(&url).bearer_auth(&token).send().await.unwrap();
                let failure = response.headers().contains_key("x-zowe-auth-failure");
                response.bytes().await.unwrap();
                if started_after {
                    assert!(failure, "accepted after it was revoked");
                    after += 1;
                }
                if failure { &refused } else { &accepted }.fetch_add(1, SeqCst);
            }
        });
    }
    while accepted.load(SeqCst) < 200 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(refused.load(SeqCst), 0);
    let answer = revoke.send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    revoked.store(true, SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}
