//! Starts the log on standard error. Its level comes from `components.passticket-proxy.logLevel`. If this setting is
//! absent, the level comes from the environment variable `RUST_LOG`.
//!
//! From [`start`] on, only the thread of the [`log_queue`] writes to standard error. If other threads wrote to standard
//! error, they could wait forever, for example for a pipe that no process reads.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    ffi::OsStr,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    sync::OnceLock,
    thread,
};

use passticket_proxy::config::{LogFormat, LogLevel};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::{
    exit::Exit,
    log_format::{self, Lines},
    log_queue::{self, LogLine},
};

const VARIABLE: &str = "RUST_LOG";

static REPLACE: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Starts logging. After this call, events and panics go to the queue in front of standard error.
pub(crate) fn start() -> Result<(), Exit> {
    let filter = filter(env::var_os(VARIABLE).as_deref()).map_err(Exit::usage)?;
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let queue = log_queue::start()
        .map_err(|e| Exit::runtime(format!("cannot start the log thread: {e}")))?;
    panic::set_hook(Box::new(|panic| {
        // The standard library gives the main thread this name. A panic in the main thread ends the program.
        let is_main = thread::current().name() == Some("main");
        let text = describe(panic);
        let line = log_format::line(Level::ERROR, "panic", text.trim_end(), || text.clone());
        queue.put_panic(line.as_bytes(), is_main);
    }));
    let log = tracing_subscriber::fmt()
        .with_writer(|| LogLine(queue))
        // Without this setting, `tracing_subscriber` would write its own errors directly to standard error.
        .log_internal_errors(false)
        .with_ansi(colour)
        .event_format(Lines::new(colour))
        .with_env_filter(filter)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    let replace = move |filter| {
        // An error means that there is no log any more.
        let _ = handle.reload(filter);
    };
    // The log is started only once.
    let _ = REPLACE.set(Box::new(replace));
    Ok(())
}

pub(crate) fn set_format(format: LogFormat) {
    log_format::set(format);
}

/// `None` means the level of the environment variable.
pub(crate) fn set_level(level: Option<&LogLevel>) {
    let filter = match level {
        Some(level) => filter_of(level),
        // The value was checked at the start, and does not change.
        None => filter(env::var_os(VARIABLE).as_deref()).unwrap_or_else(|_| EnvFilter::new("info")),
    };
    if let Some(replace) = REPLACE.get() {
        replace(filter);
    }
}

/// Returns the text that the standard library would print for a panic.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("stack backtrace:\n{backtrace}"));
    }
    text
}

/// Parses the directives in the value of `RUST_LOG`. If there is no directive, the level is `info`.
fn filter(value: Option<&OsStr>) -> Result<EnvFilter, String> {
    let text = value.unwrap_or_default();
    let Some(text) = text.to_str() else {
        return Err(format!("{VARIABLE} is not UTF-8; write a level, such as info"));
    };
    let level = text.parse::<LogLevel>().map_err(|error| format!("{VARIABLE}: {error}"))?;
    Ok(filter_of(&level))
}

/// Returns the filter of a level. If there is no directive, the level is `info`.
fn filter_of(level: &LogLevel) -> EnvFilter {
    let mut directives = level.directives();
    match directives.next() {
        None => EnvFilter::new("info"),
        Some(first) => {
            let filter = EnvFilter::default().add_directive(first);
            directives.fold(filter, EnvFilter::add_directive)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_parsed_and_an_error_names_the_wrong_directive() {
        for (text, want) in [
            ("", Ok("info")),
            ("debug", Ok("debug")),
            ("warn,hyper=trace", Ok("hyper=trace,warn")),
            ("INFO, tower_passticket::proxy=off,", Ok("tower_passticket::proxy=off,info")),
            ("verbose", Err("verbose")),
            ("info,hyper=loud", Err("hyper=loud")),
            ("info,a=b=c", Err("a=b=c")),
            ("hyper", Err("hyper")),
        ] {
            match (filter(Some(OsStr::new(text))), want) {
                (Ok(filter), Ok(want)) => assert_eq!(filter.to_string(), want, "{text}"),
                (Err(error), Err(want)) => {
                    let start = format!("RUST_LOG: {want:?} is not a log directive; write a level");
                    assert!(error.starts_with(&start), "{text}: {error}");
                }
                (got, want) => panic!("{text}: got {got:?}, expected {want:?}"),
            }
        }
        assert_eq!(filter(None).unwrap().to_string(), "info");
    }
}
