//! Tests that a revocation survives `kill -9` of the program, if the program has confirmed the revocation before.

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::Arc,
};

use crate::support::{Demo, serve};
use reqwest::Client;
use serde_json::json;
use test_support::Running;
use tokio::{
    sync::{Mutex, Notify},
    task::JoinSet,
    time::timeout,
};

const ROUNDS: u64 = 8;
const PATS_PER_ROUND: usize = 24;
const REVOKERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn confirmed_revocations_survive_a_kill_of_the_program() {
    // A user may have only 50 tokens by default.
    let demo = Demo::reconfigured(|yaml| {
        let maximum = ROUNDS as usize * PATS_PER_ROUND + 1;
        format!("{yaml}    personalAccessToken: {{maximumPerUser: {maximum}}}\n")
    });
    let user = demo.client_of("USER");
    let mut pats = Vec::new();
    for _ in 0..=ROUNDS as usize * PATS_PER_ROUND {
        pats.push(generate(&demo, &user).await);
    }
    let kept = pats.pop().unwrap();
    let (config, client) = (demo.directory.join("zowe.yaml"), demo.client());
    let Demo { mut program, url, _temporary, .. } = demo;
    let mut gateway = Gateway { url, client };
    let (mut answered, mut killed_while_revoking) = (Vec::new(), 0);
    for (round, pats) in pats.chunks(PATS_PER_ROUND).enumerate() {
        let in_this_round = gateway.revoke_until_killed(&mut program, pats).await;
        killed_while_revoking += usize::from((1..pats.len()).contains(&in_this_round.len()));
        answered.extend(in_this_round);
        program = gateway.restart(&config);
        for pat in &answered {
            assert!(!gateway.accepts(pat).await, "round {round}: a revocation was lost");
        }
        assert!(gateway.accepts(&kept).await);
    }
    assert!(killed_while_revoking > 0, "no kill hit the program while it revoked tokens");
}

async fn generate(demo: &Demo, user: &Client) -> String {
    let request = user.post(demo.auth("access-token/generate"));
    let request = request.json(&json!({"validity": 1, "scopes": ["dcpassticket"]}));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap()
}

#[derive(Clone)]
struct Gateway {
    url: String,
    client: Client,
}

impl Gateway {
    /// Revokes `pats` (Personal Access Tokens). Kills the program after it has confirmed a random number of
    /// revocations, at most half of all. Returns the PATs whose revocation the program has confirmed.
    async fn revoke_until_killed(&self, program: &mut Running, pats: &[String]) -> Vec<String> {
        // The moment of the kill depends on the number of revocations, not on a time. In any fixed time, a fast machine
        // might confirm all revocations.
        let enough = 1 + RandomState::new().hash_one(pats) as usize % (pats.len() / 2);
        let (answered, kill) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let mut revokers = JoinSet::new();
        for part in pats.chunks(pats.len().div_ceil(REVOKERS)) {
            let (gateway, part) = (self.clone(), part.to_owned());
            let (answered, kill) = (answered.clone(), kill.clone());
            revokers.spawn(async move {
                for pat in part {
                    match gateway.revoke(&pat).await {
                        Ok(status) => assert_eq!(status, 200),
                        Err(_) => return,
                    }
                    let mut answered = answered.lock().await;
                    answered.push(pat);
                    if answered.len() == enough {
                        kill.notify_one();
                    }
                }
            });
        }
        timeout(test_support::PATIENCE, kill.notified()).await.unwrap();
        program.kill();
        let _ = program.wait();
        while let Some(result) = revokers.join_next().await {
            result.unwrap();
        }
        let mut answered = answered.lock().await;
        std::mem::take(&mut answered)
    }

    async fn revoke(&self, pat: &str) -> reqwest::Result<u16> {
        let url = format!("{}/gateway/api/v1/auth/access-token/revoke", self.url);
        let response = self.client.delete(url).json(&json!({"token": pat})).send().await?;
        Ok(response.status().as_u16())
    }

    fn restart(&mut self, config: &Path) -> Running {
        let (program, port) = serve(config);
        self.url = format!("https://localhost:{port}");
        program
    }

    async fn accepts(&self, pat: &str) -> bool {
        let url = format!("{}/gateway/api/v1/auth/access-token/validate", self.url);
        let body = json!({"token": pat, "serviceId": "dcpassticket"});
        let response = self.client.post(url).json(&body).send().await.unwrap();
        match response.status().as_u16() {
            200 => true,
            401 => false,
            status => panic!("{status}"),
        }
    }
}
