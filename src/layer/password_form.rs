//! Decides which texts are passwords. The rules are the same on routes and at the auth API.

use crate::token::PAT_PREFIX;

/// Returns whether a login provider may receive this text as a password. If not, the gateway refuses the login, and
/// does not count it as a failed login. No login provider may receive these texts:
///
/// - A Personal Access Token or another token ([D24](crate::decisions#d24)).
/// - A text with a control character, such as NUL. No security product accepts such a text, and a server in front of it
///   could read only the part before the character.
pub(crate) fn may_be_password(text: &[u8]) -> bool {
    !is_pat(text) && !has_control(text)
}

/// Returns whether a password counts as a PAT: it begins with `zowepat_` (with or without a valid checksum), or has the
/// form of a JWT.
pub(super) fn is_pat(password: &[u8]) -> bool {
    password.starts_with(PAT_PREFIX.as_bytes()) || is_jwt(password)
}

/// Returns whether a text has three parts in base64url, and the first part can be a JSON object (RFC 7519 §3). A JSON
/// object begins with `{` and a quotation mark or white space. In base64url, this is `ey` or `ew`.
fn is_jwt(text: &[u8]) -> bool {
    let is_base64url = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let mut parts = text.split(|b| *b == b'.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    (header.starts_with(b"ey") || header.starts_with(b"ew"))
        && !claims.is_empty()
        && [header, claims, signature].into_iter().flatten().all(is_base64url)
}

/// Returns whether a password has a control character of Unicode. If it is not UTF-8, only those of ASCII count.
fn has_control(password: &[u8]) -> bool {
    match str::from_utf8(password) {
        Ok(text) => text.contains(char::is_control),
        Err(_) => password.iter().any(u8::is_ascii_control),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_counts_as_a_pat_only_if_it_has_the_form_of_one() {
        for (password, want) in [
            ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", true),
            ("ew0KICJhIjoxfQ.e30.c2ln", true),
            ("zowepat_", true),
            ("ZOWEPAT_x", false),
            ("eyJh", false),
            ("eyJh.e30", false),
            ("eyJh..c2ln", false),
            ("eyJh.e30.c2ln.x", false),
            ("eyJh.e3 0.c2ln", false),
            ("my.good.password", false),
            ("", false),
        ] {
            assert_eq!(is_pat(password.as_bytes()), want, "{password}");
            assert_eq!(may_be_password(password.as_bytes()), !want, "{password}");
        }
    }

    #[test]
    fn a_password_has_no_control_character() {
        for good in ["a b".as_bytes(), "p\u{e4}\u{20ac}".as_bytes(), b"p\xE4", b"~!\"\\"] {
            assert!(may_be_password(good), "{good:?}");
        }
        for bad in [
            b"a\0".as_slice(),
            b"\0",
            b"a\nb",
            b"a\r\nX: y",
            b"a\tb",
            b"\x7f",
            b"p\xE4\x1b",
            "\u{85}".as_bytes(),
        ] {
            assert!(!may_be_password(bad), "{bad:?}");
        }
    }
}
