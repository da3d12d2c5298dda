//! Checks that a file is UTF-8. The error for another encoding names a command that converts the file.
//!
//! Files on z/OS are often in EBCDIC (the 8-bit character set of IBM mainframes), and files from
//! Windows are often in UTF-16. The command that converts a file to UTF-8 depends on its encoding.

use std::path::Path;

pub(super) fn decode(bytes: &[u8]) -> Result<&str, EncodingError> {
    if let Some(name) = utf16(bytes) {
        return Err(EncodingError { line: 1, encoding: Encoding::Utf16(name) });
    }
    str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        EncodingError { line, encoding: Encoding::NotUtf8 }
    })
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct EncodingError {
    /// The line of the first byte that is not UTF-8. The line is 1 for UTF-16.
    pub(super) line: usize,
    encoding: Encoding,
}

#[derive(Debug, PartialEq, Eq)]
enum Encoding {
    /// UTF-16, with the name of the variant for `iconv`.
    Utf16(&'static str),
    /// An 8-bit encoding, such as EBCDIC or Latin-1. The bytes alone do not show which encoding it is.
    NotUtf8,
}

impl EncodingError {
    /// Returns the text of the error. It contains a command that prints the file in UTF-8.
    pub(super) fn text(&self, file: &Path) -> String {
        let file = file.display();
        match self.encoding {
            Encoding::Utf16(name) => format!(
                "is UTF-16, not UTF-8; save it as UTF-8, or convert it with: iconv -f {name} -t \
                 UTF-8 {file}"
            ),
            Encoding::NotUtf8 => format!(
                "is not UTF-8; if the file is in EBCDIC, convert it with: iconv -f IBM-1047 -t \
                 UTF-8 {file}"
            ),
        }
    }
}

/// Returns the name of the UTF-16 variant for `iconv`. `None` if the bytes do not look like UTF-16.
///
/// A UTF-16 text begins with a byte order mark, or it contains a NUL in each pair of bytes that encodes an ASCII
/// character. NUL is valid in UTF-8, so UTF-8 decoding alone does not detect UTF-16.
fn utf16(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    let head = bytes.get(..bytes.len().min(128)).unwrap_or_default();
    let pairs = head.chunks_exact(2).len();
    let count =
        |matches: fn(&[u8]) -> bool| head.chunks_exact(2).filter(|pair| matches(pair)).count();
    let (little, big) =
        (count(|pair| pair[0] != 0 && pair[1] == 0), count(|pair| pair[0] == 0 && pair[1] != 0));
    // It is enough if more than half of the pairs contain a NUL, because comments may contain characters that are not
    // ASCII.
    if little * 2 > pairs {
        Some("UTF-16LE")
    } else if big * 2 > pairs {
        Some("UTF-16BE")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<&str, String> {
        decode(bytes).map_err(|error| format!("{}: {}", error.line, error.text(Path::new("f"))))
    }

    fn in_utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn each_encoding_has_its_own_remedy() {
        let yaml = "zowe:\n  # \u{4e2d}\u{6587}\n";
        assert_eq!(text(yaml.as_bytes()), Ok(yaml));
        assert_eq!(text(b""), Ok(""));
        assert_eq!(text(b"a"), Ok("a"));

        let ebcdic = text(b"a: 1\n\x88\x96\xa2\xa3").unwrap_err();
        assert!(ebcdic.starts_with("2: is not UTF-8; if the file is in EBCDIC"), "{ebcdic}");
        assert!(ebcdic.ends_with("iconv -f IBM-1047 -t UTF-8 f"), "{ebcdic}");
        // These bytes are "zowe:" in IBM-1047.
        let ebcdic = text(&[0xa9, 0x96, 0xa6, 0x85, 0x7a, 0x15]).unwrap_err();
        assert!(ebcdic.contains("IBM-1047"), "{ebcdic}");

        for (bytes, name) in [
            (in_utf16(yaml, u16::to_le_bytes), "UTF-16LE"),
            (in_utf16(yaml, u16::to_be_bytes), "UTF-16BE"),
            (in_utf16(&format!("\u{feff}{yaml}"), u16::to_le_bytes), "UTF-16"),
            (in_utf16(&format!("\u{feff}{yaml}"), u16::to_be_bytes), "UTF-16"),
        ] {
            let error = text(&bytes).unwrap_err();
            assert!(error.starts_with("1: is UTF-16, not UTF-8; "), "{error}");
            assert!(error.ends_with(&format!("iconv -f {name} -t UTF-8 f")), "{error}");
        }
    }
}
