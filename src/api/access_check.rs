//! `POST /gateway/auth/check`: may the caller access a resource? (docs/reference/auth-endpoints.md#auth-check)

use http::{StatusCode, request::Parts};
use http_body::Body;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    any_credential::AnyCredential,
    authorize::Authorizer,
    body,
    error::ApiError,
    response::{Answer, empty},
};
use crate::saf::{Access, AccessLevel};

/// The maximum lengths of the name of a class and of the name of a resource in RACF (a security product of z/OS), in
/// bytes.
const LONGEST: (usize, usize) = (8, 246);

/// Answers whether the caller has the access that the body describes. Ignores unknown fields of the body.
pub(super) async fn check<B: Body>(
    request: &Parts,
    body: B,
    credentials: AnyCredential<'_>,
    authorizer: Authorizer<'_>,
) -> Answer {
    let user = credentials.user(request).await?;
    let body = body::read(body).await?;
    let CheckBody { class, resource, level } =
        body::object(&body).map_err(ApiError::InvalidCheckBody)?;
    match authorizer.access(request, &user, &class, &resource, level).await? {
        Access::Granted => Ok(empty(StatusCode::NO_CONTENT)),
        Access::Refused => Err(ApiError::AccessRefused { user }),
    }
}

#[derive(Debug, Deserialize)]
struct CheckBody {
    #[serde(rename = "resourceClass", deserialize_with = "class")]
    class: String,
    #[serde(rename = "resourceName", deserialize_with = "resource")]
    resource: String,
    #[serde(rename = "accessLevel", deserialize_with = "level")]
    level: AccessLevel,
}

fn class<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_class = |b: u8| b.is_ascii_alphanumeric() || b"#@$".contains(&b);
    if text.is_empty() || text.len() > LONGEST.0 || !text.bytes().all(is_class) {
        return Err(D::Error::custom(
            "`resourceClass` is not a class of 1 to 8 characters of A-Z 0-9 # @ $",
        ));
    }
    Ok(text)
}

fn resource<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || text.len() > LONGEST.1 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(D::Error::custom(
            "`resourceName` is not a name of 1 to 246 printable ASCII characters without blanks",
        ));
    }
    Ok(text)
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessLevel, D::Error> {
    let text = String::deserialize(deserializer)?;
    let not_a_level = "`accessLevel` is not READ, UPDATE, CONTROL or ALTER";
    text.parse().map_err(|_| D::Error::custom(not_a_level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_parsed_or_refused_with_a_reason() {
        let check = |class: &str, name: &str, level: &str| {
            serde_json::json!({
                "resourceClass": class, "resourceName": name, "accessLevel": level, "more": 1,
            })
            .to_string()
        };
        let long = "A".repeat(247);
        for (body, want) in [
            (check("ZOWE", "APIML.SERVICES", "READ"), None),
            (check("zowe", "A", "alter"), None),
            (check("", "A", "READ"), Some("`resourceClass` is not a class")),
            (check("NINECHARS", "A", "READ"), Some("`resourceClass` is not a class")),
            (check("A.B", "A", "READ"), Some("`resourceClass` is not a class")),
            (check("ZOWE", "", "READ"), Some("`resourceName` is not a name")),
            (check("ZOWE", "A B", "READ"), Some("`resourceName` is not a name")),
            (check("ZOWE", "\u{e4}", "READ"), Some("`resourceName` is not a name")),
            (check("ZOWE", &long, "READ"), Some("`resourceName` is not a name")),
            (check("ZOWE", "A", "NONE"), Some("`accessLevel` is not READ")),
            (r#"{"resourceClass":"ZOWE"}"#.to_owned(), Some("missing field `resourceName`")),
            ("[]".to_owned(), Some("the JSON document is not an object")),
            (String::new(), Some("EOF")),
        ] {
            let got = body::object::<CheckBody>(body.as_bytes());
            match (got, want) {
                (Ok(_), None) => {}
                (Err(problem), Some(want)) => {
                    assert!(problem.to_string().contains(want), "{body}: {problem}");
                }
                (got, _) => panic!("{body}: {got:?}"),
            }
        }
    }
}
