//! One exchange with a service: the gateway connects to an instance, sends the request, and waits for the head of the
//! response (its status and headers).
//!
//! A request is sent again in these cases ([D29](crate::decisions#d29)). In cases 1 to 3, each repetition takes one
//! retry from the [budget](super::instances) of the service.
//!
//! 1. **No connection**: nothing was sent, so a request of any method is sent to another instance, with the same
//!    credential. If no other instance may get the request, and this instance has refused the connection, the gateway
//!    connects to this instance once more. A new connection that closes before the request is sent counts as refused.
//!    If connecting takes too long, the request is not sent again.
//! 2. **The connection ended before a byte of the response**:
//!    - A request with an idempotent method and without a body is sent to another instance. If its user is sticky (all
//!      requests of this user go to one instance), it is sent to the same instance again.
//!    - If no other instance may get such a request, the pool sends it again over a new connection ([`resend`]). The
//!      pool also sends a request with a body again, if the method is idempotent and no byte of the body was sent. Any
//!      other request is sent again only if no byte of it was sent. The pool sends no request again if the first
//!      connection was a new HTTP/1.1 connection.
//!
//!    Some services accept a credential only once. If such a service may have received the credential of the request,
//!    the request first gets a new credential.
//! 3. **The service has not processed the request** (HTTP/2 only): a request of any method is sent to another instance,
//!    with the same credential. If no other instance may get the request, the same instance gets it. The request of a
//!    sticky user also stays at its instance if the instance only replaces its connections (GOAWAY).
//! 4. **An idle connection was closed before the request was sent**: the gateway uses another connection.

use std::{
    error::Error as StdError,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode, Uri, Version, header::HOST, request, uri::PathAndQuery};
use hyper::{
    body::{Body, Incoming},
    rt::{Read, Write},
};
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{
    counts::Retry,
    credential::Credential,
    instances::{InFlight, ServiceTargets, Target},
    pool::{
        ConnectError, Connected, Connecting, GivenBack, PooledConnection, Resend, Sending,
        WhyGivenBack,
    },
    request_body::{Progress, RequestBody},
    response_body::ResponseBody,
    websocket::ServiceUpgrade,
};
use crate::{
    error_chain::ErrorChain,
    layer::Upstream,
    log_limit::log_limited,
    passticket::{Replay, UserId},
};

/// To eject an instance means to send it no requests for some time. The gateway ejects an instance that had at least
/// this time to accept a connection, and did not accept it. If the response timeout is shorter than this time, the
/// gateway uses the response timeout instead.
const MIN_CONNECT_TIME: Duration = Duration::from_secs(1);

pub(super) struct Exchange<C, B> {
    attempt: Attempt<C, B>,
    state: State<B>,
}

enum State<B> {
    Connecting {
        connecting: Connecting<RequestBody<B>>,
        request: Box<Request<RequestBody<B>>>,
    },
    /// The request was passed to the connection, but the connection has not been polled since then.
    Queued(InUse<B>),
    Sending(InUse<B>),
    /// The request is sent again as soon as the scheme has made another credential. `error` is the error of the first
    /// attempt.
    Renewing {
        request: Box<Request<RequestBody<B>>>,
        error: hyper::Error,
    },
    Done,
}

struct InUse<B> {
    sending: Sending<RequestBody<B>>,
    connection: Box<PooledConnection<RequestBody<B>>>,
    /// Whether the connection has already carried a request, or uses HTTP/2.
    is_reused: bool,
}

/// The instance to which a request is sent, and what is necessary to send it again.
pub(super) struct Attempt<C, B> {
    targets: Arc<ServiceTargets<C, B>>,
    /// The position of the instance in `targets`.
    at: usize,
    /// The user of the request. On a route with sticky users, the user decides which instance gets the request.
    user: Option<UserId>,
    /// The time when the gateway began to send the request to this instance.
    began: Instant,
    /// The time that the instance may take to answer after the last part of the request was sent.
    timeout: Duration,
    in_flight: Option<InFlight>,
    /// Whether the service accepts the credential of the request more than once.
    replay: Replay,
    may_move: bool,
    /// Whether the request has used its only retry after a failure to connect.
    has_connected_again: bool,
    /// The head of a request that may be sent again by [`Exchange::send_again`].
    copy: Option<Box<request::Parts>>,
    /// The time until which the request may wait for a connection. This time is set when the request first needs a new
    /// connection. A request may have to wait several times, and all its waits end at this time.
    queue_deadline: Option<Instant>,
}

pub(super) enum ExchangeError {
    Connect(ConnectError),
    /// The exchange failed before the end of the response's head or directly after it. For example, the connection
    /// failed, the head is malformed, or the gateway could not read the body of the request.
    Interrupted(hyper::Error),
    /// The service answered with status 101. If the request had no `Upgrade`, this is an error (RFC 9110 §7.8). The
    /// gateway cannot send this status to an HTTP/2 client, because HTTP/2 does not have it (RFC 9113 §8.6).
    SwitchedProtocols(ServiceUpgrade),
    TimedOut,
}

impl<C, B> Attempt<C, B> {
    /// Creates a first attempt at the instance `at`. If the client has chosen this instance, `is_chosen_by_client` is
    /// true, and no other instance gets the request.
    pub(super) fn new(
        targets: Arc<ServiceTargets<C, B>>,
        at: usize,
        user: Option<UserId>,
        is_chosen_by_client: bool,
        replay: Replay,
        timeout: Duration,
        progress: &Progress,
    ) -> Self {
        let in_flight = targets.begin(at);
        let may_move = targets.are_several() && !is_chosen_by_client;
        Self {
            targets,
            at,
            user,
            began: progress.deadline(Duration::ZERO),
            timeout,
            in_flight,
            replay,
            may_move,
            has_connected_again: false,
            copy: None,
            queue_deadline: None,
        }
    }

    fn target(&self) -> &Target<B> {
        self.targets.get(self.at)
    }

    /// Returns whether the request has a user whose requests all go to the same instance.
    fn is_sticky(&self) -> bool {
        self.targets.is_sticky() && self.user.is_some()
    }

    /// Takes a retry from the budget of the service. Returns false if the budget is used up.
    #[cold]
    fn withdraw(&self, why: Retry) -> bool {
        let (service, counts) = (self.targets.service(), &self.targets.pool.settings().counts);
        let is_allowed = self.targets.budget.withdraw();
        if is_allowed {
            counts.add_retry(why);
        } else {
            counts.add_refused_retry();
            log_limited!(warn, ("retry budget", service), { %service }, "request not sent again: the retry budget of the service is used up");
        }
        is_allowed
    }

    /// Returns whether a request of which nothing was sent may be sent again. Returns true at most once for each
    /// request. If the budget has no retry, returns false.
    #[cold]
    fn may_connect_again(&mut self) -> bool {
        let may_connect = !self.has_connected_again && self.withdraw(Retry::Refused);
        self.has_connected_again |= may_connect;
        may_connect
    }

    /// Begins to send the request again.
    ///
    /// # Errors
    /// [`ExchangeError::TimedOut`] if the time for the response has passed. After this time, a new connection is always
    /// too late.
    #[cold]
    fn begin_again(&mut self, progress: &Progress) -> Result<(), ExchangeError> {
        let now = Instant::now();
        if progress.deadline(self.timeout) <= now {
            return Err(ExchangeError::TimedOut);
        }
        if let Some(facts) = progress.facts() {
            facts.add_retry();
        }
        self.began = now;
        Ok(())
    }

    /// Records that the instance has answered. Returns the [`InFlight`], which the response keeps until its end.
    fn set_reached(&mut self) -> Option<InFlight> {
        self.target().state.set_reached(self.began);
        self.in_flight.take()
    }

    #[cold]
    fn eject(&self, cause: &(dyn StdError + 'static)) {
        let ejected = self.target().state.set_unreachable(self.began, Instant::now());
        if ejected.is_some() {
            self.targets.pool.settings().counts.add_ejection();
        }
        if let Some(ejected) = ejected
            && self.targets.are_several()
        {
            let (service, upstream) = (self.targets.service(), self.target().upstream());
            let (cause, retry_after) = (ErrorChain(cause), ejected);
            log_limited!(warn, ("ejected", service, upstream.to_string()), { %service, %upstream, ?retry_after, %cause }, "instance ejected: cannot connect to it");
        }
    }

    /// Chooses another instance, and changes `request` so that it can be sent there.
    #[cold]
    fn move_on<T>(&mut self, request: &mut Request<T>) {
        let at = self.targets.choose_other(self.user, self.at);
        let old = self.target().upstream().base_path().to_owned();
        (self.at, self.in_flight) = (at, self.targets.begin(at));
        let new = self.target();
        request.headers_mut().insert(HOST, new.host.host().clone());
        if let Some(uri) = with_base_path(request.uri(), &old, new.upstream().base_path()) {
            *request.uri_mut() = uri;
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection was not open in time")]
struct NotInTime;

/// Replaces the base path `old` of a request target by `new`. Returns `None` if the target does not change.
fn with_base_path(uri: &Uri, old: &str, new: &str) -> Option<Uri> {
    if old == new {
        return None;
    }
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = target.strip_prefix(old)?;
    let separator = if new.is_empty() && !rest.starts_with('/') { "/" } else { "" };
    format!("{new}{separator}{rest}").parse().ok()
}

impl<C, B> Exchange<C, B> {
    pub(super) fn upstream(&self) -> &Upstream {
        self.attempt.target().upstream()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.attempt.timeout
    }
}

impl<C, B> Exchange<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Begins an exchange over a connection of the pool, or over a new connection if the pool has none.
    pub(super) fn begin(
        mut attempt: Attempt<C, B>,
        request: Request<RequestBody<B>>,
        progress: &Progress,
    ) -> Self {
        if attempt.may_move && request.method().is_idempotent() && progress.has_no_body() {
            attempt.copy = Some(Box::new(copy_of(&request)));
        }
        let mut exchange = Self { attempt, state: State::Done };
        exchange.state = exchange.start(request, progress);
        exchange
    }

    /// Sends the request over a connection of the pool. If the pool has none, begins to connect.
    fn start(&mut self, request: Request<RequestBody<B>>, progress: &Progress) -> State<B> {
        match self.attempt.target().host.take() {
            Some(connection) => self.send(connection, request, true, progress),
            None => self.connect(request, progress),
        }
    }

    fn connect(&mut self, request: Request<RequestBody<B>>, progress: &Progress) -> State<B> {
        let deadline = progress.deadline(self.attempt.timeout);
        let Attempt { targets, at, queue_deadline, .. } = &mut self.attempt;
        let queue_deadline = *queue_deadline
            .get_or_insert_with(|| Instant::now() + targets.pool.settings().timeouts.queue());
        let (host, budget) = (&targets.get(*at).host, &targets.budget);
        let facts = progress.facts();
        if let Some(facts) = facts {
            facts.set_instance(targets.get(*at).upstream().authority());
        }
        let connecting = targets.pool.connect(host, budget, deadline, queue_deadline, facts);
        State::Connecting { connecting, request: Box::new(request) }
    }

    fn send(
        &self,
        mut connection: Box<PooledConnection<RequestBody<B>>>,
        request: Request<RequestBody<B>>,
        is_reused: bool,
        progress: &Progress,
    ) -> State<B> {
        let Attempt { copy, replay, .. } = &self.attempt;
        let resend = match (copy, is_reused) {
            (Some(_), _) => Resend::ByCaller,
            (None, true) => resend(&request, *replay),
            (None, false) => Resend::Never,
        };
        let deadline = progress.deadline(self.attempt.timeout);
        if let Some(facts) = progress.facts() {
            facts.begin_exchange(self.attempt.target().upstream().authority());
        }
        let sending = connection.send(request, resend, deadline);
        State::Queued(InUse { sending, connection, is_reused })
    }

    /// Waits for the head of the response. Fails if the head has not arrived within the [timeout](Self::timeout). This
    /// time begins with the exchange. It begins again when a wait in the queue ends, and with each frame of the
    /// request's body.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut Progress,
        credential: &mut Credential,
    ) -> Poll<Result<Response<ResponseBody>, ExchangeError>> {
        loop {
            // A state consists of a few pointers, so it is cheap to move it out and back.
            self.state = match mem::replace(&mut self.state, State::Done) {
                State::Connecting { mut connecting, request } => {
                    let Poll::Ready(connected) = connecting.as_mut().poll(cx) else {
                        self.state = State::Connecting { connecting, request };
                        return Poll::Pending;
                    };
                    match connected {
                        Ok(Connected { connection, is_reused, waited_until }) => {
                            if let Some(now) = waited_until {
                                progress.restart(now);
                            }
                            self.send(connection, *request, is_reused, progress)
                        }
                        Err(error) => self.connect_again(error, *request, progress)?,
                    }
                }
                State::Queued(in_use) => {
                    // Let the other ready tasks run first. Their requests are then written one directly after the
                    // other, so the service wakes up only once. A wake-up costs more than a write.
                    self.state = State::Sending(in_use);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Sending(InUse { mut sending, mut connection, is_reused }) => {
                    let Poll::Ready(sent) = connection.poll_response(&mut sending, cx) else {
                        if connection.wants_headers()
                            && let Poll::Ready(headers) = credential.poll_renewed(cx)
                        {
                            connection.set_new_headers(headers);
                            self.state = State::Sending(InUse { sending, connection, is_reused });
                            continue;
                        }
                        let deadline = || progress.deadline(self.attempt.timeout);
                        if connection.poll_deadline(cx, deadline).is_ready() {
                            return Poll::Ready(Err(ExchangeError::TimedOut));
                        }
                        self.state = State::Sending(InUse { sending, connection, is_reused });
                        return Poll::Pending;
                    };
                    let mut error = match sent {
                        Ok(response) => {
                            let in_flight = self.attempt.set_reached();
                            if let Some(facts) = progress.facts() {
                                facts.begin_body();
                            }
                            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                                let upgrade = ServiceUpgrade::new(response, connection, in_flight);
                                return Poll::Ready(Err(ExchangeError::SwitchedProtocols(upgrade)));
                            }
                            let response =
                                client_response(response, connection, in_flight, progress);
                            return Poll::Ready(response.map_err(ExchangeError::Interrupted));
                        }
                        Err(error) => error,
                    };
                    let (given_back, is_unanswered) =
                        (error.take_given_back(), error.is_unanswered());
                    // Over HTTP/1.1, this drop frees the slot of the connection. The request may get the same slot for
                    // its next connection.
                    drop(connection);
                    match given_back {
                        Some(GivenBack { request, why: WhyGivenBack::Unsent }) if is_reused => {
                            self.start(request, progress)
                        }
                        Some(given_back) if is_reused => {
                            self.resend(error.into_error(), given_back, progress)?
                        }
                        Some(GivenBack { request, .. }) => {
                            let error = error.into_error();
                            self.connect_after_close(error, request, progress)?
                        }
                        None if is_unanswered => self.send_again(error.into_error(), progress)?,
                        None => {
                            let error = ExchangeError::Interrupted(error.into_error());
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                State::Renewing { mut request, error } => match credential.poll_renewed(cx) {
                    Poll::Pending => {
                        self.state = State::Renewing { request, error };
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => {
                        return Poll::Ready(Err(ExchangeError::Interrupted(error)));
                    }
                    Poll::Ready(Some(headers)) => {
                        self.attempt.begin_again(progress)?;
                        request.headers_mut().extend(headers);
                        self.connect(*request, progress)
                    }
                },
                State::Done => panic!("polled after completion"),
            }
        }
    }

    /// Sends a request again after the gateway could not connect. Nothing of the request was sent.
    #[cold]
    fn connect_again(
        &mut self,
        error: ConnectError,
        request: Request<RequestBody<B>>,
        progress: &Progress,
    ) -> Result<State<B>, ExchangeError> {
        let may_connect = match &error {
            ConnectError::Failed(cause) => {
                self.attempt.eject(&**cause);
                self.attempt.may_move || error.is_refused()
            }
            ConnectError::TimedOut => {
                // A second attempt has only the rest of the time of the first attempt. If this rest was short, a
                // timeout does not show that the instance is down.
                if self.attempt.began.elapsed() >= self.attempt.timeout.min(MIN_CONNECT_TIME) {
                    self.attempt.eject(&NotInTime);
                }
                false
            }
            // The instance works, but all permitted connections to it are in use.
            ConnectError::Busy { .. } => false,
        };
        if !may_connect || !self.attempt.may_connect_again() {
            return Err(ExchangeError::Connect(error));
        }
        self.start_again(request, progress)
    }

    /// Sends a request again after its new connection was closed before a byte of the request was sent. An instance
    /// that closes new connections counts as an instance that refuses them.
    #[cold]
    fn connect_after_close(
        &mut self,
        error: hyper::Error,
        request: Request<RequestBody<B>>,
        progress: &Progress,
    ) -> Result<State<B>, ExchangeError> {
        self.attempt.eject(&error);
        if !self.attempt.may_connect_again() {
            return Err(ExchangeError::Interrupted(error));
        }
        self.start_again(request, progress)
    }

    /// Sends a request to another instance, or to the same instance if no other may get the request. The first attempt
    /// has sent no byte of the request.
    fn start_again(
        &mut self,
        mut request: Request<RequestBody<B>>,
        progress: &Progress,
    ) -> Result<State<B>, ExchangeError> {
        self.attempt.begin_again(progress)?;
        if self.attempt.may_move {
            self.attempt.move_on(&mut request);
            if let Some(copy) = &mut self.attempt.copy {
                **copy = copy_of(&request);
            }
        }
        Ok(self.start(request, progress))
    }

    /// Sends a request again that the pool has given back.
    #[cold]
    fn resend(
        &mut self,
        error: hyper::Error,
        GivenBack { mut request, why }: GivenBack<RequestBody<B>>,
        progress: &Progress,
    ) -> Result<State<B>, ExchangeError> {
        let (retry, moves) = match why {
            WhyGivenBack::Refused => (Retry::Unprocessed, true),
            // The instance only replaces its connections. A sticky user stays, because the instance may have the user's
            // session.
            WhyGivenBack::Unprocessed => (Retry::Unprocessed, !self.attempt.is_sticky()),
            WhyGivenBack::Unsent | WhyGivenBack::Closed => (Retry::Closed, false),
        };
        if !self.attempt.withdraw(retry) {
            return Err(ExchangeError::Interrupted(error));
        }
        // Without a copy, `send_again` cannot send the request a third time.
        self.attempt.copy = None;
        self.attempt.began = Instant::now();
        if let Some(facts) = progress.facts() {
            facts.add_retry();
        }
        if moves && self.attempt.may_move {
            self.attempt.move_on(&mut request);
        }
        Ok(self.start(request, progress))
    }

    /// Sends a request again after its connection has ended before a byte of the response.
    #[cold]
    fn send_again(
        &mut self,
        error: hyper::Error,
        progress: &Progress,
    ) -> Result<State<B>, ExchangeError> {
        let copy = self.attempt.copy.take();
        let Some(copy) = copy.filter(|_| self.attempt.withdraw(Retry::Closed)) else {
            return Err(ExchangeError::Interrupted(error));
        };
        let mut request = Request::from_parts(*copy, RequestBody::empty());
        self.attempt.begin_again(progress)?;
        if !self.attempt.is_sticky() {
            self.attempt.move_on(&mut request);
        }
        // An instance that has closed one connection may have closed all its connections. So this attempt asks for a
        // new connection.
        Ok(match self.attempt.replay {
            Replay::Allowed => self.connect(request, progress),
            Replay::Protected => State::Renewing { request: Box::new(request), error },
        })
    }
}

fn copy_of<B>(request: &Request<B>) -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head
}

/// Returns in which cases the pool may send a request on a reused connection again ([D29](crate::decisions#d29)).
fn resend<B>(request: &Request<B>, replay: Replay) -> Resend {
    match replay {
        _ if !request.method().is_idempotent() => Resend::IfUnsent,
        Replay::Allowed => Resend::BeforeBody,
        Replay::Protected => Resend::WithNewHeaders,
    }
}

/// Wraps the body of the service's response in the body type of the gateway's responses. The headers of the response do
/// not change.
///
/// # Errors
/// The error of the body, if the body has already failed. The caller can still send a 502, because the client has got
/// no part of the response.
fn client_response<B>(
    response: Response<Incoming>,
    mut connection: Box<PooledConnection<RequestBody<B>>>,
    in_flight: Option<InFlight>,
    progress: &Progress,
) -> hyper::Result<Response<ResponseBody>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (mut head, mut body) = response.into_parts();
    let first = connection.first_frame(Pin::new(&mut body)).transpose()?;
    connection.set_answered();
    if !progress.has_ended() {
        connection.spawn_driver();
    }
    // The service may use HTTP/1.0. The version of its response must not affect the connection to the client.
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, ResponseBody::upstream(first, body, connection, in_flight)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_path_is_replaced() {
        for (target, old, new, want) in [
            ("/a/x?y=/a", "/a", "/b/c", Some("/b/c/x?y=/a")),
            ("/a?y", "/a", "/b", Some("/b?y")),
            ("/a?y", "/a", "", Some("/?y")),
            ("/x", "", "/b", Some("/b/x")),
            ("/a/x", "/a", "/a", None),
        ] {
            let moved = with_base_path(&target.parse().unwrap(), old, new);
            assert_eq!(moved.map(|uri| uri.to_string()).as_deref(), want, "{target}");
        }
    }
}
