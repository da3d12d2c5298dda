//! Tests of the login throttle through HTTP requests.

use super::*;

/// The seconds in `Retry-After`. Asserts that the throttle has refused the request.
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
    // During the wait the right password is not accepted either. `generate` uses the same throttle.
    assert_eq!(wait(&right.send_to(api.clone()).await), 1);
    let generate = TestRequest { authorization: Some(&good), ..POST_GENERATE };
    assert_eq!(wait(&generate.send_to(api.clone()).await), 1);
    // Other users, and logins with a certificate, are not affected.
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
    // The right password has cleared the failures.
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
async fn retry_after_is_at_most_10_s_and_the_message_has_the_real_wait() {
    for compatibility in [Compatibility::Documented, Compatibility::ZoweV3] {
        let world = World::new();
        let api = world.api(compatibility);
        let wrong = basic("user:wrong");
        let guess = TestRequest { authorization: Some(&wrong), ..POST_LOGIN };
        let mut refused = None;
        // The wait doubles with each failure.
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
