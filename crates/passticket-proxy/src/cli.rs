//! The command line.
//!
//! Terms in the help texts: a PassTicket is a short-lived password for one user and one application. An APPLID is the
//! name of an application in the security product of z/OS, which is RACF, ACF2 or Top Secret. Each PassTicket key
//! belongs to an APPLID.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::{Method, Uri};
use passticket_proxy::{
    esm::{self, EmailOperand, Label, NameOperand, RegistryOperand},
    explained::{Asked, Given, HeaderArgument, PastId, Subject},
    instant::Instant,
};
use tower_passticket::passticket::{Algorithm, Applid, PassTicket, PassTicketError, UserId};

/// The text of `--version`.
const VERSION: &str = if cfg!(passticket_fips) {
    concat!(env!("CARGO_PKG_VERSION"), " (FIPS cryptography)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// A gateway for z/OS single sign-on. A client sends a JWT, a client certificate or a Personal
/// Access Token; the z/OS service receives Authorization: Basic user:PassTicket.
#[derive(Debug, Parser)]
#[command(
    name = "passticket-proxy",
    version = VERSION,
    arg_required_else_help = true,
    after_help = "\
Start here:
  passticket-proxy serve --demo       runs a gateway with a z/OS-like service behind it, and
                                      prints commands to try

Exit codes:
  0  success, or the answer is yes
  1  the answer is no (explain, ticket evaluate, ticket get, health, check --live, esm verify)
  2  the command line, the environment or the configuration is wrong; each problem is one line on
     standard error
  3  the command failed (a port in use, a file that cannot be written)

Environment:
  RUST_LOG   the level of the log of serve: error, warn, info (default), debug or trace; or
             MODULE=LEVEL, with commas between directives. The setting
             components.passticket-proxy.logLevel replaces it
  NO_COLOR   if set, no colours in the output"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway.
    ///
    /// With --config, the gateway reads a zowe.yaml: Zowe's own settings, and the section components.passticket-proxy
    /// for settings that Zowe does not have. On SIGTERM, SIGQUIT or Ctrl-C, the gateway stops accepting connections,
    /// finishes the requests in flight, and exits. On SIGHUP, it reads its configuration again.
    ///
    /// With --demo, no configuration is needed. The demo makes a directory with certificates, keys
    /// and a user. It runs a gateway on loopback, and behind the gateway a service that evaluates
    /// PassTickets. Then the demo prints commands to paste. To make your own configuration, copy the directory.
    #[command(
        override_usage = "passticket-proxy serve --config <FILE> [--new-store] [--trust-clock] [--takeover]
       passticket-proxy serve --demo [--port <N>] [--data-dir <DIR>]"
    )]
    Serve(Serve),
    /// Check a configuration, and print every problem with its file, line, key and remedy.
    ///
    /// The command also verifies the revocation file, and tries the paths of the audit log. It changes no file, and a
    /// running gateway is not disturbed.
    Check {
        /// The zowe.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Also ask each configured server once, and print what it answers: services, z/OSMF, ZSS, the SAF endpoint,
        /// identity mappers, identity providers, API ML, the Caching Service, Eureka and Redis. No passwords and tokens of
        /// users are sent.
        #[arg(long)]
        live: bool,
    },
    /// Print what the settings of a configuration mean.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Say what the gateway would do with a request, and why: "why did this user get no ticket for that service?"
    ///
    /// The request goes through the layers of the gateway inside this command. No service receives it, no file is changed,
    /// and a running gateway is not disturbed. Tokens and PassTickets are never printed.
    ///
    /// With --request-id, the command tells what the audit files and the access log say about a request that the gateway has
    /// handled.
    #[command(
        override_usage = "passticket-proxy explain --config <FILE> [--user <U> | --token-file <F> | --certificate <F>]
                                [--header <'NAME: VALUE'>]... [--live] [--json] <METHOD> <URL>
       passticket-proxy explain --config <FILE> [--json] --request-id <ID>",
        after_help = EXPLAIN_HELP
    )]
    Explain(Explain),
    /// Write the files of a new gateway beside an existing Zowe.
    ///
    /// The command copies a zowe.yaml and adds the section components.passticket-proxy. It makes a
    /// signing key for tokens, a permissions file, a PassTicket key for z/OSMF, a revocation file and a systemd unit.
    /// Then it prints what is left to do.
    /// It never overwrites a file.
    #[command(after_help = "\
Examples:
  passticket-proxy init --from /zowe/zowe.yaml /opt/gateway
  passticket-proxy init --from /zowe/zowe.yaml --system     # with the Debian package
  passticket-proxy init --from /zowe/zowe.yaml --zaas /opt/gateway    # in the place of ZAAS")]
    Init(Init),
    /// Ask a running gateway whether it is ready to serve requests.
    ///
    /// This command asks /health/ready on the admin port (components.passticket-proxy.admin). It prints UP, or why the
    /// gateway is not ready. Use it for the probes of Kubernetes and for health checks of containers.
    #[command(override_usage = "passticket-proxy health --config <FILE>
       passticket-proxy health --port <N>")]
    Health(Health),
    /// Print a line for the users file: a user id and the hash of a password.
    ///
    /// The password is read from standard input. On a terminal, it is typed twice and not shown. From
    /// a pipe, one line end after the password is ignored.
    #[command(after_help = "\
Example: add a user to the file that components.passticket-proxy.users names
  passticket-proxy passwd JANE >> users.yml")]
    Passwd {
        /// The user id: 1 to 8 characters of A-Z 0-9 # @ $.
        #[arg(value_name = "USER")]
        user: UserId,
    },
    /// Make or evaluate a single PassTicket, or get one from a gateway.
    Ticket {
        #[command(subcommand)]
        command: TicketCommand,
    },
    /// Put PassTicket keys into a PKCS#11 token, such as a hardware security module.
    #[cfg(feature = "pkcs11")]
    Pkcs11 {
        #[command(subcommand)]
        command: Pkcs11Command,
    },
    /// Print the commands that a security administrator submits to RACF, ACF2 or Top Secret.
    ///
    /// The text is for //SYSTSIN of a batch TSO job (IKJEFT01), or for a terminal. This command submits nothing and
    /// prints no key. Replace each text in angle brackets before you submit the commands.
    #[command(after_help = ESM_EXAMPLES)]
    Esm(Esm),
}

const EXPLAIN_HELP: &str = "\
Exit codes:
  0  the service would get a PassTicket, or what its scheme gives (--request-id: the request is found)
  1  it would not, or a server must be asked first (--request-id: the request is not found)
  2  the command line, the configuration or a file is wrong

Examples:
  Would USER get a PassTicket for this service?
    passticket-proxy explain --config zowe.yaml --user USER GET /dcpassticket/api/v1/request
  Why is this token refused? The file may be - for standard input
    passticket-proxy explain --config zowe.yaml --token-file pat.txt GET /files/api/v1/x
  What happened to the request with this X-Request-Id?
    passticket-proxy explain --config zowe.yaml --request-id 3f0c54a1b2d3000000000042";

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The zowe.yaml of the gateway.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Explain as if this user had logged in. No token is needed.
    #[arg(long, value_name = "U", conflicts_with_all = ["token_file", "certificate"])]
    user: Option<UserId>,
    /// Send the token in this file as Authorization: Bearer. Only its owner may have access to the file. "-" reads standard
    /// input.
    #[arg(long, value_name = "F", conflicts_with = "certificate")]
    token_file: Option<PathBuf>,
    /// Explain as if a client had presented the certificate in this PEM file. Its key is not needed.
    #[arg(long, value_name = "F")]
    certificate: Option<PathBuf>,
    /// A header of the request. Can be given several times. Other users of the machine can see the value, so use
    /// --token-file for a token.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<HeaderArgument>,
    /// Also ask the servers that the gateway would ask, such as ZSS and identity providers. By default, none is asked.
    #[arg(long)]
    live: bool,
    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Tell what the audit files and the access log say about the request with this id.
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["user", "token_file", "certificate", "headers", "live", "method", "url"]
    )]
    request_id: Option<PastId>,
    /// The method of the request, such as GET.
    #[arg(value_name = "METHOD", required_unless_present = "request_id")]
    method: Option<Method>,
    /// The path of the request, or its URL at the gateway.
    #[arg(value_name = "URL", required_unless_present = "request_id")]
    url: Option<Uri>,
}

impl Explain {
    /// Returns the zowe.yaml, and what to explain.
    pub(crate) fn subject(self) -> Result<(PathBuf, Subject), &'static str> {
        if let Some(id) = self.request_id {
            return Ok((self.config, Subject::Past(id)));
        }
        let (Some(method), Some(url)) = (self.method, self.url) else {
            return Err("explain needs METHOD and URL, or --request-id");
        };
        if !url.path().starts_with('/') {
            return Err("the URL must be a path that begins with /, or an absolute URL");
        }
        let credential = match (self.user, self.token_file, self.certificate) {
            (Some(user), ..) => Given::User(user),
            (None, Some(file), _) => Given::Token(file),
            (None, None, Some(file)) => Given::Certificate(file),
            (None, None, None) => Given::Headers,
        };
        let (headers, is_live) = (self.headers, self.live);
        let asked = Asked { method, url, headers, credential, is_live };
        Ok((self.config, Subject::Request(Box::new(asked))))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The zowe.yaml of Zowe.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// The directory for the files. It is made if it is missing.
    #[arg(value_name = "DIR", required_unless_present = "system")]
    directory: Option<PathBuf>,
    /// Use the directories of the Debian package: /etc/passticket-proxy, /var/lib/passticket-proxy for the revocation
    /// file, and /var/log/passticket-proxy for the audit log. No unit is written, because the package contains it.
    #[arg(long, conflicts_with = "directory")]
    system: bool,
    /// Take the place of ZAAS: open a port for the gateways of API ML, and write a static definition for Zowe's discovery
    /// service.
    #[arg(long)]
    zaas: bool,
    /// An address at which the gateways of API ML reach an instance of this program, such as
    /// https://host1.example.com:7558. Give it once for each instance. The default is the name of this machine, with port
    /// 7558.
    #[arg(long, value_name = "URL", requires = "zaas")]
    zaas_url: Vec<InstanceUrl>,
}

/// The address of an instance of this program: `https://`, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl InstanceUrl {
    /// The default port of ZAAS in Zowe.
    pub(crate) const DEFAULT_PORT: u16 = 7558;
}

impl FromStr for InstanceUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            "write https://, the name of a host and a port, such as https://host1.example.com:7558";
        let uri: Uri = text.parse().map_err(|_| wrong)?;
        let is_base = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        match (uri.scheme_str(), authority, is_base) {
            (Some("https"), Some(authority), true) if !authority.host().is_empty() => Ok(Self {
                host: authority.host().to_owned(),
                port: authority.port_u16().ok_or(wrong)?,
            }),
            _ => Err(wrong),
        }
    }
}

impl fmt::Display for InstanceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

/// Whether `init` also makes the files for gateways of API ML.
#[derive(Clone, Debug)]
pub(crate) enum InitZaas {
    Without,
    /// The addresses of the instances. An empty list stands for this machine.
    With(Vec<InstanceUrl>),
}

pub(crate) enum InitPlace {
    Directory(PathBuf),
    /// The directories of the Debian package.
    System,
}

impl Init {
    pub(crate) fn zaas(&self) -> InitZaas {
        match self.zaas {
            false => InitZaas::Without,
            true => InitZaas::With(self.zaas_url.clone()),
        }
    }

    pub(crate) fn place(&self) -> InitPlace {
        // `clap` requires the directory unless `--system` is given. So a missing directory means `--system`.
        self.directory.clone().map_or(InitPlace::System, InitPlace::Directory)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Run with this zowe.yaml.
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Create the revocation file, which must not exist yet. Give this option at the first start of a new
    /// gateway only: a new file has no revocations.
    #[arg(long, conflicts_with = "demo")]
    new_store: bool,
    /// Trust the clock of the machine, even if it contradicts the time in the revocation file. The log says when this
    /// option is needed.
    #[arg(long, conflicts_with = "demo")]
    trust_clock: bool,
    /// Take over from the gateway that runs with the same revocation file, without a refused connection or a failed
    /// request. The running gateway then finishes its requests and ends. If this process cannot start, the running
    /// gateway continues. If no gateway runs, this process starts normally.
    #[arg(long, conflicts_with_all = ["demo", "new_store", "trust_clock"])]
    takeover: bool,
    /// Run the demo on loopback.
    #[arg(long)]
    demo: bool,
    /// The port of the demo; 0 selects a free port.
    #[arg(long, value_name = "N", default_value_t = 10010, conflicts_with = "config")]
    port: u16,
    /// The directory for the files of the demo [default: ./passticket-demo]. The demo does not
    /// overwrite files that it did not make.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    /// The number of gateways in the demo, 1 or 2. Two gateways share their revocations over a Redis. The second one
    /// has the next port.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2), conflicts_with = "config")]
    nodes: Option<u8>,
    /// The URL of the Redis for two gateways, such as redis://127.0.0.1:6379.
    #[arg(long, value_name = "URL", requires = "nodes", required_if_eq("nodes", "2"))]
    redis: Option<String>,
    /// End when the parent process ends. The value is the id of the parent process.
    #[arg(long, value_name = "PID", hide = true, requires = "config")]
    end_with: Option<i32>,
}

/// The options of `serve --config`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServeOptions {
    pub(crate) new_store: bool,
    pub(crate) trust_clock: bool,
    pub(crate) takeover: bool,
    /// The id of the parent process. If the parent ends, this process ends, too.
    pub(crate) end_with: Option<i32>,
}

/// The options of `serve --demo`.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    pub(crate) port: u16,
    pub(crate) data_dir: Option<PathBuf>,
    /// The URL of the Redis over which two nodes share their revocations. `None` runs one gateway alone.
    pub(crate) redis: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Health {
    /// Read the admin port from this zowe.yaml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin port on 127.0.0.1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// The place where `health` finds the admin port.
pub(crate) enum ProbeTarget {
    Config(PathBuf),
    Port(u16),
}

impl Health {
    pub(crate) fn target(self) -> ProbeTarget {
        match (self.config, self.port) {
            (Some(file), _) => ProbeTarget::Config(file),
            // `clap` requires one of the two options, so the default is never used.
            (None, port) => ProbeTarget::Port(port.unwrap_or_default()),
        }
    }
}

pub(crate) enum ServeSource {
    Config { file: PathBuf, options: ServeOptions },
    Demo(DemoOptions),
}

impl Serve {
    /// Returns the configuration to serve, or the demo. The error says which option is missing.
    pub(crate) fn source(self) -> Result<ServeSource, &'static str> {
        match self.config {
            Some(file) => Ok(ServeSource::Config {
                file,
                options: ServeOptions {
                    new_store: self.new_store,
                    trust_clock: self.trust_clock,
                    takeover: self.takeover,
                    end_with: self.end_with,
                },
            }),
            None if self.demo => Ok(ServeSource::Demo(DemoOptions {
                port: self.port,
                data_dir: self.data_dir,
                redis: self.redis.filter(|_| self.nodes == Some(2)),
            })),
            None => {
                Err("serve needs a configuration; give --config FILE, or --demo for a gateway \
                         with a service behind it")
            }
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the settings of the section components.passticket-proxy: value, default and meaning.
    ///
    /// With KEY, the command prints this setting and all settings below it.
    #[command(after_help = "\
Examples:
  passticket-proxy config reference limits.connections
  passticket-proxy config reference ptktdata")]
    Reference(Reference),
}

/// The options of `config reference`.
#[derive(Args, Debug)]
pub(crate) struct Reference {
    /// The key: the whole path of a setting, or its path below components.passticket-proxy.
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Print all settings as a page in Markdown.
    #[arg(long, conflicts_with = "key")]
    pub(crate) markdown: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TicketCommand {
    /// Print the PassTicket of a user for an application.
    #[command(after_help = "\
Example: print a PassTicket for the current time, with the key from standard input
  echo E001193519561977 | passticket-proxy ticket generate --algorithm legacy \\
      --user IBMUSER --applid IZUDFLT --key-file -")]
    Generate(Generate),
    /// Check a PassTicket, and print when it was made.
    ///
    /// If the PassTicket is valid, the command prints when the PassTicket was made (seconds since 1970)
    /// and its age, and exits with 0. Otherwise the command prints the reason and exits with 1.
    Evaluate(Evaluate),
    /// Get a PassTicket from a gateway: log in with a client certificate or a token, and print user id and PassTicket.
    ///
    /// The token is a login token, a token of an identity provider or a Personal Access Token. It is exchanged for a
    /// PassTicket (RFC 8693), if the gateway has tokenExchange. Otherwise the endpoint ticket of Zowe is used, which
    /// needs a login token and a client certificate. The certificate of the gateway is verified.
    #[command(after_help = "\
Exit codes:
  0  the PassTicket is printed
  1  the gateway refuses; the reason is on standard error
  2  the command line or a file is wrong
  3  the gateway cannot be reached, is not trusted, or cannot answer now

Environment:
  PASSTICKET_TOKEN_FILE  the file with the token, if --token-file is absent
  SSL_CERT_FILE          the trusted certificates, if --cacert is absent

Examples:
  Log in with a certificate, and print two lines: user id and PassTicket
    passticket-proxy ticket get --gateway https://gw:7554 --applid IMSPROD \\
        --cert user.pem --key user.key --cacert ca.pem
  Exchange a Personal Access Token, and set shell variables
    eval \"$(passticket-proxy ticket get --gateway https://gw:7554 --applid CICSPROD \\
        --token-file pat.txt --output env)\"")]
    Get(Get),
}

/// The options of `ticket get`.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The URL of the gateway, such as https://gw:7554.
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: String,
    /// The APPLID of the application.
    #[arg(long)]
    pub(crate) applid: Applid,
    /// A file with the token. Only its owner may have access to it. "-" reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the token of the program that acts for the user of the token.
    #[arg(long, value_name = "FILE", requires = "token_file")]
    pub(crate) actor_token_file: Option<PathBuf>,
    /// A file with the client certificate and its chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// A file with the private key of the client certificate, in PEM. Only its owner may have access to it.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// A file with the certificates that may have issued the certificate of the gateway, in PEM [default: those that
    /// the system trusts].
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Where to get the PassTicket.
    #[arg(long, value_enum, default_value_t = TicketEndpoint::Auto)]
    pub(crate) endpoint: TicketEndpoint,
    /// The format of the output.
    #[arg(long, value_enum, default_value_t = TicketOutput::Lines)]
    pub(crate) output: TicketOutput,
    /// The time limit for all requests of the command, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=300))]
    pub(crate) timeout: u16,
}

/// The value of `ticket get --endpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TicketEndpoint {
    /// The token exchange. If it is off, the endpoint ticket.
    Auto,
    /// The token exchange only.
    Exchange,
    /// The endpoint ticket of Zowe only.
    Ticket,
}

/// The value of `ticket get --output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TicketOutput {
    /// Two lines: the user id, and the PassTicket.
    Lines,
    /// A JSON object with user, applid, ticket, and expiresIn (seconds) if the gateway says it.
    Json,
    /// Two assignments for a shell: PASSTICKET_USER and PASSTICKET.
    Env,
}

/// The subcommands of `pkcs11`.
#[cfg(feature = "pkcs11")]
#[derive(Debug, Subcommand)]
pub(crate) enum Pkcs11Command {
    /// Store the key of a key file in a token. The key cannot be read from the token again.
    ///
    /// Then the command compares a MAC of the token with one of the key in memory. It does not delete the key file.
    #[command(after_help = "\
Example:
  passticket-proxy pkcs11 import --module /usr/lib/softhsm/libsofthsm2.so --token PTKT \\
      --pin-file hsm.pin --label IZUDFLT --key-file ptktdata/IZUDFLT.key")]
    Import {
        #[command(flatten)]
        token: TokenKeyArgs,
        /// A file with the key in hex: 64 to 512 digits. Only its owner may have access to it. "-" reads standard input.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Make a random key in a token. Nobody can read this key.
    ///
    /// Use this command only if the system that evaluates the PassTickets uses the same token.
    Generate {
        #[command(flatten)]
        token: TokenKeyArgs,
        /// The length of the key in bytes.
        #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(32..=256))]
        bytes: u16,
    },
}

/// A key in a token.
#[cfg(feature = "pkcs11")]
#[derive(Args, Debug)]
pub(crate) struct TokenKeyArgs {
    /// The PKCS#11 module: a shared library of the token's vendor.
    #[arg(long, value_name = "FILE")]
    pub(crate) module: PathBuf,
    /// The label of the token.
    #[arg(long, value_name = "LABEL")]
    pub(crate) token: passticket_pkcs11::TokenLabel,
    /// A file with the PIN of the token's user. Only its owner may have access to it.
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: PathBuf,
    /// The label of the new key. No other secret key of the token may have it.
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: passticket_pkcs11::KeyLabel,
}

const ESM_EXAMPLES: &str = "\
Examples:
  Print all commands that a configuration needs
    passticket-proxy esm --esm racf --from-config zowe.yaml
  Permit the gateway to make PassTickets for two applications
    passticket-proxy esm --esm tss passticket --applid IZUDFLT --applid OMVSAPPL
  Define the PassTicket key of an application
    passticket-proxy esm --esm racf keys --applid IZUDFLT --algorithm enhanced-mixed
  Print the job that puts the gateway's key into the key store of z/OS
    passticket-proxy esm --esm racf key-job --applid IZUDFLT
  Let two users obtain PassTickets for others
    passticket-proxy esm --esm acf2 delegate --user APIMTST --user BATCH01
  Map an e-mail address or a certificate to a user id
    passticket-proxy esm --esm racf identity --user JANE \\
        --email jane@acme.com --registry ldaps://us.acme.com
    passticket-proxy esm --esm racf identity --user JANE \\
        --subject 'CN=Jane Doe,OU=Payroll,O=Acme,C=US'
  Compare the output of display commands with a configuration
    passticket-proxy esm --esm racf --from-config zowe.yaml verify
    passticket-proxy esm --esm racf --from-config zowe.yaml verify --listing output.txt";

#[derive(Args, Debug)]
pub(crate) struct Esm {
    /// The security product: racf, acf2 or tss.
    #[arg(long, value_name = "PRODUCT", global = true)]
    pub(crate) esm: Option<esm::Esm>,
    /// Take these values from this zowe.yaml: APPLIDs, algorithms, replay protection, the gateway's user id, and the
    /// users who may obtain PassTickets for others. Without a topic, print the commands of passticket and keys, and
    /// those of delegate if the zowe.yaml names such users.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) from_config: Option<PathBuf>,
    /// The user id that the gateway runs as [default: gatewayUser of the zowe.yaml, or ZWESVUSR].
    #[arg(long, value_name = "USER", global = true)]
    pub(crate) zowesrv: Option<UserId>,
    #[command(subcommand)]
    pub(crate) topic: Option<EsmTopic>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EsmTopic {
    /// Permit the gateway to make PassTickets for all users of applications.
    Passticket {
        /// The APPLID of the application. Can be given several times.
        #[arg(long)]
        applid: Vec<Applid>,
    },
    /// Define the PassTicket keys of applications. With --from-config, the zowe.yaml decides whether replay protection
    /// is on. Without --from-config, replay protection is off.
    Keys {
        /// The APPLID of the application. Can be given several times.
        #[arg(long)]
        applid: Vec<Applid>,
        /// legacy, enhanced-upper or enhanced-mixed [default: enhanced-upper].
        #[arg(long)]
        algorithm: Option<Algorithm>,
    },
    /// Print a batch job that puts PassTicket keys into the CKDS, the key store of z/OS (RACF only). The job contains
    /// no key: it reads the key from a data set, or makes a new key.
    KeyJob {
        /// The APPLID of the application. Can be given several times.
        #[arg(long)]
        applid: Vec<Applid>,
        /// legacy, enhanced-upper or enhanced-mixed [default: enhanced-upper].
        #[arg(long)]
        algorithm: Option<Algorithm>,
        /// Let the job make a random key, and write it to a data set for the gateway.
        #[arg(long)]
        make: bool,
    },
    /// Compare what the security product displays with the zowe.yaml. Without --listing, print the display commands.
    Verify {
        /// A file with the output of the display commands; - reads standard input. Can be given several times.
        #[arg(long, value_name = "FILE")]
        listing: Vec<PathBuf>,
        /// Also check the attributes of this user (RACF). Can be given several times.
        #[arg(long)]
        user: Vec<UserId>,
    },
    /// Permit users to obtain PassTickets for other users, with the endpoints delegate/passticket and token.
    Delegate {
        /// The user id of a caller. Can be given several times.
        #[arg(long, required = true)]
        user: Vec<UserId>,
    },
    /// Map an e-mail address or a client certificate to a user id.
    Identity(EsmIdentity),
}

#[derive(Args, Debug)]
pub(crate) struct EsmIdentity {
    /// The user id on z/OS.
    #[arg(long)]
    pub(crate) user: UserId,
    /// The e-mail address of the user. Write upper and lower case as callers of the gateway do.
    #[arg(long, requires = "registry")]
    pub(crate) email: Option<EmailOperand>,
    /// The registry of the address: the value of components.gateway.apiml.security.oidc.registry.
    #[arg(long, requires = "email")]
    pub(crate) registry: Option<RegistryOperand>,
    /// The subject of the user's certificates: CN=Jane Doe,OU=Payroll,O=Acme,C=US.
    #[arg(long, value_name = "DN")]
    pub(crate) subject: Option<NameOperand>,
    /// The issuer of the certificates [default: any issuer that the gateway trusts].
    #[arg(long, value_name = "DN", requires = "subject")]
    pub(crate) issuer: Option<NameOperand>,
    /// The label of the mapping [default: "Zowe" and the user id].
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<Label>,
}

/// The options that `ticket generate` and `ticket evaluate` share.
#[derive(Args, Debug)]
pub(crate) struct TicketArgs {
    /// legacy, enhanced-upper or enhanced-mixed.
    #[arg(long)]
    pub(crate) algorithm: Algorithm,
    /// The user id.
    #[arg(long)]
    pub(crate) user: UserId,
    /// The APPLID of the service.
    #[arg(long)]
    pub(crate) applid: Applid,
    /// A file with the key in hex: 16 digits for legacy, 64 to 512 for enhanced. Only its owner may write it, and only
    /// its owner and a group of this process may read it. "-" reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// The time, in seconds since 1970-01-01 UTC [default: now].
    #[arg(long, value_name = "SECONDS")]
    pub(crate) at: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) ticket: TicketArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) ticket: TicketArgs,
    /// The PassTicket. It may begin with a hyphen.
    // Some PassTickets of the algorithm enhanced-mixed begin with a hyphen.
    #[arg(long = "ticket", value_name = "T", value_parser = parse_ticket, allow_hyphen_values = true)]
    pub(crate) passticket: TicketArgument,
    /// The time window: how many seconds the PassTicket may be older or newer than --at [default: 600 for legacy, 60
    /// for enhanced, as in RACF].
    #[arg(long, value_name = "SECONDS", value_parser = parse_window)]
    pub(crate) window: Option<Duration>,
    /// A file with the next key, in hex. Shortly before and after the change, a PassTicket of either key is valid.
    #[arg(long, value_name = "FILE", requires_all = ["next_algorithm", "next_from"])]
    pub(crate) next_key_file: Option<PathBuf>,
    /// The algorithm of the next key.
    #[arg(long, value_name = "ALGORITHM", requires = "next_key_file")]
    pub(crate) next_algorithm: Option<Algorithm>,
    /// The instant of the change in UTC, such as 2026-12-01T02:00:00Z.
    #[arg(long, value_name = "INSTANT", requires = "next_key_file")]
    pub(crate) next_from: Option<Instant>,
}

/// The argument of `--ticket`. A text that cannot be a PassTicket is not a usage error: the command prints that the
/// ticket is refused.
#[derive(Clone, Debug)]
pub(crate) struct TicketArgument(pub(crate) Result<PassTicket, PassTicketError>);

fn parse_ticket(text: &str) -> Result<TicketArgument, Infallible> {
    Ok(TicketArgument(PassTicket::parse(text)))
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
