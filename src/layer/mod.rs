//! Tower layers that replace the credential of the client with the credential that the service expects.
//!
//! ```text
//! SanitizeLayer ─► RouteLayer ─► AuthenticateLayer ─► ScopeLayer ─► SchemeLayer ─► service
//!  removes          finds the     verifies one         checks the    adds the headers
//!  reserved         service and   credential,          scopes of     of the scheme, or
//!  headers,         its scheme    removes all          a PAT         X-Zowe-Auth-Failure
//!  refuses pages                  credentials
//!  of other origins
//! ```
//!
//! PAT is short for Personal Access Token. A scheme ([`Scheme`]) decides which headers a service receives.
//!
//! Each layer except [`SanitizeLayer`] passes its result to later layers as a request extension. In the order of the
//! layers, these are [`Route`], [`Authentication`], [`Authorized`] and [`ReadyToForward`]. Only the layers can create
//! the last three of these types. So a stack with layers in the wrong order forwards no request: it answers 500 and
//! logs the reason. On a route with the scheme [`Bypass`], which needs no credential, such a stack can forward
//! requests.
//!
//! If a layer rejects a request, the [`Rejection`] is an extension of the response. If [`SchemeLayer`] forwards a
//! request with the header `X-Zowe-Auth-Failure`, the [`Failure`] is an extension of the response. [`RequestMetrics`]
//! counts and times requests.
//!
//! If your own handlers answer the requests, end the stack with [`RequireAuthorizedLayer`] instead of [`SchemeLayer`].
//!
//! The layers do not change the body and error types of the inner service. Its response body must implement
//! `From<Bytes>`. If it does not, add [`ResponseBodyLayer`].

pub mod authenticate;
mod authentication;
mod authenticator;
mod body;
mod check;
mod client_cert;
mod compatibility;
pub mod connection;
pub mod cors;
mod cors_rules;
mod credential;
mod cross_origin;
mod failure;
pub mod forwarded_certificate;
mod future;
mod instances;
#[cfg(feature = "proxy")]
mod message;
mod observed;
mod origin;
mod passticket;
mod password;
mod password_form;
mod path;
pub mod protected_resource;
pub mod rate_limit;
mod rejected_request;
mod rejection;
mod request_headers;
pub mod request_metrics;
mod request_rate;
pub mod require_authorized;
pub mod route;
mod route_error;
mod route_limits;
mod routes;
#[cfg(feature = "remote")]
mod saf_idt;
pub mod sanitize;
pub mod scheme;
mod scheme_error;
#[cfg(feature = "remote")]
mod scheme_ticket;
mod schemes;
pub mod scope;
mod service_failure;
mod shared_routes;
mod technical_users;
#[cfg(test)]
mod tests;
mod token_expires;
mod upstream;
mod websocket;
mod x509;
#[cfg(feature = "remote")]
mod zosmf;
mod zowe_jwt;

pub use authenticate::{AuthenticateLayer, AuthenticateService, Authenticating};
pub use authentication::{Authenticated, Authentication, Proof};
pub use authenticator::Authenticator;
pub use body::{ResponseBody, ResponseBodyFuture, ResponseBodyLayer, ResponseBodyService};
pub use check::CheckService;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use client_cert::forwarded_chain;
#[cfg(feature = "proxy")]
pub(crate) use compatibility::NoResponse;
pub use connection::{ConnectionInfoLayer, ConnectionInfoService};
pub use cors::{CorsFuture, CorsLayer, CorsService};
pub use cors_rules::CorsRules;
pub use credential::{Candidate, CookieNames, CredentialChoice, CredentialPlace, PRIVATE_TOKEN};
#[cfg(feature = "api")]
pub(crate) use credential::{login_token, presented_token};
pub use cross_origin::{CrossOriginCounts, ForeignOrigins, OriginPolicy};
pub use failure::{Failure, X_ZOWE_AUTH_FAILURE};
pub use forwarded_certificate::{
    ForwardedCertificateLayer, ForwardedCertificateService, ForwarderName, InvalidCertificates,
    TrustedForwarders, UnlistedPeers, VerifyClientCertificate,
};
pub use future::{LayerFuture, ResponseFuture};
pub use instances::{Balancing, Instance, Instances};
#[cfg(feature = "proxy")]
pub(crate) use message::check_message;
pub use observed::{ObservedCounts, ObservedDecision};
pub use origin::{Origin, OriginError};
pub use passticket::{CustomHeaders, PassTicketScheme};
pub use password::{PasswordError, PasswordFuture, PasswordVerifier};
#[cfg(feature = "api")]
pub(crate) use password_form::may_be_password;
#[cfg(feature = "api")]
pub(crate) use protected_resource::BearerNeeded;
pub use protected_resource::{
    ProtectedResourceFuture, ProtectedResourceLayer, ProtectedResourceService,
};
pub use rate_limit::{RateKey, RateLimitCounts, RateLimitLayer, RateLimitService};
pub use rejection::Rejection;
pub use request_headers::{RequestHeaderError, RequestHeaders};
pub use request_metrics::{
    RequestMetrics, RequestMetricsFuture, RequestMetricsLayer, RequestMetricsService,
    RequestOutcome, ServiceMetricsFuture, ServiceMetricsLayer, ServiceMetricsService,
};
pub use request_rate::RateLimit;
pub use require_authorized::{RequireAuthorizedLayer, RequireAuthorizedService};
pub use route::{RouteLayer, RouteService};
pub use route_error::RouteError;
pub use route_limits::{LimitPathError, LimitReason, RouteLimitCounts, RouteLimits};
#[cfg(all(feature = "api", feature = "proxy"))]
pub(crate) use routes::AcceptedPats;
pub use routes::{
    ClientBasic, EncodedPaths, Mode, OnFailure, Route, Routes, SecurityHeaders, ServiceProtocol,
};
#[cfg(feature = "remote")]
pub use saf_idt::SafIdtScheme;
#[cfg(feature = "proxy")]
pub(crate) use sanitize::AnnouncedTrailers;
pub use sanitize::{SanitizeLayer, SanitizeService};
pub use scheme::{Preparing, ReadyToForward, SchemeLayer, SchemeService};
pub use scheme_error::SchemeError;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub use schemes::TicketAnswer;
pub use schemes::{
    Accepts, Authorization, Bypass, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest,
};
pub use scope::{Authorized, ScopeLayer, ScopeService};
pub use service_failure::ServiceFailure;
pub use shared_routes::SharedRoutes;
pub use technical_users::{TechnicalUserError, TechnicalUserRule, TechnicalUsers};
pub use token_expires::X_ZOWE_TOKEN_EXPIRES;
#[cfg(feature = "api")]
pub(crate) use token_expires::token_expires;
pub use upstream::Upstream;
#[cfg(feature = "proxy")]
pub(crate) use websocket::AsksForWebSocket;
pub use x509::{CertificateHeader, UnknownCertificateHeader, X509Scheme};
#[cfg(feature = "remote")]
pub use zosmf::ZosmfScheme;
pub use zowe_jwt::ZoweJwtScheme;

pub use crate::{compatibility::Compatibility, headers::strip_hop_by_hop};
