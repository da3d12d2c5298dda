//! Answers, in the new process, what the [`relay`](super::relay) of the old process sends: requests of clients, and
//! requests for PassTickets and revocations.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tower::util::Oneshot;
use tower_passticket::{
    connection::TrustedProxies,
    passticket::{Applid, UserId},
    proxy::ResponseBody,
    revocation::RevocationFeed,
    tls::SettingsHandle,
};

use super::{
    hand_over::HandOver,
    relay::{
        CONNECTION_WINDOW, Listener, MAX_STREAMS, ORIGIN, Origin, STREAM_WINDOW, Wanted,
        unavailable,
    },
};
use crate::gateway_service::GatewayService;

/// The services that answer relayed requests: one for each listener.
#[derive(Clone)]
pub(crate) struct RelayedServices<G, Z> {
    pub(crate) gateway: RelayedService<G>,
    /// `None` if this process has no port for gateways of API ML.
    pub(crate) zaas: Option<RelayedService<Z>>,
}

/// A Tower service, and the settings with which this process checks the client of a relayed request.
#[derive(Clone)]
pub(crate) struct RelayedService<S> {
    pub(crate) service: S,
    pub(crate) proxies: Option<TrustedProxies>,
    /// The settings that verify client certificates.
    pub(crate) settings: SettingsHandle,
}

/// Answers the relayed requests of the old process, until the old process ends.
pub(super) async fn serve(
    stream: UnixStream,
    services: RelayedServices<impl GatewayService, impl GatewayService>,
    hand_over: HandOver,
    feed: RevocationFeed,
) {
    let feed = Arc::new(Mutex::new(Some(feed)));
    let answer = service_fn(move |request: Request<Incoming>| {
        answer(request, services.clone(), hand_over.clone(), feed.clone())
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(1024 * 1024)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    match served {
        Ok(()) => tracing::info!("the old process has ended"),
        Err(error) => tracing::info!(%error, "the old process has ended"),
    }
}

async fn answer(
    mut request: Request<Incoming>,
    services: RelayedServices<impl GatewayService, impl GatewayService>,
    hand_over: HandOver,
    feed: Arc<Mutex<Option<RevocationFeed>>>,
) -> Result<Response<ResponseBody>, Infallible> {
    let wanted = request.headers_mut().remove(ORIGIN);
    match wanted.as_ref().and_then(Wanted::from_header) {
        Some(Wanted::Answer(origin)) => match origin.listener {
            Listener::Gateway => services.gateway.answer(request, origin).await,
            Listener::Zaas => match services.zaas {
                Some(zaas) => zaas.answer(request, origin).await,
                // The new configuration has switched the port off.
                None => Ok(unavailable()),
            },
        },
        Some(Wanted::Ticket { user, applid }) => Ok(ticket(&hand_over, user, applid).await),
        // The old process asks for the revocations once.
        Some(Wanted::Revocations) => {
            let feed = feed.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(feed.map_or_else(unavailable, |feed| {
                Response::new(ResponseBody::new(Revocations(feed)))
            }))
        }
        // The header is missing or malformed. This does not happen, because the old process runs this program, too.
        None => Ok(unavailable()),
    }
}

impl<S: GatewayService> RelayedService<S> {
    async fn answer(
        self,
        mut request: Request<Incoming>,
        origin: Origin,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let Origin { mut connection, certificate, .. } = origin;
        if let Some(proxies) = &self.proxies {
            connection = connection.with_trusted_proxies(proxies, request.headers());
        }
        request.extensions_mut().insert(connection);
        // Check the certificate again: the old process may have other certificate authorities and revocation lists.
        if let Some(certificate) = certificate
            && self.settings.accepts_client(&certificate)
        {
            request.extensions_mut().insert(certificate);
        }
        Oneshot::new(self.service, request).await
    }
}

async fn ticket(hand_over: &HandOver, user: UserId, applid: Applid) -> Response<ResponseBody> {
    let (status, text) = match hand_over.ticket(&user, &applid).await {
        Some(Ok(ticket)) => (StatusCode::OK, ticket.expose().to_owned()),
        Some(Err(error)) => (StatusCode::CONFLICT, error.to_string()),
        None => (StatusCode::CONFLICT, "the new process has no PassTicket keys".to_owned()),
    };
    let mut response = Response::new(Bytes::from(text).into());
    *response.status_mut() = status;
    response
}

/// A body with one line for each revocation.
struct Revocations(RevocationFeed);

impl Body for Revocations {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = ready!(self.0.poll_next(cx));
        Poll::Ready(next.map(|revocation| Ok(Frame::data(format!("{revocation}\n").into()))))
    }
}
