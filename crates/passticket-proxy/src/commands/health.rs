//! `health`: asks the admin port of a running gateway whether the gateway is ready.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use passticket_proxy::config;

use crate::{cli::ProbeTarget, exit::Exit, terminal::print_line};

const DEADLINE: Duration = Duration::from_secs(5);

/// The maximum length of an answer. The answers of the admin port are much shorter.
const MAX_ANSWER: u64 = 64 * 1024;

pub(crate) fn health(target: &ProbeTarget) -> Result<(), Exit> {
    let address = match target {
        ProbeTarget::Port(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
        ProbeTarget::Config(file) => configured(file)?,
    };
    let answer = ask(address).map_err(|error| {
        Exit::Negative(format!("DOWN: no answer from the admin port {address}: {error}"))
    })?;
    match verdict(&answer) {
        Verdict::Ready => {
            print_line("UP");
            Ok(())
        }
        Verdict::NotReady(body) => Err(Exit::Negative(body)),
        Verdict::Other => Err(Exit::Negative(format!(
            "DOWN: {address} is not the admin port of a gateway: its answer has another form"
        ))),
    }
}

fn configured(file: &Path) -> Result<SocketAddr, Exit> {
    let admin = config::read_admin(file)
        .map_err(|problems| Exit::Usage(problems.iter().map(ToString::to_string).collect()))?;
    let Some(admin) = admin else {
        return Err(Exit::usage(format!(
            "{}: components.passticket-proxy.admin.port: is missing, so the gateway has no admin port; add a port",
            file.display()
        )));
    };
    match admin.address.port() {
        0 => Err(Exit::usage(format!(
            "{}: is 0, so the gateway chooses a port; set it to a port, or give the chosen port with --port",
            admin.port_at
        ))),
        _ => Ok(admin.address),
    }
}

fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let end = Instant::now() + DEADLINE;
    let left = || {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_write_timeout(Some(left()?))?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // The operating system reports an expired timeout as "would block".
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&buffer[..read]);
        if answer.len() as u64 > MAX_ANSWER {
            return Err(io::Error::other("the answer is too long"));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ready,
    /// The JSON document that says why the gateway is not ready.
    NotReady(String),
    /// The answer does not come from an admin port.
    Other,
}

/// Decides whether the answer comes from an admin port, and whether the gateway is ready.
///
/// An HTTP status of 200 or 503 is not enough, because another program may listen on the port. The answer must contain
/// the document of the admin port.
fn verdict(answer: &[u8]) -> Verdict {
    let answer = String::from_utf8_lossy(answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Verdict::Other };
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let document: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let says = document.as_ref().and_then(|document| document["status"].as_str());
    match (status, says) {
        (Some("200"), Some("UP")) => Verdict::Ready,
        (Some("503"), Some("DOWN")) => Verdict::NotReady(body.trim().to_owned()),
        _ => Verdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_admin_port_says_whether_the_gateway_is_ready() {
        let down = r#"{"status":"DOWN"}"#;
        for (answer, want) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"status\":\"UP\"}".to_owned(), Verdict::Ready),
            (
                format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{down}"),
                Verdict::NotReady(down.to_owned()),
            ),
            (format!("HTTP/1.1 200 OK\r\n\r\n{down}"), Verdict::Other),
            ("HTTP/1.1 200 OK\r\n\r\n<html>".to_owned(), Verdict::Other),
            ("HTTP/1.1 200 OK\r\n".to_owned(), Verdict::Other),
            ("HTTP/1.1 404 Not Found\r\n\r\n{\"messages\":[]}".to_owned(), Verdict::Other),
            ("SSH-2.0-x\r\n\r\n".to_owned(), Verdict::Other),
            (String::new(), Verdict::Other),
        ] {
            assert_eq!(verdict(answer.as_bytes()), want, "{answer}");
        }
    }
}
