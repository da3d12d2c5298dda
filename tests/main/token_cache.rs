//! A token that is remembered is asked about each time: what is revoked, and what has expired, is
//! refused from the next request on.

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

struct World {
    clock: Arc<ManualClock>,
    issuer: TokenIssuer,
    verifier: Rs256Verifier,
    revocations: Arc<RevocationIndex>,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let verifier = Rs256Verifier::new(key.verifying_key())
            .with_clock(clock.clone())
            .with_cache(NonZeroUsize::new(100).unwrap());
        let issuer = TokenIssuer::new(key).with_clock(clock.clone());
        Self { clock, issuer, verifier, revocations: Arc::default() }
    }

    fn pat(&self, user: &UserId) -> IssuedToken {
        let scopes = Scopes::parse(["files"]).unwrap();
        self.issuer.personal_access_token(user, &scopes, Validity::requested(Some(1))).unwrap()
    }

    async fn status(&self, token: &IssuedToken) -> StatusCode {
        let authenticator = Authenticator::new(self.verifier.clone())
            .with_revocations(self.revocations.clone())
            .with_personal_access_tokens(self.revocations.clone());
        let request = Request::get("/")
            .header("authorization", format!("Bearer {}", token.expose()))
            .body(Full::<Bytes>::default())
            .unwrap();
        let nothing = |_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) };
        ServiceBuilder::new()
            .layer(AuthenticateLayer::new(authenticator))
            .service(service_fn(nothing))
            .oneshot(request)
            .await
            .unwrap()
            .status()
    }
}

#[tokio::test]
async fn what_is_revoked_is_refused_at_once() {
    let world = World::new();
    let user = user("USER");
    let revocation = |token: &IssuedToken| Revocation::Token {
        token: TokenFingerprint::of(token.expose()),
        expires_at: Timestamp::from_secs(1_900_000_000),
    };
    let login = world.issuer.login_token(&user, "security-domain").unwrap();
    let (itself, by_rule) = (world.pat(&user), world.pat(&user));
    let cases = [
        (&login, revocation(&login)),
        (&itself, revocation(&itself)),
        (&by_rule, Revocation::User { user, up_to: world.clock.now() }),
    ];
    for (token, revocation) in cases {
        for _ in 0..3 {
            assert_eq!(world.status(token).await, StatusCode::OK, "{revocation:?}");
        }
        world.revocations.apply(&revocation);
        assert_eq!(world.status(token).await, StatusCode::UNAUTHORIZED, "{revocation:?}");
    }
}

#[tokio::test]
async fn what_has_expired_is_refused_from_its_second_on() {
    let world = World::new();
    let token = world.pat(&user("USER"));
    assert_eq!(world.status(&token).await, StatusCode::OK);
    world.clock.advance(Duration::from_millis(24 * 60 * 60 * 1000 - 1));
    assert_eq!(world.status(&token).await, StatusCode::OK);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.status(&token).await, StatusCode::UNAUTHORIZED);
}
