//! `esm`: commands for the security product.

use std::{collections::BTreeMap, path::Path};

use tower_passticket::{
    config::Config,
    passticket::{Algorithm, Applid, UserId},
    saf::esm::{self, Commands, Identity, Label},
};

use crate::{
    Failure, check,
    cli::{Esm, EsmIdentity, EsmTopic},
    say,
};

/// The user id of the started task in the jobs that Zowe is installed with.
const ZOWESRV: &str = "ZWESVUSR";

/// Each once, in order.
type Applications = BTreeMap<Applid, Algorithm>;

pub(crate) fn esm(args: &Esm) -> Result<(), Failure> {
    let esm = args.esm.ok_or_else(|| {
        Failure::wrong("--esm is missing; write --esm racf, --esm acf2 or --esm tss")
    })?;
    let gateway = match args.zowesrv {
        Some(gateway) => gateway,
        None => UserId::new(ZOWESRV).map_err(Failure::broken)?,
    };
    let passticket = |applications: &Applications| {
        let applids: Vec<_> = applications.keys().copied().collect();
        esm::passticket(esm, &gateway, &applids)
    };
    let keys = |applications: Applications| {
        let applications: Vec<_> = applications.into_iter().collect();
        esm::keys(esm, &applications)
    };
    let printed = match (&args.topic, args.from_config.as_deref()) {
        (None, None) => {
            return Err(Failure::wrong(
                "nothing to print; write passticket, keys, delegate or identity, or --from-config \
                 with a zowe.yaml",
            ));
        }
        (None, Some(file)) => {
            let applications = applications(file)?;
            vec![passticket(&applications), keys(applications)]
        }
        (Some(EsmTopic::Passticket { applid }), file) => {
            vec![passticket(&chosen(applid, None, file)?)]
        }
        (Some(EsmTopic::Keys { applid, algorithm }), file) => {
            vec![keys(chosen(applid, *algorithm, file)?)]
        }
        (Some(_), Some(_)) => {
            return Err(Failure::wrong(
                "--from-config has nothing for this topic; write it with passticket or keys, or \
                 without a topic",
            ));
        }
        (Some(EsmTopic::Delegate { user }), None) => {
            let mut users = user.clone();
            users.sort_unstable();
            users.dedup();
            vec![esm::delegate(esm, &users)]
        }
        (Some(EsmTopic::Identity(args)), None) => identity(esm, &gateway, args)?,
    };
    for commands in printed {
        commands.lines().for_each(say);
    }
    Ok(())
}

fn identity(esm: esm::Esm, gateway: &UserId, args: &EsmIdentity) -> Result<Vec<Commands>, Failure> {
    let EsmIdentity { user, email, registry, subject, issuer, label } = args;
    if email.is_none() && subject.is_none() {
        return Err(Failure::wrong(
            "nobody is to be mapped; write --email and --registry, or --subject",
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
        .map_err(Failure::wrong)
}

/// The applications of the command line, or those of the configuration.
fn chosen(
    applids: &[Applid],
    algorithm: Option<Algorithm>,
    file: Option<&Path>,
) -> Result<Applications, Failure> {
    match (applids, algorithm, file) {
        ([], None, Some(file)) => applications(file),
        (_, _, Some(_)) => Err(Failure::wrong(
            "--from-config says which APPLIDs and algorithms there are; leave out --applid and \
             --algorithm, or --from-config",
        )),
        ([], _, None) => Err(Failure::wrong(
            "--applid is missing; write --applid with the APPLID of the service, or --from-config \
             with a zowe.yaml",
        )),
        (applids, algorithm, None) => {
            let algorithm = algorithm.unwrap_or(Algorithm::Legacy);
            Ok(applids.iter().map(|applid| (*applid, algorithm)).collect())
        }
    }
}

/// Each APPLID that has a key; a configuration with a service without one is none.
fn applications(file: &Path) -> Result<Applications, Failure> {
    let Config { profiles, .. } = check::load(file)?;
    let keys = profiles.iter().map(|profile| (*profile.applid(), profile.algorithm()));
    let applications: Applications = keys.collect();
    if applications.is_empty() {
        let file = file.display();
        return Err(Failure::wrong(format!(
            "{file}: there is no APPLID, so there is nothing to define; write one in \
             passticketProxy.ptktdata"
        )));
    }
    Ok(applications)
}
