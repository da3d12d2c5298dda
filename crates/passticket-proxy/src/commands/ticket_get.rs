//! `ticket get`: asks a gateway for a PassTicket, for scripts and for programs that do not speak HTTP.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, SET_COOKIE},
};
use http_body_util::Full;
use passticket_proxy::config::read_secret_file;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_passticket::{
    passticket::{Applid, PassTicket, UserId},
    remote::{Address, Client, ClientLimits, Reply},
    tls::Connector,
    token::MAX_TOKEN_LEN,
};
use zeroize::Zeroizing;

use super::ticket::read_secret;
use crate::{
    cli::{Get, TicketEndpoint, TicketOutput},
    exit::Exit,
    serve,
};

/// The environment variable that names the file with the token, if the command line names none.
const TOKEN_FILE: &str = "PASSTICKET_TOKEN_FILE";

/// The environment variable that names the file with the trusted certificates, as in OpenSSL.
const CERT_FILE: &str = "SSL_CERT_FILE";

/// The usual places of the certificates that a system trusts.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The maximum length of an answer of a gateway, in bytes. A PassTicket and its user id are much shorter.
const MAX_ANSWER: usize = 64 * 1024;

/// A text of a gateway is cut to this number of characters before it is printed.
const MAX_SHOWN: usize = 300;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const PASSTICKET: &str = "urn:passticket:params:oauth:token-type:passticket";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

struct Ticket {
    user: UserId,
    ticket: PassTicket,
    /// The ticket is valid for at least this number of seconds. `None` if the gateway does not name a time.
    expires_in: Option<u64>,
}

struct Session {
    client: Client<Connector>,
    url: String,
    has_certificate: bool,
}

pub(crate) fn get(args: &Get) -> Result<(), Exit> {
    let address = Address::parse(&args.gateway).map_err(Exit::usage)?;
    if !address.is_protected() {
        return Err(Exit::usage(
            "--gateway is not protected by TLS, so others could read the PassTicket; write an https:// URL",
        ));
    }
    let authorities = authorities(args.cacert.as_deref())?;
    let identity = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let chain = read_file(cert)?;
            Some((chain, read_secret_file(key).map_err(Exit::usage)?))
        }
        _ => None,
    };
    let token = match &args.token_file {
        Some(file) => Some(read_token(file)?),
        None => match env::var_os(TOKEN_FILE).filter(|file| !file.is_empty()) {
            Some(file) => Some(read_token(Path::new(&file))?),
            None => None,
        },
    };
    let actor = args.actor_token_file.as_deref().map(read_token).transpose()?;
    if token.is_none() && identity.is_none() {
        return Err(Exit::usage(
            "there is nothing to log in with; add --cert and --key, or --token-file",
        ));
    }
    let limit = Duration::from_secs(args.timeout.into());
    let connector = Connector::builder().with_authorities(&authorities).with_connect_timeout(limit);
    let connector = match &identity {
        Some((chain, key)) => connector.with_identity(chain, key),
        None => connector,
    };
    let connector = connector.build().map_err(Exit::usage)?;
    let limits = ClientLimits::default().with_deadline(limit).with_max_body(MAX_ANSWER);
    let session = Session {
        client: Client::new(connector, limits),
        url: args.gateway.trim_end_matches('/').to_owned(),
        has_certificate: identity.is_some(),
    };
    let asked = session.ticket(args.endpoint, &args.applid, token, actor);
    let runtime = serve::runtime()?;
    let asked = runtime.block_on(async { timeout(limit, asked).await });
    // Dropping the runtime would wait for the resolver of the system, which may take much longer than the limit.
    runtime.shutdown_background();
    let ticket = asked.map_err(|_| {
        Exit::runtime(format_args!("{}: no PassTicket within {} s", session.url, args.timeout))
    })??;
    // A script relies on the PassTicket if the exit code is 0, so an error of standard output must not be ignored.
    let (text, mut stdout) = (text(&ticket, &args.applid, args.output), io::stdout());
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| Exit::runtime(format_args!("cannot print the PassTicket: {error}")))
}

fn text(ticket: &Ticket, applid: &Applid, output: TicketOutput) -> Zeroizing<String> {
    let Ticket { user, ticket, expires_in } = ticket;
    Zeroizing::new(match output {
        TicketOutput::Lines => format!("{user}\n{}\n", ticket.expose()),
        // Neither the user id nor the PassTicket can contain an apostrophe.
        TicketOutput::Env => {
            format!("PASSTICKET_USER='{user}'\nPASSTICKET='{}'\n", ticket.expose())
        }
        TicketOutput::Json => {
            let mut document = json!({
                "user": user.as_str(),
                "applid": applid.as_str(),
                "ticket": ticket.expose(),
            });
            if let Some(seconds) = expires_in {
                document["expiresIn"] = (*seconds).into();
            }
            format!("{document}\n")
        }
    })
}

impl Session {
    /// Gets a ticket for the user of `token`. Without a token, logs in with the client certificate first.
    async fn ticket(
        &self,
        endpoint: TicketEndpoint,
        applid: &Applid,
        token: Option<Zeroizing<String>>,
        actor: Option<Zeroizing<String>>,
    ) -> Result<Ticket, Exit> {
        let has_logged_in = token.is_none();
        let token = match token {
            Some(token) => token,
            None => self.log_in().await?,
        };
        if endpoint == TicketEndpoint::Ticket {
            return self.ask_ticket_endpoint(applid, &token).await;
        }
        let body = exchange_body(applid, &token, actor.as_ref().map(|actor| actor.as_str()));
        let reply = self.post("token", "application/x-www-form-urlencoded", &body, None).await?;
        let may_fall_back = endpoint == TicketEndpoint::Auto && actor.is_none();
        if may_fall_back && reply.status() == StatusCode::NOT_FOUND {
            if !self.has_certificate {
                return Err(Exit::Refused(format!(
                    "{}: the token exchange is off, and the endpoint ticket needs a client certificate; add \
                     --cert and --key, or set components.passticket-proxy.tokenExchange of the gateway",
                    self.url
                )));
            }
            return self.ask_ticket_endpoint(applid, &token).await;
        }
        // The endpoint `ticket` makes a PassTicket for the user who has logged in, even if this user is not an actor of
        // the token exchange.
        let code = document(&reply)["error"].as_str().unwrap_or_default().to_owned();
        let is_no_actor = ["unauthorized_client", "invalid_target"].contains(&code.as_str());
        if may_fall_back && has_logged_in && is_no_actor {
            return self.ask_ticket_endpoint(applid, &token).await;
        }
        self.read(&reply, "user_id", "access_token")
    }

    async fn log_in(&self) -> Result<Zeroizing<String>, Exit> {
        let reply = self.post("login", "application/json", "", None).await?;
        if !reply.status().is_success() {
            return Err(self.refused(&reply));
        }
        match login_token(reply.headers()) {
            Some(token) => Ok(Zeroizing::new(token.to_owned())),
            None => Err(Exit::runtime(format_args!("{}: the login has no token", self.url))),
        }
    }

    /// Uses the endpoint `ticket` of Zowe, which needs a login token and a client certificate.
    async fn ask_ticket_endpoint(&self, applid: &Applid, token: &str) -> Result<Ticket, Exit> {
        let body = json!({ "applicationName": applid.as_str() }).to_string();
        let reply = self.post("ticket", "application/json", &body, Some(token)).await?;
        self.read(&reply, "userId", "ticket")
    }

    async fn post(
        &self,
        endpoint: &str,
        content_type: &'static str,
        body: &str,
        bearer: Option<&str>,
    ) -> Result<Reply, Exit> {
        let url = format!("{}/gateway/api/v1/auth/{endpoint}", self.url);
        let mut request =
            Request::post(url).header(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(token) = bearer {
            let value = Zeroizing::new(format!("Bearer {token}"));
            let mut value = HeaderValue::from_str(&value).map_err(Exit::usage)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.body(body).map_err(Exit::usage)?;
        // The request is not repeated, because the gateway could make a PassTicket for each attempt.
        let reply = self.client.call_once(request).await;
        reply.map_err(|error| Exit::runtime(format_args!("{}: {error}", self.url)))
    }

    fn read(&self, reply: &Reply, user: &str, ticket: &str) -> Result<Ticket, Exit> {
        if reply.status() != StatusCode::OK {
            return Err(self.refused(reply));
        }
        let document = document(reply);
        let text = |name: &str| document[name].as_str().unwrap_or_default();
        let parsed = (UserId::new(text(user)), PassTicket::parse(text(ticket)));
        let (Ok(user), Ok(ticket)) = parsed else {
            return Err(Exit::runtime(format_args!("{}: the answer has no PassTicket", self.url)));
        };
        Ok(Ticket { user, ticket, expires_in: document["expires_in"].as_u64() })
    }

    /// Returns the exit for an answer other than success. 429 and 5xx mean that the gateway cannot answer now.
    fn refused(&self, reply: &Reply) -> Exit {
        let document = document(reply);
        let why = match (document["error"].as_str(), document["error_description"].as_str()) {
            (Some(code), Some(description)) => format!("{code}: {description}"),
            _ => {
                let message = &document["messages"][0];
                let text = |name: &str| message[name].as_str().unwrap_or_default();
                format!("{} {}", text("messageNumber"), text("messageContent"))
            }
        };
        // Control characters could change what a terminal shows. RFC 6749 §5.2 permits only printable ASCII.
        let shown = |c: &char| matches!(c, ' '..='~');
        let why: String = why.chars().filter(shown).take(MAX_SHOWN).collect();
        let status = reply.status();
        let text = format!("{}: status {}: {why}", self.url, status.as_u16());
        match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => Exit::Runtime(text),
            false => Exit::Refused(text),
        }
    }
}

/// Returns the token in the cookies of a login. A load balancer may add cookies, and the name of the cookie is a
/// setting of the gateway. So this function chooses the cookie whose value is a JWT.
fn login_token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    let values = cookies.filter_map(|cookie| Some(cookie.split(';').next()?.split_once('=')?.1));
    // The header of a JWT normally begins with `{"`, which is `eyJ` in base64url.
    let is_jwt = |value: &&str| value.starts_with("eyJ") && value.split('.').count() == 3;
    values.map(str::trim).find(is_jwt)
}

fn document(reply: &Reply) -> Value {
    serde_json::from_slice(reply.body()).unwrap_or_default()
}

/// Returns the body of a token exchange (RFC 8693 §2.1).
fn exchange_body(applid: &Applid, token: &str, actor: Option<&str>) -> Zeroizing<String> {
    let actor_type = actor.map(|_| JWT);
    let parameters = [
        ("grant_type", Some(GRANT_TYPE)),
        ("requested_token_type", Some(PASSTICKET)),
        ("audience", Some(applid.as_str())),
        ("subject_token", Some(token)),
        ("subject_token_type", Some(JWT)),
        ("actor_token", actor),
        ("actor_token_type", actor_type),
    ];
    let mut body = Zeroizing::new(String::new());
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        for byte in value.bytes() {
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                    body.push(byte.into());
                }
                byte => body.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    body
}

/// Reads a token from a file, or from standard input if the name is `-`. White space around the token is removed.
pub(crate) fn read_token(file: &Path) -> Result<Zeroizing<String>, Exit> {
    let content = read_secret(file, 2 * MAX_TOKEN_LEN, "the token")?;
    let token = str::from_utf8(content.trim_ascii()).unwrap_or_default();
    let is_token = !token.is_empty()
        && token.len() <= MAX_TOKEN_LEN
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    match is_token {
        true => Ok(Zeroizing::new(token.to_owned())),
        false => Err(Exit::usage(format_args!("{}: does not contain one token", file.display()))),
    }
}

/// Reads the certificates that may have issued the certificate of the gateway.
fn authorities(file: Option<&Path>) -> Result<Vec<u8>, Exit> {
    if let Some(file) = file {
        return read_file(file);
    }
    let named = env::var_os(CERT_FILE).filter(|file| !file.is_empty()).map(PathBuf::from);
    let usual = SYSTEM_AUTHORITIES.into_iter().map(PathBuf::from).find(|file| file.exists());
    match named.or(usual) {
        Some(file) => read_file(&file),
        None => Err(Exit::usage(
            "this system has no list of trusted certificates; add --cacert with the certificate that has issued \
             the certificate of the gateway",
        )),
    }
}

fn read_file(file: &Path) -> Result<Vec<u8>, Exit> {
    std::fs::read(file)
        .map_err(|error| Exit::usage(format_args!("cannot read {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let token = "apimlAuthenticationToken=eyJh.eyJi.c-_; Path=/; Secure";
        for (cookies, want) in [
            (&[token][..], Some("eyJh.eyJi.c-_")),
            (&["LB=node1; Path=/", token], Some("eyJh.eyJi.c-_")),
            (&[token, "LB=a.b.c"], Some("eyJh.eyJi.c-_")),
            (&["other=eyJh.eyJi.c"], Some("eyJh.eyJi.c")),
            (&["LB=node1", "apimlAuthenticationToken=; Max-Age=0", "x"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
            }
            assert_eq!(login_token(&headers), want, "{cookies:?}");
        }
    }

    #[test]
    fn the_body_is_form_encoded() {
        let applid = Applid::new("A#B").unwrap();
        let body = exchange_body(&applid, "a.b+c=&", Some("d e"));
        let want = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
                    &requested_token_type=urn%3Apassticket%3Aparams%3Aoauth%3Atoken-type%3Apassticket\
                    &audience=A%23B&subject_token=a.b%2Bc%3D%26\
                    &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt\
                    &actor_token=d%20e&actor_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt";
        assert_eq!(*body, want);
        assert!(!exchange_body(&applid, "a", None).contains("actor"));
    }
}
