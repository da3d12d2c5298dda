//! The exit codes of the program.

use std::process::ExitCode;

use crate::terminal::{complain, say};

/// An end of the program with another exit code than 0.
#[derive(Debug)]
pub(crate) enum Exit {
    /// The answer is no: exit code 1. Printed on standard output, as an answer is.
    Negative(String),
    /// The command line, the environment or the configuration is wrong: exit code 2, one line for
    /// each problem.
    Usage(Vec<String>),
    /// The command failed: exit code 3.
    Runtime(String),
}

impl Exit {
    pub(crate) fn usage(problem: impl ToString) -> Self {
        Self::Usage(vec![problem.to_string()])
    }

    pub(crate) fn runtime(what: impl ToString) -> Self {
        Self::Runtime(what.to_string())
    }

    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Negative(answer) => {
                say(&answer);
                ExitCode::from(1)
            }
            Self::Usage(problems) => {
                problems.iter().for_each(|problem| complain(problem));
                ExitCode::from(2)
            }
            Self::Runtime(what) => {
                complain(&what);
                ExitCode::from(3)
            }
        }
    }
}
