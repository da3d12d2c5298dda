//! Lines to standard output and standard error.

use std::io::{self, Write};

/// Prints one line on standard output. A closed pipe is not an error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints one line on standard error.
pub(crate) fn complain(problem: &str) {
    let one_line: Vec<_> = problem.split_whitespace().collect();
    let _ = writeln!(io::stderr(), "passticket-proxy: {}", one_line.join(" "));
}

/// Prints a question on standard error, without a line end.
pub(crate) fn prompt(question: &str) {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question}");
    let _ = stderr.flush();
}
