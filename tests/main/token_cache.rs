//! Tests of the cache of verified tokens. The gateway checks a cached token for revocation and expiry at each request.
//! So it refuses a revoked or expired token from the next request on.

use std::{convert::Infallible, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use test_support::{pki, tickets::user};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    clock::{Clock, ManualClock, Timestamp},
    layer::{AuthenticateLayer, Authenticator},
    passticket::UserId,
    revocation::{Revocation, RevocationIndex},
    token::{
        IssuedToken, Rs256Verifier, Scopes, SigningKey, TokenFingerprint, TokenIssuer, Validity,
    },
};

struct Setup {
    clock: Arc<ManualClock>,
    issuer: TokenIssuer,
    verifier: Rs256Verifier,
    revocations: Arc<RevocationIndex>,
}

impl Setup {
    fn new() -> Self {
        let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let verifier = Rs256Verifier::new(key.verifying_key())
            .with_clock(clock.clone())
            .with_cache(NonZeroUsize::new(100).unwrap());
        let issuer = TokenIssuer::new(key).with_clock(clock.clone());
        Self { clock, issuer, verifier, revocations: Arc::default() }
    }

    /// Issues a personal access token (PAT) that is valid for one day.
    fn pat(&self, user: &UserId) -> IssuedToken {
        let scopes = Scopes::parse(["files"]).unwrap();
        self.issuer.personal_access_token(user, &scopes, Validity::requested(Some(1))).unwrap()
    }

    /// Sends a request with `token`, and returns the status.
    async fn status(&self, token: &IssuedToken) -> StatusCode {
        let authenticator = Authenticator::new(self.verifier.clone())
            .with_revocations(self.revocations.clone())
            .with_personal_access_tokens(self.revocations.clone());
        let request = Request::get("/")
            .header("authorization", format!("Bearer {}", token.expose()))
            .body(Full::<Bytes>::default())
            .unwrap();
        let empty = |_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) };
        ServiceBuilder::new()
            .layer(AuthenticateLayer::new(authenticator))
            .service(service_fn(empty))
            .oneshot(request)
            .await
            .unwrap()
            .status()
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_the_next_request_on() {
    let setup = Setup::new();
    let user = user("USER");
    let revocation = |token: &IssuedToken| Revocation::Token {
        token: TokenFingerprint::of(token.expose()),
        expires_at: Timestamp::from_secs(1_900_000_000),
    };
    let login = setup.issuer.login_token(&user, "security-domain").unwrap();
    let (revoked_pat, pat_of_revoked_user) = (setup.pat(&user), setup.pat(&user));
    let cases = [
        (&login, revocation(&login)),
        (&revoked_pat, revocation(&revoked_pat)),
        (&pat_of_revoked_user, Revocation::User { user, up_to: setup.clock.now() }),
    ];
    for (token, revocation) in cases {
        for _ in 0..3 {
            assert_eq!(setup.status(token).await, StatusCode::OK, "{revocation:?}");
        }
        setup.revocations.apply(&revocation);
        assert_eq!(setup.status(token).await, StatusCode::UNAUTHORIZED, "{revocation:?}");
    }
}

#[tokio::test]
async fn a_token_is_refused_from_its_expiry_time_on() {
    let setup = Setup::new();
    let token = setup.pat(&user("USER"));
    assert_eq!(setup.status(&token).await, StatusCode::OK);
    setup.clock.advance(Duration::from_millis(24 * 60 * 60 * 1000 - 1));
    assert_eq!(setup.status(&token).await, StatusCode::OK);
    setup.clock.advance(Duration::from_millis(1));
    assert_eq!(setup.status(&token).await, StatusCode::UNAUTHORIZED);
}
