//! Fuzz targets for answers of other servers.
//!
//! ZSS (Zowe System Services, a server on z/OS) maps identities to users. Zowe's SAF endpoint checks permissions in the
//! security product of z/OS. API ML, the gateway of Zowe, says whether a token is still valid. Redis carries records
//! from one node of the gateway to the other nodes.

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tower_passticket::{
    apiml::Apiml,
    identity::{
        DistributedIdentity, DistributedMapper, IdentityMapper, MapError, ZssCertificates,
        ZssIdentities,
    },
    passticket::UserId,
    remote::{Address, Client, ClientLimits, UserToken},
    saf::{Access, AccessLevel, EndpointSaf, SafProvider},
};

use crate::{exchange::block_on, gateway::user, support::CERTIFICATE};

/// The client's end of a connection in memory.
pub(crate) struct InMemoryConnection(TokioIo<DuplexStream>);

impl Connection for InMemoryConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for InMemoryConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, room)
    }
}

impl Write for InMemoryConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A connector to a server that gives the same answer to every request.
#[derive(Clone)]
pub(crate) struct Connector(Arc<[u8]>);

impl tower_service::Service<Uri> for Connector {
    type Response = InMemoryConnection;
    type Error = io::Error;
    type Future = Ready<io::Result<InMemoryConnection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(answer(theirs, self.0.clone()));
        ready(Ok(InMemoryConnection(TokioIo::new(ours))))
    }
}

/// Waits for the head of a request, sends the answer, then reads until the client closes the connection. Sends nothing
/// if the client closes the connection before the head is complete.
async fn answer(mut stream: DuplexStream, answer: Arc<[u8]>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            continue;
        }
        return;
    }
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut request).await;
}

pub(crate) struct Answer {
    bytes: Arc<[u8]>,
    /// The status, and the body if it is JSON. `None` if the input also contains the head of the answer.
    pub(crate) status_and_json: Option<(u16, Option<Value>)>,
}

impl Answer {
    /// Reads an answer from the input. If the first line of the input is a status, the rest of the input is the body.
    /// If the first line is `raw`, the rest is the head and the body. Returns `None` for any other first line, and if
    /// the first line has no end.
    pub(crate) fn new(data: &[u8]) -> Option<Self> {
        let end = data.iter().position(|b| *b == b'\n')?;
        let (first, body) = (str::from_utf8(&data[..end]).ok()?, &data[end + 1..]);
        if first == "raw" {
            return Some(Self { bytes: body.into(), status_and_json: None });
        }
        let status = first.parse().ok().filter(|status| (200..600).contains(status))?;
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n\r\n");
        // Responses with these statuses have no body (RFC 9112 §6.3).
        let value =
            if matches!(status, 204 | 304) { None } else { serde_json::from_slice(body).ok() };
        Some(Self {
            bytes: [head.as_bytes(), body].concat().into(),
            status_and_json: Some((status, value)),
        })
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector(self.bytes.clone())
    }

    fn client(&self) -> Client<Connector> {
        Client::new(self.connector(), ClientLimits::default())
    }
}

pub(crate) fn address() -> Address {
    Address::parse("http://localhost:1/path").expect("a valid address")
}

/// Returns the token with which the gateway authenticates to a server.
fn token(_: &UserId) -> Result<UserToken, tower_passticket::remote::NoToken> {
    UserToken::new("token")
}

/// The input is an answer of the SAF endpoint, in the form that [`Answer::new`] describes.
pub(crate) fn saf(data: &[u8]) {
    let Some(answer) = Answer::new(data) else { return };
    let check = block_on(async {
        let saf = EndpointSaf::new(answer.client(), address(), token);
        saf.check(&user("USER"), "ZOWE", "APIML.SERVICES", AccessLevel::Read).await
    });
    match (check, answer.status_and_json) {
        (Ok(Access::Granted), Some((status, value))) => {
            let value = value.expect("an answer that grants is JSON");
            assert!((200..300).contains(&status), "{status}");
            assert_eq!((&value["authorized"], &value["error"]), (&true.into(), &false.into()));
        }
        (Ok(Access::Granted), None) => {
            let text = String::from_utf8_lossy(&answer.bytes);
            assert!(text.contains("authorized") && text.contains("true"), "{text}");
        }
        (Err(error), _) => assert!(error.to_string().len() < 2000),
        (Ok(_), _) => {}
    }
}

/// The input is an answer of ZSS, in the form that [`Answer::new`] describes. Two mappers ask ZSS: one for the user of
/// a certificate, and one for the user of a name. ZSS gives both the same answer, so both must have the same result.
pub(crate) fn zss(data: &[u8]) {
    let Some(answer) = Answer::new(data) else { return };
    let (certificate, identity) = block_on(async {
        let caller = user("ZWESVUSR");
        let mapper = ZssCertificates::new(answer.client(), address(), caller, token);
        let certificate = mapper.map_certificate(&CERTIFICATE).await;
        let mapper = ZssIdentities::new(answer.client(), address(), caller, token);
        let identity = DistributedIdentity::new("user@example.com", "ldap://registry");
        (certificate, mapper.map_identity(&identity.expect("a valid identity")).await)
    });
    assert_eq!(certificate, identity);
    match (certificate, answer.status_and_json) {
        (Ok(mapped), Some((status, value))) => {
            let value = value.expect("an answer with a user is JSON");
            assert!((200..300).contains(&status), "{status}");
            let named = value["userid"].as_str().map(str::trim);
            assert_eq!(named.and_then(|name| UserId::new(name).ok()), Some(mapped));
            for code in ["returnCode", "safReturnCode", "racfReturnCode", "racfReasonCode"] {
                assert_eq!(value[code], 0, "{code}");
            }
        }
        (Ok(_), None) => {
            assert!(String::from_utf8_lossy(&answer.bytes).contains("userid"));
        }
        (Err(MapError::Failed(error)), _) => assert!(error.len() < 2000),
        (Err(_), _) => {}
    }
}

/// The input is an answer of API ML, in the form that [`Answer::new`] describes. API ML gives this answer to three
/// requests: the checks of a login token and of a Personal Access Token (PAT), and a logout.
pub(crate) fn apiml(data: &[u8]) {
    let Some(answer) = Answer::new(data) else { return };
    let address = Address::parse("http://localhost:1").expect("a valid address");
    let (login, pat, logout) = block_on(async {
        let apiml = || Apiml::new(answer.client(), address.clone());
        (
            apiml().accepts_login_token("a.b.c", &user("USER")).await,
            apiml().accepts_pat("a.b.c", "service").await,
            apiml().log_out("a.b.c").await,
        )
    });
    let Some((status, value)) = answer.status_and_json else { return };
    match login {
        Ok(true) => {
            let value = value.expect("the content of a token is JSON");
            let named = value["userId"].as_str().and_then(|name| UserId::new(name).ok());
            assert_eq!((status, named), (200, Some(user("USER"))));
        }
        Ok(false) => assert_eq!(status, 401),
        Err(error) => assert!(error.to_string().len() < 2000),
    }
    let ends_empty = answer.bytes.ends_with(b"Content-Length: 0\r\n\r\n");
    match pat {
        Ok(true) => assert!(status == 204 || status == 200 && ends_empty, "{status}"),
        Ok(false) => assert_eq!(status, 401),
        Err(_) => assert_ne!(status, 401),
    }
    assert_eq!(logout.is_ok(), pat.is_ok());
}

/// The input is an answer of Redis. The called function contains the assertions.
pub(crate) fn redis(data: &[u8]) {
    tower_passticket::fuzzing::read_answers(data);
}
