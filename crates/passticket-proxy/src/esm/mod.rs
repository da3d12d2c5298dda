//! Commands for the security product of a z/OS system: RACF, ACF2 or Top Secret.
//!
//! Such a product is also called an external security manager (ESM). A PassTicket is a short-lived password of a user
//! for an application. The gateway makes PassTickets, or asks Zowe for them. An APPLID is the name of an application in
//! the product.
//!
//! A security administrator must define on z/OS what the gateway needs. Most functions of this module return the
//! commands for these definitions. [`key_job`] returns a batch job. The administrator reads and submits the commands
//! and the job.
//!
//! - [`passticket`] permits the gateway's user id to make PassTickets for an application;
//! - [`keys`] gives an application its PassTicket key, with which z/OS checks PassTickets;
//! - [`key_job`] puts the key of an application into the key store of z/OS;
//! - [`delegate`] permits users to request PassTickets for other users;
//! - [`identity`] maps an e-mail address or a client certificate to a z/OS user id.
//!
//! The module [`verify`] compares what the product displays with the configuration of the gateway.
//!
//! The commands never contain a key. If a command needs a key, it contains a text in angle brackets, which no product
//! accepts as a key.
//!
//! Sources: Zowe's documentation of PassTickets and delegated PassTickets, Zowe's installation jobs (`ZWEIRAC`,
//! `ZWEIACF`, `ZWEITSS` and the jobs that define class `ZOWE`), and the public manuals that the module of each product
//! names. docs/reference/security-products.md contains the facts from these sources.
//!
//! # Format
//!
//! TSO is the command line of z/OS. The administrator can use the commands as the input of a batch job that runs TSO
//! commands (program IKJEFT01, `//SYSTSIN`), or type them line by line at a terminal. The result of [`key_job`] is a
//! complete job.
//!
//! Comments have the syntax of TSO. Between `ACF` and `END`, comments begin with an asterisk, as the `ACF` command
//! requires. If a RACF command defines a profile that already exists, the command issues a message and changes nothing.
//! The commands of [`passticket`], [`keys`], [`delegate`] and [`identity`] make definitions, refresh them in storage,
//! and show the result. For RACF, they also activate the class. In place of a command that is not publicly documented,
//! the result has a comment.
//!
//! Input texts ([`EmailOperand`], [`RegistryOperand`], [`Label`], [`NameOperand`]) are checked when they are parsed, so
//! that an input text cannot become a command. In commands for RACF and Top Secret, an input text is between
//! apostrophes. In commands for ACF2, no apostrophes surround an input text. If an input text itself contains an
//! apostrophe, this apostrophe is doubled for RACF. The manuals of Top Secret and ACF2 do not say how to write an
//! apostrophe in a text, so [`identity`] returns an error for these products.
//!
//! ```
//! use passticket_proxy::esm::{self, Esm};
//! use tower_passticket::passticket::{Applid, UserId};
//!
//! let commands = esm::passticket(Esm::Racf, &UserId::new("ZWESVUSR")?, &[Applid::new("IZUDFLT")?]);
//! let commands: Vec<_> = commands.lines().filter(|line| !line.starts_with(" /*")).collect();
//! assert_eq!(
//!     commands,
//!     [
//!         "SETROPTS GENERIC(PTKTDATA)",
//!         "SETROPTS CLASSACT(PTKTDATA) RACLIST(PTKTDATA)",
//!         "RDEFINE PTKTDATA IRRPTAUTH.IZUDFLT.* UACC(NONE)",
//!         "PERMIT IRRPTAUTH.IZUDFLT.* CL(PTKTDATA) ID(ZWESVUSR) ACCESS(UPDATE)",
//!         "SETROPTS RACLIST(PTKTDATA) REFRESH",
//!         "RLIST PTKTDATA IRRPTAUTH.IZUDFLT.* AUTHUSER",
//!     ]
//! );
//! # Ok::<(), tower_passticket::passticket::NameError>(())
//! ```

mod acf2;
mod commands;
mod job;
mod operand;
mod racf;
mod tss;
pub mod verify;

use std::{fmt, str::FromStr, time::Duration};

pub use commands::Commands;
pub use job::{Job, KeyOrigin, NoKeyJob, key_job};
pub use operand::{
    EmailOperand, Label, NameOperand, OperandError, OperandProblem, RegistryOperand,
};

use tower_passticket::passticket::{Algorithm, Applid, KeyProfile, MAX_WINDOW, Replay, UserId};

/// The security product (external security manager) of a z/OS system.
///
/// `Display` and `FromStr` use `racf`, `acf2` and `tss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Esm {
    /// IBM RACF.
    Racf,
    /// Broadcom ACF2.
    Acf2,
    /// Broadcom Top Secret.
    TopSecret,
}

impl Esm {
    const ALL: [Self; 3] = [Self::Racf, Self::Acf2, Self::TopSecret];

    /// Returns `racf`, `acf2` or `tss`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Racf => "racf",
            Self::Acf2 => "acf2",
            Self::TopSecret => "tss",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Racf => "RACF",
            Self::Acf2 => "ACF2",
            Self::TopSecret => "Top Secret",
        }
    }

    /// Begins the commands with a comment that names the product, the topic, and the values of the topic.
    fn title(self, topic: &str, values: &[String]) -> Commands {
        Commands::new(&format!("{}, {topic}: {}", self.name(), values.join(", ")))
    }
}

impl fmt::Display for Esm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Esm {
    type Err = EsmError;

    fn from_str(text: &str) -> Result<Self, EsmError> {
        let known = Self::ALL.into_iter().find(|esm| esm.as_str() == text);
        known.ok_or_else(|| EsmError(text.chars().take(40).collect()))
    }
}

/// The error for a text that names no security product.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a known security product; write racf, acf2 or tss")]
pub struct EsmError(String);

/// Returns the commands that permit the gateway's user id to make PassTickets for all users of the applications. The
/// permission is `UPDATE` on `IRRPTAUTH.<applid>.*` in class `PTKTDATA`
/// (docs/reference/security-products.md#ticket-permission).
pub fn passticket(esm: Esm, gateway: &UserId, applids: &[Applid]) -> Commands {
    let applications: Vec<_> = applids.iter().map(ToString::to_string).collect();
    let mut commands = esm.title("PassTickets", &applications);
    commands.note(&format!("The gateway runs as {gateway}."));
    commands.note(
        "z/OS checks this permission when a program on z/OS asks it for a PassTicket, as Zowe's API \
         ML does. Unless an APPLID has source: zowe, passticket-proxy makes PassTickets itself: its \
         saf.yml decides for which users.",
    );
    match esm {
        Esm::Racf => racf::passticket(&mut commands, gateway, applids),
        Esm::Acf2 => acf2::passticket(&mut commands, gateway, applids),
        Esm::TopSecret => tss::passticket(&mut commands, gateway, applids),
    }
    commands
}

/// An application that needs a PassTicket key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Application {
    /// The APPLID.
    pub applid: Applid,
    /// The algorithm of its PassTickets.
    pub algorithm: Algorithm,
    /// Whether the application accepts a PassTicket more than once.
    pub replay: Replay,
    /// How far the time of a PassTicket may be from the clock of z/OS (`windowSeconds`).
    pub window: Duration,
}

impl Application {
    /// Returns the operand of `TIMEOUT` for an enhanced key. RACF permits 1 to 600 seconds.
    fn timeout(&self) -> u64 {
        self.window.as_secs().clamp(1, MAX_WINDOW.as_secs())
    }

    fn is_legacy(&self) -> bool {
        self.algorithm == Algorithm::Legacy
    }

    /// Returns the label under which the key is in the CKDS, the key store of z/OS. One profile can have a legacy key
    /// and an enhanced key, so their labels differ.
    fn key_label(&self) -> String {
        let Self { applid, .. } = self;
        match self.is_legacy() {
            true => format!("PTKTDES.{applid}"),
            false => format!("PASSTICKET.{applid}"),
        }
    }
}

impl From<&KeyProfile> for Application {
    fn from(profile: &KeyProfile) -> Self {
        let (applid, algorithm) = (*profile.applid(), profile.algorithm());
        Self { applid, algorithm, replay: profile.replay(), window: profile.window() }
    }
}

/// Returns the commands that give each application its PassTicket key, with the replay protection that the gateway
/// expects (docs/reference/security-products.md#key-profiles).
///
/// For ACF2 and Top Secret, the commands for keys of enhanced PassTickets are not publicly documented. For such a key,
/// the result contains a comment instead of a command.
pub fn keys(esm: Esm, applications: &[Application]) -> Commands {
    let value = |Application { applid, algorithm, .. }: &_| format!("{applid} {algorithm}");
    let values: Vec<_> = applications.iter().map(value).collect();
    let mut commands = esm.title("PassTicket keys", &values);
    commands.note(
        "The key is a secret: anyone who has it can log on as any user. Write the same key \
         to the gateway's key file for the APPLID.",
    );
    if esm != Esm::Racf && applications.iter().any(Application::is_legacy) {
        commands
            .note(&format!("Replace the text in angle brackets with the key. {COMMANDS_WITH_KEY}"));
    }
    if let Some(applids) = applids_with(applications, Replay::Allowed) {
        commands.note(&format!(
            "Replay protection is off for {applids}: requests of one user in the same second have \
             the same PassTicket. The connection from the gateway to the service must be secure. The \
             gateway's zowe.yaml needs replayProtection: false for these APPLIDs.",
        ));
    }
    if let Some(applids) = applids_with(applications, Replay::Protected) {
        commands.note(&format!(
            "Replay protection is on for {applids}: the gateway uses each PassTicket once, so a \
             user gets one PassTicket per second.",
        ));
    }
    match esm {
        Esm::Racf => racf::keys(&mut commands, applications),
        Esm::Acf2 => acf2::keys(&mut commands, applications),
        Esm::TopSecret => tss::keys(&mut commands, applications),
    }
    commands.note(
        "Clock: a PassTicket contains the time in GMT (UTC). The console command D T shows the GMT \
         time of z/OS. It must agree with the clock of the gateway. The time zone does not matter. \
         passticket-proxy esm verify prints all display commands, and compares their output with a \
         zowe.yaml.",
    );
    commands
}

/// Where an administrator may enter a command that contains a key.
const COMMANDS_WITH_KEY: &str = "Put a command that contains a key into a data set that only you can \
    read, and run it in a batch job with //SYSTSPRT DD DUMMY, because the job log would repeat the \
    command. Delete the data set afterwards. Do not enter such a command at the console, because it \
    goes to the system log, and not at an ISPF panel, because it may go to the ISPF log.";

/// Returns the APPLIDs of the applications with this replay protection, or `None` if there are none.
fn applids_with(applications: &[Application], replay: Replay) -> Option<String> {
    let matching = applications.iter().filter(|application| application.replay == replay);
    let applids: Vec<_> = matching.map(|application| application.applid.to_string()).collect();
    (!applids.is_empty()).then(|| applids.join(", "))
}

/// Returns the commands that permit users to request PassTickets for other users, with the endpoints
/// `delegate/passticket` and `token`. The permission is `READ` on `APIML.DELEGATE.PASSTICKET` in class `ZOWE`
/// (docs/reference/security-products.md#delegation-permission).
pub fn delegate(esm: Esm, users: &[UserId]) -> Commands {
    let values: Vec<_> = users.iter().map(ToString::to_string).collect();
    let mut commands = esm.title("delegated PassTickets", &values);
    commands.note(
        "A user with READ on APIML.DELEGATE.PASSTICKET can get PassTickets for other users. Permit \
         only the user ids of the callers (of their client certificates or actor tokens).",
    );
    match esm {
        Esm::Racf => racf::delegate(&mut commands, users),
        Esm::Acf2 => acf2::delegate(&mut commands, users),
        Esm::TopSecret => tss::delegate(&mut commands, users),
    }
    commands
}

/// An identity that is mapped to a user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// A distributed identity: an e-mail address in a user directory (registry) outside z/OS. The
    /// class of its mapping is `IDIDMAP`.
    Email {
        /// The e-mail address.
        email: &'a EmailOperand,
        /// The registry that the address belongs to.
        registry: &'a RegistryOperand,
    },
    /// A client certificate. The class of its mapping is `DIGTNMAP`.
    Certificate {
        /// The subject of the certificate, or the last parts of the subject.
        subject: &'a NameOperand,
        /// The complete issuer. `None` means that the certificate may have any issuer.
        issuer: Option<&'a NameOperand>,
    },
}

/// Returns the commands that map an identity to a user id, and permit the gateway's user id to look up mappings. The
/// permission is `READ` on `IRR.IDIDMAP.QUERY` or `IRR.RUSERMAP` in class `FACILITY`
/// (docs/reference/security-products.md#identity-mappings).
///
/// # Errors
/// [`NotWritable`] if a text contains an apostrophe and the product is not RACF.
pub fn identity(
    esm: Esm,
    gateway: &UserId,
    user: &UserId,
    identity: Identity<'_>,
    label: &Label,
) -> Result<Commands, NotWritable> {
    let texts = match identity {
        Identity::Email { email, registry } => [Some(email.as_str()), Some(registry.as_str())],
        Identity::Certificate { subject, issuer } => {
            [Some(subject.as_str()), issuer.map(NameOperand::as_str)]
        }
    };
    if esm != Esm::Racf
        && let Some(text) =
            texts.into_iter().flatten().chain([label.as_str()]).find(|text| text.contains('\''))
    {
        return Err(NotWritable { esm: esm.name(), text: text.to_owned() });
    }
    let topic = match identity {
        Identity::Email { .. } => "user id of an e-mail address",
        Identity::Certificate { .. } => "user id of a certificate",
    };
    let mut commands = esm.title(topic, &[user.to_string()]);
    commands.note(&format!("The gateway runs as {gateway}."));
    match (esm, identity) {
        (_, Identity::Email { .. }) => commands.note(
            "The name and the registry must be the same as in the gateway's requests, including \
             upper and lower case.",
        ),
        (_, Identity::Certificate { issuer: Some(_), .. }) => commands.note(
            "You may write only the last parts of the certificate's subject. The mapping then \
             applies to all certificates whose subject ends with these parts. The issuer must be \
             complete. Write subject and issuer as the security product shows them for the \
             certificate.",
        ),
        (_, Identity::Certificate { issuer: None, .. }) => commands.note(
            "You may write only the last parts of the certificate's subject. The mapping then \
             applies to all certificates whose subject ends with these parts. Write the subject \
             as the security product shows it for the certificate. Without an issuer, any \
             authority that the gateway trusts can issue such a certificate.",
        ),
    }
    let mapping = Mapping { gateway, user, label };
    match (esm, identity) {
        (Esm::Racf, Identity::Email { email, registry }) => {
            racf::email(&mut commands, mapping, email, registry);
        }
        (Esm::Racf, Identity::Certificate { subject, issuer }) => {
            racf::certificate(&mut commands, mapping, subject, issuer);
        }
        (Esm::Acf2, Identity::Email { email, registry }) => {
            acf2::email(&mut commands, mapping, email, registry);
        }
        (Esm::Acf2, Identity::Certificate { subject, issuer }) => {
            acf2::certificate(&mut commands, mapping, subject, issuer);
        }
        (Esm::TopSecret, Identity::Email { email, registry }) => {
            tss::email(&mut commands, mapping, email, registry);
        }
        (Esm::TopSecret, Identity::Certificate { subject, issuer }) => {
            tss::certificate(&mut commands, mapping, subject, issuer);
        }
    }
    Ok(commands)
}

/// The values that the mapping of an e-mail address and the mapping of a certificate both need.
#[derive(Clone, Copy)]
struct Mapping<'a> {
    gateway: &'a UserId,
    user: &'a UserId,
    label: &'a Label,
}

/// A text has an apostrophe, and the manuals of the product do not say how to write an apostrophe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} has an apostrophe, which cannot be written safely in a command of {esm}; write the \
     command by hand, or map another name"
)]
pub struct NotWritable {
    esm: &'static str,
    text: String,
}

/// Returns the applications with a legacy key. For each application with an enhanced key, adds a comment: there is no
/// command, and the administrator should read `see`.
fn legacy_only(
    commands: &mut Commands,
    applications: &[Application],
    see: &str,
) -> Vec<Application> {
    let (legacy, enhanced): (Vec<_>, Vec<_>) =
        applications.iter().partition(|application| application.is_legacy());
    for Application { applid, algorithm, replay, .. } in enhanced {
        let replay = match replay {
            Replay::Protected => "Do not allow",
            Replay::Allowed => "Allow",
        };
        commands.note(&format!(
            "No command for {applid}, {algorithm}: the command is not publicly documented. Look \
             for enhanced PassTickets in your documentation of {see}. {replay} multiple use of a \
             PassTicket in the key profile.",
        ));
    }
    legacy
}

/// Returns the comment for a product in which each record contains one mapping. `name` is the name of the record.
fn one_mapping(user: &UserId, name: &str) -> String {
    format!(
        "Each record contains one mapping. To map a second identity to {user}, write another name \
         instead of {name}, and another label.",
    )
}

/// Returns the text that a command contains instead of a key. No product accepts it as a key.
fn key_placeholder(applid: &Applid) -> String {
    format!("<16-hex-digits-of-{applid}>")
}

#[cfg(test)]
mod tests;
