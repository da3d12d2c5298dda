//! Reads the lines of a listing, the output of display commands.

/// A listing: the output of display commands, as an administrator copied it.
pub(super) struct Listing {
    /// In upper case, without blanks at the ends, and without control characters.
    lines: Vec<String>,
}

impl Listing {
    /// Reads a listing. Bytes that are not UTF-8 become U+FFFD, which is in no word that the parsers know.
    pub(super) fn new(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let clean = |line: &str| {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            line.trim().to_ascii_uppercase()
        };
        Self { lines: text.split('\n').map(clean).collect() }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// Returns the number of the first line that shows a PassTicket key. The first line has the number 1.
    pub(super) fn shown_key(&self) -> Option<usize> {
        self.lines().position(shows_key).map(|index| index + 1)
    }
}

/// Returns whether a line shows a key: one of the words `SSKEY`, `KEYMASKED` and `KEYENCRYPTED`, and then hex digits.
/// `SSKEY` is the field of ACF2, and also the end of `SESSKEY`, the keyword of Top Secret.
fn shows_key(line: &str) -> bool {
    /// `TSS` permits shorter keys, but a shorter text may be an ordinary word, such as `ADDED` in `SESSKEY ADDED`.
    const DIGITS: usize = 6;
    ["SSKEY", "KEYMASKED", "KEYENCRYPTED"].into_iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            let value = line[at + word.len()..].trim_start_matches([' ', '=', '(', ':', '\'']);
            let digits = value.bytes().take_while(u8::is_ascii_hexdigit).count();
            let end = value.as_bytes().get(digits);
            digits >= DIGITS && !end.is_some_and(u8::is_ascii_alphanumeric)
        })
    })
}

/// Returns the words of a line, where blanks, parentheses, equal signs and commas separate words.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '(', ')', '=', ',']).filter(|word| !word.is_empty())
}

/// Returns the operands of `NAME(operands)` in a line.
pub(super) fn operands<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}("))?;
    rest.split_once(')').map(|(operands, _)| operands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_listing_is_found() {
        for (line, want) in [
            ("PSTKAPPL = IZUDFLT  SESSKEY = E001193519561977", true),
            ("  sesskey(296LFD)", false),
            ("SESSKEY(A1B2C3)", true),
            ("INSERT IZUDFLT SSKEY(E001193519561977) MULT-USE", true),
            ("SSIGNON(KEYMASKED(e001193519561977))", true),
            ("KEYMASKED: 'E001193519561977'", true),
            ("KEYMASKED DATA NOT DISPLAYABLE", false),
            ("Legacy PassTicket: KEYENCRYPTED LABEL: IRR.SSIGNON.SYS1", false),
            ("SSKEY(<16-hex-digits-of-IZUDFLT>)", false),
            ("SSKEY", false),
            ("SESSKEY ADDED", false),
        ] {
            let listing = Listing::new(format!("READY\r\n{line}\r\n").as_bytes());
            assert_eq!(listing.shown_key(), want.then_some(2), "{line}");
        }
    }

    #[test]
    fn control_characters_and_the_case_of_letters_do_not_matter() {
        let listing = Listing::new(b"\x0c Rlist\tX \x00\r\n\xff\n");
        assert_eq!(listing.lines().collect::<Vec<_>>(), ["RLIST X", "\u{fffd}", ""]);
        assert_eq!(words("A = (B,C) D").collect::<Vec<_>>(), ["A", "B", "C", "D"]);
        assert_eq!(operands("X UID(A) SERVICE(READ,UPDATE)", "SERVICE"), Some("READ,UPDATE"));
        assert_eq!(operands("UID(A", "UID"), None);
    }
}
