//! The log on standard error, filtered by the environment variable `RUST_LOG`.
//!
//! From [`start`] on, only the thread of the [`log_queue`] writes to standard error. If other threads wrote to standard
//! error, they could wait forever, for example for a pipe that no process reads.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    ffi::OsStr,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    thread,
};

use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
};

use crate::{
    exit::Exit,
    log_queue::{self, LogLine},
};

const VARIABLE: &str = "RUST_LOG";

/// Starts logging. After this call, events and panics go to the queue in front of standard error.
pub(crate) fn start() -> Result<(), Exit> {
    let filter = filter(env::var_os(VARIABLE).as_deref()).map_err(Exit::usage)?;
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let queue = log_queue::start()
        .map_err(|e| Exit::runtime(format!("cannot start the log thread: {e}")))?;
    panic::set_hook(Box::new(|panic| {
        // The standard library gives the main thread this name. A panic in the main thread ends the program.
        let is_main = thread::current().name() == Some("main");
        queue.put_panic(describe(panic).as_bytes(), is_main);
    }));
    tracing_subscriber::fmt()
        .with_writer(|| LogLine(queue))
        // Without this setting, `tracing_subscriber` would print its own errors on standard error.
        .log_internal_errors(false)
        .with_ansi(colour)
        .with_env_filter(filter)
        .init();
    Ok(())
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
        return Err(format!("{VARIABLE} is not UTF-8; {REMEDY}"));
    };
    let mut filter = None;
    // Each directive is checked on its own. `EnvFilter` could parse the whole list, but its error does not name the
    // wrong directive.
    for directive in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let wrong = || format!("{VARIABLE}: {directive:?} is not a log directive; {REMEDY}");
        // A directive that is only one word must be a level. `EnvFilter` treats any other word as the name of a module,
        // and logs only this module. So a misspelled level would silence the log.
        if !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err() {
            return Err(wrong());
        }
        let parsed: Directive = directive.parse().map_err(|_| wrong())?;
        let directives = filter.take().unwrap_or_else(EnvFilter::default);
        filter = Some(directives.add_directive(parsed));
    }
    Ok(filter.unwrap_or_else(|| EnvFilter::new("info")))
}

const REMEDY: &str = "write a level (error, warn, info, debug or trace) or MODULE=LEVEL, with commas \
                      between directives";

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
