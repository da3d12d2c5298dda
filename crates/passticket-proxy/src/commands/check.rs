//! `check`: prints the problems of a configuration, or that the configuration is good.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    path::Path,
};

use passticket_proxy::{
    config::{AuditSettings, Config, ConfiguredRoute, ServiceScheme},
    instant::Instant,
};
use rustix::fs::{Access, access};
use tower_passticket::{
    clock::{Clock, SystemClock},
    layer::{ClientBasic, OnFailure},
    passticket::{KeyProfile, UserId},
    revocation::{DurableStore, OpenError},
};

use super::live;
use crate::{
    exit::Exit,
    loading, stack,
    terminal::{print_line, print_problem},
};

pub(crate) fn check(file: &Path, live: bool) -> Result<(), Exit> {
    let config = loading::load(file)?;
    // Some problems appear only when the parts of the gateway are built. An example is a private key that does not
    // belong to the certificate.
    stack::parts(&config, None).map_err(Exit::usage)?;
    let mut problems = Vec::new();
    check_store(file, &config, &mut problems);
    if let Some(AuditSettings { file, unauthenticated, .. }) = &config.audit {
        for path in [file, unauthenticated] {
            if let Err(error) = try_append(path) {
                problems.push(format!(
                    "{}: the audit log cannot be written: {error}; check that the directory exists and that this user \
                     may write to it",
                    path.display()
                ));
            }
        }
    }
    for profile in config.profiles.iter() {
        let next = profile.next_key().map(|(next, _)| next);
        problems.extend([&**profile].into_iter().chain(next).filter_map(try_key));
    }
    if !problems.is_empty() {
        return Err(Exit::Usage(problems));
    }
    #[cfg(feature = "pkcs11")]
    for key in &config.token_keys {
        let (key, token) = (key.key().label(), key.key().token().label());
        print_line(&format!("key {key} of the token {token}: good; its value cannot be read"));
    }
    for route in stripped_basic(&config) {
        print_line(&format!(
            "{}: Authorization: Basic of clients is removed{}; for clients with a password, set \
             components.passticket-proxy.services.{}.clientBasic to verify (the gateway checks the password) or \
             forward (the service receives it)",
            route.prefix(),
            if config.pats { ", unless the password is a Personal Access Token" } else { "" },
            route.service(),
        ));
    }
    for profile in config.profiles.iter() {
        if let Some((next, from)) = profile.next_key() {
            let (name, algorithm, from) = (profile.name(), next.algorithm(), Instant(from));
            print_line(&format!(
                "{name}: from {from} on, PassTickets are made with the next key ({algorithm})"
            ));
        }
    }
    let routes = config.routes.len();
    let found = config.discovery.as_ref().map(|discovery| {
        let (services, hosts) = (discovery.services.len(), discovery.eureka.len());
        format!("; {services} services may be found in Eureka, which has {hosts} hosts")
    });
    let found = found.unwrap_or_default();
    print_line(&format!("{}: good, {routes} routes{found}", file.display()));
    if live { live::ask_all(&config) } else { Ok(()) }
}

/// Returns the routes on which this gateway removes a client's `Authorization: Basic`. Zowe's API Mediation Layer (API
/// ML) forwards this header (docs/decisions.md#d24). Routes with the scheme x509 are left out: a password cannot
/// replace a client certificate.
fn stripped_basic(config: &Config) -> impl Iterator<Item = &ConfiguredRoute> {
    config.routes.iter().filter(|route| {
        !matches!(route.scheme(), ServiceScheme::Bypass | ServiceScheme::X509 { .. })
            && route.client_basic() == ClientBasic::Strip
            && route.on_failure() != OnFailure::ForwardUnchanged
    })
}

/// Verifies the revocation file. If a running gateway has the file open, this function does not verify it, because the
/// gateway verified it at its start.
fn check_store(zowe_yaml: &Path, config: &Config, problems: &mut Vec<String>) {
    let file = config.revocations.display();
    match DurableStore::verify(&config.revocations) {
        Ok(()) => {}
        Err(OpenError::InUse { .. }) => {
            print_line(&format!(
                "{file}: in use, so it was not verified; a running gateway has verified it"
            ));
        }
        Err(OpenError::Missing { .. }) => print_problem(&format!(
            "warning: {file} is missing; a new gateway creates it with: passticket-proxy serve --config {} --new-store; \
             if the gateway has run before, mount the volume of the file, or restore a backup",
            zowe_yaml.display()
        )),
        Err(error) => problems.push(error.to_string()),
    }
}

/// Makes a PassTicket and evaluates it. No service receives it. Returns the problem if this fails.
fn try_key(profile: &KeyProfile) -> Option<String> {
    let (user, now) = (UserId::new("CHECK").ok()?, SystemClock.now());
    let evaluated = match profile.generate(&user, now) {
        Ok(ticket) => profile.evaluate(&user, &ticket, now).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    evaluated.err().map(|error| format!("{}: no PassTicket could be made: {error}", profile.name()))
}

/// Checks whether this process could append to a file. This function neither changes nor creates the file.
fn try_append(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        // Opening a named pipe would wait for a reader.
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a regular file")),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            access(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_path_of_the_audit_log_is_tried_without_a_change() {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("present"), "x").unwrap();
        fs::create_dir(at("directory")).unwrap();
        for (name, is_good) in [
            ("present", true),
            ("missing", true),
            ("directory", false),
            ("no/such", false),
            ("present/below", false),
        ] {
            assert_eq!(try_append(&at(name)).is_ok(), is_good, "{name}");
        }
        assert_eq!(fs::read(at("present")).unwrap(), b"x");
        assert!(!at("missing").exists());
    }
}
