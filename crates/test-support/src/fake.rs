//! An HTTPS server for tests, on which the fakes of Zowe servers are built. A test chooses whether the server answers
//! correctly, slowly, wrongly or not at all.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use crate::raw::{Step, listener, read_head, run_steps};

/// A request to a [`Fake`].
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, as the client has sent it.
    pub method: String,
    /// The path, with the query string.
    pub path: String,
    /// The names of the headers, in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// The body. It is empty if the request has no `Content-Length`.
    pub body: Vec<u8>,
    /// The client certificate of the connection, as DER. `None` if the client has not presented one.
    pub certificate: Option<Vec<u8>>,
}

impl Request {
    /// Returns the value of the first header with this name. `name` must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Returns the value of the cookie with this name.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.header("cookie")?.split(';');
        pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v)
    }
}

/// A response of a [`Fake`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The names and values of the headers. [`to_bytes`](Self::to_bytes) adds `Connection` and `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Creates a response without headers and without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Creates a response with a JSON document.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    /// Creates a response with a plain text.
    pub fn text(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type", "text/plain".to_owned())];
        Self { status, headers, body: body.as_bytes().to_vec() }
    }

    /// Returns the bytes of the response. They include `Connection: close` and, unless the status is 204,
    /// `Content-Length`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { status, headers, body } = self;
        let mut text = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if *status != 204 {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        [(text + "\r\n").as_bytes(), body].concat()
    }
}

/// How a [`Fake`] behaves.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// The server sends the response of `handle` ([`Fake::https`]).
    Right,
    /// The server waits for this time, and then sends the response of `handle`.
    Slow(Duration),
    /// The server reads the request, and then runs these steps. It does not call `handle`.
    Scripted(Vec<Step>),
}

#[derive(Debug)]
struct Behaviours {
    /// The behaviours for the next requests, one for each request.
    next: VecDeque<Behaviour>,
    /// The behaviour for all requests after those of `next`.
    then: Behaviour,
}

/// An HTTPS server on the loopback interface. It closes each connection after one request.
#[derive(Debug)]
pub struct Fake {
    /// The address at which the server listens.
    pub address: SocketAddr,
    behaviours: Arc<Mutex<Behaviours>>,
    requests: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl Fake {
    /// Starts a server. `handle` returns the response that the real server would send.
    pub async fn https(
        acceptor: TlsAcceptor,
        handle: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (listener, address) = listener().await;
        let behaviours = Behaviours { next: VecDeque::new(), then: Behaviour::Right };
        let behaviours = Arc::new(Mutex::new(behaviours));
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let handle: Arc<dyn Fn(&Request) -> Answer + Send + Sync> = Arc::new(handle);
        let accepting = tokio::spawn({
            let (behaviours, requests) = (behaviours.clone(), requests.clone());
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (behaviours, requests) = (behaviours.clone(), requests.clone());
                    let (acceptor, handle) = (acceptor.clone(), handle.clone());
                    // Errors are ignored, because a client under test may close its connection early or refuse the
                    // certificate.
                    tokio::spawn(async move {
                        let _ =
                            connection(stream, acceptor, &behaviours, &requests, &*handle).await;
                    });
                }
            }
        });
        Self { address, behaviours, requests, accepting }
    }

    /// Sets the behaviour for all requests from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behave_in_turn([], behaviour);
    }

    /// Sets the behaviour for each of the next requests (`next`), and for all requests after them (`then`).
    pub fn behave_in_turn(&self, next: impl Into<VecDeque<Behaviour>>, then: Behaviour) {
        *self.behaviours.lock().unwrap() = Behaviours { next: next.into(), then };
    }

    /// Returns the requests since the start or the last call of [`take_requests`](Self::take_requests).
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Removes all recorded requests. Returns their methods and paths.
    pub fn take_requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }

    /// Closes the port, so that new connections are refused.
    pub async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    behaviours: &Mutex<Behaviours>,
    requests: &Mutex<Vec<Request>>,
    handle: &(dyn Fn(&Request) -> Answer + Send + Sync),
) -> io::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    let head = read_head(&mut stream).await?;
    let mut request = parse(&head);
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut request.body).await?;
    let certificates = stream.get_ref().get_ref().1.peer_certificates();
    request.certificate = certificates.and_then(|all| all.first()).map(|leaf| leaf.to_vec());
    requests.lock().unwrap().push(request.clone());
    let behaviour = {
        let mut behaviours = behaviours.lock().unwrap();
        behaviours.next.pop_front().unwrap_or_else(|| behaviours.then.clone())
    };
    match behaviour {
        Behaviour::Right => {}
        Behaviour::Slow(time) => sleep(time).await,
        Behaviour::Scripted(steps) => {
            run_steps(&mut stream, |stream| stream.get_ref().0, &steps).await?;
            return Ok(());
        }
    }
    let answer = handle(&request).to_bytes();
    stream.get_mut().write_all(&answer).await?;
    stream.get_mut().shutdown().await
}

/// Parses the head of a request. The result has no body and no certificate.
///
/// # Panics
/// This function panics if the head is malformed.
fn parse(head: &str) -> Request {
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers = lines.filter(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Request { method, path, headers: headers.collect(), body: Vec::new(), certificate: None }
}
