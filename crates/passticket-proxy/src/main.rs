//! `passticket-proxy`: z/OS single sign-on in front of HTTP services.

mod cli;
mod commands;
mod demo;
mod exit;
mod loading;
mod providers;
mod reload;
mod serve;
mod stack;
mod terminal;
mod workers;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind};
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, ServeSource, TicketCommand};
use commands::{check, esm, ticket};
use terminal::complain;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Serve(serve) => {
            log_to_stderr();
            match serve.source() {
                ServeSource::Config(file) => serve::serve(&file),
                ServeSource::Demo { port, data_dir } => demo::serve(port, data_dir.as_deref()),
            }
        }
        Command::Check { config } => check::check(&config),
        Command::Ticket { command: TicketCommand::Generate(args) } => ticket::generate(&args),
        Command::Ticket { command: TicketCommand::Evaluate(args) } => ticket::evaluate(&args),
        Command::Esm(args) => esm::esm(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // --help and --version.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let text = error.to_string();
    let problem = text.split("\n\nUsage:").next().unwrap_or(&text);
    let problem = problem.split("\n\nFor more information").next().unwrap_or(problem);
    let problem = problem.trim_start_matches("error: ");
    complain(&format!("{problem}; try 'passticket-proxy --help'"));
    ExitCode::from(2)
}

fn log_to_stderr() {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_env_filter(filter)
        .init();
}
