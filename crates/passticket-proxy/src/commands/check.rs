//! `check`: prints every problem of a configuration, or that it has no problem.

use std::path::Path;

use passticket_proxy::config::{Config, ConfiguredRoute, ServiceScheme};
use tower_passticket::layer::{ClientBasic, OnFailure};

use crate::{exit::Exit, loading, stack, terminal::print_line};

pub(crate) fn check(file: &Path) -> Result<(), Exit> {
    let config = loading::load(file)?;
    // Some problems appear only when the parts of the gateway are built. An example is a private key that does not
    // belong to the certificate.
    stack::parts(&config).map_err(Exit::usage)?;
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
    let routes = config.routes.len();
    print_line(&format!("{}: good, {routes} routes", file.display()));
    Ok(())
}

/// The routes whose service does not receive a client's `Authorization: Basic`, although Zowe API ML would forward it
/// (docs/decisions.md#d24).
fn stripped_basic(config: &Config) -> impl Iterator<Item = &ConfiguredRoute> {
    config.routes.iter().filter(|route| {
        route.scheme() != ServiceScheme::Bypass
            && route.client_basic() == ClientBasic::Strip
            && route.on_failure() != OnFailure::ForwardUnchanged
    })
}
