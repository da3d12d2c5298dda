//! `check`: what is wrong with a configuration.

use std::path::Path;

use tower_passticket::config::{Config, Loaded};

use crate::{Failure, complain, say, stack};

pub(crate) fn check(file: &Path) -> Result<(), Failure> {
    let config = load(file)?;
    // What only shows when it is put together: key and certificate that do not fit, say.
    stack::parts(&config).map_err(Failure::wrong)?;
    let routes = config.routes.iter().count();
    say(&format!("{}: good, {routes} routes", file.display()));
    Ok(())
}

/// Reads a configuration; warnings are said, problems are the failure.
pub(crate) fn load(file: &Path) -> Result<Config, Failure> {
    let Loaded { config, warnings, .. } = load_quietly(file)?;
    for warning in &warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(config)
}

/// As [`load`], for whom warnings are not what was asked for.
pub(crate) fn load_quietly(file: &Path) -> Result<Loaded, Failure> {
    Config::load(file, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::Wrong(problems.iter().map(ToString::to_string).collect()))
}
