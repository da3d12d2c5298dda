//! Tests of the auth API behind a trusted proxy, which sends the address of the client. The auth API counts failed
//! logins for this address, and writes it to audit records.

use std::net::IpAddr;

use super::*;
use crate::connection::{ConnectionInfo, Protocol, TrustedProxies};

/// Returns a login request from the proxy 10.0.0.1, which has added the address `client`.
fn login(client: &str, credentials: &str) -> Request<Full<Bytes>> {
    let request = Request::post(LOGIN)
        .header("x-forwarded-for", format!("198.51.100.1, {client}"))
        .header("authorization", basic(credentials));
    let mut request = request.body(Full::<Bytes>::default()).unwrap();
    let (peer, local) = ("10.0.0.1:555".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
    let connection = ConnectionInfo::new(peer, local, Protocol::Https);
    let proxies = TrustedProxies::new(move |ip| ip == peer.ip());
    let connection = connection.with_trusted_proxies(&proxies, request.headers());
    request.extensions_mut().insert(connection);
    request
}

#[tokio::test]
async fn a_guesser_behind_a_proxy_does_not_block_other_clients() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let mut guesses = 0;
    let held = async |client: &str, credentials: &str| {
        let response = api.clone().oneshot(login(client, credentials)).await.unwrap();
        response.status() == 429
    };
    while !held("203.0.113.7", &format!("U{guesses}:wrong")).await {
        guesses += 1;
        assert!(guesses < 200, "the address of the guesser does not have to wait");
    }
    assert!(held("203.0.113.7", "user:validPassword").await);
    assert!(!held("198.51.100.8", "user:validPassword").await);

    let records = world.collected.take();
    let peers = records.iter().map(|record| record.peer.unwrap().to_string());
    assert!(peers.clone().all(|peer| peer == "10.0.0.1:555"));
    let clients: Vec<_> = records.iter().map(|r| r.client.unwrap().to_string()).collect();
    assert_eq!((&*clients[0], &*clients[clients.len() - 1]), ("203.0.113.7", "198.51.100.8"));
}

#[tokio::test]
async fn exempt_networks_apply_to_the_client_and_not_to_the_proxy() {
    let world = World::new();
    for (exempt, want) in [("203.0.113.7", 401), ("10.0.0.1", 429)] {
        let exempt: IpAddr = exempt.parse().unwrap();
        let options = LoginThrottleOptions::default().with_exempt(move |ip| ip == exempt);
        let api = world.api(Compatibility::Documented).with_login_throttle(options);
        let mut last = None;
        for _ in 0..6 {
            let guess = login("203.0.113.7", "user:wrong");
            last = Some(api.clone().oneshot(guess).await.unwrap().status().as_u16());
        }
        assert_eq!(last, Some(want), "{exempt}");
    }
}
