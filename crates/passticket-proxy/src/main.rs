//! `passticket-proxy`: a gateway for z/OS single sign-on.

mod access_logs;
mod admin;
mod apiml;
mod caching_service;
mod changes;
mod cli;
mod cluster;
mod commands;
mod connectors;
mod demo;
mod descriptors;
mod discovery;
mod exit;
mod explain;
mod forwarders;
mod gateway_service;
mod instances;
mod listener_tls;
mod listeners;
mod loading;
mod log_format;
mod log_queue;
mod logging;
mod names;
mod oidc;
mod parent;
mod part;
mod providers;
mod reload;
mod reloadable;
mod reloads;
mod schemes;
mod serve;
mod signals;
mod site_tokens;
mod stack;
mod stopped_tickets;
mod systemd;
mod takeover;
mod terminal;
mod tickets;
mod ui;
mod watch;
mod workers;
mod zaas;

use std::process::ExitCode;

use clap::{
    Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use mimalloc::MiMalloc;

use cli::{Cli, Command, ConfigCommand, Explain, Serve, ServeSource, TicketCommand};
#[cfg(feature = "pkcs11")]
use commands::pkcs11;
use commands::{check, config, esm, health, init, passwd, ticket, ticket_get};
use exit::Exit;
use terminal::print_problem;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long the program waits at its end for calls to PKCS#11 tokens that have not returned.
#[cfg(feature = "pkcs11")]
const TOKEN_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Serve(args) => serve(args),
        Command::Check { config, live } => check::check(&config, live),
        Command::Config { command: ConfigCommand::Reference(args) } => config::reference(&args),
        Command::Explain(args) => explain(args),
        Command::Init(args) => init::init(&args.from, &args.place(), args.zaas()),
        Command::Health(args) => health::health(&args.target()),
        Command::Passwd { user } => passwd::passwd(&user),
        Command::Ticket { command: TicketCommand::Generate(args) } => ticket::generate(&args),
        Command::Ticket { command: TicketCommand::Evaluate(args) } => ticket::evaluate(&args),
        Command::Ticket { command: TicketCommand::Get(args) } => ticket_get::get(&args),
        Command::Esm(args) => esm::esm(&args),
        #[cfg(feature = "pkcs11")]
        Command::Pkcs11 { command } => pkcs11::pkcs11(&command),
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    };
    log_queue::flush();
    #[cfg(feature = "pkcs11")]
    passticket_pkcs11::end(TOKEN_PATIENCE);
    code
}

fn serve(args: Serve) -> Result<(), Exit> {
    let source = args.source().map_err(Exit::usage)?;
    logging::start()?;
    match source {
        ServeSource::Config { file, options } => serve::serve(&file, options),
        ServeSource::Demo(options) => demo::serve(&options),
    }
}

fn explain(args: Explain) -> Result<(), Exit> {
    let as_json = args.json;
    let (file, subject) = args.subject().map_err(Exit::usage)?;
    explain::explain(&file, subject, as_json)
}

/// The maximum length of an unexpected argument that is printed, in bytes. A longer argument may be a token.
const MAX_SHOWN_ARGUMENT: usize = 32;

/// Returns the text of an error, and hides an argument that may contain a token or a password. Such an argument is a
/// wrong header, URL or method of `explain`, or an unexpected argument that contains a colon or is long.
fn without_secrets(error: &clap::Error) -> String {
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => Some(value.as_str()),
        _ => None,
    };
    let argument = value(ContextKind::InvalidArg).unwrap_or_default();
    let secret = match error.kind() {
        ErrorKind::UnknownArgument => {
            Some(argument).filter(|it| it.contains(':') || it.len() > MAX_SHOWN_ARGUMENT)
        }
        _ => value(ContextKind::InvalidValue).filter(|_| {
            ["--header", "[URL]", "[METHOD]"].iter().any(|name| argument.starts_with(name))
        }),
    };
    let text = error.to_string();
    match secret.filter(|secret| !secret.is_empty()) {
        Some(secret) => text.replace(secret, "********"),
        None => text,
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // `clap` returns the texts of `--help` and `--version` as errors that are printed on standard output.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let text = without_secrets(error);
    let problem = text.split("\n\nUsage:").next().unwrap_or(&text);
    let problem = problem.split("\n\nFor more information").next().unwrap_or(problem);
    let problem = problem.trim_start_matches("error: ");
    print_problem(&format!("{problem}; try 'passticket-proxy --help'"));
    ExitCode::from(2)
}
