//! Makes the request that the command explains. The arguments of the command line describe this request.

use std::{fs::File, io::Read, net::SocketAddr, path::Path};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Uri,
    header::{AUTHORIZATION, COOKIE, HOST},
    uri::PathAndQuery,
};
use http_body_util::Full;
use passticket_proxy::{
    config::Config,
    explained::{Asked, Given, HeaderArgument},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tower_passticket::{
    connection::{ConnectionInfo, Protocol},
    identity::PeerCertificate,
    layer::PRIVATE_TOKEN,
    token::TokenIssuer,
};

use crate::{
    commands::ticket_get::read_token, exit::Exit, providers::DOMAIN, stack::Parts,
    terminal::print_problem,
};

/// The maximum size of a certificate file, in bytes.
const MAX_CERTIFICATES: u64 = 1024 * 1024;

/// The request, and how it was made.
pub(super) struct Prepared {
    parts: http::request::Parts,
    /// How the credential was made.
    pub(super) notes: Vec<String>,
    /// Why a TLS handshake with the certificate would fail. `None` if it would not fail, or if no certificate was
    /// checked.
    pub(super) handshake: Option<String>,
}

impl Prepared {
    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        Request::from_parts(self.parts.clone(), Full::default())
    }

    pub(super) fn method(&self) -> &http::Method {
        &self.parts.method
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    pub(super) fn extensions(&self) -> &http::Extensions {
        &self.parts.extensions
    }
}

pub(super) fn prepare(config: &Config, parts: &Parts, asked: Asked) -> Result<Prepared, Exit> {
    let path = asked.url.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = match asked.url.authority() {
        Some(authority) => authority.as_str().rsplit('@').next().unwrap_or_default().to_owned(),
        None => "localhost".to_owned(),
    };
    let mut request = Request::builder()
        .method(asked.method)
        .uri(Uri::from(path))
        .body(())
        .map_err(|error| Exit::usage(format_args!("cannot make the request: {error}")))?;
    let headers = request.headers_mut();
    let host = HeaderValue::from_str(&host);
    headers.insert(HOST, host.map_err(|_| Exit::usage("the host of the URL is not valid"))?);
    for HeaderArgument(name, value) in asked.headers {
        if name == HOST {
            headers.insert(name, value);
            continue;
        }
        if [&AUTHORIZATION, &COOKIE, &PRIVATE_TOKEN].contains(&&name) {
            print_problem(&format!(
                "warning: other users of this machine can read the header {name} in the list of processes; use \
                 --token-file for a token"
            ));
        }
        headers.append(name, value);
    }
    let mut notes = Vec::new();
    let mut handshake = None;
    let mut bearer = |token: &str| -> Result<(), Exit> {
        if headers.contains_key(AUTHORIZATION) {
            return Err(Exit::usage(
                "the header Authorization is already given with --header; remove it, or remove --user or --token-file",
            ));
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Exit::usage("the token is not a valid header value"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    };
    match asked.credential {
        Given::Headers => {}
        Given::User(user) => {
            let issuer =
                TokenIssuer::new(config.signing_key.clone()).with_lifetime(config.token_lifetime);
            let token = issuer.login_token(&user, DOMAIN);
            let token = token.map_err(|error| Exit::runtime(error.to_string()))?;
            bearer(token.expose())?;
            notes.push(format!(
                "--user: as if {user} had logged in. The token exists only in the memory of this command. The \
                 command has checked no password, and not whether z/OS knows the user"
            ));
        }
        Given::Token(file) => {
            bearer(&read_token(&file)?)?;
            notes.push("--token-file: sent as Authorization: Bearer".to_owned());
        }
        Given::Certificate(file) => {
            let chain = read_chain(&file)?;
            match parts.tls() {
                None => notes.push(
                    "AT-TLS verifies certificates outside of the gateway, so the certificate was not verified"
                        .to_owned(),
                ),
                Some(tls) => handshake = tls.verify_client_certificate(&chain).err(),
            }
            notes.push(
                "--certificate: as if the client had proved in the TLS handshake that it has the private key"
                    .to_owned(),
            );
            let mut chain = chain.iter().map(|der| der.to_vec());
            let leaf = chain.next().unwrap_or_default();
            let certificate = PeerCertificate::from_chain(leaf, chain)
                .map_err(|error| Exit::usage(format_args!("{}: {error}", file.display())))?;
            request.extensions_mut().insert(certificate);
        }
    }
    // The address of the client is not known. The port 0 shows this, because no client has this port.
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let connection = ConnectionInfo::new(local, local, Protocol::Https);
    request.extensions_mut().insert(connection);
    let (parts, ()) = request.into_parts();
    Ok(Prepared { parts, notes, handshake })
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Exit> {
    let problem = |text: String| Exit::usage(format_args!("{}: {text}", file.display()));
    // The length of a device or a pipe is not known before it is read.
    let mut pem = Vec::new();
    let read = File::open(file).and_then(|it| it.take(MAX_CERTIFICATES + 1).read_to_end(&mut pem));
    let length = read.map_err(|error| problem(error.to_string()))?;
    if length as u64 > MAX_CERTIFICATES {
        return Err(problem("is too long for a certificate".to_owned()));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(problem("has no certificate in PEM, or contains malformed PEM".to_owned())),
    }
}
