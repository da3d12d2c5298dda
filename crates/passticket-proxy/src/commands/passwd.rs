//! `passwd`: prints the line of one user for the users file.

use std::io::{self, IsTerminal};

use rustix::{
    io::{Errno, read},
    stdio::stdin,
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use tower_passticket::{
    api::{Password, hash_password},
    passticket::UserId,
};
use zeroize::Zeroizing;

use crate::{
    exit::Exit,
    terminal::{print_line, prompt},
};

const MAX_LEN: usize = 1024;

type Input = Zeroizing<Vec<u8>>;

pub(crate) fn passwd(user: &UserId) -> Result<(), Exit> {
    let input = if io::stdin().is_terminal() { ask(user)? } else { read_input(Until::EndOfInput)? };
    let password = password(&input).map_err(Exit::usage)?;
    let hash = hash_password(&Password::new(password)).map_err(Exit::runtime)?;
    print_line(&line(user, &hash.expose()));
    Ok(())
}

/// Returns the line for the users file. The line is indented like the entries of this file, so that the shell's
/// `>>` can append it.
fn line(user: &UserId, hash: &str) -> String {
    let user = user.as_str();
    // The quotes are needed because in YAML, `#` begins a comment and `@` is reserved.
    let quote = if user.starts_with(['#', '@']) { "\"" } else { "" };
    format!("  {quote}{user}{quote}: \"{hash}\"")
}

/// Removes one line end from `input`, and checks the password. The error does not contain the password.
fn password(input: &[u8]) -> Result<&[u8], &'static str> {
    let password = input.strip_suffix(b"\n").unwrap_or(input);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() {
        return Err("the password is empty; give a password on standard input");
    }
    if password.len() > MAX_LEN {
        return Err("the password is longer than 1024 bytes; choose a shorter one");
    }
    let Ok(text) = str::from_utf8(password) else {
        return Err("the password is not UTF-8; convert it, since clients send it in UTF-8");
    };
    // RFC 7617 §2 allows no control characters in a password.
    if text.chars().any(char::is_control) {
        return Err(
            "the password contains a control character, such as a line break; write one line of text",
        );
    }
    Ok(password)
}

/// Asks for the password twice. The terminal does not show the password.
fn ask(user: &UserId) -> Result<Input, Exit> {
    let _hidden = HiddenInput::start()
        .map_err(|e| Exit::runtime(format!("cannot hide the password on the terminal: {e}")))?;
    prompt(&format!("Password of {user}: "));
    let first = read_line()?;
    // This check comes before the second prompt. Otherwise the rest of a line that is too long would be the answer to
    // the second prompt.
    password(&first).map_err(Exit::usage)?;
    prompt("Repeat the password: ");
    let second = read_line()?;
    if *first == *second { Ok(first) } else { Err(Exit::usage("the two passwords differ")) }
}

/// Reads a line from the terminal. A [`HiddenInput`] must exist during the call.
fn read_line() -> Result<Input, Exit> {
    let line = read_input(Until::EndOfLine)?;
    if line.ends_with(&[INTERRUPT]) {
        return Err(Exit::runtime("interrupted; no line was printed"));
    }
    Ok(line)
}

const INTERRUPT: u8 = 3;

/// Hides the input on the terminal until this value is dropped. This value contains the terminal settings to restore.
/// While this value exists, Ctrl-C ends the line and sends no signal, because a signal would end the process before the
/// settings are restored.
struct HiddenInput(Termios);

impl HiddenInput {
    fn start() -> io::Result<Self> {
        let original = tcgetattr(stdin())?;
        let mut hidden = original.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        // Line ends are still shown, so that the next prompt begins on a new line.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(original))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // `Flush` discards characters that were typed but not read, such as the rest of a line that is too long.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    EndOfInput,
    EndOfLine,
}

/// Reads standard input into a buffer of fixed size. When the buffer is dropped, it is overwritten with zeros. The size
/// is fixed because a growing buffer would leave copies of the password in memory. The buffer of `std::io::Stdin` would
/// also leave a copy.
fn read_input(until: Until) -> Result<Input, Exit> {
    // The three additional bytes are two bytes for a line end, and one byte to detect a password that is too long.
    let mut input = Zeroizing::new(vec![0; MAX_LEN + 3]);
    let mut filled = 0;
    let ends = |read: &[u8]| read.ends_with(b"\n") || read.ends_with(&[INTERRUPT]);
    while filled < input.len() && !(until == Until::EndOfLine && ends(&input[..filled])) {
        match read(stdin(), &mut input[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
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
                (got, want) => panic!("{input:?}: got {got:?}, expected {want:?}"),
            }
        }
    }

    #[test]
    fn user_ids_that_begin_with_a_yaml_indicator_are_quoted() {
        for (user, want) in
            [("user", "  USER: \"h\""), ("#A@$", "  \"#A@$\": \"h\""), ("@", "  \"@\": \"h\"")]
        {
            assert_eq!(line(&UserId::new(user).unwrap(), "h"), want);
        }
    }
}
