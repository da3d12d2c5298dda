//! The two forms of a Personal Access Token (PAT): the JWT alone, and the JWT between the prefix `zowepat_` and a
//! checksum. Secret scanners recognize the second form.
//!
//! The prefixed form is `zowepat_<JWT>.<checksum>`. The checksum is the first eight hexadecimal digits, in lower case,
//! of the SHA-256 hash of the JWT. Anyone can compute the checksum, so it does not show who has issued the token. It
//! separates tokens from texts that only look like tokens. The [`TokenFingerprint`] is the whole hash, so the checksum
//! is also the beginning of the fingerprint in the audit log.

use zeroize::Zeroizing;

use super::{MAX_TOKEN_LEN, TokenError, TokenFingerprint, VerifiedToken};

/// The prefix of the prefixed form. It is case-sensitive.
pub(crate) const PAT_PREFIX: &str = "zowepat_";

/// The number of hexadecimal digits of the checksum.
const CHECKSUM_LEN: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct SentToken<'a> {
    /// The compact form (RFC 7515 §3.1), which is not verified yet. Fingerprints, caches and other programs use only
    /// this form. So a token has the same fingerprint, whichever form the client has sent.
    pub(super) jwt: &'a [u8],
    pub(super) form: TokenForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenForm {
    /// The compact form alone.
    Jwt,
    /// With prefix and checksum. Only a PAT has this form.
    Prefixed,
}

impl<'a> SentToken<'a> {
    /// Removes the prefix and the checksum, if there is a prefix. Does not verify the JWT.
    ///
    /// # Errors
    /// [`TokenError::TooLong`] if the text has more than [`MAX_TOKEN_LEN`] bytes, with prefix and checksum.
    /// [`TokenError::Checksum`] if the text has the prefix, but not the right checksum.
    pub(super) fn parse(sent: &'a [u8]) -> Result<Self, TokenError> {
        if sent.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong { len: sent.len() });
        }
        match sent.strip_prefix(PAT_PREFIX.as_bytes()) {
            None => Ok(Self { jwt: sent, form: TokenForm::Jwt }),
            Some(rest) => Self::without_checksum(rest),
        }
    }

    fn without_checksum(rest: &'a [u8]) -> Result<Self, TokenError> {
        let (jwt, end) = rest
            .len()
            .checked_sub(CHECKSUM_LEN + 1)
            .map(|at| rest.split_at(at))
            .ok_or(TokenError::Checksum)?;
        // Anyone can compute the checksum, so the comparison need not take constant time.
        match end.strip_prefix(b".") {
            Some(checksum) if *checksum == checksum_of(&TokenFingerprint::of(jwt)) => {
                Ok(Self { jwt, form: TokenForm::Prefixed })
            }
            _ => Err(TokenError::Checksum),
        }
    }
}

impl TokenForm {
    /// Checks that a verified token may have this form.
    ///
    /// # Errors
    /// [`TokenError::Claims`] if the token had a prefix and is not a PAT.
    pub(super) fn check(self, verified: VerifiedToken) -> Result<VerifiedToken, TokenError> {
        match (self, &verified) {
            (Self::Jwt, _) | (Self::Prefixed, VerifiedToken::Pat(_)) => Ok(verified),
            (Self::Prefixed, VerifiedToken::Jwt(_) | VerifiedToken::External(_)) => Err(
                TokenError::Claims("only a Personal Access Token has the prefix zowepat_".into()),
            ),
        }
    }
}

/// Returns the prefixed form of a PAT. `fingerprint` is the fingerprint of `jwt`.
pub(super) fn prefixed(jwt: &str, fingerprint: &TokenFingerprint) -> Zeroizing<String> {
    let len = PAT_PREFIX.len() + jwt.len() + 1 + CHECKSUM_LEN;
    let mut text = Zeroizing::new(String::with_capacity(len));
    text.push_str(PAT_PREFIX);
    text.push_str(jwt);
    text.push('.');
    text.extend(checksum_of(fingerprint).map(char::from));
    text
}

fn checksum_of(fingerprint: &TokenFingerprint) -> [u8; CHECKSUM_LEN] {
    let mut checksum = [0; CHECKSUM_LEN];
    checksum.copy_from_slice(&fingerprint.digits()[..CHECKSUM_LEN]);
    checksum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A text that has the form of a JWT.
    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";

    fn parse(sent: &str) -> Result<(&str, TokenForm), TokenError> {
        let SentToken { jwt, form } = SentToken::parse(sent.as_bytes())?;
        Ok((str::from_utf8(jwt).unwrap(), form))
    }

    #[test]
    fn a_token_is_read_in_both_forms() {
        // printf %s "$JWT" | sha256sum | cut -c1-8
        let checksum = "cc529d9b";
        let good = format!("zowepat_{JWT}.{checksum}");
        assert_eq!(*prefixed(JWT, &TokenFingerprint::of(JWT)), good);
        assert_eq!(parse(JWT), Ok((JWT, TokenForm::Jwt)));
        assert_eq!(parse(&good), Ok((JWT, TokenForm::Prefixed)));
        assert_eq!(parse(""), Ok(("", TokenForm::Jwt)));
        assert_eq!(parse("ZOWEPAT_x"), Ok(("ZOWEPAT_x", TokenForm::Jwt)));
        for wrong in [
            "zowepat_",
            "zowepat_.",
            "zowepat_x",
            &format!("zowepat_{JWT}"),
            &format!("zowepat_{JWT}."),
            &format!("zowepat_{JWT}{checksum}"),
            &format!("zowepat_{JWT}_{checksum}"),
            &format!("zowepat_{JWT}.{}", checksum.to_uppercase()),
            &format!("zowepat_{JWT}.cc529d9a"),
            &format!("zowepat_x{JWT}.{checksum}"),
            &format!("zowepat_{JWT}.{checksum} "),
            &format!("zowepat_{JWT}.{checksum}0"),
            &format!("zowepat_{good}"),
            &format!("zowepat_zowepat_{JWT}.{checksum}"),
            &format!("{good}.{checksum}"),
        ] {
            assert_eq!(parse(wrong), Err(TokenError::Checksum), "{wrong}");
        }
    }

    #[test]
    fn the_maximum_length_includes_the_prefix_and_the_checksum() {
        let jwt = |len: usize| "x".repeat(len);
        let with_prefix = |jwt: &str| prefixed(jwt, &TokenFingerprint::of(jwt));
        let added = PAT_PREFIX.len() + 1 + CHECKSUM_LEN;
        assert!(parse(&jwt(MAX_TOKEN_LEN)).is_ok());
        assert!(parse(&with_prefix(&jwt(MAX_TOKEN_LEN - added))).is_ok());
        let len = MAX_TOKEN_LEN + 1;
        assert_eq!(parse(&jwt(len)), Err(TokenError::TooLong { len }));
        let longer = with_prefix(&jwt(MAX_TOKEN_LEN - added + 1));
        assert_eq!(parse(&longer), Err(TokenError::TooLong { len }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(bytes: Vec<u8>, is_prefixed: bool) {
            let sent = if is_prefixed { [PAT_PREFIX.as_bytes(), &bytes].concat() } else { bytes };
            let _ = SentToken::parse(&sent);
        }

        #[test]
        fn the_prefixed_form_is_read_back(jwt in "[A-Za-z0-9_.-]{0,60}", other in "[0-9a-f]{8}") {
            let sent = prefixed(&jwt, &TokenFingerprint::of(&jwt));
            prop_assert_eq!(parse(&sent), Ok((&*jwt, TokenForm::Prefixed)));
            let changed = format!("{}{other}", &sent[..sent.len() - CHECKSUM_LEN]);
            prop_assert_eq!(parse(&changed).is_ok(), changed == *sent);
        }
    }
}
