//! Tests of PATs with and without prefix, in each place, and of the header `X-Zowe-Token-Expires`.

use super::*;

/// When [`World::pat`] expires.
const EXPIRES: &str = "2027-04-15T08:00:00Z";

/// Returns requests for `path` with `token` in each place that accepts a PAT.
fn in_each_place(path: &str, token: &str) -> Vec<(&'static str, Request<Body>)> {
    let cookie = |name: &str| ("cookie", format!("{name}={token}"));
    [
        ("PAT cookie", cookie("personalAccessToken")),
        ("login cookie", cookie("apimlAuthenticationToken")),
        ("PRIVATE-TOKEN", ("private-token", token.to_owned())),
        ("Bearer", ("authorization", format!("Bearer {token}"))),
        ("token", ("authorization", format!("token {token}"))),
        ("Basic", ("authorization", basic("USER", token))),
        ("Basic without user", ("authorization", basic("", token))),
    ]
    .into_iter()
    .map(|(place, (name, value))| (place, get(path, &[(name, &value)])))
    .collect()
}

impl World {
    /// Returns a PAT in both forms: the JWT alone, and with prefix and checksum.
    fn pat_forms(&self, scopes: &str) -> [String; 2] {
        let world = Self { issuer: self.issuer.clone().with_pat_prefix(), ..Self::new() };
        let prefixed = world.pat(scopes);
        let jwt = prefixed.strip_prefix("zowepat_").unwrap().rsplit_once('.').unwrap().0;
        [jwt.to_owned(), prefixed]
    }
}

fn expires(exchange: &Exchange) -> Option<&str> {
    let values: Vec<_> = exchange.response.get_all(&X_ZOWE_TOKEN_EXPIRES).iter().collect();
    assert!(values.len() <= 1, "{values:?}");
    values.first().map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_pat_is_accepted_in_each_place_with_and_without_prefix() {
    for client_basic in [ClientBasic::Strip, ClientBasic::Verify, ClientBasic::Forward] {
        let world = World { client_basic, ..World::new() };
        let [jwt, prefixed] = world.pat_forms("files");
        for token in [&jwt, &prefixed] {
            for (place, request) in in_each_place(FILES, token) {
                let exchange = world.exchange(request).await;
                assert_eq!(exchange.ticket_user().unwrap().as_str(), "USER", "{place}");
                assert_eq!(expires(&exchange), Some(EXPIRES), "{place}");
                let southbound = format!("{:?}", exchange.southbound);
                assert!(!southbound.contains(&jwt), "{place}: {southbound}");
            }
        }
    }
}

#[tokio::test]
async fn a_pat_with_a_wrong_checksum_is_refused_in_each_place_and_never_tried_as_a_password() {
    struct NoPassword;
    impl PasswordVerifier for NoPassword {
        fn verify_password(
            &self,
            _: UserId,
            _: &[u8],
            _: Option<std::net::IpAddr>,
        ) -> PasswordFuture {
            panic!("a token was tried as a password")
        }
    }
    for client_basic in [ClientBasic::Strip, ClientBasic::Verify, ClientBasic::Forward] {
        let world = World { client_basic, ..World::new() };
        let [jwt, prefixed] = world.pat_forms("files");
        let short = &prefixed[..prefixed.len() - 1];
        let wrong = [
            format!("zowepat_{jwt}"),
            format!("zowepat_{jwt}.00000000"),
            format!("{prefixed}0"),
            short.to_owned(),
            format!("zowepat_{}.{}", world.jwt(), "00000000"),
        ];
        for token in &wrong {
            for (place, request) in in_each_place(FILES, token) {
                let authenticator = Authenticator::new(world.verifier())
                    .with_personal_access_tokens(world.revocations.clone())
                    .with_passwords(NoPassword);
                let stack = ServiceBuilder::new()
                    .layer(RouteLayer::new(world.routes()))
                    .layer(AuthenticateLayer::new(authenticator))
                    .layer(ScopeLayer::new())
                    .layer(SchemeLayer::new())
                    .service(tower::service_fn(echo));
                let exchange = exchange(stack, request).await;
                let want = Some(Failure::Token(TokenError::Checksum));
                assert_eq!(exchange.failure, want, "{place} {token}");
                assert_eq!(exchange.failure_text(), Some("ZWEAG102E Token is not valid"));
                assert_eq!(exchange.received("authorization"), None, "{place}");
                assert_eq!(expires(&exchange), None, "{place}");
            }
        }
    }
}

#[tokio::test]
async fn a_revocation_of_one_form_refuses_the_other() {
    let world = World::new();
    for (revoked, used) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
        let forms = world.pat_forms("files");
        let token = world.verifier().verify(&forms[revoked]).unwrap();
        let (token, expires_at) = (token.fingerprint(), token.expires_at());
        let get_files = || get(FILES, &[("private-token", &forms[used])]);
        assert!(world.exchange(get_files()).await.ticket_user().is_some());
        world.revocations.apply(&Revocation::Token { token, expires_at });
        let exchange = world.exchange(get_files()).await;
        assert!(matches!(exchange.failure, Some(Failure::Revocation(_))), "{:?}", exchange.failure);
        assert_eq!(expires(&exchange), None);
    }
}

#[tokio::test]
async fn an_unchanged_request_keeps_the_form_of_the_token() {
    let world = World::with(OnFailure::ForwardUnchanged);
    for token in world.pat_forms("jobs") {
        let exchange = world.exchange(get(FILES, &[("private-token", &token)])).await;
        assert_eq!(exchange.received("private-token"), Some(&*token));
        assert_eq!(expires(&exchange), Some(EXPIRES));
    }
}

#[tokio::test]
async fn each_answer_to_a_valid_pat_says_when_it_expires() {
    let pat = |scopes: &'static str| move |world: &World| ("private-token", world.pat(scopes));
    type Credential = Box<dyn Fn(&World) -> (&'static str, String)>;
    let cases: [(&str, Credential, &str, OnFailure, u16, Option<&str>); 12] = [
        ("PAT", Box::new(pat("files")), FILES, OnFailure::Forward, 200, Some(EXPIRES)),
        ("out of scope", Box::new(pat("jobs")), FILES, OnFailure::Forward, 200, Some(EXPIRES)),
        ("out of scope, 403", Box::new(pat("jobs")), FILES, OnFailure::Reject, 403, Some(EXPIRES)),
        (
            "no key",
            Box::new(pat("nokey")),
            "/nokey/api/v1/x",
            OnFailure::Forward,
            200,
            Some(EXPIRES),
        ),
        (
            "no key, 500",
            Box::new(pat("nokey")),
            "/nokey/api/v1/x",
            OnFailure::Reject,
            500,
            Some(EXPIRES),
        ),
        ("bypass", Box::new(pat("files")), "/open/api/v1/x", OnFailure::Forward, 200, None),
        (
            "Basic of another user",
            Box::new(|w| ("authorization", basic("OTHER", &w.pat("files")))),
            FILES,
            OnFailure::Reject,
            401,
            None,
        ),
        (
            "expired",
            Box::new(|w| {
                let pat = w.pat("files");
                w.clock.advance(Duration::from_secs(90 * 86_400));
                ("private-token", pat)
            }),
            FILES,
            OnFailure::Reject,
            401,
            None,
        ),
        (
            "login token",
            Box::new(|w| ("authorization", format!("Bearer {}", w.jwt()))),
            FILES,
            OnFailure::Forward,
            200,
            None,
        ),
        (
            "login token in a place of PATs",
            Box::new(|w| ("private-token", w.jwt())),
            FILES,
            OnFailure::Reject,
            401,
            None,
        ),
        (
            "no credential",
            Box::new(|_| ("accept", "x".into())),
            FILES,
            OnFailure::Forward,
            200,
            None,
        ),
        (
            "no credential, 401",
            Box::new(|_| ("accept", "x".into())),
            FILES,
            OnFailure::Reject,
            401,
            None,
        ),
    ];
    for (name, credential, path, on_failure, status, want) in cases {
        let world = World::with(on_failure);
        let (header, value) = credential(&world);
        let exchange = world.exchange(get(path, &[(header, &value)])).await;
        assert_eq!(exchange.status, status, "{name}");
        assert_eq!(expires(&exchange), want, "{name}");
    }
}

#[tokio::test]
async fn after_a_slow_revocation_check_the_header_of_the_gateway_replaces_that_of_a_service() {
    #[derive(Debug)]
    struct Slow;
    impl RevocationCheck for Slow {
        fn try_check_now(&self, _: &VerifiedToken) -> Option<Result<(), CheckError>> {
            None
        }

        fn check_token(&self, _: &VerifiedToken) -> crate::revocation::CheckFuture {
            Box::pin(async {
                tokio::task::yield_now().await;
                Ok(())
            })
        }
    }
    let world = World::new();
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(world.routes()))
        .layer(AuthenticateLayer::new(
            Authenticator::new(world.verifier()).with_personal_access_tokens(Slow),
        ))
        .service(tower::service_fn(|request| async {
            let mut response = echo(request).await?;
            for time in ["2099-01-01T00:00:00Z", "2099-01-01T00:00:01Z"] {
                let forged = HeaderValue::from_static(time);
                response.headers_mut().append(&X_ZOWE_TOKEN_EXPIRES, forged);
            }
            Ok::<_, Infallible>(response)
        }));
    let request = get(FILES, &[("private-token", &world.pat("files"))]);
    let exchange = exchange(stack, request).await;
    assert_eq!(expires(&exchange), Some(EXPIRES));
}
