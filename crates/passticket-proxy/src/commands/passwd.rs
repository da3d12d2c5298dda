//! `passwd`: the line of a user for the users file.

use std::io::{self, IsTerminal};

use rustix::{
    io::{Errno, read},
    stdio::stdin,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use tower_passticket::{
    api::{Password, hash_password},
    passticket::UserId,
};
use zeroize::Zeroizing;

use crate::{
    exit::Exit,
    terminal::{prompt, say},
};

/// More than any password has.
const MAX_LEN: usize = 1024;

type Input = Zeroizing<Vec<u8>>;

/// Reads a password from standard input and prints the line.
pub(crate) fn passwd(user: &UserId) -> Result<(), Exit> {
    let input = if io::stdin().is_terminal() { ask(user)? } else { read_input(Until::End)? };
    let password = password(&input).map_err(Exit::usage)?;
    let hash = hash_password(&Password::new(password)).map_err(Exit::runtime)?;
    say(&line(user, &hash.expose()));
    Ok(())
}

/// Indented like the entries of the users file, so that `>>` appends an entry.
fn line(user: &UserId, hash: &str) -> String {
    let user = user.as_str();
    // In YAML `#` begins a comment, and `@` is reserved.
    let quote = if user.starts_with(['#', '@']) { "\"" } else { "" };
    format!("  {quote}{user}{quote}: \"{hash}\"")
}

/// The password in what was read. The error does not contain it.
fn password(input: &[u8]) -> Result<&[u8], &'static str> {
    let password = input.strip_suffix(b"\n").unwrap_or(input);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() {
        return Err("the password is empty; write one to standard input");
    }
    if password.len() > MAX_LEN {
        return Err("the password is longer than 1024 bytes; choose a shorter one");
    }
    let Ok(text) = str::from_utf8(password) else {
        return Err("the password is not UTF-8; convert it, since clients send it in UTF-8");
    };
    // RFC 7617 §2.
    if text.chars().any(char::is_control) {
        return Err(
            "the password has a control character, such as a second line; write one line of text",
        );
    }
    Ok(password)
}

/// Asks twice on the terminal, which does not show what is typed.
fn ask(user: &UserId) -> Result<Input, Exit> {
    let _hidden = HiddenInput::start()
        .map_err(|e| Exit::runtime(format!("cannot hide what is typed: {e}")))?;
    prompt(&format!("Password of {user}: "));
    let first = read_input(Until::LineEnd)?;
    prompt("The same again: ");
    let second = read_input(Until::LineEnd)?;
    if *first == *second { Ok(first) } else { Err(Exit::usage("the two passwords differ")) }
}

/// While it lives, the terminal does not show what is typed.
struct HiddenInput(Termios);

impl HiddenInput {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown, so that the next prompt begins on a line of its own.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    End,
    LineEnd,
}

/// Reads standard input into one buffer, which is wiped: neither a growing buffer nor that of
/// `std::io::Stdin` keeps a copy.
fn read_input(until: Until) -> Result<Input, Exit> {
    // Room for a line end, and for one byte that shows that there is too much.
    let mut input = Zeroizing::new(vec![0; MAX_LEN + 3]);
    let mut filled = 0;
    while filled < input.len() && !(until == Until::LineEnd && input[..filled].ends_with(b"\n")) {
        match read(stdin(), &mut input[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Exit::runtime(format!(
                    "cannot read the password from standard input: {error}"
                )));
            }
        }
    }
    input.truncate(filled);
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_a_password() {
        let long = [b'x'; MAX_LEN + 1];
        for (input, want) in [
            (&b"secret"[..], Ok(&b"secret"[..])),
            (b"secret\n", Ok(b"secret")),
            (b"secret\r\n", Ok(b"secret")),
            (b" a: b\xc3\xa9 \n", Ok(b" a: b\xc3\xa9 ")),
            (&long[1..], Ok(&long[1..])),
            (&long, Err("longer than")),
            (b"", Err("is empty")),
            (b"\n", Err("is empty")),
            (b"secret\n\n", Err("control character")),
            (b"two\nlines\n", Err("control character")),
            (b"\xe9\n", Err("not UTF-8")),
        ] {
            match (password(input), want) {
                (Ok(password), Ok(want)) => assert_eq!(password, want),
                (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
                (got, want) => panic!("{input:?}: {got:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn a_user_id_that_yaml_reads_as_something_else_is_quoted() {
        for (user, want) in
            [("user", "  USER: \"h\""), ("#A@$", "  \"#A@$\": \"h\""), ("@", "  \"@\": \"h\"")]
        {
            assert_eq!(line(&UserId::new(user).unwrap(), "h"), want);
        }
    }
}
