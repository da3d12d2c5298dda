//! `check`: prints every problem of a configuration, or that it has no problem.

use std::path::Path;

use crate::{exit::Exit, loading, stack, terminal::print_line};

pub(crate) fn check(file: &Path) -> Result<(), Exit> {
    let config = loading::load(file)?;
    // Some problems appear only when the parts of the gateway are built. An example is a private key that does not
    // belong to the certificate.
    stack::parts(&config).map_err(Exit::usage)?;
    let routes = config.routes.len();
    print_line(&format!("{}: good, {routes} routes", file.display()));
    Ok(())
}
