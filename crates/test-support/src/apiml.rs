//! A fake Zowe API ML (the API gateway of Zowe). Its endpoints return its certificates and its list of public keys, and
//! validate and end its tokens (docs/reference/zowe-site.md#issuers, docs/reference/zowe-site.md#logout).

use std::{
    collections::HashSet,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use passticket::clock::{Clock, SystemClock};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake::{Answer, Fake, Request},
    jws, pki,
};

const AUTH: &str = "/gateway/api/v1/auth/";

/// A fake API ML. [`pki::OTHER_SIGNING_KEY`] signs its tokens. Its list of public keys contains this key, and also
/// [`pki::SIGNING_KEY`], as the key of an identity provider.
#[derive(Debug)]
pub struct FakeApiml {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    valid: HashSet<String>,
}

impl FakeApiml {
    /// Starts a fake API ML.
    pub async fn https(acceptor: TlsAcceptor) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let key = KeyPair::from_pem(pki::OTHER_SIGNING_KEY).unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificates =
            certificate.self_signed(&key).unwrap().pem() + pki::Authority::trusted().pem();
        let handle = {
            let state = state.clone();
            move |request: &Request| state.lock().unwrap().answer(request, &certificates)
        };
        Self { fake: Fake::https(acceptor, handle).await, state }
    }

    /// Issues a login token of `user`, which expires after eight hours. A logout or [`end`](Self::end) makes it
    /// invalid.
    pub fn login_token(&self, user: &str) -> String {
        self.issue(json!({"iss": "APIML", "sub": user, "dom": "security-domain"}))
    }

    /// Issues a Personal Access Token of `user` for `services`.
    pub fn pat(&self, user: &str, services: &[&str]) -> String {
        self.issue(json!({
            "iss": "APIML_PAT", "sub": user, "scopes": services, "auth.prov": "zOSMF",
        }))
    }

    /// Makes a token invalid.
    pub fn end(&self, token: &str) {
        self.state().valid.remove(token);
    }

    /// Returns whether API ML accepts this token.
    pub fn accepts(&self, token: &str) -> bool {
        self.state().valid.contains(token)
    }

    /// Closes the port, so that new connections are refused.
    pub async fn stop(&mut self) {
        self.fake.stop().await;
    }

    fn issue(&self, mut claims: Value) -> String {
        // All fakes share this counter, so each token has another `jti`. Otherwise, two fakes could issue the same
        // token in the same second.
        static ISSUED: AtomicU32 = AtomicU32::new(0);
        let mut state = self.state();
        let number = ISSUED.fetch_add(1, Ordering::Relaxed);
        let now = SystemClock.now().as_secs();
        claims["jti"] = format!("id-{number}").into();
        (claims["iat"], claims["exp"]) = (now.into(), (now + 28_800).into());
        let token = jws::sign(pki::OTHER_SIGNING_KEY, &json!({"alg": "RS256"}), &claims);
        state.valid.insert(token.clone());
        token
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Deref for FakeApiml {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}

impl State {
    fn answer(&mut self, request: &Request, certificates: &str) -> Answer {
        let bearer =
            request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let bearer = bearer.or(request.cookie("apimlAuthenticationToken")).unwrap_or_default();
        if request.path == "/gateway/certificates" {
            return Answer::text(200, certificates);
        }
        match (&*request.method, request.path.strip_prefix(AUTH).unwrap_or_default()) {
            ("GET", "keys/public/all") => {
                let mut provider = jws::jwk(pki::SIGNING_KEY);
                (provider["kid"], provider["use"]) = ("idp".into(), "sig".into());
                Answer::json(200, &json!({ "keys": [jws::jwk(pki::OTHER_SIGNING_KEY), provider] }))
            }
            ("GET", "query") if self.valid.contains(bearer) => Answer::json(
                200,
                &json!({
                    "domain": "security-domain", "userId": subject(bearer), "creation": 1,
                    "expiration": 2, "expired": false,
                }),
            ),
            ("POST", "logout") if self.valid.remove(bearer) => Answer::empty(204),
            ("POST", "access-token/validate") => {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let token = body["token"].as_str().unwrap_or_default();
                let service = body["serviceId"].as_str().unwrap_or_default();
                let is_valid =
                    self.valid.contains(token) && scopes(token).contains(&service.into());
                Answer::empty(if is_valid { 204 } else { 401 })
            }
            ("GET", "query") | ("POST", "logout") => Answer::json(
                401,
                &json!({"messages": [{"messageNumber": "ZWEAG102E", "messageContent": "Token is not valid"}]}),
            ),
            _ => Answer::empty(404),
        }
    }
}

fn claims(token: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn subject(token: &str) -> String {
    claims(token)["sub"].as_str().unwrap().to_owned()
}

fn scopes(token: &str) -> Vec<Value> {
    claims(token)["scopes"].as_array().cloned().unwrap_or_default()
}
