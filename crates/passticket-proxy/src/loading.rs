//! Loads a configuration for a command: problems become the exit, warnings go to standard error.

use std::path::Path;

use passticket_proxy::config::{Config, Loaded};

use crate::{exit::Exit, terminal::complain};

/// Loads a configuration and prints its warnings.
pub(crate) fn load(file: &Path) -> Result<Config, Exit> {
    let Loaded { config, warnings, .. } = load_quietly(file)?;
    for warning in &warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(config)
}

/// Loads a configuration without printing its warnings, for a command whose output is not about
/// the configuration.
pub(crate) fn load_quietly(file: &Path) -> Result<Loaded, Exit> {
    Config::load(file, &|name| std::env::var(name).ok())
        .map_err(|problems| Exit::Usage(problems.iter().map(ToString::to_string).collect()))
}
