//! Selects the credential of a request, and removes all credentials from the headers.
//!
//! A request can have several credentials. The first credential in a fixed order counts, even if it is not valid and a
//! later one is valid ([D6](crate::decisions#d6)).

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
};

use super::password_form::is_pat;
use crate::{
    headers::{
        BasicCredentials,
        cookie::{self, Cookies},
        split_scheme, sweep,
    },
    identity::PeerCertificate,
    passticket::UserId,
};

/// The header `PRIVATE-TOKEN`, which accepts only a Personal Access Token (PAT)
/// (`docs/reference/data-plane.md#credentials`).
pub static PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");

static X_SAF_TOKEN: HeaderName = HeaderName::from_static("x-saf-token");
static CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Headers that contain credentials, apart from `X-Certificate-*` (`docs/reference/data-plane.md#credentials`).
static CREDENTIAL_HEADERS: [&HeaderName; 4] =
    [&AUTHORIZATION, &PRIVATE_TOKEN, &X_SAF_TOKEN, &CLIENT_CERT];

/// Cookies with credentials for z/OSMF and WebSphere. API ML removes `jwtToken` and `LtpaToken2`, but not `LtpaToken`.
const FOREIGN_COOKIES: [&str; 3] = ["jwtToken", "LtpaToken", "LtpaToken2"];

/// The prefix of the headers that describe a client certificate.
pub(super) const X_CERTIFICATE: &str = "x-certificate-";

/// The names of the cookies that contain tokens of this gateway
/// (`apiml.security.auth.cookieProperties.cookieName` and `cookieNamePAT`).
///
/// Names that begin with `__Host-passticket-` are reserved for other cookies of the gateway. One of these cookies
/// protects the forms on the pages of the gateway against requests of other pages. Services can neither receive nor set
/// cookies with reserved names.
#[derive(Clone, Debug)]
pub struct CookieNames {
    jwt: Arc<str>,
    pat: Arc<str>,
}

impl CookieNames {
    /// Sets the name of the cookie for login tokens. The gateway then reads only the cookie with the new name. From
    /// requests to services, it removes the cookies with the new name and with the default name.
    #[must_use]
    pub fn with_jwt(self, name: &str) -> Self {
        Self { jwt: name.into(), ..self }
    }

    /// Sets the name of the cookie for Personal Access Tokens. The gateway then reads only the cookie with the new
    /// name. From requests to services, it removes the cookies with the new name and with the default name.
    #[must_use]
    pub fn with_pat(self, name: &str) -> Self {
        Self { pat: name.into(), ..self }
    }

    /// Returns the name of the cookie for login tokens.
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// Returns the name of the cookie for Personal Access Tokens.
    pub fn pat(&self) -> &str {
        &self.pat
    }

    /// Returns whether a cookie with this name belongs to the gateway: it contains a token, or the name is reserved.
    /// The case does not matter.
    pub(crate) fn is_own(&self, name: &[u8]) -> bool {
        let is = |credential: &str| name.eq_ignore_ascii_case(credential.as_bytes());
        let starts_with = |prefix: &str| {
            name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let starts_with_dotted =
            |prefix: &str| starts_with(prefix) && name.get(prefix.len()) == Some(&b'.');
        is(&self.jwt)
            || is(&self.pat)
            || is(DEFAULT_JWT)
            // API ML also uses names of the form `apimlAuthenticationToken.*`.
            || starts_with_dotted(DEFAULT_JWT)
            || is(DEFAULT_PAT)
            || starts_with(RESERVED)
    }

    fn is_credential(&self, name: &[u8]) -> bool {
        self.is_own(name)
            || FOREIGN_COOKIES.into_iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    }
}

const DEFAULT_JWT: &str = "apimlAuthenticationToken";
const DEFAULT_PAT: &str = "personalAccessToken";
/// Cookies of the gateway without a token have names with this prefix. If a name begins with `__Host-`, browsers accept
/// the cookie only from the same host, and only with `Secure` and `Path=/` (RFC 6265bis §4.1.3.2).
const RESERVED: &str = "__Host-passticket-";

impl Default for CookieNames {
    /// Returns the default names `apimlAuthenticationToken` and `personalAccessToken`.
    fn default() -> Self {
        Self { jwt: DEFAULT_JWT.into(), pat: DEFAULT_PAT.into() }
    }
}

/// The credential that the gateway evaluates.
#[derive(Debug)]
pub(super) enum Credential<'a> {
    Token {
        text: &'a [u8],
        place: Place,
    },
    /// `Authorization: Basic` whose password has the form of a PAT.
    PatAsPassword(BasicCredentials),
    /// `Authorization: Basic` whose password does not have the form of a PAT.
    Password(BasicCredentials),
    /// `Authorization: Basic` that cannot be decoded.
    MalformedBasic,
    Certificate(&'a PeerCertificate),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A place that accepts any token: the login cookie, `Authorization: Bearer`.
    Any,
    /// A place that accepts only a PAT: `Authorization: token`, the PAT cookie, `PRIVATE-TOKEN`.
    Pat,
    /// The password of `Authorization: Basic`, which accepts only a PAT.
    Password(BasicUser),
}

/// The user name in `Authorization: Basic`, if the password is a PAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BasicUser {
    /// The name is empty, or one of [`ANY_USER`]. The PAT can belong to any user.
    Any,
    /// The PAT must belong to this user.
    Named(UserId),
}

/// Words that tools send instead of a user name.
const ANY_USER: [&str; 3] = ["oauth2", "token", "x-token-auth"];

impl BasicUser {
    /// Parses the user name. Returns `None` if the name is not a user id: then no PAT can belong to it.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?;
        if name.is_empty() || ANY_USER.iter().any(|any| any.eq_ignore_ascii_case(name)) {
            return Some(Self::Any);
        }
        UserId::new(name).ok().map(Self::Named)
    }

    pub(super) fn may_use_token_of(self, user: &UserId) -> bool {
        match self {
            Self::Any => true,
            Self::Named(named) => named == *user,
        }
    }
}

/// The credentials that the gateway accepts, apart from login tokens and certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Tokens in the places that accept only a PAT, and PATs as the password of `Authorization: Basic`.
    pub(super) pats: bool,
    /// Each `Authorization: Basic`, even with a PAT as the password.
    pub(super) passwords: bool,
}

/// Selects the first credential in this order: login cookie, `Bearer` or `token`, PAT cookie, `PRIVATE-TOKEN`, `Basic`,
/// client certificate. Skips credentials that `accepted` excludes.
pub(super) fn select<'a>(
    headers: &'a HeaderMap,
    certificate: Option<&'a PeerCertificate>,
    names: &CookieNames,
    accepted: Accepted,
) -> Option<Credential<'a>> {
    let token = |text, place| Some(Credential::Token { text, place });
    let cookies = Cookies::of(headers);
    if let Some(text) = cookies.find(names.jwt()) {
        return token(text, Place::Any);
    }
    // As in API ML (Zowe's API Mediation Layer), only the first `Authorization` line counts.
    let authorization = headers.get(AUTHORIZATION);
    if let Some(value) = authorization {
        if let Some(text) = bearer(value.as_bytes()) {
            return token(text, Place::Any);
        }
        if accepted.pats
            && let Some(text) = token_scheme(value.as_bytes())
        {
            return token(text, Place::Pat);
        }
    }
    if accepted.pats
        && let Some(text) = cookies.find(names.pat()).or_else(|| private_token(headers))
    {
        return token(text, Place::Pat);
    }
    authorization
        .and_then(|value| basic(value.as_bytes(), accepted))
        .or_else(|| certificate.map(Credential::Certificate))
}

/// A credential of a request, for [`Authenticator::candidates`].
///
/// [`Authenticator::candidates`]: super::Authenticator::candidates
#[derive(Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// The place of the credential.
    pub place: CredentialPlace,
    /// Whether the gateway evaluates the credential.
    pub choice: CredentialChoice,
}

/// The place of a credential in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialPlace {
    /// The cookie for login tokens.
    LoginCookie,
    /// `Authorization: Bearer`.
    Bearer,
    /// `Authorization: token`.
    TokenScheme,
    /// The cookie for Personal Access Tokens.
    PatCookie,
    /// The header `PRIVATE-TOKEN`.
    PrivateToken,
    /// `Authorization: Basic`.
    Basic,
    /// The client certificate.
    Certificate,
}

/// Whether the gateway evaluates a credential, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialChoice {
    /// The gateway evaluates this credential.
    Evaluated,
    /// Another credential comes first. The gateway evaluates only that one, even if it refuses it.
    Later,
    /// The gateway or the route does not accept a credential of this kind in this place.
    NotAccepted,
}

/// Returns all credentials of a request, in the order of [`select`]. For each place, this function calls `select` with
/// headers that contain only the credential in this place. This is too slow to do it for each request.
pub(super) fn candidates(
    headers: &HeaderMap,
    certificate: Option<&PeerCertificate>,
    names: &CookieNames,
    accepted: Accepted,
) -> Vec<Candidate> {
    use CredentialPlace::{
        Basic, Bearer, Certificate, LoginCookie, PatCookie, PrivateToken, TokenScheme,
    };
    let all = Accepted { pats: true, passwords: true };
    let mut found = Vec::new();
    let mut is_later = false;
    for place in [LoginCookie, Bearer, TokenScheme, PatCookie, PrivateToken, Basic, Certificate] {
        let alone = only(place, headers, names);
        let certificate = certificate.filter(|_| place == Certificate);
        if select(&alone, certificate, names, all).is_none() {
            continue;
        }
        let choice = match select(&alone, certificate, names, accepted) {
            None => CredentialChoice::NotAccepted,
            Some(_) if is_later => CredentialChoice::Later,
            Some(_) => {
                is_later = true;
                CredentialChoice::Evaluated
            }
        };
        found.push(Candidate { place, choice });
    }
    found
}

fn only(place: CredentialPlace, headers: &HeaderMap, names: &CookieNames) -> HeaderMap {
    let mut alone = HeaderMap::new();
    let authorization = headers.get(AUTHORIZATION);
    let with_authorization = |is_it: &dyn Fn(&[u8]) -> bool| {
        authorization.filter(|value| is_it(value.as_bytes())).map(|it| (&AUTHORIZATION, it.clone()))
    };
    let cookie = |name: &str| {
        let value = Cookies::of(headers).find(name)?;
        let line = [name.as_bytes(), b"=", value].concat();
        Some((&COOKIE, HeaderValue::from_bytes(&line).ok()?))
    };
    let header = match place {
        CredentialPlace::LoginCookie => cookie(names.jwt()),
        CredentialPlace::Bearer => with_authorization(&|value| bearer(value).is_some()),
        CredentialPlace::TokenScheme => with_authorization(&|value| token_scheme(value).is_some()),
        CredentialPlace::PatCookie => cookie(names.pat()),
        CredentialPlace::PrivateToken => {
            headers.get(&PRIVATE_TOKEN).map(|value| (&PRIVATE_TOKEN, value.clone()))
        }
        CredentialPlace::Basic => with_authorization(&|value| basic_value(value).is_some()),
        CredentialPlace::Certificate => None,
    };
    alone.extend(header.map(|(name, value)| (name.clone(), value)));
    alone
}

pub(super) fn token_in<'a>(
    place: CredentialPlace,
    headers: &'a HeaderMap,
    names: &CookieNames,
) -> Option<&'a [u8]> {
    let authorization = || headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    match place {
        CredentialPlace::LoginCookie => Cookies::of(headers).find(names.jwt()),
        CredentialPlace::Bearer => bearer(authorization()?),
        CredentialPlace::TokenScheme => token_scheme(authorization()?),
        CredentialPlace::PatCookie => Cookies::of(headers).find(names.pat()),
        CredentialPlace::PrivateToken => private_token(headers),
        CredentialPlace::Basic | CredentialPlace::Certificate => None,
    }
}

/// Returns the token in the login cookie or in `Authorization: Bearer`.
pub(crate) fn login_token<'a>(headers: &'a HeaderMap, names: &CookieNames) -> Option<&'a [u8]> {
    let in_cookie = Cookies::of(headers).find(names.jwt());
    in_cookie.or_else(|| bearer(headers.get(AUTHORIZATION)?.as_bytes()))
}

/// Returns the first token of the request, except a token in `Authorization: Basic`.
#[cfg(feature = "api")]
pub(crate) fn presented_token<'a>(headers: &'a HeaderMap, names: &CookieNames) -> Option<&'a [u8]> {
    match select(headers, None, names, Accepted { pats: true, passwords: false })? {
        Credential::Token { text, .. } => Some(text),
        _ => None,
    }
}

/// The name `Bearer` is not case-sensitive (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.trim_ascii().split_at_checked(6)?;
    let token_starts = token.first().is_some_and(u8::is_ascii_whitespace);
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer") && token_starts && !token.is_empty()).then_some(token)
}

/// Clients of GitHub and Gitea send `Authorization: token`.
#[cold]
fn token_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = split_scheme(value);
    (scheme.eq_ignore_ascii_case(b"token") && !token.is_empty()).then_some(token)
}

#[cold]
fn basic(value: &[u8], accepted: Accepted) -> Option<Credential<'static>> {
    if !accepted.pats && !accepted.passwords {
        return None;
    }
    match BasicCredentials::decode(basic_value(value)?) {
        Some(basic) if is_pat(basic.password()) => Some(Credential::PatAsPassword(basic)),
        Some(basic) => accepted.passwords.then_some(Credential::Password(basic)),
        None => accepted.passwords.then_some(Credential::MalformedBasic),
    }
}

fn basic_value(value: &[u8]) -> Option<&[u8]> {
    let (scheme, encoded) = split_scheme(value);
    scheme.eq_ignore_ascii_case(b"Basic").then_some(encoded)
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
        // For most headers, the first letter is enough to decide.
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

/// Removes every credential, except `Authorization: Basic` with a password. Also removes `Authorization: Basic` if it
/// cannot be decoded, or if its password or user name is a PAT, as in `PAT:x-oauth-basic`. A service that verifies PATs
/// itself could accept a revoked PAT.
pub(super) fn strip_except_basic(headers: &mut HeaderMap, names: &CookieNames) {
    let basic = headers.get(AUTHORIZATION).filter(|value| {
        let decoded = basic_value(value.as_bytes()).and_then(BasicCredentials::decode);
        decoded.is_some_and(|basic| !is_pat(basic.password()) && !is_pat(basic.user()))
    });
    let basic = basic.cloned();
    strip(headers, names);
    if let Some(basic) = basic {
        headers.insert(AUTHORIZATION, basic);
    }
}

/// A copy of the credential headers of the client. With
/// [`OnFailure::ForwardUnchanged`](super::OnFailure::ForwardUnchanged), a later layer restores them after a failure.
/// With [`Mode::Observe`](super::Mode::Observe), a later layer always restores them.
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
            // `HeaderMap` returns a name only with the first of its values.
            last = name.or(last);
            if let Some(name) = &last {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

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
            // Only the first `Authorization` line counts.
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
            (&[PAT_COOKIE, ("authorization", "token 6")], pat("6")),
            (&[PRIVATE, ("authorization", " TOKEN \t6 ")], pat("6")),
            (&[JWT_COOKIE, ("authorization", "token 6")], any("1")),
            (&[PRIVATE, ("authorization", "token")], pat("4")),
            (&[PRIVATE, ("authorization", "token6 7")], pat("4")),
        ];
        for (lines, want) in cases {
            let headers = headers(lines);
            let accepted = Accepted { pats: true, passwords: false };
            let got = match select(&headers, None, &CookieNames::default(), accepted) {
                Some(Credential::Token { text, place }) => Some((text, place)),
                _ => None,
            };
            assert_eq!(got, want.map(|(text, place)| (text.as_bytes(), place)), "{lines:?}");
        }
    }

    #[test]
    fn candidates_say_which_credential_is_evaluated_and_why_the_others_are_not() {
        use CredentialChoice::{Evaluated, Later, NotAccepted};
        use CredentialPlace::{Basic, Bearer, LoginCookie, PatCookie, PrivateToken};
        let lines = [
            ("cookie", "apimlAuthenticationToken=1; personalAccessToken=3"),
            ("authorization", "Bearer 2"),
            ("private-token", "4"),
        ];
        let names = CookieNames::default();
        for (lines, pats, want) in [
            (&[][..], true, &[][..]),
            (
                &lines[..],
                true,
                &[
                    (LoginCookie, Evaluated),
                    (Bearer, Later),
                    (PatCookie, Later),
                    (PrivateToken, Later),
                ],
            ),
            (&lines[2..], false, &[(PrivateToken, NotAccepted)]),
            (
                &[("authorization", "Basic dTpw"), ("private-token", "4")],
                true,
                &[(PrivateToken, Evaluated), (Basic, NotAccepted)],
            ),
        ] {
            let (headers, accepted) = (headers(lines), Accepted { pats, passwords: false });
            let found = candidates(&headers, None, &names, accepted);
            let got: Vec<_> = found.iter().map(|it| (it.place, it.choice)).collect();
            assert_eq!(got, want, "{lines:?}");
            let evaluated = found.iter().find(|it| it.choice == Evaluated);
            let evaluated = evaluated.and_then(|it| token_in(it.place, &headers, &names));
            let selected = match select(&headers, None, &names, accepted) {
                Some(Credential::Token { text, .. }) => Some(text),
                _ => None,
            };
            assert_eq!(evaluated, selected, "{lines:?}");
        }
    }

    #[test]
    fn pat_cookie_and_private_token_are_skipped_while_pats_are_off() {
        let lines = [
            ("cookie", "personalAccessToken=3"),
            ("private-token", "4"),
            ("authorization", "token 5"),
        ];
        let accepted = Accepted { pats: false, passwords: true };
        assert!(select(&headers(&lines), None, &CookieNames::default(), accepted).is_none());
    }

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJVU0VSIn0.c2ln";

    fn basic_line(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    #[test]
    fn basic_is_a_pat_a_password_or_no_credential() {
        #[derive(Debug, PartialEq)]
        enum Want {
            Nothing,
            Pat,
            Password,
            Malformed,
        }
        use Want::{Malformed, Nothing, Password, Pat};
        let [token, prefixed] =
            [format!("u:{TOKEN}"), "u:zowepat_x".to_owned()].map(|it| basic_line(&it));
        let unsigned = basic_line(":eyJhbGciOiJub25lIn0.e30.");
        let words = basic_line("u:a.b.c");
        // The results in `want`: with PATs alone, with passwords alone, with both, and with neither.
        for (value, want) in [
            (token.as_str(), [Pat, Pat, Pat, Nothing]),
            (&prefixed, [Pat, Pat, Pat, Nothing]),
            (&unsigned, [Pat, Pat, Pat, Nothing]),
            (&words, [Nothing, Password, Password, Nothing]),
            (&basic_line("u:p"), [Nothing, Password, Password, Nothing]),
            (&basic_line(":"), [Nothing, Password, Password, Nothing]),
            (&basic_line("u"), [Nothing, Malformed, Malformed, Nothing]),
            ("basic ???", [Nothing, Malformed, Malformed, Nothing]),
            ("Basic", [Nothing, Malformed, Malformed, Nothing]),
            ("BasicdTpw", [Nothing, Nothing, Nothing, Nothing]),
        ] {
            let kinds = [(true, false), (false, true), (true, true), (false, false)];
            let got = kinds.map(|(pats, passwords)| {
                let headers = headers(&[("authorization", value)]);
                let accepted = Accepted { pats, passwords };
                match select(&headers, None, &CookieNames::default(), accepted) {
                    None => Nothing,
                    Some(Credential::PatAsPassword(_)) => Pat,
                    Some(Credential::Password(_)) => Password,
                    Some(Credential::MalformedBasic) => Malformed,
                    other => panic!("{value}: {other:?}"),
                }
            });
            assert_eq!(got, want, "{value}");
        }
    }

    #[test]
    fn the_user_name_beside_a_pat_is_its_user_or_a_word_for_any_user() {
        let user = UserId::new("USER").unwrap();
        for (name, want) in [
            ("", true),
            ("user", true),
            ("USER", true),
            ("oauth2", true),
            ("OAuth2", true),
            ("token", true),
            ("x-token-auth", true),
            ("other", false),
            ("x-token", false),
            ("john.doe@corp", false),
        ] {
            let parsed = BasicUser::parse(name.as_bytes());
            assert_eq!(parsed.is_some_and(|it| it.may_use_token_of(&user)), want, "{name}");
        }
        assert_eq!(BasicUser::parse(b"\xff"), None);
    }

    #[test]
    fn only_a_basic_password_is_kept_if_basic_is_forwarded() {
        let [password, token] = ["u:p".to_owned(), format!("u:{TOKEN}")].map(|it| basic_line(&it));
        for (first, second, want) in [
            (password.as_str(), "Bearer x", Some(&password)),
            ("Bearer x", &password, None),
            (&token, &password, None),
            (&basic_line(&format!("{TOKEN}:x-oauth-basic")), &password, None),
            (&basic_line("zowepat_x:"), &password, None),
            ("Basic ???", "Basic ???", None),
        ] {
            let mut headers = headers(&[
                ("authorization", first),
                ("authorization", second),
                ("cookie", "apimlAuthenticationToken=1"),
            ]);
            strip_except_basic(&mut headers, &CookieNames::default());
            let left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
            let want: Vec<_> =
                want.map(|it| ("authorization", it.as_bytes())).into_iter().collect();
            assert_eq!(left, want, "{first}");
        }
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
            (
                "cookie",
                "__Host-passticket-form=1; __host-PASSTICKET-x=2; hides=b,__Host-passticket-=x",
            ),
            ("cookie", "__Host-passticket=stays; __Host-a=stays"),
        ]);
        strip(&mut headers, &CookieNames::default().with_jwt("mine").with_pat("yours"));
        let left: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&("x-certificates", "stays")));
        let cookies = "a=1; apimlAuthenticationTokens=stays; b=1,2; __Host-passticket=stays; \
                       __Host-a=stays";
        assert!(left.contains(&("cookie", cookies)), "{left:?}");
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
