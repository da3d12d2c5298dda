//! The service of the demo. At `.../passticketTest`, it evaluates the user id and the PassTicket of a request like a
//! service on z/OS, and accepts no tokens.
//!
//! A PassTicket is a short-lived password of z/OS for one APPLID. An APPLID is the name of an application on z/OS.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE},
};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tower_passticket::{
    clock::{Clock, SystemClock},
    layer::X_ZOWE_AUTH_FAILURE,
    passticket::{Applid, Evaluated, KeyProfiles, PassTicket, UserId},
};
use tower_service::Service;

/// Answers requests to two paths. For `.../request`, the response describes the request. For `.../passticketTest`, the
/// response shows the result of evaluating the PassTicket of the request.
#[derive(Clone)]
pub(super) struct ZosService {
    applid: Applid,
    profiles: KeyProfiles,
}

impl ZosService {
    /// Creates the service with this APPLID. `profiles` contains the PassTicket keys of its users.
    pub(super) fn new(applid: Applid, profiles: KeyProfiles) -> Self {
        Self { applid, profiles }
    }

    fn answer<B>(&self, request: &Request<B>) -> (StatusCode, Value) {
        match request.uri().path() {
            "/discoverableclient/api/v1/request" => (StatusCode::OK, echo(request)),
            "/discoverableclient/api/v1/passticketTest" => match self.evaluate(request.headers()) {
                Ok((user, evaluated)) => (
                    StatusCode::OK,
                    json!({
                        "user": user.as_str(),
                        "applid": self.applid.as_str(),
                        "ticketTime": evaluated.generated_at().as_secs(),
                        "ageSeconds": evaluated.age_secs(),
                    }),
                ),
                Err(reason) => (
                    StatusCode::UNAUTHORIZED,
                    json!({
                        "reason": reason,
                        "authFailure": request
                            .headers()
                            .get(&X_ZOWE_AUTH_FAILURE)
                            .map(|v| String::from_utf8_lossy(v.as_bytes())),
                    }),
                ),
            },
            path => (
                StatusCode::NOT_FOUND,
                json!({ "reason": format!("there is no resource at {path}") }),
            ),
        }
    }

    /// Evaluates the PassTicket in the header `Authorization`. The error is a text for the client.
    fn evaluate(&self, headers: &HeaderMap) -> Result<(UserId, Evaluated), String> {
        let authorization =
            headers.get(AUTHORIZATION).ok_or("the request has no Authorization header")?;
        let basic = authorization.to_str().ok().and_then(|text| text.strip_prefix("Basic "));
        let plain = basic.and_then(|basic| BASE64_STANDARD.decode(basic).ok());
        let plain = plain.and_then(|plain| String::from_utf8(plain).ok());
        let (user, ticket) = plain
            .as_deref()
            .and_then(|plain| plain.split_once(':'))
            .ok_or("Authorization is not Basic user:PassTicket")?;
        let user = UserId::new(user).map_err(|e| e.to_string())?;
        let ticket = PassTicket::parse(ticket).map_err(|e| e.to_string())?;
        let profile =
            self.profiles.find(&user, &self.applid).ok_or("the user has no PassTicket key")?;
        let evaluated = profile.evaluate(&user, &ticket, SystemClock.now());
        Ok((user, evaluated.map_err(|e| e.to_string())?))
    }
}

fn echo<B>(request: &Request<B>) -> Value {
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values: Vec<_> = request
            .headers()
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        headers.insert(name.to_string(), values.join(", ").into());
    }
    let cookies: Map<String, Value> = request
        .headers()
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .map(|pair| String::from_utf8_lossy(pair.trim_ascii()).into_owned())
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.into()),
            None => (pair, Value::Null),
        })
        .collect();
    json!({
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map_or("", |path| path.as_str()),
        "headers": headers,
        "cookies": cookies,
    })
}

impl<B> Service<Request<B>> for ZosService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (status, body) = self.answer(&request);
        let mut response = Response::new(Full::from(format!("{body}\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        ready(Ok(response))
    }
}
