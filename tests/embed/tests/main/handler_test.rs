//! An application tests its handlers without a key, a token or the layers that authenticate. The feature
//! `test-util` makes this possible.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::Request,
    routing::get,
};
use tower::ServiceExt;
use tower_passticket::{
    layer::{Authorized, Proof},
    passticket::{KeyProfiles, LocalGenerator},
    test_util,
};

async fn whoami(Extension(authorized): Extension<Authorized>) -> String {
    let scopes = match authorized.proof() {
        Proof::Pat(pat) => pat.scopes().iter().map(ToString::to_string).collect(),
        _ => vec!["all".to_owned()],
    };
    format!("{} {} {}", authorized.user(), authorized.route().service(), scopes.join(","))
}

#[tokio::test]
async fn a_handler_sees_the_user_and_the_scopes() {
    for (authorized, want) in [
        (test_util::authorized("USER"), "USER test all"),
        (test_util::authorized_by_pat("IBMUSER", &["files", "jobs"]), "IBMUSER files files,jobs"),
    ] {
        let mut request = Request::get("/whoami").body(Body::empty()).unwrap();
        request.extensions_mut().insert(authorized);
        let app = Router::new().route("/whoami", get(whoami));
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), want);
    }
}

#[test]
fn tokens_of_the_test_key_are_valid() {
    let verified = test_util::verifier().verify(&test_util::login_token("USER")).unwrap();
    assert!(matches!(verified, tower_passticket::token::VerifiedToken::Jwt(_)));
}

#[test]
fn tickets_of_the_test_profile_are_valid() {
    let profile = Arc::new(test_util::key_profile("ZOWEAPPL"));
    let (user, applid) = ("USER".parse().unwrap(), *profile.applid());
    let generator = LocalGenerator::new(KeyProfiles::new([profile.clone()]).unwrap());
    let ticket = generator.generate_now(&user, &applid).unwrap();
    let now = tower_passticket::clock::Clock::now(&tower_passticket::clock::SystemClock);
    assert!(profile.evaluate(&user, &ticket, now).is_ok());
}
