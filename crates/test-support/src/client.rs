//! An HTTP client that is not ours.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, ClientBuilder};
use serde_json::Value;

use crate::process::PATIENCE;

/// A client that trusts only these authorities.
pub fn client(authorities: &[u8]) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .tls_certs_only(Certificate::from_pem_bundle(authorities).unwrap())
        .timeout(PATIENCE)
}

/// The user and the ticket of a `Basic` header, in headers as the demo service echoes them.
pub fn basic(headers: &Value) -> (String, String) {
    let basic = headers["authorization"].as_str().unwrap().strip_prefix("Basic ").unwrap();
    let plain = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
    let (user, ticket) = plain.split_once(':').unwrap();
    (user.to_owned(), ticket.to_owned())
}
