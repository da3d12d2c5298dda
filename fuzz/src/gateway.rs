//! Makes a gateway for the targets. It is like the gateway of the program, but has fixed keys, no files and no sockets.

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use hyper::rt::{Read, Write};
use tower::{Service, ServiceBuilder};
use tower_passticket::{
    api::{
        AllowList, AuthApi, Delegation, Grant, LoginError, LoginFuture, LoginProvider, Password,
        TokenExchange,
    },
    gateway::Gateway,
    identity::{CommonNameMapper, DistributedIdentity, DistributedMap, Registry},
    layer::{
        AuthenticateLayer, Authenticator, Bypass, OnFailure, PassTicketScheme, Route, RouteLayer,
        Routes, SanitizeLayer, SchemeLayer, ScopeLayer, Upstream,
    },
    passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    revocation::RevocationIndex,
    saf::{AccessLevel, FileSaf, Profile, ProfileName},
    token::{ServiceId, TokenIssuer, Validity},
};

use crate::support::{KEY, clock, verifier};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) const PASSWORD: &str = "validPassword";
/// The e-mail address of the user `OTHER`.
pub(crate) const EMAIL: &str = "user@example.com";
/// The name of the z/OS application for which the gateway makes PassTickets (one-time passwords of z/OS).
pub(crate) const APPLID: &str = "ZOWEAPPL";
/// The host and the port of the service. All routes lead to this service.
pub(crate) const SERVICE: &str = "service:1234";

/// A login provider that accepts [`PASSWORD`], and refuses to change it to `weak`.
#[derive(Clone, Copy)]
pub(crate) struct Passwords;

impl LoginProvider for Passwords {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        let is_right = password.expose() == PASSWORD.as_bytes();
        Box::pin(ready(if is_right { Ok(user) } else { Err(LoginError::WrongCredentials) }))
    }

    fn change_password(&self, user: UserId, old: Password, new: Password) -> Option<LoginFuture> {
        Some(match new.expose() {
            b"weak" => Box::pin(ready(Err(LoginError::NewPasswordRefused))),
            _ => self.login(user, old),
        })
    }
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid user id")
}

pub(crate) fn profile() -> KeyProfile {
    let applid = Applid::new(APPLID).expect("a valid APPLID");
    KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")
        .expect("a valid key")
        .with_replay(Replay::Allowed)
}

fn tickets() -> LocalGenerator {
    let profiles = KeyProfiles::new([profile()]).expect("a single profile has no duplicates");
    LocalGenerator::new(profiles).with_clock(clock())
}

/// Makes the auth API with all endpoints on.
pub(crate) fn api(revocations: Arc<RevocationIndex>) -> AuthApi {
    let permit = |resource: &str, level| {
        let name = ProfileName::new(resource).expect("a valid profile name");
        Profile::new("ZOWE", name).permit(user("USER"), level)
    };
    let saf = FileSaf::new([
        permit("APIML.SERVICES", AccessLevel::Update),
        permit("APIML.DELEGATE.PASSTICKET", AccessLevel::Read),
    ]);
    let registry = Registry::new("ldap://registry").expect("a valid registry");
    let identity = DistributedIdentity::in_registry(EMAIL, &registry).expect("a valid identity");
    let map = DistributedMap::new([(identity, user("OTHER"))])
        .expect("a single identity has no duplicates");
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock());
    AuthApi::new(issuer, verifier(), Passwords, revocations)
        .with_passtickets(tickets())
        .with_saf(saf)
        .with_personal_access_tokens(Validity::MAX)
        .with_token_refresh()
        .with_delegation(Delegation::new(map, registry))
        .with_token_exchange(
            TokenExchange::new()
                .with_grants([Grant::to_user(user("USER"), AllowList::Any, AllowList::Any)])
                .with_services(
                    Applid::new(APPLID).expect("a valid APPLID"),
                    [ServiceId::new("svc").expect("a valid service id")],
                ),
        )
        .with_client_certificates(CommonNameMapper)
        .with_clock(clock())
}

/// The routes: one for each way to handle a failed authentication, and the route `open` without authentication.
static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let applid = Applid::new(APPLID).expect("a valid APPLID");
    let route = |service: &str, on_failure| {
        let upstream =
            Upstream::parse(&format!("http://{SERVICE}/{service}")).expect("a valid URL");
        let service = ServiceId::new(service).expect("a valid service id");
        let scheme = PassTicketScheme::new(applid, tickets());
        let route = Route::new(service, "api/v1", upstream, scheme).expect("a valid route");
        route.with_on_failure(on_failure)
    };
    let routes = [
        route("svc", OnFailure::Forward),
        route("same", OnFailure::ForwardUnchanged),
        route("strict", OnFailure::Reject),
        route("open", OnFailure::Forward).with_scheme(Bypass),
    ];
    Routes::new(routes).expect("each prefix is unique")
});

/// The requests that the gateway received, and the requests that it forwarded.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Entries>>);

#[derive(Clone, Default)]
pub(crate) struct Entries {
    /// The methods of all received requests, in order.
    pub(crate) received: Vec<http::Method>,
    /// The method and the target of each request that reached [`Forward`], in the form that the service receives.
    pub(crate) forwarded: Vec<(http::Method, String)>,
}

impl Log {
    pub(crate) fn entries(&self) -> Entries {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, add: impl FnOnce(&mut Entries)) {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Makes a gateway with the auth API and the routes. `connector` connects to the service.
pub(crate) fn gateway<C, B>(
    connector: C,
    log: Log,
) -> impl Service<
    Request<B>,
    Response = Response<ResponseBody>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let revocations = Arc::new(RevocationIndex::default());
    let authenticator = Authenticator::new(verifier())
        .with_personal_access_tokens(revocations.clone())
        .with_client_certificates(CommonNameMapper)
        .with_clock(clock());
    let forwarded = log.clone();
    let routed = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(ROUTES.clone()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .map_request(move |request: Request<B>| {
            if let Some(route) = request.extensions().get::<Arc<Route>>() {
                let target = route.southbound_path(request.uri());
                let method = request.method().clone();
                forwarded.add(|entries| entries.forwarded.push((method, target)));
            }
            request
        })
        .service(Forward::new(connector, ForwardTimeouts::default()));
    ServiceBuilder::new()
        .map_request(move |request: Request<B>| {
            let method = request.method().clone();
            log.add(|entries| entries.received.push(method));
            request
        })
        .service(Gateway::new(api(revocations), routed))
}
