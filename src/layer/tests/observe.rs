//! Tests of [`Mode::Observe`].

use super::*;
use crate::audit::Outcome;

#[tokio::test]
async fn an_observed_service_gets_the_credentials_of_the_client_whatever_is_decided() {
    let new = || World { mode: Mode::Observe, ..World::with(OnFailure::Reject) };
    let (jwt, pat) = (new().jwt(), new().pat("files"));
    let other = new().pat("other");
    for (service, token, want) in [
        ("files", jwt.as_str(), Outcome::Success),
        ("files", &pat, Outcome::Success),
        ("files", &other, Outcome::Refused),
        ("files", "not-a-token", Outcome::Refused),
        ("nokey", &jwt, Outcome::Error),
    ] {
        let world = new();
        let cookie = format!("a=1; apimlAuthenticationToken={token}");
        let request = Request::get(format!("/{service}/api/v1/x"))
            .header("cookie", &cookie)
            .header("private-token", "of the client")
            .header("x-zowe-auth-failure", "forged")
            .header("x-certificate-public", "forged")
            .header("client-cert", "forged")
            .body(Body::default())
            .unwrap();
        let exchange = world.exchange(request).await;
        assert_eq!(exchange.status, 200, "{service} {want:?}");
        assert_eq!(exchange.received("cookie"), Some(cookie.as_str()));
        assert_eq!(exchange.received("private-token"), Some("of the client"));
        for name in ["authorization", "x-zowe-auth-failure", "x-certificate-public", "client-cert"]
        {
            assert_eq!(exchange.received(name), None, "{name}");
        }
        assert!(exchange.failure.is_none() && exchange.rejection.is_none());
        assert!(!exchange.response.contains_key("x-zowe-auth-failure"));
        assert!(!exchange.response.contains_key(&X_ZOWE_TOKEN_EXPIRES));
        let records = world.collected.take();
        assert_eq!(records.last().map(|record| record.outcome), Some(want), "{service}");
    }
}
