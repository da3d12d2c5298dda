//! Words for decisions, and what to do about a refusal.

use passticket_proxy::instant::Instant;
use serde_json::Value;
use tower_passticket::{
    audit::ReasonCode,
    clock::Timestamp,
    layer::{CredentialPlace, OnFailure},
};

use super::mask::shortened;

pub(super) fn on_failure(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Forward => "forward: the service gets the request without a credential",
        OnFailure::ForwardUnchanged => {
            "forward-unchanged: the service gets the client's own credentials"
        }
        OnFailure::Reject => "reject: the gateway answers with an error",
        _ => "unknown",
    }
}

pub(super) fn place(place: CredentialPlace) -> &'static str {
    match place {
        CredentialPlace::LoginCookie => "the cookie for login tokens",
        CredentialPlace::Bearer => "Authorization: Bearer",
        CredentialPlace::TokenScheme => "Authorization: token",
        CredentialPlace::PatCookie => "the cookie for Personal Access Tokens",
        CredentialPlace::PrivateToken => "PRIVATE-TOKEN",
        CredentialPlace::Basic => "Authorization: Basic",
        CredentialPlace::Certificate => "the client certificate",
        _ => "unknown",
    }
}

/// Returns what an operator or a user can do about a refusal.
pub(super) fn remedy(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::NoCredential => {
            "the client must send a token, a Personal Access Token or a client certificate; --user shows what a user \
             would get"
        }
        ReasonCode::WrongKind => {
            "send a login token in Authorization: Bearer or in the login cookie; the other places are for Personal \
             Access Tokens, if they are on"
        }
        ReasonCode::TokenMalformed => "the token is cut off or changed; copy the whole token",
        ReasonCode::TokenSignature | ReasonCode::TokenAlgorithm => {
            "the token is not signed with a key of this gateway or of a configured issuer: compare the key id with \
             signingKeys, and ask for a new token"
        }
        ReasonCode::TokenIssuer => {
            "add the issuer to components.passticket-proxy.oidc, or take a token of a configured issuer"
        }
        ReasonCode::TokenClaims => {
            "compare issuer, audience and user claim with components.passticket-proxy.oidc"
        }
        ReasonCode::TokenNotYetValid => "compare the clocks of the issuer and of this machine",
        ReasonCode::TokenExpired | ReasonCode::TokenRevoked => {
            "log in again, or issue a new Personal Access Token"
        }
        ReasonCode::RevokedByUserRule | ReasonCode::RevokedByServiceRule => {
            "issue a new Personal Access Token; a rule does not revoke tokens that are issued after its time"
        }
        ReasonCode::OutOfScope => {
            "issue a Personal Access Token with a scope for this service and this request"
        }
        ReasonCode::NoUser => {
            "map the identity to a user id, in the identities file or on z/OS (RACDCERT MAP, RACMAP)"
        }
        ReasonCode::CertificateRequired => "the client must present a client certificate",
        ReasonCode::CertificateExpired => "the client needs a new certificate",
        ReasonCode::WrongPassword => "check the password; --user explains without a password",
        ReasonCode::NotAuthorized => {
            "give the gateway's own user id UPDATE on the resource in section SAF"
        }
        ReasonCode::NoKeyProfile => {
            "add the key of the APPLID to components.passticket-proxy.ptktdata"
        }
        ReasonCode::TicketsStopped => {
            "a service has refused PassTickets: see docs/operating/refused-tickets.md, and resume on the admin port"
        }
        ReasonCode::NoTimeSlot => {
            "wait a second, or switch replay protection off on z/OS and in ptktdata"
        }
        _ => return None,
    })
}

/// Returns the text of a claim. The claims `iat`, `exp` and `nbf` are shown as times.
pub(super) fn claim(name: &str, value: &Value) -> String {
    let secs = value.as_u64().filter(|_| ["iat", "exp", "nbf"].contains(&name));
    let value = match (value, secs) {
        (_, Some(secs)) => Instant(Timestamp::from_secs(secs)).to_string(),
        (Value::String(text), None) => text.clone(),
        (other, None) => other.to_string(),
    };
    format!("{name}: {}", shortened(value))
}
