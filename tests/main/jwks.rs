//! Tests of `JwksUrl`, which fetches the signing keys of an identity provider over TLS. The server sends correct, late
//! or wrong answers, or does not exist.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use test_support::{
    pki::{self, Authority, SERVER},
    raw::{self, head, listener},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tower_passticket::{
    clock::{ManualClock, Timestamp},
    identity::Registry,
    remote::{Address, Client, ClientLimits},
    tls::Connector,
    token::{
        IssuerKeys, IssuerUrl, JwksUrl, KeyId, OidcIssuer, Rs256Verifier, SigningKey, TokenError,
        TokenVerifier, TrustedIssuers,
    },
};

const ISSUER: &str = "https://idp.example.com";
const NOW: u64 = 1_800_000_000;

fn key() -> SigningKey {
    SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap()
}

fn jwk_set() -> String {
    let key = key().with_key_id(KeyId::new("a").unwrap());
    json!({ "keys": [key.verifying_key().to_jwk()] }).to_string()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Starts a TLS server that sends `answer` for each request, and then keeps the connection open. Returns the port and a
/// counter of the requests.
async fn server(answer: String) -> (u16, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let (acceptor, counted) = (SERVER.acceptor(), requests.clone());
    let address = raw::service(move |stream: TcpStream| {
        let (acceptor, answer, counted) = (acceptor.clone(), answer.clone(), counted.clone());
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut stream = BufReader::new(stream);
            let head = head(&mut stream).await;
            assert!(head.starts_with("GET /keys HTTP/1.1\r\n"), "{head}");
            assert!(!head.to_lowercase().contains("authorization"), "{head}");
            counted.fetch_add(1, SeqCst);
            let _ = stream.get_mut().write_all(answer.as_bytes()).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    (address.port(), requests)
}

/// Verifies a valid token with the keys from the server at this port. Returns the error, if there is one.
async fn verify(port: u16, authority: &Authority) -> Option<TokenError> {
    let connector =
        Connector::builder().with_authorities(authority.pem().as_bytes()).build().unwrap();
    let limits = ClientLimits::default().with_deadline(Duration::from_millis(500));
    let address = Address::parse(&format!("https://localhost:{port}/keys")).unwrap();
    let source = JwksUrl::new(Client::new(connector, limits), address).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
    let keys = IssuerKeys::fetched(ISSUER, source).with_clock(clock.clone());
    let registry = Registry::new("idp").unwrap();
    let provider = OidcIssuer::new(IssuerUrl::new(ISSUER).unwrap(), "gateway", registry, keys);
    let own = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let own = Rs256Verifier::new(own.verifying_key()).with_clock(clock);
    let issuers = TrustedIssuers::new(own).with_oidc(provider).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some("a".to_owned());
    let claims = json!({"iss": ISSUER, "aud": "gateway", "sub": "jane", "exp": NOW + 60});
    let signing = jsonwebtoken::EncodingKey::from_rsa_pem(pki::OTHER_SIGNING_KEY.as_bytes());
    let token = jsonwebtoken::encode(&header, &claims, &signing.unwrap()).unwrap();
    assert!(issuers.try_verify_now(token.as_bytes()).is_none());
    issuers.verify_token(token.as_bytes()).await.err()
}

#[tokio::test]
async fn only_a_complete_correct_answer_gives_keys() {
    let set = jwk_set();
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", set.len(), &set[..20]);
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: /keys\r\ncontent-length: {}\r\n\r\n{set}",
        set.len()
    );
    let padded = ok(&format!("{set}{}", " ".repeat(64 * 1024)));
    for (case, answer, is_good) in [
        ("right", ok(&set), true),
        ("late", String::new(), false),
        ("half of the body", half, false),
        ("redirect", redirect, false),
        ("too large", padded, false),
        ("not JSON", ok("<html>"), false),
        ("no keys", ok(r#"{"keys":[]}"#), false),
        ("error", ok(&set).replacen("200 OK", "500 Internal Server Error", 1), false),
        ("not HTTP", "SSH-2.0-OpenSSH\r\n\r\n".to_owned(), false),
    ] {
        let (port, requests) = server(answer).await;
        let begin = Instant::now();
        let got = verify(port, &Authority::trusted()).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{case}");
        assert_eq!(requests.load(SeqCst), 1, "{case}");
        match got {
            None => assert!(is_good, "{case}"),
            Some(TokenError::Unavailable(_)) => assert!(!is_good, "{case}"),
            Some(other) => panic!("{case}: {other}"),
        }
    }
}

#[tokio::test]
async fn keys_of_an_absent_or_untrusted_server_are_not_used() {
    let (port, requests) = server(ok(&jwk_set())).await;
    for authority in [Authority::stranger(), Authority::namesake()] {
        let got = verify(port, &authority).await;
        assert!(matches!(got, Some(TokenError::Unavailable(_))), "{got:?}");
    }
    assert_eq!(requests.load(SeqCst), 0);
    let (closed, address) = listener().await;
    drop(closed);
    let got = verify(address.port(), &Authority::trusted()).await;
    assert!(matches!(got, Some(TokenError::Unavailable(_))), "{got:?}");
}

#[test]
fn a_url_without_tls_is_refused_except_on_loopback() {
    let source = |url: &str| {
        let authority = Authority::trusted();
        let connector = Connector::builder().with_authorities(authority.pem().as_bytes());
        let connector = connector.build().unwrap();
        let client = Client::new(connector, ClientLimits::default());
        JwksUrl::new(client, Address::parse(url).unwrap())
    };
    assert!(source("https://idp.example.com/keys").is_ok());
    assert!(source("http://127.0.0.1:8080/keys").is_ok());
    for url in ["http://idp.example.com/keys", "http://10.0.0.1/keys", "http://localhost.example/"]
    {
        let error = source(url).unwrap_err().to_string();
        assert!(error.contains("is not protected by TLS"), "{error}");
    }
}
