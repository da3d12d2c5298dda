//! The arguments of the command line, and the settings that result from them.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Method};

use crate::{
    credential::{CredentialError, Source, TokenPlace},
    target::{Target, TargetError},
};

/// Send requests to a gateway at a constant rate, and report the latencies.
///
/// Each request is due at a fixed time. Its latency counts from this time, so a gateway that is too slow cannot hide
/// the time that requests wait before they are sent (no coordinated omission).
#[derive(Debug, Parser)]
#[command(
    name = "load-test",
    version,
    arg_required_else_help = true,
    after_help = "\
Credentials:
  none                       no credential
  jwt:FILE                   login tokens, one for each line
  pat:FILE                   Personal Access Tokens, one for each line
  basic:FILE                 USER:PASSWORD, one for each line. A wrong password may revoke the user on z/OS
  certificate:FILE[,KEY]     a client certificate and its key, in PEM format. Can be given several times
  Only the owner may have access to a file with secrets. The requests use the lines in turn.

Exit codes:
  0  each request was accepted, and few of them were late
  1  there were errors or refusals, or too many late requests
  2  the command line or a file is wrong
  3  the load could not begin, or the report could not be written"
)]
pub(crate) struct Cli {
    /// The URL of each request.
    #[arg(long, value_name = "URL")]
    url: String,
    /// The credentials of the requests: a kind, and a file.
    #[arg(long, value_name = "KIND[:FILE]", required = true)]
    credential: Vec<String>,
    /// Where a token is in the request.
    #[arg(long, value_name = "PLACE", value_enum)]
    token_in: Option<TokenPlace>,
    /// Requests per second, on all connections together.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: f64,
    /// The length of the measurement in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// The length of the warm-up before the measurement, in seconds. Its requests are sent at the same rate.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds_or_none)]
    warm_up: Duration,
    /// The number of connections, which are kept. With HTTP/1.1, each has one request in flight.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Use HTTP/2. With http://, without negotiation.
    #[arg(long)]
    http2: bool,
    /// The requests in flight on each connection of HTTP/2.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000), requires = "http2")]
    streams: u16,
    /// The file with the certificate authorities of the gateway, in PEM format. https:// needs it.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The method of each request. The default is GET, or POST with --body.
    #[arg(long)]
    method: Option<Method>,
    /// The file with the body of each request.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The content type of the body.
    #[arg(long, value_name = "TYPE", default_value = "application/json", requires = "body")]
    content_type: HeaderValue,
    /// The time limit for the answer to a request, in seconds after the request is sent. After the measurement,
    /// requests that are late are still sent for the same time.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// The part of the requests that may be late or never sent, in percent. A request is late if it is sent at least 10
    /// ms after it was due.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    max_late: f64,
    /// The threads of the load generator.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Write a report in JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// The settings of a load, after the checks of the command line.
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) sources: Vec<Source>,
    pub(crate) token_place: Option<TokenPlace>,
    pub(crate) rate: f64,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) connections: usize,
    /// Requests in flight on each connection.
    pub(crate) streams: usize,
    pub(crate) protocol: Protocol,
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) method: Method,
    pub(crate) body: Option<(HeaderValue, Bytes)>,
    pub(crate) timeout: Duration,
    /// The part of the requests that may be late or never sent, from 0 to 1.
    pub(crate) max_late: f64,
    pub(crate) threads: usize,
    pub(crate) report: Option<PathBuf>,
}

/// An error of the command line, or of a file that it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("https:// needs --ca FILE, the certificate authority of the gateway")]
    NoAuthority,
    #[error("a client certificate and --ca need an https:// URL")]
    NoTls,
    #[error(
        "{0} certificates need at least as many --connections, because each connection has one certificate"
    )]
    FewConnections(usize),
    #[error(
        "{0} requests are more than the {1} that one load may have; lower --rate or --duration"
    )]
    TooMany(f64, u64),
    #[error("--body {0}: cannot read the file: {1}")]
    Body(String, std::io::Error),
}

const MOST_REQUESTS: u64 = 1_000_000_000;

impl TryFrom<Cli> for Settings {
    type Error = SettingsError;

    fn try_from(cli: Cli) -> Result<Self, SettingsError> {
        let target: Target = cli.url.parse()?;
        let sources =
            cli.credential.iter().map(|it| it.parse()).collect::<Result<Vec<Source>, _>>()?;
        let certificates =
            sources.iter().filter(|it| matches!(it, Source::Certificate { .. })).count();
        match (target.is_tls(), &cli.ca) {
            (true, None) => return Err(SettingsError::NoAuthority),
            (false, Some(_)) => return Err(SettingsError::NoTls),
            (false, None) if certificates > 0 => return Err(SettingsError::NoTls),
            _ => {}
        }
        if certificates > usize::from(cli.connections) {
            return Err(SettingsError::FewConnections(certificates));
        }
        let requests = cli.rate * (cli.duration + cli.warm_up).as_secs_f64();
        if requests > MOST_REQUESTS as f64 {
            return Err(SettingsError::TooMany(requests, MOST_REQUESTS));
        }
        let body = match &cli.body {
            Some(path) => {
                let body = std::fs::read(path)
                    .map_err(|error| SettingsError::Body(path.display().to_string(), error))?;
                Some((cli.content_type, Bytes::from(body)))
            }
            None => None,
        };
        let default_method = if body.is_some() { Method::POST } else { Method::GET };
        Ok(Self {
            target,
            sources,
            token_place: cli.token_in,
            rate: cli.rate,
            duration: cli.duration,
            warm_up: cli.warm_up,
            connections: cli.connections.into(),
            streams: if cli.http2 { cli.streams.into() } else { 1 },
            protocol: if cli.http2 { Protocol::Http2 } else { Protocol::Http1 },
            authorities: cli.ca,
            method: cli.method.unwrap_or(default_method),
            body,
            timeout: cli.timeout,
            max_late: cli.max_late / 100.0,
            threads: cli.threads.into(),
            report: cli.report,
        })
    }
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a number".to_owned())?;
    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("write a number from {least} to {most}"))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1_000_000.0)
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 0.0, 100.0)
}

fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 0.1, 86_400.0).map(Duration::from_secs_f64)
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    number(text, 0.0, 86_400.0).map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &str) -> Result<Settings, String> {
        let args = format!("load-test {args}");
        let cli = Cli::try_parse_from(args.split(' ')).map_err(|error| error.to_string())?;
        Settings::try_from(cli).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_a_get_on_sixteen_connections() {
        let settings = settings("--url http://a/ --credential none --rate 10").ok().unwrap();
        assert_eq!((settings.connections, settings.streams), (16, 1));
        assert_eq!((settings.method, settings.protocol), (Method::GET, Protocol::Http1));
        assert_eq!((settings.duration.as_secs(), settings.warm_up.as_secs()), (10, 2));
    }

    #[test]
    fn wrong_command_lines_are_explained() {
        let base = "--url http://a/ --credential none --rate 1";
        for (args, expected) in [
            ("--url https://a/ --credential none --rate 1".to_owned(), "needs --ca"),
            (format!("{base} --ca x"), "https://"),
            ("--url http://a/ --credential certificate:a,b --rate 1".to_owned(), "https://"),
            ("--url http://a/ --credential none --rate 0".to_owned(), "from 0.01"),
            ("--url http://a/ --credential none --rate nan".to_owned(), "from 0.01"),
            ("--url http://a/ --credential none --rate 1000000 --duration 86400".to_owned(), "lower --rate"),
            (format!("{base} --duration 0"), "from 0.1"),
            (format!("{base} --connections 0"), "1..=10000"),
            (format!("{base} --streams 2"), "--http2"),
            (format!("{base} --body /nonexistent"), "cannot read"),
            (
                "--url https://a/ --ca c --connections 1 --rate 1 --credential certificate:a --credential certificate:b"
                    .to_owned(),
                "2 certificates need",
            ),
        ] {
            let error = settings(&args).err().expect(&args);
            assert!(error.contains(expected), "{args}: {error}");
        }
    }
}
