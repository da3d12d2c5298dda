//! Tests of login tokens, PassTickets (one-time passwords of z/OS), public keys and password changes.

use super::*;

const LOGOUT: TestRequest<'_> = TestRequest { url: "/gateway/api/v1/auth/logout", ..POST_LOGIN };
const REFRESH: TestRequest<'_> = TestRequest { url: "/gateway/api/v1/auth/refresh", ..POST_LOGIN };
const TICKET: TestRequest<'_> = TestRequest {
    url: "/gateway/api/v1/auth/ticket",
    certificate: Some("x"),
    body: r#"{"applicationName":"zoweappl","x":1}"#,
    ..POST_LOGIN
};

const PROFILES: [Compatibility; 2] = [Compatibility::Documented, Compatibility::ZoweV3];

/// Each case is a credential that is not a valid login token. In some cases, the status of `logout` differs from that
/// of the other endpoints.
#[tokio::test]
async fn only_a_valid_login_token_is_accepted() {
    for profile in PROFILES {
        let world = World::new();
        let (jwt, pat) = (world.jwt(), world.pat("USER", "a"));
        let bearer = |token: &str| format!("Bearer {token}");
        let expired = issuer().with_lifetime(Duration::ZERO);
        let expired = expired.login_token(&UserId::new("USER").unwrap(), "d").unwrap();
        let (pat, expired) = (bearer(&pat), bearer(expired.expose()));
        let forged = bearer(&forged(&jwt));
        let logged_out = bearer(&world.jwt());
        let response = TestRequest { authorization: Some(&logged_out), ..LOGOUT }
            .send_to(world.api(profile))
            .await;
        assert_eq!(outcome(&response), (204, String::new()));
        let cases: [(&str, Option<&str>, (u16, &str), (u16, &str)); 7] = [
            ("no credential", None, (401, "ZWEAG131E"), (401, "ZWEAG131E")),
            ("Basic", Some("Basic dTpw"), (401, "ZWEAG131E"), (401, "ZWEAG131E")),
            ("garbage", Some("Bearer x"), (401, "ZWEAG130E"), (400, "ZWEAG130E")),
            ("a PAT", Some(&pat), (401, "ZWEAG130E"), (400, "ZWEAG130E")),
            (
                "a login token with a wrong signature",
                Some(&forged),
                (401, "ZWEAG130E"),
                (401, "ZWEAG130E"),
            ),
            ("an expired login token", Some(&expired), (401, "ZWEAT100E"), (401, "ZWEAT100E")),
            (
                "a login token that is logged out",
                Some(&logged_out),
                (401, "ZWEAG130E"),
                (401, "ZWEAG130E"),
            ),
        ];
        for (name, authorization, want, want_of_logout) in cases {
            let user = Some("USER");
            for (request, (status, number)) in [
                (GET_QUERY, want),
                (TestRequest { certificate: user, ..REFRESH }, want),
                (TICKET, want),
                (LOGOUT, want_of_logout),
            ] {
                let request = TestRequest { authorization, ..request };
                let response = request.send_to(world.api(profile)).await;
                let name = format!("{name} for {} {profile:?}", request.url);
                assert_eq!(outcome(&response), (status, number.to_owned()), "{name}");
                let failure = response.headers().get("x-zowe-auth-failure");
                let want = (number == "ZWEAG130E" && status == 401)
                    .then_some("ZWEAG102E Token is not valid");
                assert_eq!(failure.map(|v| v.to_str().unwrap()), want, "{name}");
                let prefix = match profile {
                    Compatibility::Documented => "'/gateway/api/v1/auth/",
                    Compatibility::ZoweV3 => "'/zaas/api/v1/auth/",
                };
                assert!(content(&response).contains(prefix), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn logout_revokes_only_the_presented_token() {
    let world = World::new();
    let (jwt, other) = (world.jwt(), format!("Bearer {}", world.jwt()));
    let cookie = format!("apimlAuthenticationToken={jwt}");
    let logout = TestRequest { cookie: Some(&cookie), ..LOGOUT };
    let response = logout.send_to(world.minimal.clone()).await;
    assert_eq!(response.status(), 204);
    let names = response.headers().keys().map(|name| name.as_str());
    let only_security = ["cache-control", "x-content-type-options", "referrer-policy"];
    assert!(names.eq(only_security) && response.body().is_empty());
    assert_eq!(
        outcome(&logout.send_to(world.minimal.clone()).await),
        (401, "ZWEAG130E".to_owned())
    );
    let query = TestRequest { authorization: Some(&other), ..GET_QUERY };
    assert_eq!(query.send_to(world.minimal.clone()).await.status(), 200);
    // The revocation can be removed when the token has expired.
    world.clock.advance(Duration::from_secs(28_800));
    let evicted = world.store.index.evict(world.clock.now()).await.unwrap();
    assert_eq!(evicted.tokens, 1);
}

#[tokio::test]
async fn refresh_issues_a_new_token_and_revokes_the_old_one() {
    let world = World::new();
    let api = world.api(Compatibility::Documented);
    let old = format!("Bearer {}", world.jwt());
    let refresh = TestRequest { authorization: Some(&old), certificate: Some("x"), ..REFRESH };
    world.clock.advance(Duration::from_secs(60));
    let response = refresh.send_to(api.clone()).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.ends_with("; Path=/; SameSite=Strict; HttpOnly; Secure"), "{cookie}");
    let new = cookie.split(';').next().unwrap();
    let query = TestRequest { cookie: Some(new), ..GET_QUERY };
    let content: Value = serde_json::from_slice(query.send_to(api.clone()).await.body()).unwrap();
    assert_eq!(content["userId"], "USER");
    assert_eq!(content["domain"], "security-domain");
    assert_eq!(content["expiration"], (NOW + 60 + 28_800) * 1000);
    let query = TestRequest { authorization: Some(&old), ..GET_QUERY };
    assert_eq!(outcome(&query.send_to(api.clone()).await), (401, "ZWEAG130E".to_owned()));
    assert_eq!(outcome(&refresh.send_to(api).await), (401, "ZWEAG130E".to_owned()));

    let api_without_refresh = world.minimal.clone().with_client_certificates(CommonNameMapper);
    assert_eq!(outcome(&refresh.send_to(api_without_refresh).await), (404, "ZWEAO404E".to_owned()));
}

#[tokio::test]
async fn refresh_and_ticket_check_the_certificate_first() {
    let world = World::new();
    let token = format!("Bearer {}", world.jwt());
    for request in [REFRESH, TICKET] {
        for authorization in [Some(token.as_str()), None] {
            let request = TestRequest { authorization, certificate: None, ..request };
            let response = request.send_to(world.api(Compatibility::Documented)).await;
            assert_eq!(outcome(&response), (403, "ZWEAG167E".to_owned()));
            let response = request.send_to(world.api(Compatibility::ZoweV3)).await;
            assert_eq!((response.status().as_u16(), response.body().len()), (403, 0));
        }
        let request =
            TestRequest { authorization: Some(&token), certificate: Some("USER"), ..request };
        let response = request.send_to(world.minimal.clone().with_token_refresh()).await;
        assert_eq!(outcome(&response), (403, "ZWEAG167E".to_owned()));
    }
}

#[tokio::test]
async fn a_ticket_is_for_the_user_of_the_token() {
    let world = World::new();
    let jwt = world.jwt();
    let cookie = format!("apimlAuthenticationToken={jwt}");
    let request = TestRequest { cookie: Some(&cookie), ..TICKET };
    let response = request.send_to(world.api(Compatibility::Documented)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    let ticket = answer["ticket"].as_str().unwrap();
    let want = json!({
        "token": jwt, "userId": "USER", "applicationName": "zoweappl", "ticket": ticket,
    });
    assert_eq!(answer, want);
    let profile = key_profile("ZOWEAPPL");
    let ticket = passticket::PassTicket::parse(ticket).unwrap();
    let user = UserId::new("USER").unwrap();
    assert!(profile.evaluate(&user, &ticket, world.clock.now()).is_ok());

    let missing = "The 'applicationName' parameter name is missing";
    for (body, number, detail) in [
        ("", "ZWEAG140E", "EOF while parsing a value at line 1 column 0"),
        ("{", "ZWEAG140E", "EOF while parsing an object at line 1 column 1"),
        ("{}", "ZWEAG140E", "missing field `applicationName` at line 1 column 2"),
        (r#"{"applicationName":null}"#, "ZWEAG140E", "a value of the wrong type at line 1"),
        (r#"{"applicationName":" "}"#, "ZWEAG140E", "`applicationName` is not an APPLID of 1 to 8"),
        (r#"{"applicationName":"TOOLONGID"}"#, "ZWEAG140E", "`applicationName` is not an APPLID"),
        (r#"{"applicationName":"OTHER"}"#, "ZWEAG141E", ""),
    ] {
        let request = TestRequest { body, ..request };
        let response = request.send_to(world.api(Compatibility::Documented)).await;
        assert_eq!(outcome(&response), (400, number.to_owned()), "{body}");
        let start = match number {
            "ZWEAG140E" => format!("{missing}: {detail}"),
            _ => "The generation of the PassTicket failed. Reason: Unable to".to_owned(),
        };
        assert!(content(&response).starts_with(&start), "{}", content(&response));
        let response = request.send_to(world.api(Compatibility::ZoweV3)).await;
        assert_eq!(outcome(&response), (400, number.to_owned()), "{body}");
        assert!(!content(&response).contains(" at line "));
    }
}

#[tokio::test]
async fn public_keys_need_no_credential() {
    for (path, profile, content_type) in [
        ("all", Compatibility::Documented, "application/json"),
        ("current", Compatibility::ZoweV3, "application/json"),
        ("", Compatibility::Documented, "text/plain"),
        ("", Compatibility::ZoweV3, "application/json"),
    ] {
        let url = format!("/gateway/api/v1/auth/keys/public/{path}");
        let request = TestRequest { method: "GET", url: url.trim_end_matches('/'), ..POST_LOGIN };
        let response = request.send_to(minimal_api().with_compatibility(profile)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], content_type);
        if path.is_empty() {
            assert_eq!(response.body(), KEY.verifying_key().to_pem().as_bytes());
        } else {
            let document: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(document, json!({ "keys": [KEY.verifying_key().to_jwk()] }));
        }
    }
}

#[tokio::test]
async fn all_lists_every_key_and_current_lists_only_the_signing_key() {
    let new = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
    let new = new.with_key_id(KeyId::new("new").unwrap());
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_key(new.verifying_key());
    let issuer = TokenIssuer::new(new.clone());
    let api = AuthApi::new(
        issuer,
        verifier,
        StubLogin { can_change_passwords: false },
        RevocationIndex::default(),
    );
    let [old, new] = [KEY.verifying_key().to_jwk(), new.verifying_key().to_jwk()];
    assert_eq!(new["kid"], "new");
    for (path, keys) in [("all", json!([new, old])), ("current", json!([new]))] {
        let url = &format!("/gateway/api/v1/auth/keys/public/{path}");
        let response = TestRequest { method: "GET", url, ..POST_LOGIN }.send_to(api.clone()).await;
        let document: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(document, json!({ "keys": keys }), "{path}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    for (path, status) in
        [("keys/public", 200), ("openapi.json", 200), ("query", 401), ("unknown", 404)]
    {
        let send = async |method| {
            let url = format!("/gateway/api/v1/auth/{path}");
            let request = Request::builder().method(method).uri(url);
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let (parts, body) = minimal_api().oneshot(request).await.unwrap().into_parts();
            (parts, body.collect().await.unwrap().to_bytes())
        };
        let (get, body) = send("GET").await;
        let (mut head, empty) = send("HEAD").await;
        assert_eq!((get.status.as_u16(), head.status.as_u16()), (status, status), "{path}");
        let length = head.headers.remove("content-length").unwrap();
        assert_eq!((length.to_str().unwrap(), empty.len()), (&*body.len().to_string(), 0));
        assert_eq!(head.headers, get.headers, "{path}");
        for (name, want) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(get.headers[name], want, "{path}");
        }
    }
    let (method, url) = ("PUT", "/gateway/api/v1/auth/keys/public");
    let response = TestRequest { method, url, ..POST_LOGIN }.send_to(minimal_api()).await;
    assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn a_failing_store_causes_503() {
    let world = World::new();
    let token = format!("Bearer {}", world.jwt());
    let with_token = |request| TestRequest { authorization: Some(&token), ..request };
    let refresh = TestRequest { certificate: Some("x"), ..REFRESH };
    world.store.cannot_write.store(true, SeqCst);
    for request in [LOGOUT, refresh] {
        let response = with_token(request).send_to(world.api(Compatibility::Documented)).await;
        assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()));
    }
    let response = with_token(GET_QUERY).send_to(world.api(Compatibility::Documented)).await;
    assert_eq!(response.status(), 200);
    world.store.cannot_check.store(true, SeqCst);
    for request in [LOGOUT, refresh, GET_QUERY, TICKET] {
        let response = with_token(request).send_to(world.api(Compatibility::Documented)).await;
        assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()), "{}", request.url);
    }
}

#[tokio::test]
async fn a_new_password_is_set_or_the_login_fails() {
    let login = StubLogin { can_change_passwords: true };
    let changing_api = AuthApi::new(issuer(), verifier(), login, Arc::new(Store::default()));
    let body = |password, new| {
        format!(r#"{{"username":"user","password":"{password}","newPassword":"{new}"}}"#)
    };
    let good = basic("user:validPassword");
    let good = Some(good.as_str());
    // The last two columns contain the response if the provider supports password changes, and the response if it does
    // not.
    for (authorization, body, changed, unsupported) in [
        (None, body("validPassword", "new"), (204, ""), (400, "ZWEAG121E")),
        (None, body("wrong", "new"), (401, "ZWEAG120E"), (400, "ZWEAG121E")),
        (None, body("validPassword", "weak"), (400, "ZWEAT413E"), (400, "ZWEAG121E")),
        (None, body("validPassword", ""), (400, "ZWEAG121E"), (400, "ZWEAG121E")),
        (good, body("validPassword", "new"), (400, "ZWEAG121E"), (400, "ZWEAG121E")),
    ] {
        for (api, (status, number)) in
            [(changing_api.clone(), changed), (minimal_api(), unsupported)]
        {
            let request = TestRequest { authorization, body: &body, ..POST_LOGIN };
            assert_eq!(outcome(&request.send_to(api).await), (status, number.to_owned()), "{body}");
        }
    }
}

#[tokio::test]
async fn the_message_for_a_malformed_body_contains_the_position() {
    let request = TestRequest { body: "{\"username\":\"u\",\n \"password\":secret}", ..POST_LOGIN };
    let content_in = |profile| {
        let api = World::new().api(profile);
        async { content(&request.send_to(api).await) }
    };
    let start = "Authorization header is missing, or the request body is missing or invalid for \
                 URL";
    assert_eq!(
        content_in(Compatibility::Documented).await,
        format!("{start} '/gateway/api/v1/auth/login': expected value at line 2 column 13")
    );
    assert_eq!(
        content_in(Compatibility::ZoweV3).await,
        format!("{start} '/zaas/api/v1/auth/login'")
    );
    let response =
        TestRequest { body: r#"{"scopes":["a"],"#, ..POST_GENERATE }.send_to(api()).await;
    assert_eq!(
        content(&response),
        "Invalid body provided in request to create personal access token: EOF while parsing a \
         value at line 1 column 16"
    );
}

#[tokio::test]
async fn the_validity_of_a_pat_is_limited_by_the_configured_maximum() {
    let max = Validity::requested(Some(30));
    let good = basic("user:validPassword");
    for (validity, days) in [("1", 1), ("30", 30), ("31", 30), ("0", 30), ("null", 30)] {
        let body = format!(r#"{{"validity":{validity},"scopes":["a"]}}"#);
        let request = TestRequest { authorization: Some(&good), body: &body, ..POST_GENERATE };
        let response = request.send_to(minimal_api().with_personal_access_tokens(max)).await;
        let token = str::from_utf8(response.body()).unwrap();
        let VerifiedToken::Pat(pat) = verifier().verify(token).unwrap() else {
            panic!("expected a PAT")
        };
        assert_eq!(pat.expires_at().as_secs(), NOW + days * 86_400, "{validity}");
    }
}

/// An issuer that waits for `gate` at each logout, and then records the token.
#[cfg(feature = "remote")]
#[derive(Clone, Default)]
struct Relayed {
    tokens: Arc<Mutex<Vec<String>>>,
    gate: Arc<tokio::sync::Notify>,
}

#[cfg(feature = "remote")]
impl IssuerLogout for Relayed {
    fn log_out(&self, token: &str) -> IssuerLogoutFuture {
        let (relayed, token) = (self.clone(), token.to_owned());
        Box::pin(async move {
            relayed.gate.notified().await;
            relayed.tokens.lock().unwrap().push(token);
            Ok(())
        })
    }
}

#[cfg(feature = "remote")]
#[tokio::test]
async fn a_logout_is_relayed_if_the_store_fails_or_the_client_disconnects() {
    let world = World::new();
    let relayed = Relayed::default();
    let api = world
        .minimal
        .clone()
        .with_issuer_logout(crate::token::TokenOrigin::Gateway, relayed.clone());
    let taken = || std::mem::take(&mut *relayed.tokens.lock().unwrap());
    for broken in [&world.store.cannot_write, &world.store.cannot_check] {
        broken.store(true, SeqCst);
        let jwt = world.jwt();
        let bearer = format!("Bearer {jwt}");
        relayed.gate.notify_one();
        let logout = TestRequest { authorization: Some(&bearer), ..LOGOUT };
        assert_eq!(logout.send_to(api.clone()).await.status(), 503);
        assert_eq!(taken(), [jwt]);
        broken.store(false, SeqCst);
    }

    let jwt = world.jwt();
    let bearer = format!("Bearer {jwt}");
    let logout = TestRequest { authorization: Some(&bearer), ..LOGOUT };
    {
        // The client disconnects before the issuer answers.
        let mut request = std::pin::pin!(logout.send_to(api.clone()));
        let waker = std::task::Waker::noop();
        assert!(request.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    relayed.gate.notify_one();
    while relayed.tokens.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(taken(), [jwt]);
    assert_eq!(logout.send_to(api).await.status(), 401);
}
