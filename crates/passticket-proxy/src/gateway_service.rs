//! The service that the worker threads run.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use tower_passticket::proxy::ResponseBody;
use tower_service::Service;

/// A service that answers each request of a client. Each connection has a clone of it.
pub(crate) trait GatewayService:
    Service<
        Request<Incoming>,
        Response = Response<ResponseBody>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<S> GatewayService for S where
    S: Service<
            Request<Incoming>,
            Response = Response<ResponseBody>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}
