//! Sends the request through the layers of the gateway, and collects what they have decided.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use passticket_proxy::config::Config;
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};
use tower_passticket::{
    audit::Audit,
    gateway::Gateway,
    layer::{Failure, Rejection},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
};

use super::{
    capture::{Capture, Captured},
    probe::{RecordedSaf, Trace, Traced},
};
use crate::{
    exit::Exit,
    forwarders::Forwarders,
    stack::{self, GatewayAuthenticator, Kept, Parts, routed_stack},
};

/// The time limit for the whole request. Each call of a server has its own limit, which is normally shorter than this
/// limit.
const LIMIT: Duration = Duration::from_secs(60);

/// The servers that the layers wanted to ask. The command has asked none of them.
#[derive(Clone, Default)]
pub(super) struct NotAsked(Arc<Mutex<Vec<Uri>>>);

impl NotAsked {
    pub(super) fn add(&self, uri: &Uri) {
        let mut uris = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !uris.contains(uri) {
            uris.push(uri.clone());
        }
    }

    fn list(&self) -> Vec<Uri> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Marks the response to a request for the gateway's own endpoints. Such a request does not reach the layers
/// for services.
#[derive(Clone, Copy)]
struct AnsweredByGateway;

/// All that is known about the request after its way through the layers.
pub(super) struct Walked {
    pub(super) response: Response<ResponseBody>,
    pub(super) traced: Traced,
    pub(super) captured: Option<Captured>,
    pub(super) not_asked: Vec<Uri>,
}

impl Walked {
    pub(super) fn is_of_gateway(&self) -> bool {
        self.response.extensions().get::<AnsweredByGateway>().is_some()
    }

    pub(super) fn rejection(&self) -> Option<&Rejection> {
        self.response.extensions().get()
    }

    /// Returns why no user or no ticket was found. The gateway may have rejected such a request, or may have
    /// forwarded it.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self.rejection() {
            Some(Rejection::Authentication(failure)) => Some(failure),
            Some(_) => None,
            None => self.response.extensions().get(),
        }
    }
}

pub(super) async fn walk(
    config: &Config,
    parts: &Parts,
    kept: &Kept,
    request: Request<Full<Bytes>>,
    not_asked: &NotAsked,
) -> Result<(Walked, Arc<GatewayAuthenticator>), Exit> {
    let (trace, capture) = (Trace::default(), Capture::default());
    let audit = Audit::to(trace.clone());
    let saf = RecordedSaf { saf: config.saf.clone(), trace: trace.clone() };
    let mut assembled = stack::assemble(config, parts, kept, audit, saf);
    assembled.publish_routes();
    let prefix = assembled.auth_prefix();
    let authenticator = assembled.authenticator.clone();
    let forward = Forward::<_, Full<Bytes>>::new(capture.clone(), ForwardTimeouts::default())
        .with_cookie_names(config.cookies.clone());
    let forwarders = parts.forwarders().map(Forwarders::layer);
    let layers = assembled.layers;
    let routed = routed_stack!(layers, forwarders, |step| trace.probe(step), forward);
    let api = service_fn(|_: Request<Full<Bytes>>| async {
        let mut response = Response::new(ResponseBody::from(Bytes::new()));
        response.extensions_mut().insert(AnsweredByGateway);
        Ok::<_, Infallible>(response)
    });
    let mut gateway = Gateway::new(api, routed).with_auth_prefix(prefix).with_apiml_endpoints();
    if let Some(settings) = &config.ui {
        gateway = gateway.with_pages(settings.path.clone());
    }
    if let Some(policy) = &config.strict_transport_security {
        gateway = gateway.with_strict_transport_security(policy);
    }
    let answered = timeout(LIMIT, gateway.oneshot(request)).await;
    let Ok(response) = answered.map_err(|_| {
        Exit::runtime(format!("the layers have not decided within {} s", LIMIT.as_secs()))
    })?;
    let walked = Walked {
        response,
        traced: trace.take(),
        captured: capture.take(),
        not_asked: not_asked.list(),
    };
    Ok((walked, authenticator))
}
