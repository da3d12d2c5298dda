//! The exit codes of the program.

use std::process::ExitCode;

use crate::terminal::{print_line, print_problem};

#[derive(Debug)]
pub(crate) enum Exit {
    /// Exit code 1: the answer of the command is negative, or the gateway cannot join its cluster yet. The text goes to
    /// standard output.
    Negative(String),
    /// Exit code 1: the answer is negative, such as the refusal of a server. The text goes to standard error, because
    /// standard output may be the input of another program.
    Refused(String),
    /// Exit code 1: the answer of the command is negative, and the command has printed the answer itself.
    Explained,
    /// Exit code 2: the command line, the environment or the configuration is wrong. Each problem is
    /// one line on standard error.
    Usage(Vec<String>),
    /// Exit code 3: the command failed. The error goes to standard error.
    Runtime(String),
}

impl Exit {
    /// Creates a usage error with one problem.
    pub(crate) fn usage(problem: impl ToString) -> Self {
        Self::Usage(vec![problem.to_string()])
    }

    pub(crate) fn runtime(error: impl ToString) -> Self {
        Self::Runtime(error.to_string())
    }

    /// Prints the answer or the problems, and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Negative(answer) => {
                print_line(&answer);
                ExitCode::from(1)
            }
            Self::Refused(reason) => {
                print_problem(&reason);
                ExitCode::from(1)
            }
            Self::Explained => ExitCode::from(1),
            Self::Usage(problems) => {
                problems.iter().for_each(|problem| print_problem(problem));
                ExitCode::from(2)
            }
            Self::Runtime(error) => {
                print_problem(&error);
                ExitCode::from(3)
            }
        }
    }
}
