//! A fake z/OSMF (IBM's management server on z/OS) with the login service, the public key of its JWTs, and
//! `/zosmf/info` (docs/reference/zowe-site.md#zosmf).
//!
//! A PassTicket is a one-time password of z/OS.

use std::{
    collections::{HashMap, HashSet},
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use passticket::{
    KeyProfile,
    clock::{Clock, SystemClock},
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake::{Answer, Fake, Request},
    jws, pki, tickets,
};

const AUTHENTICATE: &str = "/zosmf/services/authenticate";

/// The state of a user in the security product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserState {
    /// The user can log in.
    Active,
    /// The password has expired. The user can change it.
    Expired,
    /// The user is revoked, and cannot log in.
    Revoked,
}

/// The tokens that a login returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// Only a JWT.
    Jwt,
    /// Only an LTPA token (an opaque token of IBM servers).
    Ltpa,
    /// A JWT and an LTPA token.
    Both,
}

/// A fake z/OSMF. It signs its JWTs with [`pki::OTHER_SIGNING_KEY`].
#[derive(Debug)]
pub struct FakeZosmf {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    users: HashMap<String, (String, UserState)>,
    tokens: Tokens,
    valid: HashSet<String>,
    issued: u32,
    /// The key profile of the PassTickets that z/OSMF accepts as passwords. With `None`, it accepts no PassTicket.
    profile: Option<KeyProfile>,
}

impl FakeZosmf {
    /// Starts a fake z/OSMF with the user `USER`, whose password is `validPassword`.
    pub async fn https(acceptor: TlsAcceptor) -> Self {
        let user = ("validPassword".to_owned(), UserState::Active);
        let state = Arc::new(Mutex::new(State {
            users: HashMap::from([("USER".to_owned(), user)]),
            tokens: Tokens::Both,
            valid: HashSet::new(),
            issued: 0,
            profile: None,
        }));
        let handle = {
            let state = state.clone();
            move |request: &Request| state.lock().unwrap().answer(request)
        };
        Self { fake: Fake::https(acceptor, handle).await, state }
    }

    /// Sets the password and the state of a user.
    pub fn set_user(&self, name: &str, password: &str, state: UserState) {
        self.state().users.insert(name.to_owned(), (password.to_owned(), state));
    }

    /// Returns the password of a user.
    pub fn password(&self, name: &str) -> Option<String> {
        self.state().users.get(name).map(|(password, _)| password.clone())
    }

    /// Sets which tokens z/OSMF returns at later logins.
    pub fn issue(&self, tokens: Tokens) {
        self.state().tokens = tokens;
    }

    /// Issues a JWT of `user` without a login.
    pub fn jwt(&self, user: &str) -> String {
        let mut state = self.state();
        state.issued += 1;
        let token = jwt(user, state.issued);
        state.valid.insert(token.clone());
        token
    }

    /// Makes a token invalid.
    pub fn end(&self, token: &str) {
        self.state().valid.remove(token);
    }

    /// Returns whether z/OSMF accepts this token.
    pub fn accepts(&self, token: &str) -> bool {
        self.state().valid.contains(token)
    }

    /// Lets active users log in with PassTickets of this profile. With `None`, z/OSMF refuses all PassTickets.
    pub fn accept_tickets(&self, profile: Option<KeyProfile>) {
        self.state().profile = profile;
    }

    /// Returns the number of tokens that are valid.
    pub fn valid_tokens(&self) -> usize {
        self.state().valid.len()
    }

    /// Closes the port, so that new connections are refused.
    pub async fn stop(&mut self) {
        self.fake.stop().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Deref for FakeZosmf {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        match (&*request.method, &*request.path) {
            ("GET", "/zosmf/info") => Answer::json(
                200,
                &json!({
                    "zos_version": "04.28.00",
                    "zosmf_version": "28",
                    "zosmf_full_version": "28.0",
                    "zosmf_saf_realm": "SAFRealm",
                    "zosmf_hostname": "localhost",
                    "api_version": "1",
                }),
            ),
            ("GET", "/jwt/ibm/api/zOSMFBuilder/jwk") => {
                Answer::json(200, &json!({"keys": [jwk()]}))
            }
            (_, AUTHENTICATE) if request.header("x-csrf-zosmf-header").is_none() => {
                Answer::json(403, &outcome(4, "the header X-CSRF-ZOSMF-HEADER is missing"))
            }
            ("POST", AUTHENTICATE) => self.log_in(request),
            ("PUT", AUTHENTICATE) => self.change_password(request),
            ("DELETE", AUTHENTICATE) => {
                let tokens = [request.cookie("jwtToken"), request.cookie("LtpaToken2")];
                match tokens.into_iter().flatten().any(|token| self.valid.remove(token)) {
                    true => Answer::empty(204),
                    false => Answer::empty(401),
                }
            }
            _ => Answer::empty(404),
        }
    }

    fn log_in(&mut self, request: &Request) -> Answer {
        let Some((user, password)) = basic(request) else {
            let tokens = [request.cookie("jwtToken"), request.cookie("LtpaToken2")];
            let is_valid = tokens.into_iter().flatten().any(|token| self.valid.contains(token));
            return Answer::empty(if is_valid { 200 } else { 401 });
        };
        match self.users.get(&user) {
            Some((right, UserState::Active))
                if *right == password
                    || self
                        .profile
                        .as_ref()
                        .is_some_and(|profile| tickets::is_valid(profile, &user, &password)) => {}
            _ => return Answer::json(401, &outcome(8, "the user or the password is wrong")),
        }
        self.issued += 1;
        let mut answer = Answer::json(200, &outcome(0, "Success."));
        let mut issue = |name: &str, token: String| {
            let cookie = format!("{name}={token}; Path=/; Secure; HttpOnly");
            answer.headers.push(("Set-Cookie", cookie));
            self.valid.insert(token);
        };
        if self.tokens != Tokens::Ltpa {
            issue("jwtToken", jwt(&user, self.issued));
        }
        if self.tokens != Tokens::Jwt {
            issue("LtpaToken2", format!("{}/ltpa+{}==", user, self.issued));
        }
        answer
    }

    fn change_password(&mut self, request: &Request) -> Answer {
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return Answer::json(400, &outcome(8, "the body is not JSON"));
        };
        let [Some(user), Some(old), Some(new)] =
            ["userID", "oldPwd", "newPwd"].map(|name| body[name].as_str())
        else {
            return Answer::json(400, &outcome(8, "a field is missing"));
        };
        match self.users.get_mut(&user.to_uppercase()) {
            Some((password, state))
                if password == old
                    && *state != UserState::Revoked
                    && new != old
                    && new != "weak" =>
            {
                (*password, *state) = (new.to_owned(), UserState::Active);
                Answer::json(200, &outcome(0, "Success."))
            }
            _ => Answer::json(500, &outcome(8, "the password was not changed")),
        }
    }
}

fn outcome(return_code: u32, message: &str) -> Value {
    json!({"returnCode": return_code, "reasonCode": 0, "message": message})
}

/// Returns the user and the password of a `Basic` header. The user is in upper case.
fn basic(request: &Request) -> Option<(String, String)> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let plain = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some((user.to_uppercase(), password.to_owned()))
}

fn jwt(user: &str, id: u32) -> String {
    let now = SystemClock.now().as_secs();
    let claims = json!({
        "token_type": "Bearer", "jti": format!("id-{id}"), "iss": "zOSMF", "sub": user,
        "iat": now, "exp": now + 28_800,
    });
    jws::sign(pki::OTHER_SIGNING_KEY, &json!({"alg": "RS256"}), &claims)
}

fn jwk() -> Value {
    let mut jwk = jws::jwk(pki::OTHER_SIGNING_KEY);
    (jwk["alg"], jwk["use"]) = ("RS256".into(), "sig".into());
    jwk
}
