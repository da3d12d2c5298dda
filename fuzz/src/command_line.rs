//! Fuzz target for the arguments of the program.

use clap::{CommandFactory, Parser};

#[path = "../../crates/passticket-proxy/src/cli.rs"]
#[expect(dead_code, reason = "only the program uses all of this module")]
mod cli;

use cli::{Cli, Command, TicketCommand};

/// The input consists of arguments of `ticket evaluate`, one per line. The first line is the value of `--ticket`.
pub(crate) fn command_line(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n').take(20);
    let ticket = lines.next().unwrap_or_default();
    let fixed = ["passticket-proxy", "ticket", "evaluate", "--algorithm", "legacy"];
    let named = ["--user", "IBMUSER", "--applid", "IZUDFLT", "--key-file", "-"];
    let one_argument = [format!("--ticket={ticket}")];
    let two_arguments = ["--ticket".to_owned(), ticket.to_owned()];
    for argument in [&one_argument[..], &two_arguments] {
        let arguments = fixed.into_iter().chain(named).chain(argument.iter().map(String::as_str));
        match Cli::try_parse_from(arguments.chain(lines.clone())) {
            Ok(cli) => {
                let Command::Ticket { command: TicketCommand::Evaluate(evaluate) } = cli.command
                else {
                    panic!("expected the command ticket evaluate")
                };
                let Ok(parsed) = evaluate.passticket.0 else { continue };
                // Another line may contain a second `--ticket`.
                let has_second = lines.clone().any(|line| line.contains("ticket"));
                assert!(has_second || parsed.expose() == ticket);
            }
            // Any value of `--ticket` is valid, so an error must come from another line.
            Err(error) => assert!(lines.clone().next().is_some(), "{error}"),
        }
    }
    // Parse the same lines as the whole command line.
    let arguments = ["passticket-proxy"].into_iter().chain(text.split('\n').take(20));
    if let Err(error) = Cli::try_parse_from(arguments) {
        assert!(!error.to_string().is_empty());
    }
    let _ = Cli::command();
}
