//! A fake ZSS (Zowe System Services, a server on z/OS): the endpoints that check and change passwords
//! (docs/reference/zowe-site.md#zss-login).

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake::{Answer, Fake, Request},
    zosmf::UserState,
};

/// A fake ZSS.
#[derive(Debug)]
pub struct FakeZss {
    fake: Fake,
    users: Arc<Mutex<Users>>,
}

type Users = HashMap<String, (String, UserState)>;

impl FakeZss {
    /// Starts a fake ZSS with the user `USER`, whose password is `validPassword`.
    pub async fn https(acceptor: TlsAcceptor) -> Self {
        let user = ("validPassword".to_owned(), UserState::Active);
        let users = Arc::new(Mutex::new(HashMap::from([("USER".to_owned(), user)])));
        let handle = {
            let users = users.clone();
            move |request: &Request| answer(&mut users.lock().unwrap(), request)
        };
        Self { fake: Fake::https(acceptor, handle).await, users }
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

fn status(status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({ "status": text }))
}
