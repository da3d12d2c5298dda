//! `check`: what is wrong with a configuration.

use std::path::Path;

use passticket_proxy::config::{Config, Loaded};

use crate::{
    exit::Exit,
    stack,
    terminal::{complain, say},
};

pub(crate) fn check(file: &Path) -> Result<(), Exit> {
    let config = load(file)?;
    // What only shows when it is put together: key and certificate that do not fit, say.
    stack::parts(&config).map_err(Exit::usage)?;
    let routes = config.routes.iter().count();
    say(&format!("{}: good, {routes} routes", file.display()));
    Ok(())
}

/// Reads a configuration; warnings are said, problems are the failure.
pub(crate) fn load(file: &Path) -> Result<Config, Exit> {
    let Loaded { config, warnings, .. } = load_quietly(file)?;
    for warning in &warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(config)
}

/// As [`load`], for whom warnings are not what was asked for.
pub(crate) fn load_quietly(file: &Path) -> Result<Loaded, Exit> {
    Config::load(file, &|name| std::env::var(name).ok())
        .map_err(|problems| Exit::Usage(problems.iter().map(ToString::to_string).collect()))
}
