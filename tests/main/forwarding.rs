//! A stack of layers that only routes and forwards requests. It does not authenticate.

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{Service, ServiceBuilder};
use tower_passticket::{
    layer::{Route, RouteLayer, Routes, Scheme, Upstream},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    tls::{Connector, Verification},
    token::ServiceId,
};

use crate::PATIENCE;

pub(crate) fn forward<B, S>(
    url: &str,
    scheme: S,
    connector: Connector,
    timeouts: ForwardTimeouts,
) -> impl Service<Request<B>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ use<B, S>
where
    S: Scheme,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let service = ServiceId::new("svc").unwrap();
    let route = Route::new(service, "", Upstream::parse(url).unwrap(), scheme).unwrap();
    ServiceBuilder::new()
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .service(Forward::new(connector, timeouts))
}

pub(crate) fn unverified() -> Connector {
    verified(Verification::Disabled, "")
}

/// Returns a connector that verifies the certificates of services with the certificates `authorities` (PEM).
/// `verification` determines what the connector verifies.
pub(crate) fn verified(verification: Verification, authorities: &str) -> Connector {
    Connector::builder()
        .with_verification(verification)
        .with_authorities(authorities.as_bytes())
        .with_connect_timeout(PATIENCE)
        .build()
        .unwrap()
}
