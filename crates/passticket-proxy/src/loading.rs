//! Loads the configuration for a command. Problems become an [`Exit`] with exit code 2.

use std::path::Path;

use passticket_proxy::config::{Config, Loaded};

use crate::{exit::Exit, terminal::print_problem};

/// Loads a configuration and prints its warnings on standard error.
pub(crate) fn load(file: &Path) -> Result<Config, Exit> {
    let Loaded { config, warnings, .. } = load_quietly(file)?;
    for warning in &warnings {
        print_problem(&format!("warning: {warning}"));
    }
    Ok(config)
}

/// Loads a configuration and leaves its warnings to the caller.
pub(crate) fn load_quietly(file: &Path) -> Result<Loaded, Exit> {
    Config::load(file, &|name| std::env::var(name).ok())
        .map_err(|problems| Exit::Usage(problems.iter().map(ToString::to_string).collect()))
}
