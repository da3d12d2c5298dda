//! Tests of WebSockets through the program: the effects of a logout, of the end of the program, and of settings.

use std::time::Duration;

use crate::support::{Demo, write_definition};
use reqwest::{ClientBuilder, StatusCode, Upgraded, header::HeaderMap};
use test_support::{
    PATIENCE, raw,
    websocket::{CLOSE, Frame, TEXT, echo},
};
use tokio::time::timeout;

/// Starts the program. Its route `/svc/api/v1` leads to a service that echoes frames.
async fn start(edit: impl FnOnce(String) -> String + Send + 'static) -> Demo {
    let service = raw::service(async |stream| drop(echo(stream).await)).await;
    Demo::beside_servers(move |directory, yaml| {
        write_definition(directory, &format!("http://{service}"));
        edit(yaml)
    })
    .await
}

async fn handshake(demo: &Demo, token: &str) -> reqwest::Response {
    handshake_of(&demo.url, demo.builder(), token).await
}

async fn handshake_of(url: &str, client: ClientBuilder, token: &str) -> reqwest::Response {
    let client = client.http1_only().build().unwrap();
    let request = client.get(format!("{url}/svc/api/v1/chat"));
    let fields = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(name, value.parse().unwrap());
    }
    let request = request.headers(headers);
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    request.send().await.unwrap()
}

async fn open(demo: &Demo, token: &str) -> Upgraded {
    open_of(&demo.url, demo.builder(), token).await
}

/// Opens a WebSocket with this client. If `token` is empty, the handshake contains no token.
pub(crate) async fn open_of(url: &str, client: ClientBuilder, token: &str) -> Upgraded {
    let response = handshake_of(url, client, token).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = response.upgrade().await.unwrap();
    Frame::masked(TEXT, *b"hello").write(&mut stream).await.unwrap();
    assert_eq!(read(&mut stream).await, Some(Frame::plain(TEXT, *b"hello")));
    stream
}

async fn read(stream: &mut Upgraded) -> Option<Frame> {
    timeout(PATIENCE, Frame::read(stream)).await.expect("a frame in time").unwrap()
}

/// Reads a close frame, answers it, and waits for the end of the connection. Returns the code of the frame.
pub(crate) async fn closed(mut stream: Upgraded) -> Option<u16> {
    let close = read(&mut stream).await.expect("a close frame");
    Frame::masked(CLOSE, close.payload.clone()).write(&mut stream).await.unwrap();
    assert_eq!(read(&mut stream).await, None);
    close.close_code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_closes_the_websockets_of_the_token_with_1008() {
    // The definition has the scheme bypass, which ignores tokens. So this test sets a scheme that reads them.
    let demo = start(|yaml| {
        yaml + "    services:\n      svc: {scheme: httpBasicPassTicket, applid: ZOWEAPPL}\n"
    })
    .await;
    let (token, other) = (demo.login().await, demo.login().await);
    assert_ne!(token, other);
    let (client, kept) = (open(&demo, &token).await, open(&demo, &other).await);
    let request = demo.client().post(demo.auth("logout")).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 204);
    assert_eq!(closed(client).await, Some(1008));
    // The WebSocket of the other token stays open until the program stops.
    demo.program.signal("-TERM");
    assert_eq!(closed(kept).await, Some(1001));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_zowe_and_of_the_gateway_limit_websockets() {
    let demo = start(|yaml| {
        let server = "    server: {webSocket: {maxIdleTimeout: 500, requestBufferSize: 8192}}\n";
        let yaml = yaml.replace("    port: 0\n", &format!("    port: 0\n{server}"));
        yaml + "    limits: {tunnelsPerUser: 1}\n"
    })
    .await;
    let first = open(&demo, "").await;
    assert_eq!(handshake(&demo, "").await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(closed(first).await, Some(1001));
    // When the first WebSocket has ended, the gateway accepts another one.
    let freed = async {
        while handshake(&demo, "").await.status() != StatusCode::SWITCHING_PROTOCOLS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, freed).await.expect("another WebSocket in time");
}
