//! Lines to standard output and standard error.

use std::io::{self, Write};

/// One line on standard output. A reader that has gone away is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One line on standard error.
pub(crate) fn complain(problem: &str) {
    let one_line: Vec<_> = problem.split_whitespace().collect();
    let _ = writeln!(io::stderr(), "passticket-proxy: {}", one_line.join(" "));
}
