//! Compares header names as CGI does.

/// Returns whether a CGI program (RFC 3875 §4.1.18) sees the same name for two headers. Both names must be in lower
/// case. CGI does not distinguish `-` and `_`. In Apache before 2.4 and in mod_fcgid, each character that is not a
/// letter or a digit becomes `_`.
pub(crate) fn same_for_cgi(a: &str, b: &str) -> bool {
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric();
    let same = |(a, b)| a == b || !(is_kept(a) || is_kept(b));
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_but_letters_and_digits_are_equal() {
        for spelling in ["x-remote-user", "x_remote.user", "x+remote+user", "x~remote!user"] {
            assert!(same_for_cgi(spelling, "x-remote-user"), "{spelling}");
        }
        for other in ["x-remote-users", "x-remote1user", "xremoteuser", "y-remote-user", ""] {
            assert!(!same_for_cgi(other, "x-remote-user"), "{other}");
        }
    }
}
