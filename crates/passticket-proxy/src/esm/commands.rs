//! Writes commands and comments in lines of at most 72 columns (*TSO/E Command Reference*, *TSO/E User's Guide*).
//!
//! TSO is the command line of z/OS. A batch job reads TSO commands from the data set SYSTSIN.

use std::fmt;

/// The maximum length of a line. A line has 80 columns, but columns 73 to 80 are reserved for a sequence number.
const COLUMNS: usize = 72;
/// The last character of a line that continues on the next line. TSO removes this character. It also removes the blanks
/// at the beginning of the next line.
const CONTINUED: char = '+';

/// Commands and comments as lines that the program IKJEFT01 reads from SYSTSIN in a batch job.
/// [`Display`](fmt::Display) writes all lines, each with a newline.
///
/// No line has more than 72 columns. No line begins with `/*` or `//`, because such a line would end the
/// input data in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "commands have no effect until they are printed"]
pub struct Commands {
    lines: Vec<String>,
    comments: Comments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comments {
    /// `/* text */`, as in TSO. This syntax is for RACF and Top Secret commands.
    Tso,
    /// `* text`, as in the ACF command. This syntax is for ACF2 commands.
    Acf,
}

impl Commands {
    pub(super) fn new(title: &str) -> Self {
        let mut commands = Self { lines: Vec::new(), comments: Comments::Tso };
        commands.note(title);
        commands
    }

    /// Returns the lines, without newlines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Adds a comment of any length. The comment is broken into lines. `text` must not contain untrusted input,
    /// because this function does not search for characters that end or continue a comment.
    pub(super) fn note(&mut self, text: &str) {
        let width = COLUMNS - self.comment("").len();
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > width {
                self.note_line(&line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.note_line(&line);
    }

    /// Adds a comment of one line, and keeps all blanks of `text`. This function is for optional commands, which are
    /// added as comments.
    pub(super) fn note_line(&mut self, text: &str) {
        let line = self.comment(text);
        self.lines.push(line);
    }

    fn comment(&self, text: &str) -> String {
        match self.comments {
            // The line begins with a blank, because `/*` in columns 1 and 2 would end the input data.
            Comments::Tso => format!(" /* {text} */"),
            Comments::Acf => format!("* {text}"),
        }
    }

    /// Adds a command that fits on one line.
    pub(super) fn run(&mut self, command: impl Into<String>) {
        self.lines.push(command.into());
    }

    /// Adds a command of any length. Each line gets as many operands as fit.
    pub(super) fn run_long<'o>(&mut self, operands: impl IntoIterator<Item = &'o str>) {
        let mut line = String::new();
        let mut broken = false;
        let mut operands = operands.into_iter().peekable();
        while let Some(operand) = operands.next() {
            let fits = match operands.peek() {
                Some(_) => COLUMNS - " +".len(),
                None => COLUMNS,
            };
            if broken || !line.is_empty() && line.len() + 1 + operand.len() > fits {
                self.lines.push(format!("{line} {CONTINUED}"));
                line.replace_range(.., " ");
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(operand);
            broken = line.len() > fits;
            while line.len() > fits {
                let rest = line.split_off(split(&line));
                line.push(CONTINUED);
                self.lines.push(std::mem::replace(&mut line, rest));
            }
        }
        self.lines.push(line);
    }

    /// Adds `ACF`, the commands that the closure adds, and `END`.
    pub(super) fn acf(&mut self, commands: impl FnOnce(&mut Self)) {
        self.run("ACF");
        self.comments = Comments::Acf;
        commands(self);
        self.comments = Comments::Tso;
        self.run("END");
    }
}

/// Returns the position at which to break a line within an operand: between two letters or digits.
///
/// The next line then begins with a letter or a digit. So it loses nothing (TSO removes only blanks at its beginning),
/// and it cannot begin a comment or end the input data. Texts that the types in [`super::operand`] accept contain two
/// adjacent letters or digits at least about every 20 characters. So such a position is always near the end of the
/// line.
fn split(line: &str) -> usize {
    let bytes = line.as_bytes();
    let fits = COLUMNS - 1;
    // The next line gets at least ten characters, because readers overlook a shorter line.
    (1..=fits.min(bytes.len() - 10))
        .rev()
        .find(|&at| bytes[at - 1].is_ascii_alphanumeric() && bytes[at].is_ascii_alphanumeric())
        .unwrap_or(fits)
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(commands: &Commands) -> Vec<&str> {
        commands.lines().skip(1).collect()
    }

    #[test]
    fn long_commands_are_continued_and_long_operands_broken() {
        let mut commands = Commands::new("title");
        commands.run_long(["TSS ADD(X)", "A(1)", &format!("B({})", "b".repeat(50)), "C(3)"]);
        let b = "b".repeat(50);
        assert_eq!(lines(&commands), [&format!("TSS ADD(X) A(1) B({b}) +"), "  C(3)"]);

        let mut commands = Commands::new("title");
        let (ones, twos) = ("1".repeat(64), "2".repeat(64));
        commands.run_long(["X", &format!("B('{ones}.//*{twos}')"), "C"]);
        assert_eq!(
            lines(&commands),
            [
                "X +",
                // No line begins with //, and each continuation has at least ten characters.
                &format!("  B('{}+", &ones[..63]),
                &format!("1.//*{}+", &twos[..56]),
                &format!("{}') +", &twos[56..]),
                "  C",
            ]
        );
    }

    #[test]
    fn each_line_of_a_long_comment_is_a_comment() {
        let mut commands = Commands::new("title");
        commands.note(&"word ".repeat(20));
        for line in commands.lines() {
            assert!(line.starts_with(" /* ") && line.ends_with(" */") && line.len() <= 72);
        }
        commands.acf(|commands| commands.note("inside"));
        commands.note("outside");
        assert_eq!(lines(&commands)[2..], ["ACF", "* inside", "END", " /* outside */"]);
    }
}
