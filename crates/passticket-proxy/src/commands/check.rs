//! `check`: prints every problem of a configuration.

use std::path::Path;

use crate::{exit::Exit, loading, stack, terminal::say};

pub(crate) fn check(file: &Path) -> Result<(), Exit> {
    let config = loading::load(file)?;
    // Some problems only show when the parts are put together, such as a key of another
    // certificate.
    stack::parts(&config).map_err(Exit::usage)?;
    let routes = config.routes.len();
    say(&format!("{}: good, {routes} routes", file.display()));
    Ok(())
}
