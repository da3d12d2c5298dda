//! `esm`: prints commands for the external security manager (ESM), which is RACF, ACF2 or Top Secret. The commands
//! define what the gateway needs there, such as the keys of PassTickets (short-lived passwords of z/OS).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use passticket_proxy::config::Config;
use passticket_proxy::esm::{
    self, Application, Commands, Identity, KeyOrigin, Label,
    verify::{self, Expected, MAX_LISTING, Verdict},
};
use tower_passticket::{
    api::Grant,
    clock::{Clock, SystemClock},
    passticket::{Algorithm, Applid, DEFAULT_ENHANCED_WINDOW, DEFAULT_WINDOW, Replay, UserId},
};
use zeroize::Zeroizing;

use crate::{
    cli::{Esm, EsmIdentity, EsmTopic},
    exit::Exit,
    loading,
    terminal::print_line,
};

/// The default user id of the gateway. Zowe's installation jobs give this user id to Zowe's started task.
const ZOWESRV: &str = "ZWESVUSR";

/// The applications to define. An APPLID is the name of an application in the security product.
type Applications = BTreeMap<Applid, Application>;

/// The definitions that a configuration needs in the security product.
struct Requirements {
    gateway: UserId,
    applications: Applications,
    /// Users who may request PassTickets for other users.
    callers: Vec<UserId>,
}

pub(crate) fn esm(args: &Esm) -> Result<(), Exit> {
    let esm = args.esm.ok_or_else(|| {
        Exit::usage("--esm is missing; write --esm racf, --esm acf2 or --esm tss")
    })?;
    check_combination(args)?;
    let requirements = args.from_config.as_deref().map(requirements).transpose()?;
    let gateway = match (args.zowesrv, &requirements) {
        (Some(gateway), _) => gateway,
        (None, Some(requirements)) => requirements.gateway,
        (None, None) => UserId::new(ZOWESRV).map_err(Exit::runtime)?,
    };
    match &args.topic {
        Some(EsmTopic::KeyJob { applid, algorithm, make }) => {
            let applications = applications(applid, *algorithm, requirements)?;
            return key_jobs(esm, applications, *make);
        }
        Some(EsmTopic::Verify { listing, user }) => {
            let Some(Requirements { applications, .. }) = requirements else {
                return Err(Exit::usage(
                    "verify compares with a configuration; add --from-config with a zowe.yaml",
                ));
            };
            let mut users = user.clone();
            users.sort_unstable();
            users.dedup();
            let applications = applications.into_values().collect();
            return verify(esm, &Expected { gateway, applications, users }, listing);
        }
        _ => {}
    }
    let passticket = |applications: &Applications| {
        let applids: Vec<_> = applications.keys().copied().collect();
        esm::passticket(esm, &gateway, &applids)
    };
    let keys = |applications: Applications| {
        let applications: Vec<_> = applications.into_values().collect();
        esm::keys(esm, &applications)
    };
    let printed = match (&args.topic, requirements) {
        (None, None) => {
            return Err(Exit::usage(
                "nothing to print; add passticket, keys, key-job, delegate, identity or verify, or \
                 --from-config with a zowe.yaml",
            ));
        }
        (None, Some(Requirements { applications, callers, .. })) => {
            let mut printed = vec![passticket(&applications), keys(applications)];
            if !callers.is_empty() {
                printed.push(esm::delegate(esm, &callers));
            }
            printed
        }
        (Some(EsmTopic::Passticket { applid }), requirements) => {
            vec![passticket(&applications(applid, None, requirements)?)]
        }
        (Some(EsmTopic::Keys { applid, algorithm }), requirements) => {
            vec![keys(applications(applid, *algorithm, requirements)?)]
        }
        (Some(EsmTopic::Delegate { user }), _) => {
            let mut users = user.clone();
            users.sort_unstable();
            users.dedup();
            vec![esm::delegate(esm, &users)]
        }
        (Some(EsmTopic::Identity(args)), _) => identity(esm, &gateway, args)?,
        (Some(EsmTopic::KeyJob { .. } | EsmTopic::Verify { .. }), _) => Vec::new(),
    };
    for commands in printed {
        commands.lines().for_each(print_line);
    }
    Ok(())
}

fn key_jobs(esm: esm::Esm, applications: Applications, make: bool) -> Result<(), Exit> {
    let origin = if make { KeyOrigin::Zos } else { KeyOrigin::Gateway };
    let jobs: Result<Vec<_>, _> =
        applications.values().map(|application| esm::key_job(esm, application, origin)).collect();
    for job in jobs.map_err(Exit::usage)? {
        job.lines().for_each(print_line);
    }
    Ok(())
}

/// Prints the display commands. If there are listings, compares them with the configuration instead.
fn verify(esm: esm::Esm, expected: &Expected, listings: &[PathBuf]) -> Result<(), Exit> {
    if listings.is_empty() {
        verify::display_commands(esm, expected).lines().for_each(print_line);
        return Ok(());
    }
    let listing = read_listings(listings)?;
    let report = verify::compare(esm, expected, &listing, SystemClock.now());
    for finding in report.findings() {
        print_line(&finding.to_string());
    }
    let [different, missing] =
        [Verdict::Different, Verdict::Missing].map(|verdict| report.count(verdict));
    match report.is_same() {
        true => Ok(()),
        false => Err(Exit::Negative(format!("{different} different, {missing} missing"))),
    }
}

/// Reads the listings one after the other. Reads little more than [`MAX_LISTING`] bytes: enough for the comparison to
/// notice that the listings are too long.
fn read_listings(listings: &[PathBuf]) -> Result<Zeroizing<Vec<u8>>, Exit> {
    let mut text = Zeroizing::new(Vec::new());
    for path in listings {
        let left = (MAX_LISTING + 1).saturating_sub(text.len()) as u64;
        let read = match path.as_os_str() == "-" {
            true => io::stdin().lock().take(left).read_to_end(&mut text),
            false => File::open(path).and_then(|file| file.take(left).read_to_end(&mut text)),
        };
        read.map_err(|error| {
            Exit::runtime(format_args!("cannot read {}: {error}", path.display()))
        })?;
        text.push(b'\n');
    }
    Ok(text)
}

fn identity(esm: esm::Esm, gateway: &UserId, args: &EsmIdentity) -> Result<Vec<Commands>, Exit> {
    let EsmIdentity { user, email, registry, subject, issuer, label } = args;
    if email.is_none() && subject.is_none() {
        return Err(Exit::usage(
            "there is no identity to map; write --email and --registry, or --subject",
        ));
    }
    let label = label.clone().unwrap_or_else(|| Label::of(user));
    let email = email.as_ref().zip(registry.as_ref());
    let email = email.map(|(email, registry)| Identity::Email { email, registry });
    let issuer = issuer.as_ref();
    let certificate = subject.as_ref().map(|subject| Identity::Certificate { subject, issuer });
    let identities = email.into_iter().chain(certificate);
    identities
        .map(|identity| esm::identity(esm, gateway, user, identity, &label))
        .collect::<Result<_, _>>()
        .map_err(Exit::usage)
}

/// Refuses options and topics that cannot be combined with `--from-config`.
fn check_combination(args: &Esm) -> Result<(), Exit> {
    let wrong = match (&args.topic, &args.from_config) {
        (Some(EsmTopic::KeyJob { make: true, .. }), Some(_)) => {
            return Err(Exit::usage(
                "--make makes a new key, but this zowe.yaml already has the keys; leave out --make or \
                 --from-config",
            ));
        }
        (Some(EsmTopic::Passticket { applid }), Some(_)) if !applid.is_empty() => true,
        (
            Some(EsmTopic::Keys { applid, algorithm } | EsmTopic::KeyJob { applid, algorithm, .. }),
            Some(_),
        ) => !applid.is_empty() || algorithm.is_some(),
        (Some(EsmTopic::Delegate { .. } | EsmTopic::Identity(_)), Some(_)) => {
            return Err(Exit::usage(
                "this topic cannot be combined with --from-config; leave out --from-config, or use it with passticket, \
                 keys, key-job or verify, or without a topic",
            ));
        }
        _ => false,
    };
    if wrong {
        return Err(Exit::usage(
            "the zowe.yaml already has the APPLIDs and algorithms; leave out --applid and \
             --algorithm, or leave out --from-config",
        ));
    }
    Ok(())
}

/// Returns the applications of the configuration. If there is no configuration, returns the applications of the command
/// line.
fn applications(
    applids: &[Applid],
    algorithm: Option<Algorithm>,
    requirements: Option<Requirements>,
) -> Result<Applications, Exit> {
    match (applids, algorithm, requirements) {
        (_, _, Some(requirements)) => Ok(requirements.applications),
        ([], _, None) => Err(Exit::usage(
            "--applid is missing; write --applid with the APPLID of the service, or --from-config \
             with a zowe.yaml",
        )),
        (applids, algorithm, None) => {
            // IBM recommends the enhanced algorithm. Its form with upper case works in every application. It does not
            // need SETROPTS PASSWORD(MIXEDCASE) (docs/reference/security-products.md#key-profiles).
            let algorithm = algorithm.unwrap_or(Algorithm::EnhancedUpper);
            // Replay protection is off for applications that the command line names, because Zowe's documentation asked
            // operators to turn it off (docs/reference/security-products.md#replay-protection). In a configuration,
            // replay protection is on by default.
            let replay = Replay::Allowed;
            let window = match algorithm {
                Algorithm::Legacy => DEFAULT_WINDOW,
                Algorithm::EnhancedUpper | Algorithm::EnhancedMixed => DEFAULT_ENHANCED_WINDOW,
            };
            let application = |applid| Application { applid, algorithm, replay, window };
            Ok(applids.iter().map(|applid| (*applid, application(*applid))).collect())
        }
    }
}

/// Loads a configuration and collects its [`Requirements`]. The applications are the APPLIDs with a PassTicket key.
/// APPLIDs with `source: zowe` have no key in the configuration, so they are not included. In a valid configuration,
/// all other APPLIDs of services have a key.
fn requirements(file: &Path) -> Result<Requirements, Exit> {
    let Config { profiles, gateway_user, delegation, exchange, .. } =
        loading::load_quietly(file)?.config;
    // Each APPLID appears once. A profile for all users replaces the profiles for some users.
    let (qualified, for_all): (Vec<_>, Vec<_>) =
        profiles.iter().partition(|profile| profile.qualifier().is_some());
    let keys = qualified.into_iter().chain(for_all);
    let keys = keys.map(|profile| (*profile.applid(), (&**profile).into()));
    let applications: Applications = keys.collect();
    if applications.is_empty() {
        let file = file.display();
        return Err(Exit::usage(format!(
            "{file}: no APPLID has a PassTicket key, so there is nothing to define; add a key to \
             components.passticket-proxy.ptktdata"
        )));
    }
    let grants = delegation.iter().flat_map(|delegation| &delegation.grants).flatten();
    // The actors of the token exchange need the same permission as the callers of delegated PassTickets.
    let grants = grants.chain(exchange.iter().flat_map(|exchange| &exchange.grants));
    let mut callers: Vec<_> = grants.filter_map(Grant::user).copied().collect();
    callers.sort_unstable();
    callers.dedup();
    Ok(Requirements { gateway: gateway_user, applications, callers })
}
