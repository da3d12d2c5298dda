//! A service that accepts PassTickets. A PassTicket is a password for one user and one application. In this example, it
//! is valid for ten minutes. An axum extractor evaluates the PassTicket of each request.
//!
//! Run `cargo run --example southbound_service`. Generate a ticket with `passticket-proxy ticket generate`
//! and the key of this example. Then run `curl -u USER:$TICKET http://127.0.0.1:8081/hello`.

use std::sync::Arc;

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tower_passticket::{
    clock::{Clock, SystemClock},
    passticket::{Algorithm, Applid, KeyProfile, PassTicket, UserId},
};

/// The key that this service shares with the gateway. In production, read the key from a file with mode 0600.
const KEY: &str = "E001193519561977";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let profile = KeyProfile::from_hex(Applid::new("ZOWEAPPL")?, Algorithm::Legacy, KEY)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8081").await?;
    Ok(axum::serve(listener, app(profile, Arc::new(SystemClock))).await?)
}

fn app(profile: KeyProfile, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/hello", get(|Evaluated(user): Evaluated| async move { format!("hello {user}\n") }))
        .with_state(Tickets { profile: Arc::new(profile), clock })
}

/// The state of the extractor. The profile contains the key, the APPLID (the name of the application), and how long a
/// ticket is valid.
#[derive(Clone)]
struct Tickets {
    profile: Arc<KeyProfile>,
    clock: Arc<dyn Clock>,
}

/// Extracts the user of a valid PassTicket.
struct Evaluated(UserId);

impl FromRequestParts<Tickets> for Evaluated {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(
        parts: &mut Parts,
        tickets: &Tickets,
    ) -> Result<Self, Self::Rejection> {
        let refuse = |error: &dyn ToString| (StatusCode::UNAUTHORIZED, error.to_string() + "\n");
        let (user, ticket) = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
            .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok())
            .and_then(|plain| String::from_utf8(plain).ok())
            .and_then(|plain| plain.split_once(':').map(|(u, t)| (u.to_owned(), t.to_owned())))
            .ok_or_else(|| refuse(&"Authorization is not Basic user:PassTicket"))?;
        let user = UserId::new(&user).map_err(|e| refuse(&e))?;
        let ticket = PassTicket::parse(&ticket).map_err(|e| refuse(&e))?;
        // The error does not help an attacker, because it is the same for a wrong user, a wrong key and a wrong APPLID.
        match tickets.profile.evaluate(&user, &ticket, tickets.clock.now()) {
            Ok(_) => Ok(Self(user)),
            Err(error) => Err(refuse(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;
    use tower_passticket::clock::{ManualClock, Timestamp};

    use super::*;

    #[tokio::test]
    async fn only_a_valid_ticket_of_the_user_is_accepted() {
        let profile = || {
            KeyProfile::from_hex(Applid::new("ZOWEAPPL").unwrap(), Algorithm::Legacy, KEY).unwrap()
        };
        let now = Timestamp::from_secs(1_800_000_000);
        let app = app(profile(), Arc::new(ManualClock::new(now)));
        let user = UserId::new("USER").unwrap();
        let valid = profile().generate(&user, now).unwrap();
        // By default, a ticket is valid for 600 seconds.
        let issued_at = Timestamp::from_secs(now.as_secs() - 601);
        let expired = profile().generate(&user, issued_at).unwrap();
        for (basic, status) in [
            (format!("USER:{}", valid.expose()), 200),
            (format!("OTHER:{}", valid.expose()), 401),
            (format!("USER:{}", expired.expose()), 401),
            ("USER:password".to_owned(), 401),
            (String::new(), 401),
        ] {
            let basic = BASE64_STANDARD.encode(basic);
            let request = Request::get("/hello")
                .header(AUTHORIZATION, format!("Basic {basic}"))
                .body(Body::empty())
                .unwrap();
            assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status);
        }
    }
}
