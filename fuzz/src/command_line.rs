//! The arguments of the program.

use clap::{CommandFactory, Parser};

#[path = "../../crates/passticket-proxy/src/cli.rs"]
#[expect(dead_code, reason = "the program uses what this target does not")]
mod cli;

use cli::{Cli, Command, TicketCommand};

/// The arguments of `ticket evaluate`, one a line; the first one is that of `--ticket`.
pub(crate) fn command_line(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n').take(20);
    let ticket = lines.next().unwrap_or_default();
    let fixed = ["passticket-proxy", "ticket", "evaluate", "--algorithm", "legacy"];
    let named = ["--user", "IBMUSER", "--applid", "IZUDFLT", "--key-file", "-"];
    let joined = [format!("--ticket={ticket}")];
    let apart = ["--ticket".to_owned(), ticket.to_owned()];
    for argument in [&joined[..], &apart] {
        let arguments = fixed.into_iter().chain(named).chain(argument.iter().map(String::as_str));
        match Cli::try_parse_from(arguments.chain(lines.clone())) {
            Ok(cli) => {
                let Command::Ticket { command: TicketCommand::Evaluate(evaluate) } = cli.command
                else {
                    panic!("another command")
                };
                let Ok(parsed) = evaluate.passticket.0 else { continue };
                let again = lines.clone().any(|line| line.contains("ticket"));
                assert!(again || parsed.expose() == ticket);
            }
            // Whatever the text of a ticket, it is one that is refused, and no wrong command line.
            Err(error) => assert!(lines.clone().next().is_some(), "{error}"),
        }
    }
    // As a command of its own.
    let arguments = ["passticket-proxy"].into_iter().chain(text.split('\n').take(20));
    if let Err(error) = Cli::try_parse_from(arguments) {
        assert!(!error.to_string().is_empty());
    }
    let _ = Cli::command();
}
