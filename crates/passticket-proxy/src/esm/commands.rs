//! Lines for SYSTSIN: 72 columns, comments, continuations.

use std::fmt;

/// What is punched after it is a sequence number.
const COLUMNS: usize = 72;
/// What a continued line ends with, whether the next one begins with a new operand or goes on in
/// the middle of one. TSO drops it and the blanks that the next line begins with.
const CONTINUED: char = '+';

/// Commands with comments, one line each, as a batch terminal monitor program (IKJEFT01) reads them
/// from SYSTSIN. [`Display`](fmt::Display) gives all of them, each with a newline.
///
/// No line is longer than 72 columns. None begins with `/*` or `//`, which would end an in-stream
/// data set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "commands are to be shown to somebody"]
pub struct Commands {
    lines: Vec<String>,
    comments: Comments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comments {
    /// Of TSO, which RACF and Top Secret commands are submitted to.
    Tso,
    /// Of the ACF command.
    Acf,
}

impl Commands {
    /// Begins with a comment.
    pub(super) fn new(title: &str) -> Self {
        let mut commands = Self { lines: Vec::new(), comments: Comments::Tso };
        commands.note(title);
        commands
    }

    /// The lines, without newlines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// A comment of any length. Never of a text from outside: what ends a comment, or continues
    /// it, is not looked for.
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

    /// A comment of one line, with its blanks: a command that somebody may want to uncomment, say.
    pub(super) fn note_line(&mut self, text: &str) {
        let line = self.comment(text);
        self.lines.push(line);
    }

    fn comment(&self, text: &str) -> String {
        match self.comments {
            // A blank first: in columns 1 and 2 the slash and the asterisk end a DD *.
            Comments::Tso => format!(" /* {text} */"),
            Comments::Acf => format!("* {text}"),
        }
    }

    /// A command that fits a line.
    pub(super) fn run(&mut self, command: impl Into<String>) {
        self.lines.push(command.into());
    }

    /// A command of any length: as many operands on a line as fit.
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

    /// What the closure adds is for the ACF command.
    pub(super) fn acf(&mut self, commands: impl FnOnce(&mut Self)) {
        self.run("ACF");
        self.comments = Comments::Acf;
        commands(self);
        self.comments = Comments::Tso;
        self.run("END");
    }
}

/// Where to break in the middle of an operand: between two letters or digits. There it makes no
/// difference whether blanks are stripped from either end, and the next line, which goes on in
/// column 1, cannot look like anything but data. [`super::operand`] lets no text in that has no such
/// place every few characters.
fn split(line: &str) -> usize {
    let bytes = line.as_bytes();
    let fits = COLUMNS - 1;
    // A line with a letter or two is easily overlooked.
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
    fn operands_go_on_the_next_line_and_a_long_one_is_broken() {
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
                // Neither where // would begin a line, nor with a digit or two left over.
                &format!("  B('{}+", &ones[..63]),
                &format!("1.//*{}+", &twos[..56]),
                &format!("{}') +", &twos[56..]),
                "  C",
            ]
        );
    }

    #[test]
    fn a_note_is_wrapped_and_closed() {
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
