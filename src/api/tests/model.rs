//! Sends random sequences of requests, and compares the responses with a simple model. The model is a list of issued
//! tokens and lists of revocation rules (docs/reference/tokens-and-revocation.md#pat-contract).

use proptest::{collection::vec, prelude::*};

use super::*;

const USERS: [&str; 2] = ["USER", "ADMIN"];
const SERVICES: [&str; 3] = ["a", "b", "c"];
const DAY_MS: u64 = 86_400_000;

/// A request, or a change of the clock.
///
/// `user` and `service` are indexes into [`USERS`] and [`SERVICES`]. The time of a rule is `ago` milliseconds before
/// the current time. If `ago` is `None`, the request contains no time.
#[derive(Clone, Debug)]
enum Step {
    /// Advances the clock by 1 ms to 40 days.
    Wait {
        millis: u64,
    },
    Generate {
        user: usize,
        days: u64,
        services: Vec<usize>,
    },
    Revoke {
        token: prop::sample::Index,
    },
    /// If `own` is true, `user` creates a rule for the user's own tokens. Otherwise `ADMIN` creates a rule for `user`.
    RuleForUser {
        user: usize,
        own: bool,
        ago: Option<u64>,
    },
    RuleForService {
        service: usize,
        ago: Option<u64>,
    },
    Evict,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ago = || prop::option::of(prop_oneof![Just(0), 1..2_000u64, 1..100 * DAY_MS]);
    let step = prop_oneof![
        3 => prop_oneof![1..3u64, 1..1_500u64, 1..40 * DAY_MS]
            .prop_map(|millis| Step::Wait { millis }),
        4 => (0..2usize, 1..91u64, vec(0..3usize, 1..3))
            .prop_map(|(user, days, services)| Step::Generate { user, days, services }),
        2 => any::<prop::sample::Index>().prop_map(|token| Step::Revoke { token }),
        1 => (0..2usize, any::<bool>(), ago())
            .prop_map(|(user, own, ago)| Step::RuleForUser { user, own, ago }),
        1 => (0..3usize, ago()).prop_map(|(service, ago)| Step::RuleForService { service, ago }),
        1 => Just(Step::Evict),
    ];
    vec(step, 1..25)
}

/// An issued token. Times are in milliseconds since 1970-01-01.
struct Issued {
    text: String,
    user: usize,
    services: Vec<usize>,
    issued_at: u64,
    expires_at: u64,
    revoked: bool,
}

#[derive(Default)]
struct Model {
    issued: Vec<Issued>,
    /// The user and the time of each rule.
    user_rules: Vec<(usize, u64)>,
    /// The service and the time of each rule.
    service_rules: Vec<(usize, u64)>,
}

impl Model {
    fn is_revoked(&self, token: &Issued) -> bool {
        token.revoked
            || self
                .user_rules
                .iter()
                .any(|(user, up_to)| *user == token.user && token.issued_at <= *up_to)
            || self.service_rules.iter().any(|(service, up_to)| {
                token.services.contains(service) && token.issued_at <= *up_to
            })
    }
}

async fn send(api: &AuthApi, method: &str, path: &str, user: usize, body: &Value) -> (u16, String) {
    let url = format!("/gateway/api/v1/auth/access-token/{path}");
    let authorization = basic(&format!("{}:validPassword", USERS[user]));
    let body = body.to_string();
    let request = TestRequest {
        method,
        url: &url,
        authorization: Some(&authorization),
        cookie: None,
        certificate: None,
        content_type: None,
        body: &body,
    };
    let response = request.send_to(api.clone()).await;
    (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
}

async fn run(steps: Vec<Step>) {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let mut model = Model::default();
    for step in &steps {
        let now = world.clock.now().as_millis();
        let timestamp = |ago: &Option<u64>| ago.map_or(json!(null), |ago| json!(now - ago));
        let up_to = |ago: &Option<u64>| now - ago.unwrap_or(0);
        match step {
            Step::Wait { millis } => world.clock.advance(Duration::from_millis(*millis)),
            Step::Generate { user, days, services } => {
                let scopes: Vec<_> = services.iter().map(|service| SERVICES[*service]).collect();
                let body = json!({"validity": days, "scopes": scopes});
                let (status, text) = send(&api, "POST", "generate", *user, &body).await;
                assert_eq!(status, 200);
                model.issued.push(Issued {
                    text,
                    user: *user,
                    services: services.clone(),
                    issued_at: now,
                    expires_at: now / 1000 * 1000 + days * DAY_MS,
                    revoked: false,
                });
            }
            Step::Revoke { token } if !model.issued.is_empty() => {
                let index = token.index(model.issued.len());
                let token = &model.issued[index];
                let is_valid = now < token.expires_at && !model.is_revoked(token);
                let body = json!({"token": token.text});
                let (status, _) = send(&api, "DELETE", "revoke", 0, &body).await;
                assert_eq!(status, if is_valid { 200 } else { 401 }, "{steps:?}");
                model.issued[index].revoked |= is_valid;
            }
            Step::Revoke { .. } => {}
            Step::RuleForUser { user, own, ago } => {
                let body = json!({"userId": USERS[*user], "timestamp": timestamp(ago)});
                let (path, caller) =
                    if *own { ("revoke/tokens", *user) } else { ("revoke/tokens/users", 1) };
                assert_eq!(send(&api, "DELETE", path, caller, &body).await.0, 200);
                model.user_rules.push((*user, up_to(ago)));
            }
            Step::RuleForService { service, ago } => {
                let body = json!({"serviceId": SERVICES[*service], "timestamp": timestamp(ago)});
                assert_eq!(send(&api, "DELETE", "revoke/tokens/scope", 1, &body).await.0, 200);
                model.service_rules.push((*service, up_to(ago)));
            }
            Step::Evict => {
                assert_eq!(send(&api, "DELETE", "evict", 1, &json!({})).await.0, 204);
            }
        }
        let now = world.clock.now().as_millis();
        for token in &model.issued {
            for (i, service) in SERVICES.iter().enumerate() {
                let is_valid = now < token.expires_at
                    && token.services.contains(&i)
                    && !model.is_revoked(token);
                let body = json!({"token": token.text, "serviceId": service});
                let (status, text) = send(&api, "POST", "validate", 0, &body).await;
                assert_eq!(status, if is_valid { 200 } else { 401 }, "{service} {text} {steps:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn responses_agree_with_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps));
    }
}
