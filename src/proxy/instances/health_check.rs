//! Active health checks: asks each instance regularly whether it works.

use std::{fmt, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, CONNECTION, HOST},
    uri::PathAndQuery,
};
use http_body_util::Empty;
use hyper::{
    client::conn::http1,
    rt::{Read, Write},
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tower::{BoxError, ServiceExt};
use tower_service::Service;

use super::{state::InstanceState, states::InstanceStates};
use crate::{error_chain::ErrorChain, layer::Upstream, log_limit::log_limited, token::ServiceId};

const MAX_HEAD: usize = 16 * 1024;

/// Asks the instances of services regularly whether they work, over connections of its own.
///
/// A check succeeds if the instance responds in time with a status below 500. After two failed checks in a row, the
/// instance is not healthy until a check succeeds. An instance that is not healthy gets requests only if no other
/// instance is healthy, or if a client chooses it.
///
/// A status such as 401 or 404 also shows that the instance responds. The health URL often comes from a static
/// definition of API ML (a YAML file of Zowe's API Mediation Layer that describes a service). API ML never requests
/// this URL, so the URL may need a login or may be wrong.
///
/// `C` is the connector, as in [`Forward`](super::super::Forward).
#[derive(Clone)]
pub struct HealthCheck<C> {
    connector: C,
    states: Arc<InstanceStates>,
    interval: Duration,
    timeout: Duration,
}

impl<C> HealthCheck<C> {
    /// Creates checks that connect with `connector` and report to `states`. Each instance is checked every 10 s. A
    /// check may take 5 s.
    pub fn new(connector: C, states: Arc<InstanceStates>) -> Self {
        Self {
            connector,
            states,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }

    /// Sets the time between the beginnings of two checks of an instance. If a check takes longer than this time, the
    /// next check begins directly after it.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(1)), ..self }
    }

    /// Sets how long a check may take, from connecting to the head of the response.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl<C> HealthCheck<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
{
    /// Checks the instance of `service` at `upstream` by requesting `url`. The future runs until it is dropped. The
    /// checks of one future run one after the other.
    ///
    /// When the last future for an instance is dropped, the gateway forgets the failed checks of this instance. To
    /// change the settings of a check, call this function for the new check before you drop the old future.
    pub fn run(
        self,
        service: ServiceId,
        upstream: Upstream,
        url: Uri,
    ) -> impl Future<Output = ()> + Send {
        let (_, states) = self.states.of(&service, [&upstream].into_iter());
        let checked = states.first().map(InstanceState::begin_check);
        async move {
            if let Some(checked) = checked {
                self.run_checks(&service, &upstream, &url, checked.state()).await;
            }
        }
    }

    async fn run_checks(
        self,
        service: &ServiceId,
        upstream: &Upstream,
        url: &Uri,
        state: &InstanceState,
    ) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let result = timeout(self.timeout, check(self.connector.clone(), url)).await;
            let result = result.unwrap_or(Err(CheckError::TimedOut(self.timeout)));
            report(service, upstream, state, result);
        }
    }
}

fn report(
    service: &ServiceId,
    upstream: &Upstream,
    state: &InstanceState,
    result: Result<(), CheckError>,
) {
    let has_changed = state.set_checked(result.is_ok());
    match result {
        Ok(()) if has_changed => {
            tracing::info!(%service, %upstream, "instance is healthy");
        }
        Err(error) if has_changed => {
            let cause = ErrorChain(&error);
            log_limited!(warn, ("check", service, upstream.to_string()), { %service, %upstream, %cause }, "instance is not healthy: its health check failed");
        }
        _ => {}
    }
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("cannot connect")]
    Connect(#[source] BoxError),
    #[error("no response")]
    Exchange(#[source] hyper::Error),
    #[error("the status of the response is {0}")]
    Status(StatusCode),
    #[error("the check took longer than {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("the URL of the check is malformed")]
    Url(#[source] http::Error),
}

/// Requests `url`. The connection is closed afterwards.
async fn check<C>(connector: C, url: &Uri) -> Result<(), CheckError>
where
    C: Service<Uri, Error: Into<BoxError>>,
    C::Response: Read + Write + Unpin,
{
    let io = connector.oneshot(url.clone()).await;
    let io = io.map_err(|error| CheckError::Connect(error.into()))?;
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(io);
    let (mut sender, connection) = handshake.await.map_err(CheckError::Exchange)?;
    let target = url.path_and_query().map_or("/", PathAndQuery::as_str);
    let host = url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, HeaderValue::from_static("*/*"))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(CheckError::Url)?;
    // The connection has no task of its own, so it ends together with this check.
    let (mut response, mut connection) = (pin!(sender.send_request(request)), pin!(connection));
    let response = poll_fn(|cx| {
        if let ready @ Poll::Ready(_) = response.as_mut().poll(cx) {
            return ready;
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // The connection may have ended after it received the response.
            Poll::Ready(Ok(())) | Poll::Pending => response.as_mut().poll(cx),
        }
    });
    let response = response.await.map_err(CheckError::Exchange)?;
    // No standard defines 600 to 999, so such a status is also an error.
    match response.status() {
        status if status.as_u16() < 500 => Ok(()),
        status => Err(CheckError::Status(status)),
    }
}

impl<C> fmt::Debug for HealthCheck<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCheck")
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn a_check_succeeds_if_the_status_is_below_500() {
        for (status, want) in [
            (200, true),
            (302, true),
            (401, true),
            (404, true),
            (499, true),
            (500, false),
            (503, false),
            (599, false),
            (600, false),
            (999, false),
        ] {
            let connector = service_fn(move |_: Uri| {
                let (ours, mut theirs) = duplex(1024);
                tokio::spawn(async move {
                    theirs.read_u8().await.unwrap();
                    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    theirs.write_all(head.as_bytes()).await.unwrap();
                    theirs.read_to_end(&mut Vec::new()).await.unwrap();
                });
                async { Ok::<_, io::Error>(TokioIo::new(ours)) }
            });
            let result = check(connector, &Uri::from_static("http://service/health")).await;
            assert_eq!(result.is_ok(), want, "{status}: {result:?}");
        }
    }
}
