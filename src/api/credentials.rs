//! User names and passwords, and the parser of `Authorization: Basic`.

use http::{HeaderMap, header::AUTHORIZATION, request::Parts};

use super::{error::ApiError, provider::Password, record::add_to_record};
use crate::{
    audit::CredentialKind,
    headers::{BasicCredentials, split_scheme},
    layer::may_be_password,
    passticket::UserId,
};

/// A user name, a password and perhaps a new password, as the client sent them.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Password,
    pub(super) new_password: Option<Password>,
}

impl Credentials {
    /// Checks that the user name, the password and the new password are not empty, and returns the user id.
    ///
    /// # Errors
    /// [`ApiError::InvalidLoginInput`] if one of these is empty. [`ApiError::WrongCredentials`] if the name is not a
    /// valid user id: an error of its own would tell the client which names are valid. Also
    /// [`ApiError::WrongCredentials`] if the password is a text that no login provider may receive, such as a Personal
    /// Access Token. [`ApiError::NewPasswordRefused`] if no login provider may receive the new password.
    pub(super) fn check(&self) -> Result<UserId, ApiError> {
        let is_empty = |password: &Password| password.expose().is_empty();
        if self.username.trim().is_empty()
            || is_empty(&self.password)
            || self.new_password.as_ref().is_some_and(is_empty)
        {
            return Err(ApiError::InvalidLoginInput);
        }
        let user = UserId::new(&self.username).map_err(|_| ApiError::WrongCredentials)?;
        let may_be_checked = |password: &Password| may_be_password(password.expose());
        if !may_be_checked(&self.password) {
            return Err(ApiError::WrongCredentials);
        }
        if !self.new_password.as_ref().is_none_or(may_be_checked) {
            return Err(ApiError::NewPasswordRefused);
        }
        Ok(user)
    }
}

/// Returns the credentials of `Authorization: Basic` in a request. Returns `None` if the first `Authorization` header
/// has another scheme, or if there is none.
///
/// # Errors
/// [`ApiError::WrongCredentials`] if the credentials are not valid Base64, have no colon, or have a user
/// name that is empty or not UTF-8.
pub(super) fn basic(request: &Parts) -> Result<Option<Credentials>, ApiError> {
    parse_basic(&request.headers).inspect_err(|_| {
        let reason = "the Basic credentials are malformed";
        tracing::info!(url = request.uri.path(), reason, "authentication failed");
        add_to_record(request, |record| record.credential = Some(CredentialKind::Password));
    })
}

fn parse_basic(headers: &HeaderMap) -> Result<Option<Credentials>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let (scheme, encoded) = split_scheme(value.as_bytes());
    if !scheme.eq_ignore_ascii_case(b"Basic") {
        return Ok(None);
    }
    decode(encoded).map(Some).ok_or(ApiError::WrongCredentials)
}

fn decode(encoded: &[u8]) -> Option<Credentials> {
    let basic = BasicCredentials::decode(encoded)?;
    let username = str::from_utf8(basic.user()).ok().filter(|name| !name.is_empty())?.to_owned();
    let password = Password::new(basic.password());
    Some(Credentials { username, password, new_password: None })
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &[u8]) -> Result<Option<Credentials>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        parse_basic(&headers)
    }

    fn basic(credentials: &[u8]) -> String {
        format!("Basic {}", BASE64.encode(credentials))
    }

    #[test]
    fn basic_credentials_are_parsed_as_in_rfc_7617() {
        type Want<'a> = Result<Option<(&'a str, &'a [u8])>, ()>;
        let cases: &[(&str, Want<'_>)] = &[
            (&basic(b"user:pass"), Ok(Some(("user", b"pass")))),
            ("BASIC dXNlcjpwYXNz", Ok(Some(("user", b"pass")))),
            ("  basic \t dXNlcjpwYXNz  ", Ok(Some(("user", b"pass")))),
            (&basic(b"user:a:b:"), Ok(Some(("user", b"a:b:")))),
            (&basic(b"user:"), Ok(Some(("user", b"")))),
            (&basic(b" :x"), Ok(Some((" ", b"x")))),
            (&basic("user:p\u{e4}ss".as_bytes()), Ok(Some(("user", "p\u{e4}ss".as_bytes())))),
            (&basic(b"user:p\xE4ss"), Ok(Some(("user", b"p\xE4ss")))),
            // Base64 without padding.
            ("Basic dTpwYQ", Ok(Some(("u", b"pa")))),
            (&basic(b":pass"), Err(())),
            (&basic(b"user"), Err(())),
            (&basic(b"\xE4:pass"), Err(())),
            ("Basic", Err(())),
            ("Basic ", Err(())),
            ("Basic ???", Err(())),
            ("Basic dXNl cjpwYXNz", Err(())),
            ("Bearer dXNlcjpwYXNz", Ok(None)),
            ("BasicdXNlcjpwYXNz", Ok(None)),
            ("", Ok(None)),
        ];
        for (value, want) in cases {
            let got = parse(value.as_bytes());
            let got = got.as_ref().map(|credentials| {
                credentials.as_ref().map(|c| (c.username.as_str(), c.password.expose()))
            });
            assert_eq!(
                got.map_err(|e| assert_eq!(*e, ApiError::WrongCredentials)),
                *want,
                "{value}"
            );
        }
        assert!(parse_basic(&HeaderMap::new()).unwrap().is_none());
    }

    #[test]
    fn missing_parts_are_invalid_input_and_invalid_names_are_wrong_credentials() {
        for (username, password, want) in [
            ("user", "x", Ok("USER")),
            ("", "x", Err(ApiError::InvalidLoginInput)),
            (" \t", "x", Err(ApiError::InvalidLoginInput)),
            ("user", "", Err(ApiError::InvalidLoginInput)),
            ("john.doe@corp", "", Err(ApiError::InvalidLoginInput)),
            ("john.doe@corp", "x", Err(ApiError::WrongCredentials)),
            ("user ", "x", Err(ApiError::WrongCredentials)),
        ] {
            let credentials = Credentials {
                username: username.to_owned(),
                password: Password::new(password),
                new_password: None,
            };
            let got = credentials.check();
            let got = got.as_ref().map(UserId::as_str);
            assert_eq!(got, want.as_ref().copied(), "{username:?}");
        }
    }

    #[test]
    fn texts_that_are_no_passwords_are_not_passed_on() {
        let credentials = |password: &[u8], new: Option<&[u8]>| Credentials {
            username: "user".to_owned(),
            password: Password::new(password),
            new_password: new.map(Password::new),
        };
        assert!(credentials(b"a b", Some(b"a b")).check().is_ok());
        for bad in [b"a\0".as_slice(), b"zowepat_x", b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"] {
            assert_eq!(credentials(bad, None).check(), Err(ApiError::WrongCredentials), "{bad:?}");
            let new = credentials(b"right", Some(bad)).check();
            assert_eq!(new, Err(ApiError::NewPasswordRefused), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut value = b"Basic ".to_vec();
            value.extend(&bytes);
            for value in [&bytes, &value] {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    let _ = parse(value.as_bytes());
                }
            }
            let _ = parse(basic(&bytes).as_bytes());
        }
    }
}
