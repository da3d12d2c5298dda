//! Selects which credential of a request is evaluated, and removes all credentials from the headers.
//!
//! The functions of this module do no I/O and have no state. A request may have several credentials. The credential
//! that comes first in a fixed order is selected. If the selected credential is not valid, no other credential is tried
//! ([D6](crate::decisions#d6)).

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, COOKIE},
};

use crate::{
    headers::{
        cookie::{self, Cookies},
        sweep,
    },
    identity::PeerCertificate,
};

/// The header `PRIVATE-TOKEN` for a Personal Access Token (PAT). Other tokens are not accepted in this header
/// (`docs/reference/data-plane.md#credentials`).
pub static PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");

static X_SAF_TOKEN: HeaderName = HeaderName::from_static("x-saf-token");
static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Headers that contain credentials, apart from `X-Certificate-*` (`docs/reference/data-plane.md#credentials`).
static CREDENTIAL_HEADERS: [&HeaderName; 4] =
    [&AUTHORIZATION, &PRIVATE_TOKEN, &X_SAF_TOKEN, &CLIENT_CERT];

/// Cookies with credentials for z/OSMF and WebSphere. Zowe also removes `jwtToken` and `LtpaToken2`.
const FOREIGN_COOKIES: [&str; 3] = ["jwtToken", "LtpaToken", "LtpaToken2"];

/// The prefix of the headers that describe a client certificate.
pub(super) const X_CERTIFICATE: &str = "x-certificate-";

/// The names of the cookies that contain tokens of this gateway
/// (`apiml.security.auth.cookieProperties.cookieName` and `cookieNamePAT`).
#[derive(Clone, Debug)]
pub struct CookieNames {
    jwt: Arc<str>,
    pat: Arc<str>,
}

impl CookieNames {
    /// Sets the name of the cookie for login tokens. If you set another name, a cookie with the default name is not
    /// read any more. It is still removed from requests.
    #[must_use]
    pub fn with_jwt(self, name: &str) -> Self {
        Self { jwt: name.into(), ..self }
    }

    /// Sets the name of the cookie for Personal Access Tokens. If you set another name, a cookie with the default name
    /// is not read any more. It is still removed from requests.
    #[must_use]
    pub fn with_pat(self, name: &str) -> Self {
        Self { pat: name.into(), ..self }
    }

    /// The name of the cookie for login tokens.
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// The name of the cookie for Personal Access Tokens.
    pub fn pat(&self) -> &str {
        &self.pat
    }

    /// Whether a cookie with this name contains a token of the gateway. Upper and lower case do not matter.
    pub(crate) fn is_own(&self, name: &[u8]) -> bool {
        let is = |credential: &str| name.eq_ignore_ascii_case(credential.as_bytes());
        let starts_with_dotted = |prefix: &str| {
            name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix.as_bytes()))
                && name.get(prefix.len()) == Some(&b'.')
        };
        is(&self.jwt)
            || is(&self.pat)
            || is(DEFAULT_JWT)
            // The gateway also uses names of the form `apimlAuthenticationToken.*`.
            || starts_with_dotted(DEFAULT_JWT)
            || is(DEFAULT_PAT)
    }

    fn is_credential(&self, name: &[u8]) -> bool {
        self.is_own(name)
            || FOREIGN_COOKIES.into_iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    }
}

const DEFAULT_JWT: &str = "apimlAuthenticationToken";
const DEFAULT_PAT: &str = "personalAccessToken";

impl Default for CookieNames {
    /// `apimlAuthenticationToken` and `personalAccessToken`.
    fn default() -> Self {
        Self { jwt: DEFAULT_JWT.into(), pat: DEFAULT_PAT.into() }
    }
}

/// The credential of a request that is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) enum Credential<'a> {
    Token { text: &'a [u8], place: Place },
    Certificate(&'a PeerCertificate),
}

/// The place in the request where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A place that accepts any token: the login cookie, `Authorization: Bearer`.
    Any,
    /// A place that accepts only a PAT: the PAT cookie, `PRIVATE-TOKEN`.
    Pat,
}

/// Selects the first credential in this order: login cookie, `Bearer`, PAT cookie, `PRIVATE-TOKEN`, client
/// certificate. The PAT cookie and `PRIVATE-TOKEN` are skipped if `pats` is false.
pub(super) fn select<'a>(
    headers: &'a HeaderMap,
    certificate: Option<&'a PeerCertificate>,
    names: &CookieNames,
    pats: bool,
) -> Option<Credential<'a>> {
    let token = |text, place| Credential::Token { text, place };
    let cookies = Cookies::of(headers);
    find_login_token(headers, &cookies, names)
        .map(|text| token(text, Place::Any))
        .or_else(|| {
            if !pats {
                return None;
            }
            cookies
                .find(names.pat())
                .or_else(|| private_token(headers))
                .map(|text| token(text, Place::Pat))
        })
        .or_else(|| certificate.map(Credential::Certificate))
}

/// The token in the login cookie or in `Authorization: Bearer`.
pub(crate) fn login_token<'a>(headers: &'a HeaderMap, names: &CookieNames) -> Option<&'a [u8]> {
    find_login_token(headers, &Cookies::of(headers), names)
}

fn find_login_token<'a>(
    headers: &'a HeaderMap,
    cookies: &Cookies<'a>,
    names: &CookieNames,
) -> Option<&'a [u8]> {
    cookies.find(names.jwt()).or_else(|| bearer(headers))
}

/// The token of `Authorization: Bearer`. Only the first `Authorization` line is read, as in the Zowe API
/// Mediation Layer. The scheme name is not case-sensitive (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes().trim_ascii();
    let (scheme, token) = value.split_at_checked(6)?;
    let token_starts = token.first().is_some_and(u8::is_ascii_whitespace);
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer") && token_starts && !token.is_empty()).then_some(token)
}

fn private_token(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(&PRIVATE_TOKEN)?.as_bytes().trim_ascii();
    (!value.is_empty()).then_some(value)
}

/// Removes every credential (`docs/reference/data-plane.md#credentials`).
pub(super) fn strip(headers: &mut HeaderMap, names: &CookieNames) {
    let mut has_cookie = false;
    sweep(headers, |name| {
        let text = name.as_str();
        // Most header names begin with another letter, so they need no comparison.
        if !matches!(text.as_bytes().first(), Some(b'a' | b'c' | b'p' | b'x')) {
            return false;
        }
        has_cookie |= *name == COOKIE;
        CREDENTIAL_HEADERS.contains(&name) || text.starts_with(X_CERTIFICATE)
    });
    if has_cookie {
        cookie::retain(headers, |name| !names.is_credential(name));
    }
}

/// A copy of the credential headers of the client. If a later layer fails on a route with
/// [`OnFailure::ForwardUnchanged`](super::OnFailure::ForwardUnchanged), the headers are restored.
#[derive(Clone)]
pub(super) struct Withheld(HeaderMap);

impl Withheld {
    pub(super) fn copy_of(headers: &HeaderMap) -> Self {
        let names = CREDENTIAL_HEADERS.into_iter().chain([&COOKIE]);
        let copy = names
            .flat_map(|name| headers.get_all(name).iter().map(move |v| (name.clone(), v.clone())));
        Self(copy.collect())
    }

    pub(super) fn restore(self, headers: &mut HeaderMap) {
        for name in self.0.keys() {
            headers.remove(name);
        }
        let mut last = None;
        for (name, value) in self.0 {
            // The iterator of `HeaderMap` returns a name only with the first value of that name.
            last = name.or(last);
            if let Some(name) = &last {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn select_follows_a_fixed_order() {
        const JWT_COOKIE: (&str, &str) = ("cookie", "apimlAuthenticationToken=1");
        const BEARER: (&str, &str) = ("authorization", "Bearer 2");
        const PAT_COOKIE: (&str, &str) = ("cookie", "x=y; personalAccessToken=3");
        const PRIVATE: (&str, &str) = ("private-token", " 4 ");
        const BASIC: (&str, &str) = ("authorization", "Basic dTpw");
        let any = |text| Some((text, Place::Any));
        let pat = |text| Some((text, Place::Pat));
        let cases: &[(&[(&str, &str)], Option<(&str, Place)>)] = &[
            (&[], None),
            (&[PRIVATE, PAT_COOKIE, BEARER, JWT_COOKIE], any("1")),
            (&[PRIVATE, PAT_COOKIE, BEARER], any("2")),
            (&[PRIVATE, PAT_COOKIE], pat("3")),
            (&[PRIVATE], pat("4")),
            (&[BASIC], None),
            (&[BASIC, PRIVATE], pat("4")),
            // Only the first `Authorization` line is read.
            (&[BASIC, BEARER], None),
            (&[BEARER, ("authorization", "Bearer 5")], any("2")),
            (&[("authorization", "bEARER 2")], any("2")),
            (&[("authorization", "Bearer\t 2 ")], any("2")),
            (&[("authorization", "Bearer2")], None),
            (&[("authorization", "Bearer")], None),
            (&[("authorization", "Bearer  ")], None),
            (&[("authorization", "Bearer-er 2")], None),
            (&[("authorization", "Bear\u{e9}r 2")], None),
            (&[("authorization", "Bearer \u{e9}")], any("\u{e9}")),
            (&[("cookie", "apimlAuthenticationToken=\"1\"")], any("1")),
            (&[("cookie", "APIMLAUTHENTICATIONTOKEN=1")], None),
            (&[("cookie", "apimlAuthenticationToken.x=1")], None),
            (&[("cookie", "apimlAuthenticationToken="), BEARER], any("2")),
            (&[("private-token", "  ")], None),
        ];
        for (lines, want) in cases {
            let headers = headers(lines);
            let got = match select(&headers, None, &CookieNames::default(), true) {
                Some(Credential::Token { text, place }) => Some((text, place)),
                _ => None,
            };
            assert_eq!(got, want.map(|(text, place)| (text.as_bytes(), place)), "{lines:?}");
        }
    }

    #[test]
    fn pat_cookie_and_private_token_are_skipped_while_pats_are_off() {
        let headers = headers(&[("cookie", "personalAccessToken=3"), ("private-token", "4")]);
        assert!(select(&headers, None, &CookieNames::default(), false).is_none());
    }

    #[test]
    fn strip_removes_credentials_only() {
        let mut headers = headers(&[
            ("authorization", "Bearer 1"),
            ("authorization", "Basic 2"),
            ("private-token", "x"),
            ("x-saf-token", "x"),
            ("client-cert", "x"),
            ("x-certificate-public", "x"),
            ("x-certificate-whatever", "x"),
            ("x-certificates", "stays"),
            ("cookie", "apimlAuthenticationToken=1; APIMLauthenticationtoken.c=2; a=1"),
            ("cookie", "personalaccesstoken=1; jwttoken=2; ltpatoken2=3; nothing"),
            ("cookie", "apimlAuthenticationTokens=stays; mine=1; LtpaToken=1"),
            ("cookie", "hides=b,LtpaToken2=x; b=1,2; x,ltpatoken=3"),
        ]);
        strip(&mut headers, &CookieNames::default().with_jwt("mine").with_pat("yours"));
        let left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&("x-certificates", "stays")));
        assert!(left.contains(&("cookie", "a=1; apimlAuthenticationTokens=stays; b=1,2")));
    }

    #[test]
    fn restore_adds_all_headers_that_strip_removed() {
        let before = headers(&[
            ("authorization", "Bearer 1"),
            ("authorization", "Basic 2"),
            ("cookie", "personalAccessToken=1; a"),
            ("cookie", "b=2"),
            ("other", "x"),
        ]);
        let mut after = before.clone();
        let withheld = Withheld::copy_of(&after);
        strip(&mut after, &CookieNames::default());
        assert_ne!(after, before);
        withheld.restore(&mut after);
        assert_eq!(after, before);
    }
}
