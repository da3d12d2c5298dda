//! Helpers for tests of handlers and schemes: authorized users, tokens and a signing key.
//!
//! Enable the feature `test-util` only in `[dev-dependencies]`:
//!
//! ```toml
//! [dev-dependencies]
//! tower-passticket = { version = "0.1", features = ["test-util"] }
//! ```
//!
//! A handler reads [`Authorized`] from the extensions of its request. A test inserts an `Authorized` there:
//!
//! ```
//! use http::{Request, Response};
//! use tower_passticket::{layer::Authorized, test_util};
//!
//! fn handler(request: &Request<()>) -> Response<String> {
//!     let authorized = request.extensions().get::<Authorized>().unwrap();
//!     Response::new(format!("hello {}", authorized.user()))
//! }
//!
//! let mut request = Request::new(());
//! request.extensions_mut().insert(test_util::authorized("USER"));
//! assert_eq!(handler(&request).body(), "hello USER");
//! ```
//!
//! This feature does not weaken the layers: only [`ScopeLayer`] can create an [`Authorized`]. So the functions run the
//! real layers. The signing key of the functions is not secret, because it is in this repository. **Never trust this
//! key outside of tests.**
//!
//! # Panics
//! The functions panic if a name or a scope is not valid, or if there is no scope. They also panic if the layers
//! authorize no user on the route. This occurs if the scheme of the route is bypass, if the route is out of service, or
//! if the limits of the route refuse the request.

use std::{
    convert::Infallible,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

use crate::{
    layer::{
        AuthenticateLayer, Authenticator, Authorized, PRIVATE_TOKEN, Route, RouteLayer, ScopeLayer,
    },
    passticket::{Algorithm, Applid, KeyProfile, Replay, UserId},
    revocation::RevocationIndex,
    token::{
        Rs256Verifier, Scope, ScopeAccess, Scopes, ServiceId, SigningKey, TokenIssuer, Validity,
    },
};

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    SigningKey::from_pem(include_bytes!("signing_key.pem")).expect("the file is a key of 2048 bits")
});

/// Returns a signing key for tests. It is not secret, because it is in this repository.
pub fn signing_key() -> SigningKey {
    KEY.clone()
}

/// Returns an issuer that signs tokens with [`signing_key`].
pub fn issuer() -> TokenIssuer {
    TokenIssuer::new(signing_key())
}

/// Returns a verifier that accepts the tokens of [`issuer`].
pub fn verifier() -> Rs256Verifier {
    Rs256Verifier::new(KEY.verifying_key())
}

/// Issues a login token of `user`. Send it in `Authorization: Bearer`, or in the login cookie.
pub fn login_token(user: &str) -> String {
    let token = issuer().login_token(&user_id(user), "test");
    token.expect("the key signs").expose().to_owned()
}

/// Issues a Personal Access Token of `user` with these scopes. Send it in the header `PRIVATE-TOKEN`.
pub fn personal_access_token(user: &str, scopes: &[&str]) -> String {
    let scopes = Scopes::parse(scopes).expect("there is at least one scope, and each is valid");
    let token = issuer().personal_access_token(&user_id(user), &scopes, Validity::MAX);
    token.expect("the key signs").expose().to_owned()
}

/// Returns a profile with a PassTicket key for `applid`. The key is not secret. The profile allows replay, so that
/// tests need not wait for the next second to make another PassTicket.
pub fn key_profile(applid: &str) -> KeyProfile {
    let applid = Applid::new(applid).expect("the name is an APPLID");
    KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")
        .expect("the key has 16 digits")
        .with_replay(Replay::Allowed)
}

/// Returns the `Authorized` that the layers create if `user` sends a login token to the service `test`.
pub fn authorized(user: &str) -> Authorized {
    authorized_on(Route::local(service_id("test")), user)
}

/// Returns the `Authorized` that the layers create if `user` sends a login token to the service of `route`. Use it to
/// test a [`Scheme`](crate::layer::Scheme) behind [`SchemeLayer`](crate::layer::SchemeLayer).
pub fn authorized_on(route: Route, user: &str) -> Authorized {
    let bearer = format!("Bearer {}", login_token(user));
    run(route, Request::get("/").header("authorization", bearer))
}

/// Returns the `Authorized` that the layers create if `user` sends a Personal Access Token with these scopes, in a
/// `GET` request that the first scope permits.
pub fn authorized_by_pat(user: &str, scopes: &[&str]) -> Authorized {
    let first = scopes.first().expect("a PAT has at least one scope");
    let first = Scope::new(first).expect("the text is a scope");
    let path = match first.access() {
        ScopeAccess::Path(path) => path.as_str(),
        _ => "/",
    };
    let route = Route::local(first.service().clone());
    let path = format!("{}{path}", route.prefix());
    let token = personal_access_token(user, scopes);
    run(route, Request::get(path).header(&PRIVATE_TOKEN, token))
}

fn user_id(user: &str) -> UserId {
    UserId::new(user).expect("the name is a user id")
}

fn service_id(service: &str) -> ServiceId {
    ServiceId::new(service).expect("the name is a service id")
}

/// Sends a request through the layers, and returns the `Authorized` that they create.
fn run(route: Route, request: http::request::Builder) -> Authorized {
    let inner = service_fn(|request: Request<()>| async move {
        let mut response = Response::new(Bytes::new());
        if let Some(authorized) = request.extensions().get::<Authorized>() {
            response.extensions_mut().insert(authorized.clone());
        }
        Ok::<_, Infallible>(response)
    });
    let authenticator =
        Authenticator::new(verifier()).with_personal_access_tokens(RevocationIndex::default());
    let stack = ScopeLayer::new().layer(inner);
    let stack = AuthenticateLayer::new(authenticator).layer(stack);
    let stack = RouteLayer::fixed(route).layer(stack);
    let request = request.body(()).expect("a token is a header value");
    let mut context = Context::from_waker(Waker::noop());
    match pin!(stack.oneshot(request)).poll(&mut context) {
        Poll::Ready(Ok(mut response)) => {
            response.extensions_mut().remove().expect(
                "the route authorizes no user: it has the scheme bypass, is out of service, or its limits refuse the request",
            )
        }
        Poll::Pending => unreachable!("no layer here waits"),
    }
}
