//! Tests of proxies in front of the gateway: trusted proxies, the PROXY protocol, and AT-TLS (TLS by the TCP/IP stack
//! of z/OS).

use std::{convert::Infallible, fs, process::Command, time::Duration};

use crate::support::{Demo, admin_address};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use test_support::{PATIENCE, has_curl, raw::listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tower::service_fn;
use tower_passticket::tls::Server;

/// A gateway with a route to a service that answers with the headers of the request.
struct Gateway {
    demo: Demo,
    _definitions: TempDir,
}

impl Gateway {
    /// Starts a gateway. `ours` contains lines of `components.passticket-proxy`, and `zowe` contains settings of
    /// `components.gateway.apiml.security`. With `attls`, the gateway serves HTTP without TLS.
    async fn start(ours: &str, zowe: &str, attls: bool) -> Self {
        let (listener, address) = listener().await;
        let service = service_fn(async |request: Request<Incoming>| {
            let body = shown(request.headers()).to_string();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
        });
        tokio::spawn(Server::http(listener).run(service, std::future::pending()));
        let definitions = TempDir::new().unwrap();
        let definition = format!(
            "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"http://{address}\"]\n    \
             authentication: {{scheme: httpBasicPassTicket, applid: ZOWEAPPL}}\n    \
             routes:\n      - gatewayUrl: api/v1\n        serviceRelativeUrl: /\n"
        );
        let file = definitions.path().join("svc.yml");
        fs::write(&file, definition).unwrap();
        let demo = Demo::reconfigured(|yaml| {
            let yaml = yaml
                .replace("apiDefs: api-defs", &format!("apiDefs: {}", file.display()))
                .replace("      security:\n", &format!("      security:\n{zowe}"));
            let yaml = if attls {
                // With AT-TLS, the gateway sees no client certificates.
                yaml.replacen("zowe:\n", "zowe:\n  network: {server: {tls: {attls: true}}}\n", 1)
                    .replace("delegatePassticket: true", "delegatePassticket: false")
            } else {
                yaml
            };
            format!("{yaml}\n{ours}")
        });
        Self { demo, _definitions: definitions }
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Value {
        let request = self.demo.client().get(self.demo.at("/svc/api/v1/x"));
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        request.send().await.unwrap().json().await.unwrap()
    }

    fn port(&self) -> u16 {
        self.demo.url.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Sends `bytes` and then a request without TLS on the same connection. Returns the whole answer.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).await.unwrap();
        let request = b"GET /svc/api/v1/x HTTP/1.1\r\nHost: gw:1\r\nConnection: close\r\n\r\n";
        // This fails if the gateway closes the connection before it has read everything.
        let _ = stream.write_all(&[bytes, request].concat()).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Waits for the only audit record in this file. Returns the value of its field `field`.
    async fn audited(&self, file: &str, field: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(self.demo.directory.join(file)).unwrap_or_default();
            if text.ends_with('\n') {
                let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                let records: Vec<Value> = lines.collect();
                assert_eq!(records.len(), 1, "{text}");
                return records[0][field].clone();
            }
            assert!(Instant::now() < deadline, "no record in {file}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Returns the headers as JSON. Joins the values of a repeated header with `|`.
fn shown(headers: &HeaderMap) -> Value {
    let value = |name| {
        let lines = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
        lines.collect::<Vec<_>>().join("|").into()
    };
    headers.keys().map(|name| (name.to_string(), value(name))).collect::<Map<_, _>>().into()
}

/// The headers that a proxy on this machine sends. The first address in `X-Forwarded-For` comes from the client, which
/// may have forged it.
const OF_PROXY: [(&str, &str); 5] = [
    ("x-forwarded-for", "198.51.100.1, 203.0.113.9"),
    ("x-forwarded-host", "public.example"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-prefix", "/outer"),
    ("forwarded", "for=203.0.113.9"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_extends_the_headers_of_a_trusted_proxy_and_audits_the_client_in_them() {
    let by_network = ("    trustedProxies: [127.0.0.0/8]\n", "");
    let by_expression =
        ("", "        forwardHeader: {trustedProxies: '127\\.\\d\\.\\d\\.(1|2)'}\n");
    for (ours, zowe) in [by_network, by_expression] {
        let gateway = Gateway::start(ours, zowe, false).await;
        let received = gateway.get(&OF_PROXY).await;
        let host = gateway.demo.url.strip_prefix("https://").unwrap();
        for (name, want) in [
            ("x-forwarded-for", "198.51.100.1, 203.0.113.9, 127.0.0.1"),
            ("x-forwarded-host", &format!("public.example, {host}")),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-port", &gateway.port().to_string()),
            ("x-forwarded-prefix", "/outer, /svc/api/v1"),
            // The gateway uses `X-Forwarded-For`, so it replaces the header `Forwarded`.
            ("forwarded", &format!("for=127.0.0.1;host=\"{host}\";proto=https")),
        ] {
            assert_eq!(received[name], *want, "{received}");
        }
        assert_eq!(gateway.audited("audit.unauthenticated.jsonl", "client").await, "203.0.113.9");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_of_an_untrusted_peer_are_replaced() {
    let not_this_machine = "    trustedProxies: [192.0.2.0/24]\n";
    for ours in ["", not_this_machine] {
        let gateway = Gateway::start(ours, "", false).await;
        let received = gateway.get(&OF_PROXY).await;
        let host = gateway.demo.url.strip_prefix("https://").unwrap();
        for (name, want) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", host),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/svc/api/v1"),
            ("forwarded", &format!("for=127.0.0.1;host=\"{host}\";proto=https")),
        ] {
            assert_eq!(received[name], *want, "{received}");
        }
        assert_eq!(gateway.audited("audit.unauthenticated.jsonl", "client").await, Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_address_in_the_header_of_a_trusted_proxy_is_ignored() {
    let gateway = Gateway::start("    trustedProxies: [127.0.0.1]\n", "", false).await;
    let received = gateway.get(&[("x-forwarded-for", "203.0.113.9, bad")]).await;
    assert_eq!(received["x-forwarded-for"], "127.0.0.1");
    assert_eq!(gateway.audited("audit.unauthenticated.jsonl", "client").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_at_tls_services_see_the_protocol_https() {
    let gateway = Gateway::start("", "", true).await;
    let answer = gateway.send(b"").await;
    for want in [
        r#""x-forwarded-proto":"https""#,
        r#""x-forwarded-port":"1""#,
        r#""forwarded":"for=127.0.0.1;host=\"gw:1\";proto=https""#,
    ] {
        assert!(answer.contains(want), "{answer}");
    }
}

/// Encodes a PROXY protocol header (version 2) with this command, for a client at 203.0.113.9:50000.
fn v2(command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 15, 203, 0, 113, 9, 127, 0, 0, 1, 0xc3, 0x50, 0, 80]);
    // The last three bytes are a TLV (type, length, value) with an empty value.
    header.extend([0x04, 0, 0]);
    header
}

const REQUIRED: &str = "    proxyProtocol: required\n    trustedProxies: [127.0.0.1]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_the_proxy_protocol_names_the_client() {
    let v1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 50000 80\r\n".to_vec();
    for (header, client, peer) in [
        (v1, "203.0.113.9", Some("203.0.113.9:50000")),
        (v2(1), "203.0.113.9", Some("203.0.113.9:50000")),
        (v2(0), "127.0.0.1", None),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", None),
    ] {
        let gateway = Gateway::start(REQUIRED, "", true).await;
        let answer = gateway.send(&header).await;
        let want = format!("\"x-forwarded-for\":\"{client}\"");
        assert!(answer.contains(&want), "{answer}");
        if let Some(peer) = peer {
            assert_eq!(gateway.audited("audit.unauthenticated.jsonl", "peer").await, peer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_header_of_the_proxy_protocol_are_closed_and_counted() {
    const ADMIN: &str = "    admin: {port: 0}\n";
    let settings = format!("{REQUIRED}{ADMIN}    timeouts: {{handshakeSeconds: 1}}\n");
    let mut gateway = Gateway::start(&settings, "", true).await;
    let admin = admin_address(&mut gateway.demo.program);
    for header in [&b""[..], b"PROXY TCP4 203.0.113.9 127.0.0.1 50000\r\n", &v2(7)] {
        assert_eq!(gateway.send(header).await, "", "{}", header.escape_ascii());
    }
    // This client sends only the beginning of the PROXY protocol header.
    let mut slow = TcpStream::connect(("127.0.0.1", gateway.port())).await.unwrap();
    slow.write_all(b"PROXY TCP4").await.unwrap();
    assert_eq!(timeout(PATIENCE, slow.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    // Like the health check of a load balancer, this client connects and sends nothing.
    drop(TcpStream::connect(("127.0.0.1", gateway.port())).await.unwrap());

    let untrusted = REQUIRED.replace("127.0.0.1", "192.0.2.1");
    let mut other = Gateway::start(&format!("{untrusted}{ADMIN}"), "", true).await;
    let other_admin = admin_address(&mut other.demo.program);
    assert_eq!(other.send(&v2(1)).await, "");

    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    for (address, counts) in [
        (admin, json!({"malformed": 3, "timed-out": 1, "closed": 1, "untrusted": 0})),
        (other_admin, json!({"malformed": 0, "timed-out": 0, "closed": 0, "untrusted": 1})),
    ] {
        let deadline = Instant::now() + PATIENCE;
        for (reason, count) in counts.as_object().unwrap() {
            let want =
                format!("passticket_proxy_protocol_refused_total{{reason=\"{reason}\"}} {count}\n");
            loop {
                let metrics = client.get(format!("http://{address}/metrics")).send().await;
                let metrics = metrics.unwrap().text().await.unwrap();
                if metrics.contains(&want) {
                    break;
                }
                assert!(Instant::now() < deadline, "{want}{metrics}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_connects_with_the_proxy_protocol_and_tls() {
    if !has_curl() {
        return;
    }
    let gateway = Gateway::start(REQUIRED, "", false).await;
    let authority = gateway.demo.directory.join("certs/ca.pem");
    for (args, succeeds) in [(&["--haproxy-protocol", "-4"][..], true), (&["-4"], false)] {
        let curl = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--cacert", authority.to_str().unwrap()])
            .args(args)
            .arg(gateway.demo.at("/svc/api/v1/x"))
            .output()
            .unwrap();
        assert_eq!(curl.status.success(), succeeds, "{curl:?}");
        if succeeds {
            let received: Value = serde_json::from_slice(&curl.stdout).unwrap();
            assert_eq!(received["x-forwarded-for"], "127.0.0.1");
        }
    }
}
