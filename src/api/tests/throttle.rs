//! Tests of the login throttle with HTTP requests.

use super::*;
use crate::connection::{ConnectionInfo, Protocol};

/// Asserts that the throttle has refused the request. Returns the seconds in `Retry-After`.
fn wait(response: &Response<Bytes>) -> u64 {
    assert_eq!(outcome(response), (429, "ZWESG429E".to_owned()));
    response.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn guesses_are_throttled_and_the_right_password_works_after_the_wait() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let wrong = basic("user:wrong");
    let good = basic("user:validPassword");
    let guess = TestRequest { authorization: Some(&wrong), ..POST_LOGIN };
    let right = TestRequest { authorization: Some(&good), ..POST_LOGIN };

    for _ in 0..5 {
        assert_eq!(outcome(&guess.send_to(api.clone()).await).0, 401);
    }
    assert_eq!(wait(&guess.send_to(api.clone()).await), 1);
    // During the wait, the throttle refuses even the right password. `generate` uses the same throttle as `login`.
    assert_eq!(wait(&right.send_to(api.clone()).await), 1);
    let generate = TestRequest { authorization: Some(&good), ..POST_GENERATE };
    assert_eq!(wait(&generate.send_to(api.clone()).await), 1);
    // Other users, and logins with a certificate, do not wait.
    let other = basic("other:validPassword");
    let other = TestRequest { authorization: Some(&other), ..POST_LOGIN };
    assert_eq!(outcome(&other.send_to(api.clone()).await).0, 204);
    let certificate = TestRequest { certificate: Some("USER"), ..POST_LOGIN };
    assert_eq!(outcome(&certificate.send_to(api.clone()).await).0, 204);

    world.clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&guess.send_to(api.clone()).await).0, 401);
    assert_eq!(wait(&guess.send_to(api.clone()).await), 2);
    world.clock.advance(Duration::from_millis(1500));
    // Logins during the wait have not extended the wait.
    assert_eq!(wait(&guess.send_to(api.clone()).await), 1);
    world.clock.advance(Duration::from_millis(500));
    assert_eq!(outcome(&right.send_to(api.clone()).await).0, 204);
    for _ in 0..5 {
        assert_eq!(outcome(&guess.send_to(api.clone()).await).0, 401);
    }
}

#[tokio::test]
async fn logins_while_the_provider_is_unavailable_are_not_failures() {
    let api = api();
    let down = basic("down:x");
    let attempt = TestRequest { authorization: Some(&down), ..POST_LOGIN };
    for _ in 0..30 {
        assert_eq!(outcome(&attempt.send_to(api.clone()).await).0, 503);
    }
}

#[tokio::test]
async fn retry_after_is_at_most_10_s_and_the_message_contains_the_whole_wait() {
    for compatibility in [Compatibility::Documented, Compatibility::ZoweV3] {
        let world = World::new();
        let api = world.api(compatibility);
        let wrong = basic("user:wrong");
        let guess = TestRequest { authorization: Some(&wrong), ..POST_LOGIN };
        let mut refused = None;
        for _ in 0..24 {
            let response = guess.send_to(api.clone()).await;
            if response.status() == 429 {
                let text = String::from_utf8(response.body().to_vec()).unwrap();
                let (_, wait) = text.split_once("the next password is checked in ").unwrap();
                let wait: u64 = wait.split(' ').next().unwrap().parse().unwrap();
                let header = response.headers()["retry-after"].to_str().unwrap();
                assert_eq!(header.parse::<u64>().unwrap(), wait.min(10), "{text}");
                world.clock.advance(Duration::from_secs(wait));
                refused = Some(wait);
            }
        }
        assert!(refused.unwrap() > 10, "{refused:?}");
    }
}

async fn log_in_from(api: &AuthApi, address: &str, credentials: &str) -> u16 {
    let peer = format!("{address}:50000").parse().unwrap();
    let connection = ConnectionInfo::new(peer, peer, Protocol::Https);
    let request = Request::post(LOGIN).header("authorization", basic(credentials));
    let request = request.extension(connection).body(Full::<Bytes>::default()).unwrap();
    api.clone().oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn attackers_elsewhere_do_not_lock_a_user_out() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    for i in 0..5 {
        assert_eq!(log_in_from(&api, &format!("10.0.{i}.1"), "user:wrong").await, 401);
    }
    // This is the first login of the user.
    assert_eq!(log_in_from(&api, "192.0.2.1", "user:validPassword").await, 204);
    for second in 0..61u32 {
        for i in 0..5 {
            let address = format!("10.{}.{i}.1", second + 1);
            assert!([401, 429].contains(&log_in_from(&api, &address, "user:wrong").await));
        }
        assert_eq!(log_in_from(&api, "192.0.2.77", "user:validPassword").await, 204, "{second}");
        world.clock.advance(Duration::from_millis(400));
    }
    // The attackers must wait. In a network from which the user has never logged in, the user must also wait.
    assert_eq!(log_in_from(&api, "10.9.9.9", "user:validPassword").await, 429);
}

#[tokio::test]
async fn failures_behind_a_nat_do_not_block_other_users_behind_it() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    for i in 0..30 {
        assert_eq!(log_in_from(&api, "192.0.2.1", &format!("u{i}:wrong")).await, 401);
        assert_eq!(log_in_from(&api, "192.0.2.1", &format!("v{i}:validPassword")).await, 204);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_extend_a_wait() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    for _ in 0..5 {
        assert_eq!(log_in_from(&api, "192.0.2.1", "user:wrong").await, 401);
    }
    world.clock.set(Timestamp::from_secs(NOW - 3600));
    assert_eq!(log_in_from(&api, "192.0.2.1", "user:validPassword").await, 429);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(log_in_from(&api, "192.0.2.1", "user:validPassword").await, 204);
}

#[tokio::test]
async fn the_limits_of_the_embedder_apply() {
    let world = World::new();
    let mut options = LoginThrottleOptions::default().with_exempt(|ip| ip.is_loopback());
    options.user_and_network.free = 1;
    let api = world.api(Compatibility::Documented).with_login_throttle(options);
    for (address, last) in [("192.0.2.1", 429), ("127.0.0.1", 401)] {
        for want in [401, 401, last] {
            assert_eq!(log_in_from(&api, address, "user:wrong").await, want, "{address}");
        }
    }
}
