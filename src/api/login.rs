//! `POST login` (docs/reference/auth-endpoints.md#login).

use http::request::Parts;
use http_body::Body;
use serde::{Deserialize, Deserializer};

use super::{
    authenticate::Callers,
    body::{self, BodyProblem},
    credentials::{self, Credentials},
    error::ApiError,
    login_tokens::{DOMAIN, LoginTokens},
    provider::Password,
    response::Answer,
};

pub(super) async fn log_in<B: Body>(
    request: &Parts,
    body: B,
    callers: Callers<'_>,
    tokens: LoginTokens<'_>,
) -> Answer {
    let basic = credentials::basic(request)?;
    // A malformed body is refused even if the request has a Basic header.
    let in_body = body::read(body).await?;
    let in_body = parse_login_body(&in_body).map_err(ApiError::InvalidLoginBody)?;
    let changes_password = in_body.as_ref().is_some_and(|c| c.new_password.is_some());
    if basic.is_some() && changes_password {
        // Only the Basic header is evaluated, so the password would not be changed. But after a 204, the client would
        // believe that it was.
        return Err(ApiError::InvalidLoginInput);
    }
    let user = callers.log_in(basic.or(in_body), request).await?;
    tokens.issue(request, &user, DOMAIN)
}

/// Parses `{"username", "password"}` and an optional `newPassword`. Unknown fields are ignored. Returns `None` if the
/// body is empty.
fn parse_login_body(body: &[u8]) -> Result<Option<Credentials>, BodyProblem> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LoginBody {
        username: String,
        #[serde(deserialize_with = "password")]
        password: Password,
        #[serde(default, deserialize_with = "new_password")]
        new_password: Option<Password>,
    }

    fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Password, D::Error> {
        String::deserialize(deserializer).map(Password::new)
    }

    fn new_password<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Password>, D::Error> {
        Option::<String>::deserialize(d).map(|text| text.map(Password::new))
    }

    if body.is_empty() {
        return Ok(None);
    }
    let LoginBody { username, password, new_password } = body::object(body)?;
    Ok(Some(Credentials { username, password, new_password }))
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
            (r#"{"username":"u","password":"p","newPassword":5}"#, Err(())),
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
            assert_eq!(got.map_err(|_| ()), *want, "{body}");
        }
        for (new, want) in [("null", None), (r#""""#, Some("")), (r#""n""#, Some("n"))] {
            let body = format!(r#"{{"username":"u","password":"p","newPassword":{new}}}"#);
            let credentials = parse_login_body(body.as_bytes()).unwrap().unwrap();
            let got = credentials.new_password.map(|p| p.expose().to_owned());
            assert_eq!(got.as_deref(), want.map(str::as_bytes));
        }
        assert!(parse_login_body(b"{\"username\":\"\xFF\",\"password\":\"p\"}").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_login_body(&bytes);
            let _ = parse_login_body(&[br#"{"username":"#, bytes.as_slice()].concat());
        }
    }
}
