//! An HTTP client for tests. It does not use the client of `tower-passticket`, which is under test.

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, ClientBuilder};
use serde_json::Value;

use crate::process::PATIENCE;

/// Creates a client that trusts only these certificate authorities (PEM).
pub fn client(authorities: &[u8]) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .tls_certs_only(Certificate::from_pem_bundle(authorities).unwrap())
        .timeout(PATIENCE)
}

/// Returns the user and the password of the header `Authorization: Basic`. `headers` is a JSON object with the headers
/// of a request, in the form that the demo service returns.
pub fn basic(headers: &Value) -> (String, String) {
    let basic = headers["authorization"].as_str().unwrap().strip_prefix("Basic ").unwrap();
    let plain = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
    let (user, ticket) = plain.split_once(':').unwrap();
    (user.to_owned(), ticket.to_owned())
}
