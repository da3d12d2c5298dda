//! A complete gateway in code. Copy this file to start your own gateway.
//!
//! Run `cargo run --example standalone_proxy`. In a second terminal, run
//! `cargo run --example southbound_service`. The gateway listens on port 8080. It forwards requests to the
//! service on port 8081, with PassTickets that the service evaluates. The gateway prints `curl` commands. For
//! TLS, replace `Server::http(listener)` with `Server::https(listener, ServerTls::from_pem(..)?)`.

#![allow(clippy::print_stdout, reason = "the example prints commands to try")]

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use tower::{Service, ServiceBuilder};
use tower_passticket::{
    api::{AuthApi, FileLogin, Password, hash_password},
    gateway::Gateway,
    identity::CommonNameMapper,
    layer::{
        AuthenticateLayer, Authenticator, PassTicketScheme, Route, RouteLayer, Routes,
        SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    revocation::RevocationIndex,
    saf::{AccessLevel, FileSaf, PermittedGenerator, Profile, ProfileName},
    tls::{Connector, Server, Verification},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer, Validity},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!(
        "curl -i -u USER:validPassword -X POST http://127.0.0.1:8080/gateway/api/v1/auth/login"
    );
    println!(
        "curl -i -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/hello/api/v1/hello"
    );
    let shutdown = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    Server::http(listener).run(app("http://127.0.0.1:8081")?, shutdown).await;
    Ok(())
}

/// Serves the auth API, and forwards requests below `/hello/api/v1` to `upstream`.
fn app<B>(
    upstream: &str,
) -> Result<
    impl Service<
        Request<B>,
        Response = Response<ResponseBody>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static,
    BoxError,
>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let applid = Applid::new("ZOWEAPPL")?;
    // In production, read keys from files with mode 0600.
    let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")?
        // With this line, all requests of a user in one second get the same ticket. So the service must accept a ticket
        // more than once (replay). If the service does not, remove this line. The gateway then uses each ticket only
        // once, which limits the number of requests of each user.
        .with_replay(Replay::Allowed);
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
    let key = SigningKey::from_pem(rsa.serialize_pem().as_bytes())?;
    let password = hash_password(&Password::new("validPassword"))?;
    let user = UserId::new("USER")?;

    let verifier = Rs256Verifier::new(key.verifying_key());
    // These permissions are like those in a z/OS security product. ZWESVUSR, the user id of the gateway, may
    // generate tickets for the application ZOWEAPPL. USER may revoke tokens of other users. In production,
    // read the permissions from a file, or ask the security product.
    let gateway = UserId::new("ZWESVUSR")?;
    let saf = FileSaf::new([
        Profile::new("PTKTDATA", ProfileName::new("IRRPTAUTH.ZOWEAPPL.*")?)
            .permit(gateway, AccessLevel::Update),
        Profile::new("ZOWE", ProfileName::new("APIML.SERVICES")?).permit(user, AccessLevel::Update),
    ]);
    let tickets = LocalGenerator::new(KeyProfiles::new([profile])?);
    let tickets = PermittedGenerator::new(tickets, saf.clone(), gateway);
    let route = Route::new(
        ServiceId::new("hello")?,
        "api/v1",
        upstream.parse()?,
        PassTicketScheme::new(applid, tickets.clone()),
    )?;
    // The auth API and the routes share the revocations. So the routes refuse a token as soon as the API has revoked
    // it. In production, use a `DurableStore`, which keeps the revocations after a restart.
    let revocations = Arc::new(RevocationIndex::default());
    let login = FileLogin::new([(user, password)])?;
    let api = AuthApi::new(TokenIssuer::new(key), verifier.clone(), login, revocations.clone())
        .with_passtickets(tickets)
        .with_personal_access_tokens(Validity::MAX)
        .with_saf(saf);
    let authenticator = Authenticator::new(verifier)
        .with_personal_access_tokens(revocations)
        .with_client_certificates(CommonNameMapper);
    // In production, verify the certificates of the services: replace `with_verification` by `with_authorities`, with
    // the certificates of the trusted CAs.
    let connector = Connector::builder().with_verification(Verification::Disabled).build()?;

    let routed = ServiceBuilder::new()
        // `SanitizeLayer` must be the first layer. It removes reserved headers, so that no other layer reads them. It
        // also removes hop-by-hop headers, which must happen before another layer sets headers.
        .layer(SanitizeLayer::new())
        // `RouteLayer` selects the route. `AuthenticateLayer` needs the route, which determines whether a credential is
        // evaluated, and what happens after a failure.
        .layer(RouteLayer::new(Routes::new([route])?))
        // `AuthenticateLayer` verifies the credential, and removes the credentials of the client. So later
        // layers do not see them.
        .layer(AuthenticateLayer::new(authenticator))
        // `ScopeLayer` checks that the scopes of a Personal Access Token include the service of the route.
        .layer(ScopeLayer::new())
        // `SchemeLayer` generates the PassTicket. It is the last layer, because a PassTicket is valid only for
        // a short time.
        .layer(SchemeLayer::new())
        // `Forward` forwards only requests that `SchemeLayer` has marked as ready.
        .service(Forward::new(connector, ForwardTimeouts::default()));
    Ok(Gateway::new(api, routed))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use tower::ServiceExt;

    use super::*;

    /// Returns the `Authorization` header of the request as the body of the response.
    async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let authorization = request.headers().get("authorization");
        let body = authorization.map_or(Bytes::new(), |v| Bytes::copy_from_slice(v.as_bytes()));
        Ok(Response::new(Full::new(body)))
    }

    #[tokio::test]
    async fn a_request_after_login_reaches_the_service_with_a_ticket() -> Result<(), BoxError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let upstream = format!("http://{}", listener.local_addr()?);
        tokio::spawn(Server::http(listener).run(tower::service_fn(echo), std::future::pending()));
        let app = app::<Full<Bytes>>(&upstream)?;

        let login = Request::post("/gateway/api/v1/auth/login")
            .header("host", "localhost")
            .header("authorization", "Basic VVNFUjp2YWxpZFBhc3N3b3Jk")
            .body(Full::default())?;
        let response = app.clone().oneshot(login).await?;
        assert_eq!(response.status(), 204);
        let cookie = response.headers()["set-cookie"].to_str()?.split(';').next().unwrap();

        let request = Request::get("/hello/api/v1/hello")
            .header("host", "localhost")
            .header("cookie", cookie);
        let response = app.oneshot(request.body(Full::default())?).await?;
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await?.to_bytes();
        assert!(body.starts_with(b"Basic "), "{body:?}");
        Ok(())
    }
}
