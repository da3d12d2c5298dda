//! `check`: what is wrong with a configuration.

use std::path::Path;

use tower_passticket::config::Config;

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
    let loaded = Config::load(file, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::Wrong(problems.iter().map(ToString::to_string).collect()))?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(loaded.config)
}
