//! Reads hexadecimal digits.

/// Returns the byte that two hexadecimal digits stand for, in upper or lower case. Returns `None` if `high` or `low` is
/// no digit.
#[inline]
pub(crate) fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_are_a_byte() {
        for (digits, want) in [
            (b"00", Some(0)),
            (b"09", Some(9)),
            (b"2f", Some(b'/')),
            (b"2F", Some(b'/')),
            (b"aA", Some(0xaa)),
            (b"fF", Some(0xff)),
            (b"0g", None),
            (b"G0", None),
            (b"+1", None),
            (b" 1", None),
            (b"1 ", None),
            (b"/0", None),
            (b"0:", None),
            (b"@a", None),
            (b"a`", None),
            (b"\0\0", None),
            // Bytes that are not ASCII. `\xb9` is the superscript digit one of Latin-1.
            (b"0\xff", None),
            (b"\xb90", None),
        ] {
            assert_eq!(byte(digits[0], digits[1]), want, "{}", digits.escape_ascii());
        }
        for value in 0..=u8::MAX {
            let digits = format!("{value:02x}");
            assert_eq!(byte(digits.as_bytes()[0], digits.as_bytes()[1]), Some(value));
        }
    }
}
