//! The log on standard error, filtered by the environment variable `RUST_LOG`.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal, Write},
};

use tower_passticket::metrics::{Collect, Counter, Description, Exposition};
use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
};

use crate::exit::Exit;

const VARIABLE: &str = "RUST_LOG";

const DROPPED_LINES: Description = Description::counter(
    "passticket_log_lines_dropped_total",
    "Log lines that were lost, because standard error could not be written.",
);

/// A static, because the log exists before everything else.
static DROPPED: Counter = Counter::new();

/// The metrics of the log.
pub(crate) struct LogCounts;

impl Collect for LogCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&DROPPED_LINES, DROPPED.get());
    }
}

/// Writes log lines to standard error. A line that cannot be written, for example because the disk is full,
/// is dropped and counted. An error would make `tracing-subscriber` panic.
struct LogWriter<W>(W);

impl<W: Write> Write for LogWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.write_all(line).is_err() {
            DROPPED.increment();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging. From then on, events go to standard error.
pub(crate) fn start() -> Result<(), Exit> {
    let filter = filter(env::var_os(VARIABLE).as_deref()).map_err(Exit::usage)?;
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_writer(|| LogWriter(io::stderr()))
        .with_ansi(colour)
        .with_env_filter(filter)
        .init();
    Ok(())
}

/// Parses the directives in the value of `RUST_LOG`. Without a directive, the level is `info`.
fn filter(value: Option<&OsStr>) -> Result<EnvFilter, String> {
    let text = value.unwrap_or_default();
    let Some(text) = text.to_str() else {
        return Err(format!("{VARIABLE} is not UTF-8; {REMEDY}"));
    };
    let mut filter = None;
    // EnvFilter could parse the whole list, but its error does not name the wrong directive.
    for directive in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let wrong = || format!("{VARIABLE}: {directive:?} is not a log directive; {REMEDY}");
        // EnvFilter treats a word that is not a level as the name of a module, and then logs only
        // that module. A misspelled level would silence the log.
        if !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err() {
            return Err(wrong());
        }
        let parsed: Directive = directive.parse().map_err(|_| wrong())?;
        let directives = filter.take().unwrap_or_else(EnvFilter::default);
        filter = Some(directives.add_directive(parsed));
    }
    Ok(filter.unwrap_or_else(|| EnvFilter::new("info")))
}

const REMEDY: &str = "write error, warn, info, debug or trace, or MODULE=LEVEL, with commas between \
                      directives";

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_is_no_error() {
        let before = DROPPED.get();
        let mut log = LogWriter(Full);
        log.write_all(b"a line\n").unwrap();
        log.flush().unwrap();
        assert_eq!(DROPPED.get(), before + 1);
        let mut written = Vec::new();
        LogWriter(&mut written).write_all(b"a line\n").unwrap();
        assert_eq!((written.as_slice(), DROPPED.get()), (&b"a line\n"[..], before + 1));
    }

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
                    let start = format!("RUST_LOG: {want:?} is not a log directive; write error");
                    assert!(error.starts_with(&start), "{text}: {error}");
                }
                (got, want) => panic!("{text}: got {got:?}, expected {want:?}"),
            }
        }
        assert_eq!(filter(None).unwrap().to_string(), "info");
    }
}
