//! `passticket-proxy`: z/OS single sign-on in front of HTTP services.

mod check;
mod cli;
mod demo;
mod esm;
mod providers;
mod reload;
mod serve;
mod stack;
mod ticket;
mod workers;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind};
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, ServeSource, TicketCommand};

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
        Err(failure) => failure.report(),
    }
}

/// Why the program ends with another exit code than 0.
#[derive(Debug)]
enum Failure {
    /// The answer is no: exit code 1. Said on standard output, where the answer belongs.
    No(String),
    /// What the operator wrote is wrong: exit code 2, one line for each problem.
    Wrong(Vec<String>),
    /// What was asked for did not work: exit code 3.
    Broken(String),
}

impl Failure {
    fn wrong(problem: impl ToString) -> Self {
        Self::Wrong(vec![problem.to_string()])
    }

    fn broken(what: impl ToString) -> Self {
        Self::Broken(what.to_string())
    }

    fn report(self) -> ExitCode {
        match self {
            Self::No(answer) => {
                say(&answer);
                ExitCode::from(1)
            }
            Self::Wrong(problems) => {
                problems.iter().for_each(|problem| complain(problem));
                ExitCode::from(2)
            }
            Self::Broken(what) => {
                complain(&what);
                ExitCode::from(3)
            }
        }
    }
}

/// One line on standard output. A reader that has gone away is no error.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One line on standard error.
fn complain(problem: &str) {
    let one_line: Vec<_> = problem.split_whitespace().collect();
    let _ = writeln!(io::stderr(), "passticket-proxy: {}", one_line.join(" "));
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
