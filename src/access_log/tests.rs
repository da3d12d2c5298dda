use std::{
    convert::Infallible,
    error::Error as StdError,
    fs,
    future::{pending, ready},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use serde_json::Value;
use tempfile::TempDir;
use tokio_test::task;
use tower::{BoxError, service_fn};
use tower_layer::Layer;
use tower_service::Service;

use super::{AccessLog, AccessLogFormat, AccessLogLayer, AccessLogOptions};
use crate::{
    layer::Rejection,
    request_facts::{RequestFacts, ServiceTooSlow},
};

fn file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.jsonl");
    (directory, path)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// A body that sends these frames in reverse order. After the frames, the body ends or waits.
struct Frames(Vec<Result<&'static str, BoxError>>, AtEnd);

#[derive(Clone, Copy)]
enum AtEnd {
    Ends,
    Waits,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match (self.0.pop(), self.1) {
            (Some(frame), _) => Poll::Ready(Some(frame.map(|text| Frame::data(text.into())))),
            (None, AtEnd::Ends) => Poll::Ready(None),
            (None, AtEnd::Waits) => Poll::Pending,
        }
    }
}

/// Sends a request through the layer, and polls the response body until it has no frame. Then drops the body, or the
/// future of the request if it has no response. Returns the line of the access log.
fn logged(response: impl FnOnce() -> Option<Response<Frames>>) -> Value {
    let (_directory, path) = file();
    let log = AccessLog::open(&path, AccessLogOptions::default()).unwrap();
    let response = response();
    let answer = move |_: Request<()>| {
        let response = std::sync::Mutex::new(response);
        async move {
            let response = response.lock().unwrap().take();
            match response {
                Some(response) => Ok::<_, Infallible>(response),
                None => pending().await,
            }
        }
    };
    let mut answer = Some(answer);
    let service = service_fn(move |request| (answer.take().unwrap())(request));
    let mut service = AccessLogLayer::new(log.clone()).layer(service);
    let mut called = task::spawn(service.call(get("/x")));
    if let Poll::Ready(response) = called.poll() {
        let mut body = task::spawn(response.unwrap().into_body());
        while let Poll::Ready(Some(Ok(_))) = body.enter(|cx, body| body.poll_frame(cx)) {}
    }
    drop(called);
    log.close();
    let mut lines = lines(&path);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[test]
fn the_line_says_who_ended_the_body() {
    let broken: fn() -> BoxError = || "broken".into();
    #[derive(Debug, thiserror::Error)]
    #[error("the body failed")]
    struct Outer(#[source] ServiceTooSlow);
    let slow: fn() -> BoxError =
        || Box::new(Outer(ServiceTooSlow)) as Box<dyn StdError + Send + Sync>;
    for (case, frames, at_end, code, bytes) in [
        ("complete", vec![Ok("cd"), Ok("ab")], AtEnd::Ends, "--", 4),
        ("the client disconnects", vec![Ok("ab")], AtEnd::Waits, "CD", 2),
        ("the service breaks off", vec![Err(broken()), Ok("ab")], AtEnd::Ends, "SD", 2),
        ("the service is too slow", vec![Err(slow()), Ok("ab")], AtEnd::Ends, "sD", 2),
    ] {
        let line = logged(|| Some(Response::new(Frames(frames, at_end))));
        assert_eq!(
            (&line["termination"], &line["bytes_out"]),
            (&code.into(), &bytes.into()),
            "{case}: {line}"
        );
        assert_eq!(line["status"], 200, "{case}");
    }
}

#[test]
fn a_request_without_a_response_and_a_refused_request_have_a_line() {
    let line = logged(|| None);
    assert_eq!((&line["termination"], line.get("status")), (&"CR".into(), None), "{line}");
    let line = logged(|| {
        let mut response = Response::new(Frames(Vec::new(), AtEnd::Ends));
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        response.extensions_mut().insert(Rejection::NoRoute);
        Some(response)
    });
    assert_eq!((&line["termination"], &line["status"]), (&"PR".into(), &404.into()), "{line}");
    assert_eq!((&line["ended_by"], &line["stage"]), (&"gateway".into(), &"request".into()));
}

#[test]
fn without_a_log_a_request_gets_no_request_facts() {
    let service = service_fn(|request: Request<()>| {
        assert!(request.extensions().get::<RequestFacts>().is_none());
        ready(Ok::<_, Infallible>(Response::new(Frames(vec![Ok("a")], AtEnd::Ends))))
    });
    let mut service = AccessLogLayer::without_file().layer(service);
    let Poll::Ready(Ok(response)) = task::spawn(service.call(get("/x"))).poll() else {
        panic!("pending")
    };
    assert_eq!(response.into_body().size_hint().lower(), 0);
}

fn send(log: &AccessLog, requests: usize) {
    let service = service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(Frames(Vec::new(), AtEnd::Ends))))
    });
    let mut service = AccessLogLayer::new(log.clone()).layer(service);
    for _ in 0..requests {
        drop(task::spawn(service.call(get("/x"))).poll());
    }
}

#[test]
fn lines_that_do_not_fit_into_the_queue_are_counted_and_reported() {
    const REQUESTS: usize = 5000;
    let (_directory, path) = file();
    let options = AccessLogOptions::default().with_queue_capacity(NonZeroUsize::MIN);
    let log = AccessLog::open(&path, options).unwrap();
    send(&log, REQUESTS);
    log.close();
    // The log is closed, so this line is lost, and no line reports it.
    send(&log, 1);
    let lines = lines(&path);
    let (gaps, written): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["event"] == "dropped");
    let reported: u64 = gaps.iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
    assert_eq!(written.len() as u64, log.written());
    assert_eq!(reported + 1, log.dropped());
    assert!(reported > 0, "the queue was never full");
    assert_eq!(written.len() as u64 + reported, REQUESTS as u64);
}

#[test]
fn two_logs_append_whole_lines_to_one_file_and_rotate_it_once() {
    const REQUESTS: usize = 3000;
    let (directory, path) = file();
    let options = AccessLogOptions::default().with_rotate_at(200 * 1024);
    let logs = [(); 2].map(|()| AccessLog::open(&path, options.clone()).unwrap());
    std::thread::scope(|scope| {
        for log in &logs {
            scope.spawn(|| send(log, REQUESTS));
        }
    });
    logs.iter().for_each(AccessLog::close);
    let files = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.collect();
    let all: usize = files.iter().map(|file| lines(file).len()).sum();
    assert_eq!(all, 2 * REQUESTS);
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        assert!(fs::metadata(&file).unwrap().len() > 64 * 1024 || file == path, "{file:?}");
    }
}

#[test]
fn a_crash_that_leaves_half_a_line_does_not_damage_the_next_line() {
    let (_directory, path) = file();
    fs::write(&path, "half a line").unwrap();
    let options = AccessLogOptions::default().with_format(AccessLogFormat::Combined);
    let log = AccessLog::open(&path, options).unwrap();
    send(&log, 1);
    log.close();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "half a line"), "{text}");
}
