//! Sends requests to a gateway at a constant rate, and reports the latencies: `just load`, docs/operating/load-test.md.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program writes its results to standard output"
)]

mod credential;
mod gateway;
mod load;
mod outcome;
mod progress;
mod recorder;
mod report;
mod schedule;
mod secret_file;
mod settings;
mod target;

use std::{fs, io, path::Path, process::ExitCode, sync::Arc, time::SystemTime};

use clap::{
    Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tokio::task::JoinSet;

use credential::{Credentials, Kind};
use gateway::{Gateway, GatewayClient};
use load::Load;
use outcome::Outcome;
use report::{Facts, Report};
use schedule::Schedule;
use settings::{Cli, Settings};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = Settings::try_from(cli).map_err(Exit::usage).and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads)
            .enable_all()
            .build()
            .map_err(Exit::failed)?;
        runtime.block_on(run(&settings))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, text }) => {
            if let Some(text) = text {
                eprintln!("load-test: {text}");
            }
            ExitCode::from(code)
        }
    }
}

/// Why the program ends with a code other than 0.
struct Exit {
    code: u8,
    text: Option<String>,
}

impl Exit {
    fn usage(error: impl ToString) -> Self {
        Self { code: 2, text: Some(error.to_string()) }
    }

    fn failed(error: impl ToString) -> Self {
        Self { code: 3, text: Some(error.to_string()) }
    }
}

async fn run(settings: &Settings) -> Result<(), Exit> {
    let credentials =
        Credentials::load(&settings.sources, settings.token_place).map_err(Exit::usage)?;
    let (kind, users) = (credentials.kind, credentials.count());
    let gateway = Arc::new(Gateway::new(settings, credentials).await.map_err(Exit::usage)?);
    if let Some(report) = &settings.report {
        // Writes an empty report first. If the file cannot be written, the program fails now, and not after an hour of
        // load.
        fs::write(report, "").map_err(|error| cannot_write(report, &error))?;
    }
    let mut clients = GatewayClient::all(&gateway, settings.connections, settings.streams);
    open(&mut clients).await?;
    if kind == Kind::Basic {
        check_passwords(&mut clients[0]).await?;
    }
    let schedule = Schedule::new(settings.rate, settings.warm_up, settings.duration);
    let started = unix_time();
    let load = Arc::new(Load::new(schedule, settings.timeout, kind == Kind::Basic));
    load.release_in_thread();
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_ok() {
            load.stop("interrupted");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = load.run(clients) => {}
        () = progress::show(load.clone(), settings.rate) => {}
        () = interrupted => {}
    }
    progress::clear();
    let recorder = load.recorder();
    let facts = Facts { started, kind, users, opened: gateway.opened() };
    let report = Report::new(settings, facts, &load, &recorder);
    println!("{}", report.table());
    if let Some(path) = &settings.report {
        let text = format!("{:#}\n", report.json());
        fs::write(path, text).map_err(|error| cannot_write(path, &error))?;
    }
    if report.problems().is_empty() { Ok(()) } else { Err(Exit { code: 1, text: None }) }
}

/// Opens all connections, so that the load does not begin with handshakes.
async fn open(clients: &mut Vec<GatewayClient>) -> Result<(), Exit> {
    let first = clients[0].open().await;
    first.map_err(|failure| {
        Exit::failed(format!("no connection to the gateway: {}", failure.describe()))
    })?;
    let mut tasks = JoinSet::new();
    for (index, mut client) in clients.drain(..).enumerate() {
        tasks.spawn(async move {
            if index > 0 {
                // This error is ignored. The client connects again when it has a request. If this also fails, the
                // failure is counted.
                let _ = client.open().await;
            }
            (index, client)
        });
    }
    let mut opened = tasks.join_all().await;
    opened.sort_by_key(|(index, _)| *index);
    clients.extend(opened.into_iter().map(|(_, client)| client));
    Ok(())
}

/// Sends one request with each password, so that the program sends a wrong password only once.
async fn check_passwords(client: &mut GatewayClient) -> Result<(), Exit> {
    let Some((index, outcome)) = client.first_refusal().await else { return Ok(()) };
    let reason = match outcome {
        Outcome::Answered(answer) => answer.refusal.map(|it| it.describe()).unwrap_or_default(),
        Outcome::Failed { kind, text } => format!("{}: {text}", kind.as_str()),
    };
    let text = format!(
        "the first request of user {} in the file was not accepted: {reason}. The load was not started, because z/OS \
         revokes a user after some wrong passwords",
        index + 1
    );
    Err(Exit { code: 1, text: Some(text) })
}

fn cannot_write(path: &Path, error: &io::Error) -> Exit {
    Exit::failed(format!("cannot write the report {}: {error}", path.display()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the report says when the load began, and nothing depends on it"
)]
fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Prints an error of the command line, without values that may be secrets.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let mut text = error.to_string();
    // An argument without an option may be a token. The value of an unknown option may be a token, too.
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && !argument.starts_with("--")
    {
        text = text.replace(argument.as_str(), "********");
    }
    let text = text.split("\n\nUsage:").next().unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    let text = text.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("load-test: {text}; try load-test --help");
    ExitCode::from(2)
}
