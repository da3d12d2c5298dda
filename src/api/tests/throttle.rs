//! Who guesses passwords.

use super::*;

fn wait(response: &Response<Bytes>) -> u64 {
    assert_eq!(outcome(response), (429, "ZWESG429E".to_owned()));
    response.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn guesses_are_slowed_and_the_right_password_works_after_the_wait() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let wrong = basic("user:wrong");
    let good = basic("user:validPassword");
    let guess = Asked { authorization: Some(&wrong), ..POST_LOGIN };
    let right = Asked { authorization: Some(&good), ..POST_LOGIN };

    for _ in 0..5 {
        assert_eq!(outcome(&guess.of(api.clone()).await).0, 401);
    }
    assert_eq!(wait(&guess.of(api.clone()).await), 1);
    // Nor is the right password looked at, nor does it help to ask elsewhere.
    assert_eq!(wait(&right.of(api.clone()).await), 1);
    let generate = Asked { authorization: Some(&good), ..POST_GENERATE };
    assert_eq!(wait(&generate.of(api.clone()).await), 1);
    // Another user, and a certificate, are not affected.
    let other = basic("other:validPassword");
    let other = Asked { authorization: Some(&other), ..POST_LOGIN };
    assert_eq!(outcome(&other.of(api.clone()).await).0, 204);
    let certificate = Asked { certificate: Some("USER"), ..POST_LOGIN };
    assert_eq!(outcome(&certificate.of(api.clone()).await).0, 204);

    world.clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&guess.of(api.clone()).await).0, 401);
    assert_eq!(wait(&guess.of(api.clone()).await), 2);
    world.clock.advance(Duration::from_millis(1500));
    // What was refused in between has not prolonged the wait.
    assert_eq!(wait(&guess.of(api.clone()).await), 1);
    world.clock.advance(Duration::from_millis(500));
    assert_eq!(outcome(&right.of(api.clone()).await).0, 204);
    // All is forgotten.
    for _ in 0..5 {
        assert_eq!(outcome(&guess.of(api.clone()).await).0, 401);
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_nobodys_failed_attempt() {
    let api = api();
    let down = basic("down:x");
    let attempt = Asked { authorization: Some(&down), ..POST_LOGIN };
    for _ in 0..30 {
        assert_eq!(outcome(&attempt.of(api.clone()).await).0, 503);
    }
}
