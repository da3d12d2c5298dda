//! The scheme `zoweJwt`: the service receives a login token of Zowe.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header::COOKIE};
use quick_cache::sync::Cache;

use super::{
    authentication::Proof,
    credential::CookieNames,
    failure::Failure,
    scheme_error::SchemeError,
    schemes::{Accepts, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
};
use crate::{
    clock::Timestamp,
    headers::cookie,
    messages::{self, ApiMessage},
    passticket::{Replay, UserId},
    token::{IssuedToken, ServiceId, TokenIssuer},
};

/// The scheme does not use a token with the full lifetime in its last minute, so that the token is still valid when the
/// service checks it.
const MARGIN: Duration = Duration::from_secs(60);

/// The maximum number of tokens that are kept. A token has less than 2 KiB.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

/// The scheme `zoweJwt`: the service receives a login token in the cookie `apimlAuthenticationToken`.
///
/// - If the credential of the client is a login token, the service receives this token.
/// - If it is a Personal Access Token, a token of another issuer, a client certificate or a password, the scheme issues
///   a login token for the user. The service must trust the key of the gateway.
///
/// A token that the scheme issues is valid only for the service of the route
/// ([`Jwt::service`](crate::token::Jwt::service), [D23](crate::decisions#d23)): the gateway refuses it on the routes of
/// other services. The token is valid neither for longer than the credential of the client, nor for longer than the
/// lifetime that the issuer sets.
///
/// The gateway sends this cookie together with the other cookies of the client.
///
/// The scheme keeps at most 10,000 of the tokens that it issues, and sends the same token in several requests. It
/// removes a token a minute before the token expires, and when the user logs out. If the credential of the client
/// shortens the lifetime of a token, the scheme keeps the token until it expires. A service can use a token until the
/// token expires, so use a short lifetime. Clones share the tokens.
///
/// ```
/// use std::time::Duration;
///
/// use tower_passticket::{
///     layer::{CookieNames, Route, ZoweJwtScheme},
///     token::{ServiceId, SigningKey, TokenIssuer},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
/// # let pem = pem.serialize_pem();
/// let issuer = TokenIssuer::new(SigningKey::from_pem(pem.as_bytes())?)
///     .with_lifetime(Duration::from_secs(900));
/// let route = Route::new(
///     ServiceId::new("files")?,
///     "api/v1",
///     "https://files.example.com".parse()?,
///     ZoweJwtScheme::new(issuer, "security-domain", CookieNames::default()),
/// )?;
/// assert_eq!(route.scheme().name(), "zoweJwt");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ZoweJwtScheme {
    issuer: TokenIssuer,
    domain: Arc<str>,
    names: CookieNames,
    header: Option<HeaderName>,
    issued: Arc<Cache<IssuedFor, Arc<IssuedToken>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct IssuedFor {
    user: UserId,
    service: ServiceId,
    /// `None` if the token has the full lifetime.
    expires_at: Option<Timestamp>,
}

impl ZoweJwtScheme {
    /// Creates a scheme that issues tokens with `issuer` and the claim `dom` with the value `domain`. `names` contains
    /// the name of the cookie.
    pub fn new(issuer: TokenIssuer, domain: &str, names: CookieNames) -> Self {
        let issued = Arc::new(Cache::new(CAPACITY.get()));
        Self { issuer, domain: domain.into(), names, header: None, issued }
    }

    /// Also sends the token in the header `name` (in Zowe, `apiml.security.auth.jwt.customAuthHeader`). If a client
    /// sends this header, the gateway removes or replaces it.
    #[must_use]
    pub fn with_header(self, name: HeaderName) -> Self {
        Self { header: Some(name), ..self }
    }

    /// Returns a kept token for `key`, or a new token.
    fn token_for(&self, key: &IssuedFor) -> Result<Arc<IssuedToken>, Failure> {
        let now = self.issuer.now();
        // If a token expires with the credential of the client, no new token could be valid for longer. So it is used
        // until it expires.
        let margin = if key.expires_at.is_some() { Duration::ZERO } else { MARGIN };
        let latest = now.plus(self.issuer.lifetime());
        // If a kept token expires after `latest`, the clock was set back.
        let is_fresh = |token: &IssuedToken| {
            now.plus(margin) < token.expires_at() && token.expires_at() <= latest
        };
        if let Some(token) = self.issued.get(key) {
            if is_fresh(&token) {
                return Ok(token);
            }
            self.issued.remove_if(key, |stored| Arc::ptr_eq(stored, &token));
        }
        // One thread signs a token for `key`. Other threads wait for this token, for about a millisecond.
        let token = self.issued.get_or_insert_with(key, || {
            let IssuedFor { user, service, expires_at } = key;
            self.issuer.service_token(user, &self.domain, service, *expires_at).map(Arc::new)
        });
        token.map_err(|error| failed(error.to_string(), "The key cannot sign"))
    }

    fn headers_for(&self, request: &SchemeRequest<'_>) -> Result<SchemeHeaders, Failure> {
        let expires_at = match (request.proof(), request.token()) {
            (Proof::Jwt(_), Some(token)) => return self.headers_with(request, token),
            // A new token would stay valid after the token of the client is revoked.
            (Proof::Jwt(_), None) => {
                let reason = "the text of the client's login token was not kept for the scheme";
                return Err(failed(reason.to_owned(), "The token of the client is missing"));
            }
            (Proof::Pat(pat), _) => Some(pat.expires_at()),
            (Proof::External(token), _) => Some(token.expires_at()),
            (Proof::Certificate(certificate), _) => Some(certificate.not_after()),
            (Proof::Password, _) => None,
        };
        let expires_at = expires_at
            .and_then(|expires_at| expiry(self.issuer.now(), self.issuer.lifetime(), expires_at));
        let (user, service) = (*request.user(), request.service().clone());
        let token = self.token_for(&IssuedFor { user, service, expires_at })?;
        self.headers_with(request, token.expose())
    }

    fn headers_with(
        &self,
        request: &SchemeRequest<'_>,
        token: &str,
    ) -> Result<SchemeHeaders, Failure> {
        let line = cookie::joined_with(request.headers(), self.names.jwt(), token);
        let line = line.ok_or_else(|| {
            SchemeError::failed("the token has a character that a cookie cannot contain")
        })?;
        let headers = SchemeHeaders::new().with(COOKIE, line);
        Ok(match (&self.header, HeaderValue::from_str(token)) {
            (Some(name), Ok(value)) => headers.with(name.clone(), value),
            _ => headers,
        })
    }
}

/// Returns when a new token expires, if the credential of the client expires at `credential`. `None` if the token gets
/// the full lifetime.
///
/// The time is rounded down to a whole minute, so that credentials that expire in the same minute share one token. If
/// the rounded time is at most one minute from now, the time is not rounded.
fn expiry(now: Timestamp, lifetime: Duration, credential: Timestamp) -> Option<Timestamp> {
    if now.plus(lifetime) <= credential {
        return None;
    }
    let minute = Timestamp::from_secs(credential.as_secs() / 60 * 60);
    Some(if now.plus(MARGIN) < minute { minute } else { credential })
}

fn failed(reason: String, text: &str) -> Failure {
    let message = ApiMessage::with(&messages::ZOWE_TOKEN_FAILED, &[text]);
    SchemeError::failed(reason).with_message(message).into()
}

impl fmt::Debug for ZoweJwtScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoweJwtScheme")
            .field("header", &self.header)
            .field("tokens", &self.issued.len())
            .finish_non_exhaustive()
    }
}

impl Scheme for ZoweJwtScheme {
    fn name(&self) -> &'static str {
        "zoweJwt"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(self.headers_for(request))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        self.header.as_slice()
    }

    fn accepts(&self) -> Accepts {
        Accepts::AnyCredentialWithToken
    }

    fn logged_out(&self, user: &UserId) {
        self.issued.retain(|key, _| key.user != *user);
    }

    fn replay(&self) -> Replay {
        Replay::Allowed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;
    use test_support::{pki, tickets::user};

    use super::*;
    use crate::{
        clock::ManualClock,
        layer::authentication::Authenticated,
        token::{Pat, Rs256Verifier, Scopes, SigningKey, TokenVerifier, Validity, VerifiedToken},
    };

    const LIFETIME: Duration = Duration::from_secs(900);

    #[test]
    fn a_token_expires_no_later_than_the_credential() {
        let now = Timestamp::from_secs(60_000);
        for (credential, want) in [
            (0, Some(0)),
            (59_999, Some(59_999)),
            (60_059, Some(60_059)),
            (60_060, Some(60_060)),
            (60_119, Some(60_119)),
            (60_120, Some(60_120)),
            (60_179, Some(60_120)),
            (60_899, Some(60_840)),
            (60_900, None),
            (u64::MAX / 1000, None),
        ] {
            let got = expiry(now, LIFETIME, Timestamp::from_secs(credential));
            assert_eq!(got, want.map(Timestamp::from_secs), "{credential}");
        }
    }

    struct World {
        clock: Arc<ManualClock>,
        issuer: TokenIssuer,
        verifier: Rs256Verifier,
        scheme: ZoweJwtScheme,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
            let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
            let verifier = Rs256Verifier::new(key.verifying_key()).with_clock(clock.clone());
            let issuer = TokenIssuer::new(key).with_clock(clock.clone());
            let scheme = issuer.clone().with_lifetime(LIFETIME);
            let scheme = ZoweJwtScheme::new(scheme, "x", CookieNames::default());
            Self { clock, issuer, verifier, scheme }
        }

        fn verify(&self, text: &str) -> VerifiedToken {
            self.verifier.try_verify_now(text.as_bytes()).unwrap().unwrap()
        }

        fn pat(&self) -> Pat {
            let scopes = Scopes::parse(["files", "jobs"]).unwrap();
            let validity = Validity::requested(Some(1));
            let pat = self.issuer.personal_access_token(&user("USER"), &scopes, validity).unwrap();
            match self.verify(pat.expose()) {
                VerifiedToken::Pat(pat) => pat,
                other => panic!("{other:?}"),
            }
        }

        fn prepare(&self, proof: Proof, service: &str) -> Result<String, Failure> {
            let authenticated = Authenticated::new(user("USER"), proof);
            let (service, request) = (ServiceId::new(service).unwrap(), Request::new(()));
            let seen = SchemeRequest::new(&authenticated, &service, &request);
            let headers = self.scheme.prepare(&seen).now().ok().unwrap()?;
            let mut written = http::HeaderMap::new();
            headers.write_to(&mut written);
            let line = written[COOKIE].to_str().unwrap();
            Ok(line.strip_prefix("apimlAuthenticationToken=").unwrap().to_owned())
        }

        fn issued(&self, proof: Proof, service: &str) -> (String, crate::token::Jwt) {
            let text = self.prepare(proof, service).unwrap();
            match self.verify(&text) {
                VerifiedToken::Jwt(jwt) => (text, jwt),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_token_is_for_one_service_and_ends_with_the_credential() {
        let world = World::new();
        let pat = world.pat();
        let (first, jwt) = world.issued(Proof::Pat(pat.clone()), "files");
        assert_eq!(jwt.service().map(ServiceId::as_str), Some("files"));
        assert_eq!(jwt.expires_at(), jwt.issued_at().plus(LIFETIME));
        assert_eq!(world.issued(Proof::Password, "files").0, first);
        let (other, jwt) = world.issued(Proof::Pat(pat.clone()), "jobs");
        assert_eq!(jwt.service().map(ServiceId::as_str), Some("jobs"));
        assert_ne!(other, first);

        // A PAT never gets a token that expires later than the PAT, such as a token for a password.
        world.clock.set(Timestamp::from_secs(pat.expires_at().as_secs() - 310));
        let (long, _) = world.issued(Proof::Password, "files");
        let (short, jwt) = world.issued(Proof::Pat(pat.clone()), "files");
        assert!(jwt.expires_at() <= pat.expires_at(), "{jwt:?}");
        assert_ne!(short, long);
        assert_eq!(world.issued(Proof::Pat(pat.clone()), "files").0, short);
        assert_eq!(world.issued(Proof::Password, "files").0, long);
        world.clock.set(Timestamp::from_secs(pat.expires_at().as_secs() - 2));
        let (last, jwt) = world.issued(Proof::Pat(pat.clone()), "files");
        assert_eq!(jwt.expires_at(), pat.expires_at());
        assert_eq!(world.issued(Proof::Pat(pat), "files").0, last);
    }

    #[test]
    fn a_logout_drops_the_tokens_of_all_services() {
        let world = World::new();
        let services = ["files", "jobs"];
        let issued = |service| world.issued(Proof::Password, service).0;
        let before = services.map(issued);
        world.scheme.logged_out(&user("OTHER"));
        assert_eq!(services.map(issued), before);
        world.scheme.logged_out(&user("USER"));
        for (before, service) in before.iter().zip(services) {
            assert_ne!(issued(service), *before);
        }
    }

    #[test]
    fn a_login_token_whose_text_is_missing_is_not_replaced() {
        let world = World::new();
        let login = world.issuer.login_token(&user("USER"), "x").unwrap();
        let VerifiedToken::Jwt(jwt) = world.verify(login.expose()) else { panic!() };
        let failure = world.prepare(Proof::Jwt(jwt), "files").unwrap_err();
        assert!(failure.to_string().contains("was not kept"), "{failure}");
    }
}
