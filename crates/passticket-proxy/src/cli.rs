//! What can be written on the command line.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use passticket_proxy::esm::{self, EmailOperand, Label, NameOperand, RegistryOperand};
use tower_passticket::passticket::{Algorithm, Applid, PassTicket, PassTicketError, UserId};

/// z/OS single sign-on: a JWT, a client certificate or a Personal Access Token comes in, and the
/// service behind gets Authorization: Basic user:PassTicket.
#[derive(Debug, Parser)]
#[command(
    name = "passticket-proxy",
    version,
    arg_required_else_help = true,
    after_help = "\
Start here:
  passticket-proxy serve --demo       a gateway with a z/OS-like service behind it; prints
                                      commands to try

Exit codes:
  0  it worked, or the answer is yes
  1  the answer is no (ticket evaluate)
  2  the command line or the configuration is wrong; every problem is one line on standard error
  3  it did not work (an address in use, a file that cannot be read)

Environment:
  RUST_LOG   what is logged on standard error: error, warn, info (default), debug
  NO_COLOR   if set, nothing is coloured"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway.
    ///
    /// With --config it reads a zowe.yaml: the keys that Zowe has for it, and the section
    /// passticketProxy for the rest. SIGTERM or Ctrl-C ends it: it stops accepting, lets the
    /// requests in flight finish, and exits.
    ///
    /// With --demo it needs nothing: it makes a directory with certificates, keys and a user, runs
    /// on loopback with a service behind it that evaluates the PassTickets it is given, and prints
    /// commands to paste. The zowe.yaml in that directory is one to start from.
    Serve(Serve),
    /// Check a configuration and print every problem: file, line, key, and what to write.
    Check {
        /// The zowe.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Make or evaluate a single PassTicket.
    Ticket {
        #[command(subcommand)]
        command: TicketCommand,
    },
    /// Print the commands for RACF, ACF2 or Top Secret that a security administrator submits.
    ///
    /// Text for //SYSTSIN of a batch TSO job (IKJEFT01), or for a terminal. Nothing is submitted
    /// here, and no key is printed: where one belongs, there is a text in angle brackets.
    #[command(after_help = ESM_EXAMPLES)]
    Esm(Esm),
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Run with this zowe.yaml.
    #[arg(long, value_name = "FILE", required_unless_present = "demo", conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Run a demonstration on loopback.
    #[arg(long)]
    demo: bool,
    /// The port of the demonstration; 0 takes a free one.
    #[arg(long, value_name = "N", default_value_t = 10010, conflicts_with = "config")]
    port: u16,
    /// Where the demonstration keeps its files; ./passticket-demo unless told otherwise.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
}

pub(crate) enum ServeSource {
    Config(PathBuf),
    Demo { port: u16, data_dir: Option<PathBuf> },
}

impl Serve {
    pub(crate) fn source(self) -> ServeSource {
        match self.config {
            Some(file) => ServeSource::Config(file),
            None => ServeSource::Demo { port: self.port, data_dir: self.data_dir },
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TicketCommand {
    /// Print the PassTicket of a user for an application.
    #[command(after_help = "\
Example: print the ticket of this second, the key from standard input
  echo E001193519561977 | passticket-proxy ticket generate --algorithm legacy \\
      --user IBMUSER --applid IZUDFLT --key-file -")]
    Generate(Generate),
    /// Say whether a PassTicket is good, and when it was made.
    ///
    /// Prints its time (seconds since 1970) and its age and exits 0, or prints the reason why it
    /// is refused and exits 1.
    Evaluate(Evaluate),
}

const ESM_EXAMPLES: &str = "\
Examples:
  All that a configuration needs, for each APPLID in it
    passticket-proxy esm --esm racf --from-config zowe.yaml
  The gateway may make PassTickets for two applications
    passticket-proxy esm --esm tss passticket --applid IZUDFLT --applid OMVSAPPL
  The key of an application
    passticket-proxy esm --esm racf keys --applid IZUDFLT --algorithm enhanced-mixed
  Two users may have PassTickets made for others
    passticket-proxy esm --esm acf2 delegate --user APIMTST --user BATCH01
  Who somebody is on z/OS, by e-mail address or by certificate
    passticket-proxy esm --esm racf identity --user JANE \\
        --email jane@acme.com --registry ldaps://us.acme.com
    passticket-proxy esm --esm racf identity --user JANE \\
        --subject 'CN=Jane Doe,OU=Payroll,O=Acme,C=US'";

#[derive(Args, Debug)]
pub(crate) struct Esm {
    /// The security product: racf, acf2 or tss.
    #[arg(long, value_name = "PRODUCT", global = true)]
    pub(crate) esm: Option<esm::Esm>,
    /// Take APPLIDs, algorithms, replay protection, the gateway's user id and who may delegate from
    /// this zowe.yaml; all that applies, unless a topic is given too.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) from_config: Option<PathBuf>,
    /// The user id that the gateway runs as; that of the zowe.yaml, or ZWESVUSR, unless told
    /// otherwise.
    #[arg(long, value_name = "USER", global = true)]
    pub(crate) zowesrv: Option<UserId>,
    #[command(subcommand)]
    pub(crate) topic: Option<EsmTopic>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EsmTopic {
    /// Let the gateway make PassTickets for the users of applications.
    Passticket {
        /// The APPLID of the service; more than once for more.
        #[arg(long)]
        applid: Vec<Applid>,
    },
    /// Give applications their PassTicket key, with replay protection where a zowe.yaml has it on,
    /// else without.
    Keys {
        /// The APPLID of the service; more than once for more.
        #[arg(long)]
        applid: Vec<Applid>,
        /// legacy, enhanced-upper or enhanced-mixed; legacy unless told otherwise.
        #[arg(long)]
        algorithm: Option<Algorithm>,
    },
    /// Let users have PassTickets made for others, by e-mail address.
    Delegate {
        /// The user id of the client certificate that calls; more than once for more.
        #[arg(long, required = true)]
        user: Vec<UserId>,
    },
    /// Say who somebody is on z/OS, by e-mail address or by certificate.
    Identity(EsmIdentity),
}

#[derive(Args, Debug)]
pub(crate) struct EsmIdentity {
    /// The user id on z/OS.
    #[arg(long)]
    pub(crate) user: UserId,
    /// The e-mail address that is this user, in the case that the tokens have.
    #[arg(long, requires = "registry")]
    pub(crate) email: Option<EmailOperand>,
    /// The registry that the address belongs to, as in oidc.registry of the zowe.yaml.
    #[arg(long, requires = "email")]
    pub(crate) registry: Option<RegistryOperand>,
    /// The subject of the certificates that are this user: CN=Jane Doe,OU=Payroll,O=Acme,C=US.
    #[arg(long, value_name = "DN")]
    pub(crate) subject: Option<NameOperand>,
    /// The issuer that they must have; any that the gateway trusts unless told otherwise.
    #[arg(long, value_name = "DN", requires = "subject")]
    pub(crate) issuer: Option<NameOperand>,
    /// The label of the mapping; "Zowe" and the user id unless told otherwise.
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<Label>,
}

/// What both directions need.
#[derive(Args, Debug)]
pub(crate) struct For {
    /// legacy, enhanced-upper or enhanced-mixed.
    #[arg(long)]
    pub(crate) algorithm: Algorithm,
    /// The user id.
    #[arg(long)]
    pub(crate) user: UserId,
    /// The APPLID of the service.
    #[arg(long)]
    pub(crate) applid: Applid,
    /// A file that nobody else may read, with the key in hex: 16 digits for legacy, 64 to 512 for
    /// enhanced. "-" reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The time, in seconds since 1970-01-01 UTC; now unless told otherwise.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) at: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) ticket: For,
}

#[derive(Args, Debug)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) ticket: For,
    /// The PassTicket.
    #[arg(long = "ticket", value_name = "T", value_parser = parse_ticket)]
    pub(crate) passticket: Given,
    /// How many seconds it may be off, either way.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = parse_window)]
    pub(crate) window: Duration,
}

/// A PassTicket as an argument. What is none is not a wrong command line: it is a ticket that is
/// refused.
#[derive(Clone, Debug)]
pub(crate) struct Given(pub(crate) Result<PassTicket, PassTicketError>);

fn parse_ticket(text: &str) -> Result<Given, Infallible> {
    Ok(Given(PassTicket::parse(text)))
}

fn parse_window(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "write a number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
