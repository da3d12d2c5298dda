//! Commands for the security product of a z/OS system: RACF, ACF2 or Top Secret.
//!
//! What a gateway needs on z/OS is for a security administrator to define, who wants commands to
//! read and submit. Here they are, with the values put in, for four topics:
//!
//! - [`passticket`]: the gateway's user id may have PassTickets made for an application;
//! - [`keys`]: the application has a PassTicket key, and evaluates tickets with it;
//! - [`delegate`]: users may have PassTickets made for others, by e-mail address;
//! - [`identity`]: who somebody outside is on z/OS, by e-mail address or certificate.
//!
//! The texts come from Zowe's pages on PassTickets and on delegated PassTickets, from the jobs that
//! Zowe is installed with (`ZWEIRAC`, `ZWEIACF`, `ZWEITSS` and those that define class `ZOWE`), and
//! from the manuals of the products. No key is ever among them: where one belongs, there is a text
//! in angle brackets that no product accepts.
//!
//! # Form
//!
//! Each result is input for the TSO terminal monitor program (IKJEFT01, `//SYSTSIN`), and as good
//! line by line at a terminal. Comments are TSO's, except between `ACF` and `END`, where they begin
//! with an asterisk as the `ACF` command has them. Commands that define what is already there say so
//! and harm nothing; after the definitions comes the refresh, and last what shows the result.
//!
//! Names from outside ([`EmailOperand`], [`RegistryOperand`], [`Label`], [`NameOperand`]) are checked when
//! they are parsed, so that a text cannot become a command. RACF has them in apostrophes, an
//! apostrophe within doubled. Top Secret has them in apostrophes and ACF2 has them bare, and no
//! manual says how an apostrophe within is to be written, so [`identity`] refuses it.
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
mod operand;
mod racf;
mod tss;

use std::{fmt, str::FromStr};

pub use commands::Commands;
pub use operand::{
    EmailOperand, Label, NameOperand, OperandError, OperandProblem, RegistryOperand,
};

use tower_passticket::passticket::{Algorithm, Applid, KeyProfile, Replay, UserId};

/// The external security manager of a z/OS system. As text: `racf`, `acf2`, `tss`.
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

    /// The product as text, the way [`FromStr`] reads it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Racf => "racf",
            Self::Acf2 => "acf2",
            Self::TopSecret => "tss",
        }
    }

    /// As people call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Racf => "RACF",
            Self::Acf2 => "ACF2",
            Self::TopSecret => "Top Secret",
        }
    }

    /// The comment that commands begin with.
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

/// A text that is no [`Esm`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no security product; write racf, acf2 or tss")]
pub struct EsmError(String);

/// Lets the gateway's user id have PassTickets made for the users of applications: `UPDATE` on
/// `IRRPTAUTH.<applid>.*` in class `PTKTDATA`.
pub fn passticket(esm: Esm, gateway: &UserId, applids: &[Applid]) -> Commands {
    let applications: Vec<_> = applids.iter().map(ToString::to_string).collect();
    let mut commands = esm.title("PassTickets", &applications);
    commands.note(&format!("The gateway runs as {gateway}."));
    match esm {
        Esm::Racf => racf::passticket(&mut commands, gateway, applids),
        Esm::Acf2 => acf2::passticket(&mut commands, gateway, applids),
        Esm::TopSecret => tss::passticket(&mut commands, gateway, applids),
    }
    commands
}

/// An application that is to have a PassTicket key, as the gateway makes tickets for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its name.
    pub applid: Applid,
    /// How tickets are made.
    pub algorithm: Algorithm,
    /// Whether it is to take a ticket more than once.
    pub replay: Replay,
}

impl From<&KeyProfile> for Application {
    fn from(profile: &KeyProfile) -> Self {
        let (applid, algorithm) = (*profile.applid(), profile.algorithm());
        Self { applid, algorithm, replay: profile.replay() }
    }
}

/// Gives applications their PassTicket key, with replay protection where the gateway reckons with
/// it.
///
/// How ACF2 and Top Secret are told the keys of enhanced PassTickets is not publicly documented;
/// for those there is a comment in place of commands.
pub fn keys(esm: Esm, applications: &[Application]) -> Commands {
    let value = |Application { applid, algorithm, .. }: &_| format!("{applid} {algorithm}");
    let values: Vec<_> = applications.iter().map(value).collect();
    let mut commands = esm.title("PassTicket keys", &values);
    commands.note(
        "A key is a secret: who has it can log on as any user. It is the one in the gateway's key \
         file of the APPLID.",
    );
    if applications.iter().any(|application| application.algorithm == Algorithm::Legacy) {
        commands.note(
            "Put it in place of the text in angle brackets at a terminal, or in a data set that \
             nobody else can read and with //SYSTSPRT DD DUMMY, since the job log repeats every \
             command; delete the data set afterwards.",
        );
    }
    if let Some(applids) = with(applications, Replay::Allowed) {
        commands.note(&format!(
            "Replay protection is off for {applids}: requests of one user in the same second have \
             the same PassTicket. The way from the gateway to the service must be secure. The \
             gateway's zowe.yaml needs replayProtection: false there.",
        ));
    }
    if let Some(applids) = with(applications, Replay::Protected) {
        commands.note(&format!(
            "Replay protection is on for {applids}: the gateway makes no PassTicket twice, and so \
             one each second for a user.",
        ));
    }
    match esm {
        Esm::Racf => racf::keys(&mut commands, applications),
        Esm::Acf2 => acf2::keys(&mut commands, applications),
        Esm::TopSecret => tss::keys(&mut commands, applications),
    }
    commands
}

/// The names of the applications, if there is one.
fn with(applications: &[Application], replay: Replay) -> Option<String> {
    let them = applications.iter().filter(|application| application.replay == replay);
    let applids: Vec<_> = them.map(|application| application.applid.to_string()).collect();
    (!applids.is_empty()).then(|| applids.join(", "))
}

/// Lets users call the endpoint for delegated PassTickets: `READ` on `APIML.DELEGATE.PASSTICKET` in
/// class `ZOWE`.
pub fn delegate(esm: Esm, users: &[UserId]) -> Commands {
    let values: Vec<_> = users.iter().map(ToString::to_string).collect();
    let mut commands = esm.title("delegated PassTickets", &values);
    commands.note(
        "Who may read APIML.DELEGATE.PASSTICKET gets PassTickets of other users. Permit no more \
         than the user ids of the client certificates that call.",
    );
    match esm {
        Esm::Racf => racf::delegate(&mut commands, users),
        Esm::Acf2 => acf2::delegate(&mut commands, users),
        Esm::TopSecret => tss::delegate(&mut commands, users),
    }
    commands
}

/// What somebody outside is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// A distributed identity (class `IDIDMAP`).
    Email {
        /// Its name.
        email: &'a EmailOperand,
        /// Where it comes from.
        registry: &'a RegistryOperand,
    },
    /// A certificate (class `DIGTNMAP`).
    Certificate {
        /// Its subject, or the end of it that is enough.
        subject: &'a NameOperand,
        /// Its whole issuer; any, if there is none here.
        issuer: Option<&'a NameOperand>,
    },
}

/// Says who somebody outside is on z/OS, and lets the gateway's user id ask: `READ` on
/// `IRR.IDIDMAP.QUERY` or `IRR.RUSERMAP` in class `FACILITY`.
///
/// # Errors
/// [`NotWritable`] for an apostrophe and a product other than RACF.
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
        Identity::Email { .. } => "e-mail address",
        Identity::Certificate { .. } => "certificate",
    };
    let mut commands = esm.title(topic, &[format!("of {user}")]);
    commands.note(&format!("The gateway runs as {gateway}."));
    match (esm, identity) {
        (_, Identity::Email { .. }) => commands.note(
            "Name and registry must be what the gateway looks for, upper and lower case included.",
        ),
        (_, Identity::Certificate { issuer: Some(_), .. }) => commands.note(
            "The subject may be the end of the certificate's, and then fits all that end so; the \
             issuer must be the whole one. Both must look as the product shows the certificate.",
        ),
        (_, Identity::Certificate { issuer: None, .. }) => commands.note(
            "The subject may be the end of the certificate's, and then fits all that end so. It must \
             look as the product shows the certificate. Without an issuer, any authority that the \
             gateway trusts can issue one for it.",
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

/// What both kinds of mapping have.
#[derive(Clone, Copy)]
struct Mapping<'a> {
    gateway: &'a UserId,
    user: &'a UserId,
    label: &'a Label,
}

/// A text that the commands of a product cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} has an apostrophe, which cannot be written safely in a command of {esm}; write the \
     command by hand, or map another name"
)]
pub struct NotWritable {
    esm: &'static str,
    text: String,
}

/// The applications with a legacy key. For each of the others a note says that the product has no
/// command, and where to look.
fn legacy_only(
    commands: &mut Commands,
    applications: &[Application],
    see: &str,
) -> Vec<Application> {
    let (legacy, enhanced): (Vec<_>, Vec<_>) =
        applications.iter().partition(|application| application.algorithm == Algorithm::Legacy);
    for Application { applid, algorithm, replay } in enhanced {
        let replay = match replay {
            Replay::Protected => "Do not allow",
            Replay::Allowed => "Allow",
        };
        commands.note(&format!(
            "No command for {applid}, {algorithm}: see {see}, enhanced PassTickets. {replay} \
             multiple use there.",
        ));
    }
    legacy
}

/// That a second mapping needs a record of its own: the name of this one is `name`.
fn one_mapping(user: &UserId, name: &str) -> String {
    format!(
        "One record is one mapping: for a second one of {user}, write another name than {name}, and \
         another label.",
    )
}

/// Where a key belongs. No product takes it for one.
fn key_placeholder(applid: &Applid) -> String {
    format!("<16-hex-digits-of-{applid}>")
}

#[cfg(test)]
mod tests;
