//! Parses the body of a token exchange (RFC 8693 §2.1).
//!
//! The body is `application/x-www-form-urlencoded` (RFC 6749, appendix B). An [`ExchangeProblem`] contains names of
//! parameters, but no values, because each value may be a token.

use http::{HeaderMap, header::CONTENT_TYPE};
use zeroize::Zeroizing;

use crate::{hexadecimal, passticket::Applid, token::MAX_TOKEN_LEN};

/// The only supported `grant_type` (RFC 8693 §2.1).
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The token type of a PassTicket (a one-time password of z/OS). It is the only supported `requested_token_type`, and
/// the `issued_token_type` of the response. This project has defined the URN (docs/decisions.md#d55).
pub(super) const PASSTICKET: &str = "urn:passticket:params:oauth:token-type:passticket";

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// The maximum number of parameters in a body. Parameters that the gateway ignores also count.
const MAX_PARAMETERS: usize = 32;

/// The maximum length of a parameter's name in bytes, after it was decoded. All known names are shorter.
const MAX_NAME_LEN: usize = 64;

pub(super) struct ExchangeRequest {
    pub(super) subject: PresentedToken,
    pub(super) actor: Option<PresentedToken>,
    /// The APPLID (the name of an application in the security product) in `audience`.
    pub(super) applid: Applid,
}

/// A token in the body, with the type that the client states. The token is not verified yet.
pub(super) struct PresentedToken {
    pub(super) text: Zeroizing<String>,
    pub(super) kind: TokenKind,
}

/// The type of a token that the client sends (RFC 8693 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `jwt` or `access_token`: any token that the gateway accepts.
    Any,
    /// `id_token`: an ID token of an identity provider.
    IdToken,
}

impl TokenKind {
    /// The types that the gateway accepts, with their URNs.
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("urn:ietf:params:oauth:token-type:jwt", Self::Any),
        ("urn:ietf:params:oauth:token-type:access_token", Self::Any),
        ("urn:ietf:params:oauth:token-type:id_token", Self::IdToken),
    ];

    fn parse(urn: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == urn).map(|(_, kind)| *kind)
    }
}

/// The reason why the body is not a request for a PassTicket. It contains no value from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeProblem {
    /// The header `Content-Type` is missing, repeated, or has another value.
    #[error("the Content-Type is not {FORM}")]
    ContentType,
    /// The body is not form-encoded UTF-8, or has a control character.
    #[error(
        "the body is not form-encoded UTF-8 text without line breaks and other control characters"
    )]
    Encoding,
    /// The body has too many parameters, or a name or token is too long.
    #[error(
        "the body has more than {MAX_PARAMETERS} parameters, a name of more than {MAX_NAME_LEN} bytes, or \
         a token of more than {MAX_TOKEN_LEN} bytes"
    )]
    TooLarge,
    /// A parameter other than `audience` and `resource` occurs more than once (RFC 6749 §3.2).
    #[error("a parameter occurs more than once")]
    Repeated,
    /// A required parameter is missing or empty.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    /// The grant type is not that of a token exchange.
    #[error("the grant_type is not {GRANT_TYPE}")]
    GrantType,
    /// The client wants a token other than a PassTicket.
    #[error("the requested_token_type is not {PASSTICKET}")]
    RequestedTokenType,
    /// The type of a token is not supported.
    #[error(
        "the {0} is not supported; use urn:ietf:params:oauth:token-type: with jwt, access_token or id_token"
    )]
    TokenType(&'static str),
    /// The body has `actor_token_type`, but no `actor_token`.
    #[error("the body has actor_token_type, but no actor_token")]
    ActorTypeAlone,
    /// `audience` is not one APPLID.
    #[error("the audience is not one APPLID of 1 to 8 characters of A-Z 0-9 # @ $")]
    Audience,
    /// The body has `resource`. A PassTicket is for an APPLID, which only `audience` names.
    #[error("the parameter resource is not supported; name the APPLID in audience")]
    Resource,
    /// The body has `scope`. A PassTicket has no scope.
    #[error("the parameter scope is not supported, because a PassTicket has no scope")]
    Scope,
}

/// The parameters that the gateway reads. `NAMES` has the same order.
#[derive(Default)]
struct Parameters([Option<Zeroizing<String>>; NAMES.len()]);

const NAMES: [&str; 9] = [
    "grant_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "audience",
    "requested_token_type",
    "resource",
    "scope",
];

/// Checks that the request has exactly one `Content-Type`, with the media type of a form. The charset, if there is one,
/// must be UTF-8.
///
/// # Errors
/// [`ExchangeProblem::ContentType`] if the header does not have this form.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), ExchangeProblem> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        _ => return Err(ExchangeProblem::ContentType),
    };
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    let is_form = media_type.trim().eq_ignore_ascii_case(FORM);
    let is_utf8 = parameters.split(';').all(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else {
            return parameter.trim().is_empty();
        };
        !name.trim().eq_ignore_ascii_case("charset")
            || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if is_form && is_utf8 { Ok(()) } else { Err(ExchangeProblem::ContentType) }
}

/// Parses a body. Ignores unknown parameters (RFC 6749 §3.2), and parameters without a value. But these parameters must
/// also be form-encoded, and must not occur twice.
pub(super) fn parse(body: &[u8]) -> Result<ExchangeRequest, ExchangeProblem> {
    let mut parameters = Parameters::read(body)?;
    let mut take = |name| parameters.take(name);
    let grant_type = take("grant_type").ok_or(ExchangeProblem::Missing("grant_type"))?;
    if *grant_type != *GRANT_TYPE {
        return Err(ExchangeProblem::GrantType);
    }
    if take("resource").is_some() {
        return Err(ExchangeProblem::Resource);
    }
    if take("scope").is_some() {
        return Err(ExchangeProblem::Scope);
    }
    // In RFC 8693, this parameter is optional. It is required here: a client that expects a JWT must not receive a
    // PassTicket.
    let requested =
        take("requested_token_type").ok_or(ExchangeProblem::Missing("requested_token_type"))?;
    if *requested != *PASSTICKET {
        return Err(ExchangeProblem::RequestedTokenType);
    }
    let audience = take("audience").ok_or(ExchangeProblem::Missing("audience"))?;
    let applid = Applid::new(audience.trim()).map_err(|_| ExchangeProblem::Audience)?;
    let text = take("subject_token").ok_or(ExchangeProblem::Missing("subject_token"))?;
    let kind = take("subject_token_type").ok_or(ExchangeProblem::Missing("subject_token_type"))?;
    let subject = token(text, &kind, "subject_token_type")?;
    let actor = match (take("actor_token"), take("actor_token_type")) {
        (None, None) => None,
        (None, Some(_)) => return Err(ExchangeProblem::ActorTypeAlone),
        (Some(_), None) => return Err(ExchangeProblem::Missing("actor_token_type")),
        (Some(text), Some(kind)) => Some(token(text, &kind, "actor_token_type")?),
    };
    Ok(ExchangeRequest { subject, actor, applid })
}

fn token(
    text: Zeroizing<String>,
    kind: &str,
    name: &'static str,
) -> Result<PresentedToken, ExchangeProblem> {
    if text.len() > MAX_TOKEN_LEN {
        return Err(ExchangeProblem::TooLarge);
    }
    let kind = TokenKind::parse(kind).ok_or(ExchangeProblem::TokenType(name))?;
    Ok(PresentedToken { text, kind })
}

impl Parameters {
    fn read(body: &[u8]) -> Result<Self, ExchangeProblem> {
        let mut read = Self::default();
        let mut names: Vec<Zeroizing<String>> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if names.len() == MAX_PARAMETERS {
                return Err(ExchangeProblem::TooLarge);
            }
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..end], pair.get(end + 1..).unwrap_or_default());
            // A percent-encoded byte has three characters.
            if name.len() > 3 * MAX_NAME_LEN {
                return Err(ExchangeProblem::TooLarge);
            }
            // The memory of a decoded name is overwritten when it is dropped, because a client may send a secret as a
            // name by mistake.
            let name = decode(name).ok_or(ExchangeProblem::Encoding)?;
            if name.len() > MAX_NAME_LEN {
                return Err(ExchangeProblem::TooLarge);
            }
            let value = decode(value).ok_or(ExchangeProblem::Encoding)?;
            if names.iter().any(|other| other.as_str() == name.as_str()) {
                return Err(match name.as_str() {
                    // RFC 8693 §2.1 permits several audiences. One PassTicket is for one APPLID.
                    "audience" => ExchangeProblem::Audience,
                    "resource" => ExchangeProblem::Resource,
                    _ => ExchangeProblem::Repeated,
                });
            }
            if let Some(index) = NAMES.iter().position(|known| *known == name.as_str())
                && !value.is_empty()
            {
                read.0[index] = Some(value);
            }
            names.push(name);
        }
        Ok(read)
    }

    fn take(&mut self, name: &str) -> Option<Zeroizing<String>> {
        let index = NAMES.iter().position(|known| *known == name)?;
        self.0[index].take()
    }
}

/// Decodes a name or a value (URL Standard §5.1). Returns `None` if an escape is cut off or not hexadecimal, or if the
/// text is not UTF-8 or has a control character.
fn decode(text: &[u8]) -> Option<Zeroizing<String>> {
    // A growing buffer would leave copies of a token in memory.
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'+' => (b' ', after),
            b'%' => {
                let [high, low, after @ ..] = after else { return None };
                (hexadecimal::byte(*high, *low)?, after)
            }
            byte => (*byte, after),
        };
        if byte.is_ascii_control() {
            return None;
        }
        decoded.push(byte);
        rest = after;
    }
    let text = str::from_utf8(&decoded).ok()?;
    Some(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
        &requested_token_type=urn:passticket:params:oauth:token-type:passticket&audience=zoweappl\
        &subject_token=a.b.c&subject_token_type=urn:ietf:params:oauth:token-type:jwt";

    fn summary(body: &str) -> Result<(String, String, Option<String>), ExchangeProblem> {
        parse(body.as_bytes()).map(|ExchangeRequest { subject, actor, applid }| {
            let actor = actor.map(|token| token.text.to_string());
            (applid.to_string(), subject.text.to_string(), actor)
        })
    }

    #[test]
    fn bodies_are_parsed_or_refused_with_a_reason() {
        use ExchangeProblem as P;
        let ok = |actor: Option<&str>| {
            Ok(("ZOWEAPPL".to_owned(), "a.b.c".to_owned(), actor.map(str::to_owned)))
        };
        let actor = format!("{GOOD}&actor_token=d.e.f");
        let typed = |kind: &str| format!("{actor}&actor_token_type={kind}");
        let access = "urn:ietf:params:oauth:token-type:access_token";
        let without = |name: &str| {
            let kept = GOOD.split('&').filter(|pair| !pair.starts_with(&format!("{name}=")));
            kept.collect::<Vec<_>>().join("&")
        };
        let with = |name: &str, value: &str| format!("{}&{name}={value}", without(name));
        let long = "x".repeat(MAX_TOKEN_LEN + 1);
        let many: String = (0..40).map(|n| format!("&p{n}=1")).collect();
        for (name, body, want) in [
            ("good", GOOD.to_owned(), ok(None)),
            ("actor", typed(access), ok(Some("d.e.f"))),
            ("unknown parameter", format!("{GOOD}&client_id=x"), ok(None)),
            ("empty parameters", format!("&&{GOOD}&scope=&resource&actor_token="), ok(None)),
            ("encoded name", GOOD.replace("audience", "%61udience"), ok(None)),
            ("blanks", with("audience", "+ZoweAppl+"), ok(None)),
            ("empty body", String::new(), Err(P::Missing("grant_type"))),
            ("JSON", "{\"grant_type\":\"x\"}".to_owned(), Err(P::Missing("grant_type"))),
            ("no grant", without("grant_type"), Err(P::Missing("grant_type"))),
            ("empty grant", with("grant_type", ""), Err(P::Missing("grant_type"))),
            ("other grant", with("grant_type", "client_credentials"), Err(P::GrantType)),
            ("no audience", without("audience"), Err(P::Missing("audience"))),
            ("long audience", with("audience", "TOOLONGID"), Err(P::Audience)),
            ("a URL as audience", with("audience", "https://x"), Err(P::Audience)),
            ("two audiences", format!("{GOOD}&audience=B"), Err(P::Audience)),
            ("the same audience twice", format!("{GOOD}&audience=zoweappl"), Err(P::Audience)),
            ("resource", format!("{GOOD}&resource=https://x"), Err(P::Resource)),
            ("scope", format!("{GOOD}&scope=read"), Err(P::Scope)),
            (
                "no requested type",
                without("requested_token_type"),
                Err(P::Missing("requested_token_type")),
            ),
            (
                "other requested type",
                with("requested_token_type", access),
                Err(P::RequestedTokenType),
            ),
            ("no subject", without("subject_token"), Err(P::Missing("subject_token"))),
            (
                "no subject type",
                without("subject_token_type"),
                Err(P::Missing("subject_token_type")),
            ),
            (
                "SAML",
                with("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"),
                Err(P::TokenType("subject_token_type")),
            ),
            ("untyped actor", actor.clone(), Err(P::Missing("actor_token_type"))),
            ("actor of an unknown type", typed("x"), Err(P::TokenType("actor_token_type"))),
            ("type without actor", format!("{GOOD}&actor_token_type=x"), Err(P::ActorTypeAlone)),
            ("two subjects", format!("{GOOD}&subject_token=x"), Err(P::Repeated)),
            ("an encoded second subject", format!("{GOOD}&subject%5Ftoken=x"), Err(P::Repeated)),
            ("an empty second subject", format!("{GOOD}&subject_token="), Err(P::Repeated)),
            ("two unknown", format!("{GOOD}&x=1&x=2"), Err(P::Repeated)),
            ("cut off escape", format!("{GOOD}&x=%4"), Err(P::Encoding)),
            ("wrong escape", format!("{GOOD}&x=%+1"), Err(P::Encoding)),
            ("not UTF-8", format!("{GOOD}&x=%FF"), Err(P::Encoding)),
            ("NUL", format!("{GOOD}&x=%00"), Err(P::Encoding)),
            ("newline", format!("{GOOD}&x=a\n"), Err(P::Encoding)),
            ("long token", with("subject_token", &long), Err(P::TooLarge)),
            ("many parameters", format!("{GOOD}{many}"), Err(P::TooLarge)),
            ("longest name", format!("{GOOD}&{}=1", "n".repeat(64)), ok(None)),
            ("long name", format!("{GOOD}&{}=1", "n".repeat(65)), Err(P::TooLarge)),
            ("longest encoded name", format!("{GOOD}&{}=1", "%6E".repeat(64)), ok(None)),
            ("long encoded name", format!("{GOOD}&{}=1", "%6E".repeat(65)), Err(P::TooLarge)),
            ("very long name", format!("{GOOD}&{}=1", "n".repeat(200)), Err(P::TooLarge)),
        ] {
            assert_eq!(summary(&body), want, "{name}");
        }
    }

    #[test]
    fn problems_contain_no_value() {
        let body = GOOD.replace("a.b.c", "secret") + "&actor_token=secret&secret=secret&secret=1";
        for body in
            [body.clone(), body.replace("audience=zoweappl", "audience=secret!"), "secret".into()]
        {
            let problem = parse(body.as_bytes()).map(drop).unwrap_err();
            assert!(!format!("{problem} {problem:?}").contains("secret"), "{problem}");
        }
    }

    #[test]
    fn the_content_type_must_be_that_of_a_form() {
        for (values, want) in [
            (&[FORM][..], true),
            (&["Application/X-WWW-Form-Urlencoded; charset=UTF-8"], true),
            (&["application/x-www-form-urlencoded;charset=\"utf-8\";"], true),
            (&["application/x-www-form-urlencoded; charset=IBM-1047"], false),
            (&["application/x-www-form-urlencoded; x"], false),
            (&["application/json"], false),
            (&["text/plain"], false),
            (&["multipart/form-data; boundary=x"], false),
            (&[""], false),
            (&[], false),
            (&[FORM, FORM], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(check_content_type(&headers).is_ok(), want, "{values:?}");
        }
    }
}
