//! The level of the log: the setting `components.passticket-proxy.logLevel`, and the environment variable `RUST_LOG`.

use std::{fmt, str::FromStr};

use tracing_subscriber::filter::{Directive, LevelFilter};

/// The level of the log: one or more directives, separated by commas. A directive is a level (`error`, `warn`, `info`,
/// `debug` or `trace`), or `MODULE=LEVEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

/// The error if a text is not a log level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a log directive; write a level (error, warn, info, debug or trace) or MODULE=LEVEL, with commas \
     between directives"
)]
pub struct LogLevelError(String);

impl LogLevel {
    /// Returns the directives of the text. There may be none.
    pub fn directives(&self) -> impl Iterator<Item = Directive> {
        texts(&self.0).filter_map(|directive| directive.parse().ok())
    }
}

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, LogLevelError> {
        // Each directive is checked on its own. `EnvFilter` could parse the whole list, but its error does not name the
        // wrong directive.
        for directive in texts(text) {
            // A directive that is only one word must be a level. `EnvFilter` treats any other word as the name of a
            // module, and logs only this module. So a misspelled level would silence the log.
            let is_module =
                !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err();
            if is_module || directive.parse::<Directive>().is_err() {
                return Err(LogLevelError(directive.to_owned()));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn texts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|text| !text.is_empty())
}
