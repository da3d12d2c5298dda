//! The endpoints of ZAAS, the authentication service of API ML (Zowe's API Mediation Layer). With them, an unmodified
//! gateway of API ML gets PassTickets and tokens from a program that uses this crate.
//!
//! In this module, "the gateway" is the gateway of API ML. With four schemes, the gateway asks ZAAS for the credential
//! that the service receives. For each request of a client to such a service, the gateway sends one of the requests
//! below to ZAAS. It adds the credential of its client, and presents its own TLS certificate:
//!
//! | path | body | success |
//! |---|---|---|
//! | `POST /zaas/scheme/ticket` | `{"applicationName": "APPLID"}` | `{"token": "", "userId", "applicationName", "ticket"}`: a PassTicket |
//! | `POST /zaas/scheme/zoweJwt` | none | `{"cookieName", "headerName": null, "token"}`: a login token |
//! | `POST /zaas/scheme/zosmf` | none | `{"cookieName", "headerName": null, "token"}`: a token of z/OSMF |
//! | `POST /zaas/scheme/safIdt` | `{"applicationName": "APPLID"}` | `{"cookieName": null, "headerName": "X-SAF-Token", "token"}`: a SAF identity token |
//!
//! An APPLID is the name of an application in the security product of z/OS. A PassTicket is a one-time password for an
//! application. z/OSMF is IBM's management server on z/OS. A SAF identity token is a JWT that the security product
//! issues.
//!
//! [`SchemeEndpoints`] answers these requests. It gives each request a [`Route`](crate::layer::Route), and sends the
//! credential of the client through the layers of a proxy: [`AuthenticateLayer`](crate::layer::AuthenticateLayer),
//! [`ScopeLayer`](crate::layer::ScopeLayer) and [`SchemeLayer`](crate::layer::SchemeLayer). So the same code
//! authenticates clients here and on routes. The answers have the same statuses, messages and headers as those of API
//! ML. They do not depend on [`Compatibility`](crate::api::Compatibility) (`docs/reference/zaas-endpoints.md`).
//!
//! - **The gateway** needs a TLS client certificate that has not expired. Without such a certificate, the response has
//!   the status 401. An operator can *name* gateways. A gateway that is no longer named also gets this status.
//! - **The client of the gateway** proves who it is with a token or with a certificate. Any peer that passes the check
//!   above may send a token. The header `Client-Cert` contains the certificate of the client. The layer of
//!   [`trust_layer`] accepts this header only from named gateways. A peer that is not named counts as the client
//!   itself: in a request without a token, the TLS certificate of this peer is the credential. This certificate is no
//!   credential in a request with `Client-Cert` or `X-Service-Id`, because then the peer may be a gateway that the
//!   operator has forgotten to name. The TLS certificate of a named gateway is never a credential. So if a named
//!   gateway sends no credential of its client, the answer is 401.
//! - **Personal Access Tokens** need the header `X-Service-Id`, which counts only if a named gateway sends it. ZAAS
//!   does not see the method and the path of the request to the service. So a scope with a suffix such as `:read`
//!   permits nothing here. Only a scope for the whole service counts ([D49](crate::decisions#d49)).
//! - **Headers:** except for the credential headers `Authorization`, `Cookie` and `PRIVATE-TOKEN`, no header of the
//!   request reaches the layers.
//!
//! Gateways also relay the requests of their clients to the auth API.
//! [`AuthApi::for_zaas`](crate::api::AuthApi::for_zaas) serves these requests.
//! [`Gateway::for_zaas`](crate::gateway::Gateway::for_zaas) is the router in front of the auth API and of
//! [`SchemeEndpoints`].
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::Full;
//! use tower::ServiceExt;
//! use tower_passticket::{
//!     layer::{AuthenticateLayer, Authenticator, PassTicketScheme, Scheme, SchemeLayer, ScopeLayer},
//!     passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator},
//!     token::{Rs256Verifier, ServiceId, SigningKey},
//!     zaas::{SchemeEndpoints, SchemeTarget},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let verifier = Rs256Verifier::new(SigningKey::from_pem(pem.as_bytes())?.verifying_key());
//! let profile = KeyProfile::from_hex(Applid::new("ZOWEAPPL")?, Algorithm::Legacy, "E001193519561977")?;
//! let tickets = LocalGenerator::new(KeyProfiles::new([profile])?);
//! let schemes = move |target: &SchemeTarget, _: Option<&ServiceId>| match target {
//!     SchemeTarget::PassTicket { applid } => {
//!         Some(Arc::new(PassTicketScheme::new(*applid, tickets.clone())) as Arc<dyn Scheme>)
//!     }
//!     _ => None,
//! };
//! let endpoints = SchemeEndpoints::new(
//!     schemes,
//!     AuthenticateLayer::new(Authenticator::new(verifier)),
//!     ScopeLayer::new(),
//!     SchemeLayer::new(),
//! );
//!
//! // The connection has no client certificate.
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let request = Request::post("/zaas/scheme/ticket").body(Full::<Bytes>::default()).unwrap();
//! let response = endpoints.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 401);
//! # });
//! # Ok(())
//! # }
//! ```

mod answer;
mod call;
mod route_cache;
mod service;
mod source;
#[cfg(test)]
mod tests;

pub use service::SchemeEndpoints;
pub use source::{SchemeSource, SchemeTarget};

use crate::layer::{
    ForwardedCertificateLayer, InvalidCertificates, TrustedForwarders, UnlistedPeers,
    VerifyClientCertificate,
};

/// Returns the layer that decides from which gateways it accepts the certificates of clients in `Client-Cert`. Put it
/// in front of [`SchemeEndpoints`] and of the auth API.
///
/// - `gateways` are the gateways that an operator has named. Each other peer acts for itself
///   ([`UnlistedPeers::ActForThemselves`]).
/// - `verifier` checks the certificates in `Client-Cert`. As in API ML, a refused certificate counts as absent, so a
///   token in the same request still counts.
pub fn trust_layer(
    gateways: TrustedForwarders,
    verifier: impl VerifyClientCertificate,
) -> ForwardedCertificateLayer {
    ForwardedCertificateLayer::new(gateways, verifier)
        .with_unlisted_peers(UnlistedPeers::ActForThemselves)
        .with_invalid_certificates(InvalidCertificates::Ignored)
}
