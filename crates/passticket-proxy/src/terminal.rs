//! Prints lines on standard output and standard error.

use std::io::{self, Write};

use crate::log_queue;

/// Prints one line on standard output. A closed pipe is not an error.
pub(crate) fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a problem on standard error. Line breaks become blanks, so that the problem is one line. If the log was
/// started, the line goes through the queue of the log, so that this function does not wait for standard error.
pub(crate) fn print_problem(problem: &str) {
    let one_line: Vec<_> = problem.split_whitespace().collect();
    let line = format!("passticket-proxy: {}", one_line.join(" "));
    if !log_queue::put_line(&line) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Prints a question on standard error. The answer is typed on the same line.
pub(crate) fn prompt(question: &str) {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question}");
    let _ = stderr.flush();
}
