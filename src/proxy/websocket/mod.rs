//! WebSocket (RFC 6455) over HTTP/1.1.
//!
//! 1. The handshake is a request like any other: all layers see it, and it is forwarded to the service of its route.
//!    [`ClientUpgrade::begin`] recognizes it, and counts the tunnel toward the limit of its user or client address.
//! 2. If the service answers with status 101, [`ClientUpgrade::switch`] checks this answer, and makes the response to
//!    the client. Any other answer is a normal response.
//! 3. The tunnel ([`tunnel`]) then moves the bytes of both connections without changing them, and tracks the boundaries
//!    of frames ([`frames`]). So the gateway can send a close frame between two frames.
//!
//! The module also ends event streams and calls of gRPC when their credential is no longer valid
//! ([`stream_credential`]).
//!
//! Without [`Forward::with_tunnels`](super::Forward::with_tunnels), a handshake is forwarded without `Upgrade`, as RFC
//! 9110 §7.8 allows. The gateway also removes `Upgrade` for other protocols, and from a handshake that is not correct.

mod counts;
mod credential_check;
mod flow;
mod frames;
mod handshake;
mod proofs;
mod service_upgrade;
mod stream_credential;
mod tunnel;
mod tunnels;

use std::{sync::Arc, time::Duration};

use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE},
};
use hyper::{body::Body, upgrade::OnUpgrade};

pub(super) use self::{
    handshake::InvalidAnswer, service_upgrade::ServiceUpgrade, stream_credential::StreamCredential,
};
pub use counts::TunnelCounts;
#[cfg(feature = "fuzzing")]
pub use frames::track_frames;
#[cfg(feature = "fuzzing")]
pub use handshake::accepts_answer;
pub use tunnels::Tunnels;

use self::{
    handshake::Offer,
    proofs::{Expiry, expiry_of, token_of},
    tunnel::{About, WebSocketTunnel},
    tunnels::{Owner, Place},
};
use super::{response_body::ResponseBody, response_head};
use crate::{
    audit::{AuditRecord, Event, Outcome, RequestId},
    connection::ConnectionInfo,
    layer::{AsksForWebSocket, ReadyToForward, Route},
    log_limit::log_limited,
    messages::{self, ApiMessage},
    request_facts::RequestFacts,
    token::VerifiedToken,
    tunnel::{NewTunnel, RunsTunnels},
};

/// A client's handshake while it is forwarded to the service.
pub(super) struct ClientUpgrade {
    on_upgrade: OnUpgrade,
    /// Whether the HTTP server that accepted the client runs the tunnel. If this is false, the tunnel runs in a task of
    /// its own.
    server_runs: bool,
    offer: Offer,
    place: Place,
    token: Option<VerifiedToken>,
    expiry: Option<Expiry>,
    about: About,
}

impl ClientUpgrade {
    /// Takes the handshake from a request. Returns `None` if the request is not a correct handshake.
    ///
    /// # Errors
    /// The answer to the client if the user has too many tunnels. If there is no user, the tunnels of the client's
    /// address count.
    #[inline]
    pub(super) fn begin<B: Body>(
        tunnels: &Arc<Tunnels>,
        request: &mut Request<B>,
        route: &Route,
    ) -> Result<Option<Box<Self>>, Box<Response<ResponseBody>>> {
        match request.extensions_mut().remove::<AsksForWebSocket>() {
            None => Ok(None),
            Some(AsksForWebSocket) => Self::begin_handshake(tunnels, request, route),
        }
    }

    #[cold]
    fn begin_handshake<B: Body>(
        tunnels: &Arc<Tunnels>,
        request: &mut Request<B>,
        route: &Route,
    ) -> Result<Option<Box<Self>>, Box<Response<ResponseBody>>> {
        // A handshake has no body. If a handshake had a body, the frames would begin after the body.
        let offer = Offer::of(request.headers()).filter(|_| request.body().is_end_stream());
        let (Some(offer), Some(on_upgrade)) = (offer, request.extensions_mut().remove()) else {
            return Ok(None);
        };
        let extensions = request.extensions();
        let authorized = extensions.get().and_then(ReadyToForward::authorized);
        let client = extensions.get().map(ConnectionInfo::client);
        let owner = match (authorized, client) {
            (Some(authorized), _) => Owner::User(*authorized.user()),
            (None, Some(client)) => Owner::of_address(client.ip()),
            (None, None) => Owner::Unknown,
        };
        let request_id = extensions.get::<RequestId>().copied();
        let service = route.service();
        let Some(place) = tunnels.reserve(owner) else {
            let (limit, user) =
                (tunnels.per_user(), authorized.map(|a| tracing::field::display(a.user())));
            let peer = client.map(tracing::field::display);
            log_limited!(warn, ("tunnels per user", service), { %service, user, peer, limit }, "WebSocket refused: the user, or the client address if there is no user, has reached limits.tunnelsPerUser");
            return Err(Box::new(too_many()));
        };
        let proof = authorized.map(|authorized| authorized.proof());
        let token = proof.and_then(token_of);
        let expiry = proof.and_then(expiry_of);
        let record = authorized.filter(|_| tunnels.audit.is_on()).map(|authorized| {
            let record =
                AuditRecord::new(Event::WebSocketClosed, Outcome::Refused, tunnels.audit.now());
            let record = record.with_request(request.method(), request.uri(), extensions);
            Box::new(authorized.add_to_record(record))
        });
        let user = authorized.map(|authorized| *authorized.user());
        let facts = extensions.get::<RequestFacts>().cloned();
        let about = About { service: service.clone(), user, request_id, record, facts };
        let server_runs = extensions.get::<RunsTunnels>().is_some();
        Ok(Some(Box::new(Self { on_upgrade, server_runs, offer, place, token, expiry, about })))
    }

    pub(super) fn add_headers(headers: &mut http::HeaderMap) {
        headers.remove(http::header::TE);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }

    pub(super) fn timeout(&self) -> Duration {
        self.place.tunnels().settings.connect
    }

    /// Makes the response to the client. The tunnel begins when the HTTP server has sent the response.
    ///
    /// # Errors
    /// The reason why the answer of the service is not valid.
    pub(super) fn switch(
        self,
        service: ServiceUpgrade,
        context: &response_head::Context<'_>,
    ) -> Result<Response<ResponseBody>, InvalidAnswer> {
        let ServiceUpgrade { head, connection, in_flight } = service;
        self.offer.check(&head.headers)?;
        let mut response = Response::from_parts(*head, ResponseBody::default());
        *response.version_mut() = Version::HTTP_11;
        // A response with status 101 has no body, so it must not have these headers.
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().remove(TRANSFER_ENCODING);
        // `prepare` fails only if there is a body.
        let _ = response_head::prepare(&mut response, context);
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let registered = self.place.open(self.token);
        if let Some(facts) = &self.about.facts {
            facts.begin_tunnel();
        }
        let tunnel =
            WebSocketTunnel::new(self.on_upgrade, connection, registered, self.expiry, self.about)
                .with_in_flight(in_flight);
        if self.server_runs {
            response.extensions_mut().insert(NewTunnel::new(Box::pin(tunnel)));
        } else {
            tokio::spawn(tunnel);
        }
        Ok(response)
    }
}

fn too_many() -> Response<ResponseBody> {
    let message = ApiMessage::new(&messages::TOO_MANY_WEB_SOCKETS);
    let mut response = message.into_response(StatusCode::TOO_MANY_REQUESTS);
    response.headers_mut().insert(RETRY_AFTER, messages::retry_after(Duration::from_secs(1)));
    response.map(ResponseBody::from)
}
