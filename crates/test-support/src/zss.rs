//! A fake ZSS (Zowe System Services, a server on z/OS). Its endpoints check and change passwords
//! (docs/reference/zowe-site.md#zss-login), and issue SAF identity tokens, which are JWTs of the z/OS security product
//! (docs/reference/zowe-site.md#schemes).
//!
//! A PassTicket is a one-time password of z/OS.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use passticket::{
    KeyProfile,
    clock::{Clock, SystemClock},
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake::{Answer, Fake, Request},
    tickets,
    zosmf::UserState,
};

/// A fake ZSS.
#[derive(Debug)]
pub struct FakeZss {
    fake: Fake,
    users: Arc<Mutex<Users>>,
    profile: Arc<Mutex<Option<KeyProfile>>>,
}

type Users = HashMap<String, (String, UserState)>;

impl FakeZss {
    /// Starts a fake ZSS with the user `USER`, whose password is `validPassword`.
    pub async fn https(acceptor: TlsAcceptor) -> Self {
        let user = ("validPassword".to_owned(), UserState::Active);
        let users = Arc::new(Mutex::new(HashMap::from([("USER".to_owned(), user)])));
        let profile = Arc::<Mutex<Option<KeyProfile>>>::default();
        let handle = {
            let (users, profile) = (users.clone(), profile.clone());
            move |request: &Request| match &*request.path {
                "/saf/authenticate" => saf_token(profile.lock().unwrap().as_ref(), request),
                _ => answer(&mut users.lock().unwrap(), request),
            }
        };
        Self { fake: Fake::https(acceptor, handle).await, users, profile }
    }

    /// Lets clients get SAF identity tokens with PassTickets of this profile. With `None`, ZSS refuses all PassTickets.
    pub fn accept_tickets(&self, profile: Option<KeyProfile>) {
        *self.profile.lock().unwrap() = profile;
    }

    /// Sets the password and the state of a user.
    pub fn set_user(&self, name: &str, password: &str, state: UserState) {
        self.users.lock().unwrap().insert(name.to_owned(), (password.to_owned(), state));
    }
}

impl Deref for FakeZss {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}

fn answer(users: &mut Users, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let [user, password, new] =
        ["username", "password", "newPassword"].map(|name| body[name].as_str().unwrap_or_default());
    let entry = users.get_mut(&user.to_uppercase());
    match (&*request.method, &*request.path, entry) {
        ("POST", "/login", Some((right, state))) if right == password => match state {
            UserState::Active => Answer {
                headers: vec![
                    ("Content-Type", "text/html".to_owned()),
                    ("Set-Cookie", "jedHTTPSession.7557=x; Path=/; HttpOnly".to_owned()),
                ],
                ..Answer::json(200, &json!({"status": "OK"}))
            },
            UserState::Expired => Answer::text(428, "Password Expired"),
            UserState::Revoked => Answer::text(401, "Not Authorized"),
        },
        ("POST", "/login", _) => Answer::text(401, "Not Authorized"),
        ("POST", "/password", entry) => match entry {
            Some((_, UserState::Revoked)) => status(
                429,
                "Incorrect password or account is locked. Please contact your administrator.",
            ),
            Some((right, _)) if right == password && new == "weak" => {
                status(400, "The new password format is incorrect. Please try again.")
            }
            Some((right, state)) if right == password => {
                (*right, *state) = (new.to_owned(), UserState::Active);
                status(200, "Password Successfully Reset")
            }
            _ => status(401, "Username or password is incorrect. Please try again."),
        },
        _ => Answer::empty(404),
    }
}

/// Returns a SAF identity token that is valid for an hour, or a refusal.
fn saf_token(profile: Option<&KeyProfile>, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let [user, pass, appl] =
        ["username", "pass", "appl"].map(|name| body[name].as_str().unwrap_or_default());
    let is_valid = profile.is_some_and(|profile| {
        profile.applid().as_str() == appl && tickets::is_valid(profile, user, pass)
    });
    if request.method != "POST" || !is_valid {
        return Answer::text(401, "Not Authorized");
    }
    let now = SystemClock.now().as_secs();
    let claims = json!({"sub": user, "aud": appl, "iss": "saf", "iat": now, "exp": now + 3600});
    let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let jwt = format!("{}.{}.c2ln", encode(json!({"alg": "HS256"})), encode(claims));
    Answer::json(201, &json!({ "jwt": jwt }))
}

fn status(status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({ "status": text }))
}
