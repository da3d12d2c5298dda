//! A fake API ML (the API gateway of Zowe) that makes PassTickets, the one-time passwords of z/OS
//! (docs/reference/zowe-site.md#ticket-sources, call A).

use std::ops::Deref;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use passticket::{
    KeyProfile, UserId,
    clock::{Clock, SystemClock},
};
use serde_json::{Value, json};

use crate::{
    fake::{Answer, Fake, Request},
    pki::{Clients, SERVER},
};

/// A fake API ML that makes PassTickets.
#[derive(Debug)]
pub struct FakeTickets {
    fake: Fake,
}

impl FakeTickets {
    /// Starts a fake API ML that makes PassTickets with `profile`. It serves only clients with a certificate of
    /// [`Authority::trusted`](crate::pki::Authority::trusted). It accepts each token that has the issuer `APIML`, names
    /// a user and has not expired. It does not check the signature.
    pub async fn https(profile: KeyProfile) -> Self {
        let handle = move |request: &Request| answer(&profile, request);
        Self {
            fake: Fake::https(SERVER.acceptor_of_clients(Clients::MustHaveCertificate), handle)
                .await,
        }
    }
}

impl Deref for FakeTickets {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}

fn answer(profile: &KeyProfile, request: &Request) -> Answer {
    if request.path != "/gateway/api/v1/auth/ticket" {
        return Answer::empty(404);
    }
    if request.method != "POST" {
        return message(405, "ZWEAG101E", "Authentication method is not supported");
    }
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = bearer.or(request.cookie("apimlAuthenticationToken")) else {
        return message(401, "ZWEAG131E", "No authorization token provided");
    };
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value =
        claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
    let user = claims["sub"].as_str().and_then(|user| UserId::new(user).ok());
    let (Some(user), Some("APIML"), Some(exp)) =
        (user, claims["iss"].as_str(), claims["exp"].as_u64())
    else {
        return message(401, "ZWEAG130E", "Token is not valid");
    };
    let now = SystemClock.now();
    if exp <= now.as_secs() {
        return message(401, "ZWEAT100E", "Token is expired");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(applid) = body["applicationName"].as_str().filter(|name| !name.is_empty()) else {
        return message(400, "ZWEAG140E", "The 'applicationName' parameter name is missing.");
    };
    if applid != profile.applid().as_str() {
        return message(
            500,
            "ZWEAG141E",
            "The generation of the PassTicket failed. Reason: Unable to generate PassTicket. Verify that the secured \
             signon (PassTicket) function and application ID is configured properly by referring to Using PassTickets \
             in z/OS Security Server RACF Security Administrator's Guide.",
        );
    }
    let ticket = profile.generate(&user, now).unwrap();
    Answer::json(
        200,
        &json!({
            "token": token,
            "userId": user.as_str(),
            "applicationName": applid,
            "ticket": ticket.expose(),
        }),
    )
}

fn message(status: u16, number: &str, text: &str) -> Answer {
    Answer::json(
        status,
        &json!({"messages": [{
            "messageType": "ERROR", "messageNumber": number, "messageContent": text,
        }]}),
    )
}
