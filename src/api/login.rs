//! `POST login` (zowe-endpoints §1.1).

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, SET_COOKIE},
    request::Parts,
};
use http_body::Body;
use http_body_util::Full;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{
    body,
    caller::{self, Credentials},
    error::ApiError,
    provider::{LoginProvider, Password},
    service::AuthApi,
};
use crate::{identity::IdentityMapper, token::IssuedToken};

/// The `dom` claim of tokens, as the reference writes it for users it has authenticated itself.
const DOMAIN: &str = "security-domain";

impl<L: LoginProvider, M: IdentityMapper> AuthApi<L, M> {
    /// Answers with a login token in a cookie.
    pub(super) async fn log_in<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let basic = caller::basic(request)?;
        // Read even when the header decides: a body that is no login is refused all the same.
        let in_body = parse_login_body(&body::read(body).await?)?;
        let user = self.authenticate(basic.or(in_body), request).await?;
        let token = self.issuer.login_token(&user, DOMAIN).map_err(|error| {
            tracing::error!(%error, "no login token");
            ApiError::Internal
        })?;
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(SET_COOKIE, login_cookie(self.cookies.jwt(), &token)?);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// The cookie as the reference lays it out, save for the semicolon at its end. A session cookie:
/// the token itself says how long it is good for.
fn login_cookie(name: &str, token: &IssuedToken) -> Result<HeaderValue, ApiError> {
    let token = token.expose();
    let cookie =
        Zeroizing::new(format!("{name}={token}; Path=/; SameSite=Strict; HttpOnly; Secure"));
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| {
        tracing::error!(name, "the name of the login cookie cannot stand in a header");
        ApiError::Internal
    })?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

/// Reads `{"username", "password"}`; other fields are ignored. `None` for an empty body.
///
/// # Errors
/// [`ApiError::InvalidLoginInput`] for what is no such object. So is a `newPassword`: nobody here
/// can change a password, and to log in without doing so would be to lie.
fn parse_login_body(body: &[u8]) -> Result<Option<Credentials>, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LoginBody {
        username: String,
        #[serde(deserialize_with = "password")]
        password: Password,
        new_password: Option<IgnoredAny>,
    }

    fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        String::deserialize(deserializer).map(Password::new)
    }

    if body.is_empty() {
        return Ok(None);
    }
    match body::object(body) {
        Some(LoginBody { username, password, new_password: None }) => {
            Ok(Some(Credentials { username, password }))
        }
        _ => Err(ApiError::InvalidLoginInput),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_login_body_is_an_object_with_user_and_password() {
        type Want = Result<Option<(&'static str, &'static str)>, ()>;
        let cases: &[(&str, Want)] = &[
            (r#"{"username":"u","password":"p"}"#, Ok(Some(("u", "p")))),
            (" \n{\"password\":\"p\\u00e4\",\"username\":\"u\"}\n", Ok(Some(("u", "p\u{e4}")))),
            (r#"{"username":"u","password":"p","x":[1]}"#, Ok(Some(("u", "p")))),
            (r#"{"username":"u","password":"p","newPassword":null}"#, Ok(Some(("u", "p")))),
            (r#"{"username":"","password":""}"#, Ok(Some(("", "")))),
            ("", Ok(None)),
            (r#"{"username":"u","password":"p","newPassword":"n"}"#, Err(())),
            (r#"{"username":"u","password":"p","newPassword":""}"#, Err(())),
            (r#"{"username":"u"}"#, Err(())),
            (r#"{"password":"p"}"#, Err(())),
            (r#"{"username":null,"password":"p"}"#, Err(())),
            (r#"{"username":"u","password":5}"#, Err(())),
            (r#"{"username":"u","username":"v","password":"p"}"#, Err(())),
            (r#"{"username":"u","password":"p"} x"#, Err(())),
            (r#"["u","p",null]"#, Err(())),
            ("{}", Err(())),
            ("null", Err(())),
            (" ", Err(())),
            (r#"{"username":"u","#, Err(())),
            ("username=u&password=p", Err(())),
        ];
        for (body, want) in cases {
            let got = parse_login_body(body.as_bytes());
            let got = got.as_ref().map(|credentials| {
                credentials
                    .as_ref()
                    .map(|c| (c.username.as_str(), str::from_utf8(c.password.expose()).unwrap()))
            });
            let got = got.map_err(|e| assert_eq!(*e, ApiError::InvalidLoginInput));
            assert_eq!(got, *want, "{body}");
        }
        assert!(parse_login_body(b"{\"username\":\"\xFF\",\"password\":\"p\"}").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_body_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_login_body(&bytes);
            let _ = parse_login_body(&[br#"{"username":"#, bytes.as_slice()].concat());
        }
    }
}
