//! Helpers of the targets: fixed keys, fixed tokens, a fixed time, and functions that several targets use.

use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use tower_passticket::{
    clock::{ManualClock, Timestamp},
    identity::PeerCertificate,
    token::{Rs256Verifier, SigningKey},
};

/// The time of [`clock`], in seconds since 1970. The target `tickets` takes its time from the input.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) const SIGNING_KEY: &str = include_str!("../fixtures/signing.key");
pub(crate) const SERVER_KEY: &str = include_str!("../fixtures/server.key");
pub(crate) const SERVER_CERTIFICATE: &str = include_str!("../fixtures/server.pem");
pub(crate) const CA_CERTIFICATE: &str = include_str!("../fixtures/ca.pem");

/// The header of the tokens that the gateway issues, if its signing key has no id.
pub(crate) const HEADER: &str = r#"{"alg":"RS256"}"#;

pub(crate) const LOGIN_USER: &str = "LOGINUSR";
pub(crate) const PAT_USER: &str = "PATUSER";
/// The common name of the client certificate.
pub(crate) const CERTIFICATE_USER: &str = "USER";

pub(crate) static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(SIGNING_KEY.as_bytes()).expect("the fixture is a key"));

static RSA: LazyLock<KeyPair> = LazyLock::new(|| {
    let der: String = SIGNING_KEY.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(der).expect("the fixture is PEM");
    KeyPair::from_pkcs8(&der).expect("the fixture is a key")
});

/// A login token that is valid until a day after `NOW`.
pub(crate) static LOGIN_TOKEN: LazyLock<String> = LazyLock::new(|| {
    let claims = format!(
        r#"{{"sub":"{LOGIN_USER}","iat":{},"exp":{},"iss":"APIML","dom":"security-domain"}}"#,
        NOW - 60,
        NOW + 86_400
    );
    signed(HEADER.as_bytes(), claims.as_bytes())
});

/// A Personal Access Token (PAT) that is valid for the service `svc`.
pub(crate) static PAT: LazyLock<String> = LazyLock::new(|| {
    let claims = format!(
        r#"{{"sub":"{PAT_USER}","iat":{},"exp":{},"iss":"APIML_PAT","scopes":["svc"]}}"#,
        NOW - 60,
        NOW + 86_400
    );
    signed(HEADER.as_bytes(), claims.as_bytes())
});

/// Credentials for `Authorization: Basic`, in Base64: an empty user name, and the PAT as the password.
pub(crate) static PAT_AS_PASSWORD: LazyLock<String> =
    LazyLock::new(|| Engine::encode(&base64::prelude::BASE64_STANDARD, format!(":{}", *PAT)));

/// A login token that expires at `NOW`.
pub(crate) static EXPIRED_TOKEN: LazyLock<String> = LazyLock::new(|| {
    let claims =
        format!(r#"{{"sub":"{LOGIN_USER}","iat":{},"exp":{NOW},"iss":"APIML"}}"#, NOW - 60);
    signed(HEADER.as_bytes(), claims.as_bytes())
});

pub(crate) static CERTIFICATE: LazyLock<PeerCertificate> = LazyLock::new(|| {
    PeerCertificate::from_der(&include_bytes!("../fixtures/client.der")[..])
        .expect("the fixture is a certificate")
});

/// Returns a token with this header and these claims, and with a valid signature.
pub(crate) fn signed(header: &[u8], claims: &[u8]) -> String {
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let mut token = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
        .expect("the buffer has the length of the modulus");
    token.push('.');
    token.push_str(&encode(&signature));
    token
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(NOW)))
}

pub(crate) fn verifier() -> Rs256Verifier {
    Rs256Verifier::new(KEY.verifying_key()).with_clock(clock())
}

/// Replaces `{JWT}`, `{PAT}`, `{BASIC}` and `{EXPIRED}` with tokens. Inputs contain these placeholders, because a
/// fuzzer cannot find a valid signature.
pub(crate) fn with_tokens(data: &[u8]) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some(first) = rest.first() {
        let token = [
            ("{JWT}", &LOGIN_TOKEN),
            ("{PAT}", &PAT),
            ("{BASIC}", &PAT_AS_PASSWORD),
            ("{EXPIRED}", &EXPIRED_TOKEN),
        ]
        .into_iter()
        .find_map(|(name, token)| Some((rest.strip_prefix(name.as_bytes())?, token)));
        match token {
            Some((after, token)) => {
                expanded.extend_from_slice(token.as_bytes());
                rest = after;
            }
            None => {
                expanded.push(*first);
                rest = &rest[1..];
            }
        }
    }
    expanded
}

/// Parses lines of the form `name: value` as headers. Ignores lines that are not valid headers.
pub(crate) fn header_lines(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value)
            && headers.try_append(name, value).is_err()
        {
            break;
        }
    }
    headers
}

/// Returns the first `max` lines that are UTF-8. Some targets compare all pairs of lines, which would be slow
/// with many lines.
pub(crate) fn lines(data: &[u8], max: usize) -> Vec<&str> {
    data.split(|b| *b == b'\n').filter_map(|line| str::from_utf8(line).ok()).take(max).collect()
}

/// Returns the output of a future that never waits.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("expected a future that is ready"),
    }
}
