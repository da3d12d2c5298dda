//! Verifying tokens: signature, times, claims. Nothing here asks what a token may be used for.

use std::{num::NonZeroUsize, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, errors::ErrorKind};

#[cfg(feature = "store")]
use super::fingerprint::Salt;
use super::{
    Scopes, VerifyingKey,
    cache::TokenCache,
    claims::{Claims, ISSUER_JWT, ISSUER_PAT},
    fingerprint::{Fingerprints, TokenFingerprint},
};
use crate::{
    clock::{Clock, SystemClock, Timestamp},
    passticket::{NameError, UserId},
};

/// The longest token that is looked at, in bytes. A PAT with hundreds of scopes fits.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Verifies tokens under one key.
#[derive(Clone, Debug)]
pub struct Rs256Verifier {
    key: VerifyingKey,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<TokenCache>>,
}

impl Rs256Verifier {
    /// A verifier that takes the time from the machine.
    pub fn new(key: VerifyingKey) -> Self {
        Self { key, clock: Arc::new(SystemClock), cache: None }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Remembers up to `tokens` tokens that have verified, so that seeing one again costs a hash
    /// instead of a signature check. What is remembered is not the text of a token, is good for no
    /// longer than the token, and says nothing about revocation. Clones share what they remember.
    ///
    /// Takes less than 400 bytes for each token (`benches/memory.rs`). One with many scopes is
    /// larger, and counts as several.
    #[must_use]
    pub fn with_cache(mut self, tokens: NonZeroUsize) -> Self {
        self.cache = Some(Arc::new(TokenCache::new(tokens)));
        self
    }

    /// What time it is, for whoever has to judge a credential beside a token.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Verifies a token in its compact form (RFC 7515 §3.1): RS256 under our key, not expired
    /// (`now < exp`), not used before `nbf`, every claim of its type, an issuer we know.
    ///
    /// # Errors
    /// [`TokenError`] tells the first thing that is wrong; the signature is checked before any
    /// claim is believed.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, TokenError> {
        self.verify_bytes(token.as_bytes())
    }

    /// As [`verify`](Self::verify), of what may be no text: what is remembered need not be looked
    /// through for that.
    pub(crate) fn verify_bytes(&self, token: &[u8]) -> Result<VerifiedToken, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong { len: token.len() });
        }
        let anew = || {
            let token = str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
            self.verify_anew(token)
        };
        match &self.cache {
            Some(cache) => cache.get_or_verify(token, self.clock.now(), anew),
            None => anew(),
        }
    }

    fn verify_anew(&self, token: &str) -> Result<VerifiedToken, TokenError> {
        // Checked here and not by jsonwebtoken's `decode`, which parses the key for each token and
        // reads header and claims twice: a third more. Its checks of times would be of no use
        // anyway: they allow a minute, and do not go by our clock.
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let critical = header != OUR_HEADER && has_critical_extensions(token)?;
        if !self.key.has_signed(message.as_bytes(), &decode(signature)?) {
            return Err(TokenError::Signature);
        }
        let payload = decode(payload)?;
        // RFC 7519 §7.2 wants an object. serde takes an array for one.
        if payload.trim_ascii_start().first() == Some(&b'[') {
            return Err(TokenError::Claims("the claims are no JSON object".into()));
        }
        let claims = serde_json::from_slice(&payload).map_err(|e| {
            if e.is_data() { TokenError::Claims(claim_problem(&e)) } else { TokenError::Malformed }
        })?;
        // RFC 7515 §4.1.11: an extension that is marked critical and not understood.
        if critical {
            return Err(TokenError::Malformed);
        }
        self.check(token, claims)
    }

    fn check(&self, token: &str, claims: Claims) -> Result<VerifiedToken, TokenError> {
        let now = self.clock.now().as_secs();
        if claims.exp <= now {
            return Err(TokenError::Expired { secs_ago: now - claims.exp });
        }
        if let Some(nbf) = claims.nbf.filter(|nbf| *nbf > now) {
            return Err(TokenError::NotYetValid { in_secs: nbf - now });
        }
        let user = || UserId::new(&claims.sub).map_err(TokenError::Subject);
        let expires_at = Timestamp::from_secs(claims.exp);
        if claims.iss.eq_ignore_ascii_case(ISSUER_JWT) {
            return Ok(VerifiedToken::Jwt(Jwt(Arc::new(JwtClaims {
                user: user()?,
                issued_at: Timestamp::from_secs(claims.iat),
                expires_at,
                domain: claims.dom.map(Box::from),
                fingerprints: Fingerprints::of(token),
            }))));
        }
        if claims.iss.eq_ignore_ascii_case(ISSUER_PAT) {
            let Some(scopes) = &claims.scopes else {
                return Err(TokenError::Claims("missing field `scopes`".into()));
            };
            return Ok(VerifiedToken::Pat(Pat(Arc::new(PatClaims {
                user: user()?,
                scopes: Scopes::from_claim(scopes),
                issued_at: issued_at(&claims),
                expires_at,
                fingerprints: Fingerprints::of(token),
            }))));
        }
        Err(TokenError::Issuer)
    }
}

/// `{"alg":"RS256"}`: the header that [`TokenIssuer`](super::TokenIssuer) writes.
const OUR_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";

/// Reads the header of a token, which has to say RS256.
fn has_critical_extensions(token: &str) -> Result<bool, TokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|e| match e.kind() {
        // It has no name for some algorithms, `none` among them.
        ErrorKind::Json(_) => TokenError::Algorithm,
        _ => TokenError::Malformed,
    })?;
    match header.alg {
        Algorithm::RS256 => Ok(header.crit.is_some()),
        _ => Err(TokenError::Algorithm),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

/// Our private claim says it to the millisecond. It only refines `iat`: a value in another second
/// is not ours and does not count.
fn issued_at(claims: &Claims) -> Timestamp {
    claims
        .iat_ms
        .map(Timestamp::from_millis)
        .filter(|precise| precise.as_secs() == claims.iat)
        .unwrap_or(Timestamp::from_secs(claims.iat))
}

/// serde's text without the place: it names the field and the types, never more than a piece of
/// the value, and that only of values of the wrong type.
fn claim_problem(error: &serde_json::Error) -> Box<str> {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(120).collect::<String>().into()
}

/// A token that [`Rs256Verifier`] has verified; nothing else makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VerifiedToken {
    /// A login token.
    Jwt(Jwt),
    /// A Personal Access Token.
    Pat(Pat),
}

impl VerifiedToken {
    /// From when on it is no longer good.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Jwt(jwt) => jwt.expires_at(),
            Self::Pat(pat) => pat.expires_at(),
        }
    }
}

/// The claims of a verified login token. Clones share them.
#[derive(Clone, Debug)]
pub struct Jwt(Arc<JwtClaims>);

#[derive(Debug)]
struct JwtClaims {
    user: UserId,
    issued_at: Timestamp,
    expires_at: Timestamp,
    domain: Option<Box<str>>,
    fingerprints: Fingerprints,
}

impl Jwt {
    /// Whose it is.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// When it was issued, to the second.
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// From when on it is no longer good.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// The security domain that authenticated the user.
    pub fn domain(&self) -> Option<&str> {
        self.0.domain.as_deref()
    }

    /// What stands for it in logs and in memory.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprints.own()
    }

    /// What stands for it in a file.
    #[cfg(feature = "store")]
    pub(crate) fn fingerprint_under(&self, salt: &Salt) -> TokenFingerprint {
        self.0.fingerprints.under(salt)
    }
}

/// The claims of a verified Personal Access Token, which may still be revoked or out of scope.
/// Clones share them.
#[derive(Clone, Debug)]
pub struct Pat(Arc<PatClaims>);

#[derive(Debug)]
struct PatClaims {
    user: UserId,
    scopes: Scopes,
    issued_at: Timestamp,
    expires_at: Timestamp,
    fingerprints: Fingerprints,
}

impl Pat {
    /// Whose it is.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// What it is good for.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// When it was issued: to the millisecond if we issued it, else to the second.
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// From when on it is no longer good.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// What stands for it in logs and in memory.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprints.own()
    }

    /// What stands for it in a file.
    #[cfg(feature = "store")]
    pub(crate) fn fingerprint_under(&self, salt: &Salt) -> TokenFingerprint {
        self.0.fingerprints.under(salt)
    }
}

/// What is wrong with a token. For the log: it never carries the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_LEN`].
    #[error("the token has {len} bytes, more than {MAX_TOKEN_LEN}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// No JWT at all, or one with a critical extension.
    #[error("the token is no JWT")]
    Malformed,
    /// Signed in another way than RS256, or not at all (`none`).
    #[error("the token is not signed with RS256")]
    Algorithm,
    /// Not signed by our key.
    #[error("the signature of the token does not verify")]
    Signature,
    /// A claim is missing or of the wrong type.
    #[error("a claim of the token is not valid: {0}")]
    Claims(Box<str>),
    /// Neither `APIML` nor `APIML_PAT`.
    #[error("the issuer of the token is not known")]
    Issuer,
    /// Too late.
    #[error("the token expired {secs_ago} s ago")]
    Expired {
        /// Seconds since then.
        secs_ago: u64,
    },
    /// Too early.
    #[error("the token is good only in {in_secs} s")]
    NotYetValid {
        /// Seconds until then.
        in_secs: u64,
    },
    /// The subject is no z/OS user id.
    #[error("the subject of the token is no user: {0}")]
    Subject(NameError),
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier, LazyLock,
            atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        },
        thread,
        time::{Duration, Instant},
    };

    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
    use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        clock::ManualClock,
        token::{SigningKey, TokenIssuer, Validity},
    };

    const NOW: u64 = 1_800_000_000;

    static PEM: LazyLock<String> = LazyLock::new(rsa_pem);
    static KEY: LazyLock<SigningKey> =
        LazyLock::new(|| SigningKey::from_pem(PEM.as_bytes()).unwrap());

    fn rsa_pem() -> String {
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
            .unwrap()
            .serialize_pem()
    }

    fn verifier() -> Rs256Verifier {
        Rs256Verifier::new(KEY.verifying_key())
            .with_clock(Arc::new(ManualClock::new(Timestamp::from_secs(NOW))))
    }

    fn signed(claims: &Value) -> String {
        signed_with(&Header::new(Algorithm::RS256), claims)
    }

    fn signed_with(header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, KEY.private()).unwrap()
    }

    fn good() -> Value {
        json!({"sub": "user", "iat": NOW - 5, "exp": NOW + 5, "iss": "APIML_PAT", "scopes": ["a"]})
    }

    fn with(changes: Value) -> Value {
        let mut claims = good();
        for (k, v) in changes.as_object().unwrap() {
            claims[k] = v.clone();
        }
        claims
    }

    fn without(claim: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(claim);
        claims
    }

    #[test]
    fn claims_are_checked_with_their_types_and_without_leeway() {
        enum Want {
            Ok,
            Claims,
            Is(TokenError),
        }
        use Want::{Claims, Is, Ok};
        let cases = [
            ("as it is", good(), Ok),
            ("issuer in another case", with(json!({"iss": "apiml_pat"})), Ok),
            ("a login token", with(json!({"iss": "APIML"})), Ok),
            ("last second", with(json!({"exp": NOW + 1})), Ok),
            ("exp is now", with(json!({"exp": NOW})), Is(TokenError::Expired { secs_ago: 0 })),
            ("expired", with(json!({"exp": NOW - 9})), Is(TokenError::Expired { secs_ago: 9 })),
            ("nbf is now", with(json!({"nbf": NOW})), Ok),
            ("early", with(json!({"nbf": NOW + 2})), Is(TokenError::NotYetValid { in_secs: 2 })),
            ("exp is a string", with(json!({"exp": (NOW + 5).to_string()})), Claims),
            ("exp is null", with(json!({"exp": null})), Claims),
            ("exp is a float", with(json!({"exp": 1.9e9})), Claims),
            ("exp is negative", with(json!({"exp": -1})), Claims),
            ("exp is a list", with(json!({"exp": [NOW + 5]})), Claims),
            ("no exp", without("exp"), Claims),
            ("nbf is a string", with(json!({"nbf": "0"})), Claims),
            ("nbf is null", with(json!({"nbf": null})), Claims),
            ("no iat", without("iat"), Claims),
            ("iat is a string", with(json!({"iat": "5"})), Claims),
            ("no sub", without("sub"), Claims),
            ("sub is a number", with(json!({"sub": 5})), Claims),
            ("no iss", without("iss"), Claims),
            ("iss is a list", with(json!({"iss": ["APIML"]})), Claims),
            ("foreign", with(json!({"iss": "https://idp"})), Is(TokenError::Issuer)),
            ("PAT without scopes", without("scopes"), Claims),
            ("scopes is a string", with(json!({"scopes": "a"})), Claims),
            ("scopes of numbers", with(json!({"scopes": [1]})), Claims),
            ("claims in an array", json!(["USER", NOW - 5, NOW + 5, "APIML"]), Claims),
            (
                "sub is no user",
                with(json!({"sub": "john.doe@corp"})),
                Is(TokenError::Subject(UserId::new("john.doe@corp").unwrap_err())),
            ),
        ];
        for (name, claims, want) in cases {
            let got = verifier().verify(&signed(&claims));
            match (want, &got) {
                (Ok, Result::Ok(_)) | (Claims, Err(TokenError::Claims(_))) => {}
                (Is(want), Err(got)) if want == *got => {}
                _ => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_claim_that_stands_twice_is_refused() {
        let payload = format!(r#"{{"sub":"A","sub":"B","iat":1,"exp":{},"iss":"APIML"}}"#, NOW + 5);
        let message = format!("{}.{}", B64.encode(r#"{"alg":"RS256"}"#), B64.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), KEY.private(), Algorithm::RS256)
                .unwrap();
        let got = verifier().verify(&format!("{message}.{signature}"));
        assert!(matches!(got, Err(TokenError::Claims(_))), "{got:?}");
    }

    #[test]
    fn only_rs256_under_our_key_is_believed() {
        let unsigned = |alg: &str| {
            let header = B64.encode(json!({ "alg": alg }).to_string());
            format!("{header}.{}.", B64.encode(good().to_string()))
        };
        assert_eq!(verifier().verify(&unsigned("none")).unwrap_err(), TokenError::Algorithm);
        assert_eq!(verifier().verify(&unsigned("RS256")).unwrap_err(), TokenError::Signature);

        // The public key as an HMAC secret: in PEM, and as its modulus.
        let public = KEY.verifying_key();
        for secret in [public.to_pem(), public.to_jwk()["n"].as_str().unwrap().to_owned()] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good(), &key);
            assert_eq!(verifier().verify(&hs256.unwrap()).unwrap_err(), TokenError::Algorithm);
        }

        let header = Header::new(Algorithm::RS512);
        let rs512 = jsonwebtoken::encode(&header, &good(), KEY.private()).unwrap();
        assert_eq!(verifier().verify(&rs512).unwrap_err(), TokenError::Algorithm);

        let foreign = SigningKey::from_pem(rsa_pem().as_bytes()).unwrap();
        let foreign = Rs256Verifier::new(foreign.verifying_key());
        assert_eq!(foreign.verify(&signed(&good())).unwrap_err(), TokenError::Signature);
    }

    #[test]
    fn a_critical_extension_is_refused() {
        let header = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::RS256) };
        let got = verifier().verify(&signed_with(&header, &good()));
        assert_eq!(got.unwrap_err(), TokenError::Malformed);
    }

    #[test]
    fn a_token_of_16_kib_is_read_and_a_longer_one_is_not() {
        let mut scopes = vec!["a".to_owned()];
        let long = loop {
            scopes.push(format!("service-{:08}", scopes.len()));
            let token = signed(&with(json!({ "scopes": scopes })));
            if token.len() > MAX_TOKEN_LEN - 64 {
                break token;
            }
        };
        assert!(long.len() <= MAX_TOKEN_LEN);
        assert!(verifier().verify(&long).is_ok());
        let longer = signed(&with(json!({ "scopes": scopes, "jti": "x".repeat(100) })));
        assert!(matches!(verifier().verify(&longer), Err(TokenError::TooLong { .. })));
    }

    #[test]
    fn what_is_issued_verifies_and_looks_like_the_reference() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW * 1000 + 321)));
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock.clone());
        let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock.clone());
        let user = UserId::new("user").unwrap();
        let scopes = Scopes::parse(["b", "A"]).unwrap();
        let token =
            issuer.personal_access_token(&user, &scopes, Validity::requested(Some(2))).unwrap();

        let mut parts = token.expose().split('.').map(|p| B64.decode(p).unwrap());
        assert_eq!(parts.next().unwrap(), br#"{"alg":"RS256"}"#);
        let mut claims: Value = serde_json::from_slice(&parts.next().unwrap()).unwrap();
        assert!(
            claims.as_object_mut().unwrap().remove("jti").unwrap().as_str().unwrap().len() == 36
        );
        assert_eq!(
            claims,
            json!({"sub": "USER", "iat": NOW, "exp": NOW + 172_800, "iss": "APIML_PAT",
                   "auth.prov": "APIML", "scopes": ["a", "b"], "iat_ms": NOW * 1000 + 321})
        );

        let VerifiedToken::Pat(pat) = verifier.verify(token.expose()).unwrap() else { panic!() };
        assert_eq!(pat.issued_at().as_millis(), NOW * 1000 + 321);
        clock.advance(Duration::from_secs(172_800));
        assert!(matches!(verifier.verify(token.expose()), Err(TokenError::Expired { .. })));
    }

    #[test]
    fn a_precise_issue_time_counts_only_within_its_second() {
        let pat = |iat_ms: u64| {
            let token = signed(&with(json!({"iat": NOW - 5, "iat_ms": iat_ms})));
            let Ok(VerifiedToken::Pat(pat)) = verifier().verify(&token) else { panic!() };
            pat.issued_at().as_millis()
        };
        let second = (NOW - 5) * 1000;
        assert_eq!(pat(second + 999), second + 999);
        assert_eq!(pat(second + 1000), second);
        assert_eq!(pat(u64::MAX), second);
    }

    #[test]
    fn what_is_remembered_is_good_until_its_second_and_only_if_it_was_good() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
        let verifier = Rs256Verifier::new(KEY.verifying_key())
            .with_clock(clock.clone())
            .with_cache(NonZeroUsize::new(100).unwrap());
        let cached = || verifier.cache.as_ref().unwrap().len();
        let token = signed(&good());
        for _ in 0..3 {
            assert!(verifier.verify(&token).is_ok());
            // Another spelling of the signature is another token, and none.
            assert!(verifier.verify(&format!("{token}A")).is_err());
            let (header, rest) = token.split_once('.').unwrap();
            let (_, signature) = rest.split_once('.').unwrap();
            let payload = B64.encode(with(json!({"sub": "admin"})).to_string());
            let forged = format!("{header}.{payload}.{signature}");
            assert!(verifier.verify(&forged).is_err());
        }
        assert_eq!(cached(), 1);
        let early = signed(&with(json!({"nbf": NOW + 2})));
        assert!(verifier.verify(&early).is_err());
        assert_eq!(cached(), 1);

        clock.advance(Duration::from_secs(4));
        assert!(verifier.verify(&token).is_ok() && verifier.verify(&early).is_ok());
        clock.advance(Duration::from_secs(1));
        for _ in 0..2 {
            let expired = TokenError::Expired { secs_ago: 0 };
            assert_eq!(verifier.verify(&token).unwrap_err(), expired);
            assert_eq!(verifier.verify(&early).unwrap_err(), expired);
        }
        assert_eq!(cached(), 0);
    }

    /// A cache with what it was asked to verify.
    struct Watched {
        cache: TokenCache,
        verified: VerifiedToken,
        checks: AtomicUsize,
    }

    impl Watched {
        fn new(capacity: usize) -> Self {
            let verified = verifier().verify(&signed(&good())).unwrap();
            Self::of(capacity, verified)
        }

        fn of(capacity: usize, verified: VerifiedToken) -> Self {
            let cache = TokenCache::new(NonZeroUsize::new(capacity).unwrap());
            Self { cache, verified, checks: AtomicUsize::new(0) }
        }

        /// Whether it was known; else it is good.
        fn knows(&self, token: &str) -> bool {
            let before = self.checks.load(SeqCst);
            let verify = || {
                self.checks.fetch_add(1, SeqCst);
                Ok(self.verified.clone())
            };
            self.cache.get_or_verify(token.as_bytes(), Timestamp::from_secs(NOW), verify).unwrap();
            self.checks.load(SeqCst) == before
        }

        /// Shows it a token that is bad.
        fn refuses(&self, token: &str) {
            let verify = || {
                self.checks.fetch_add(1, SeqCst);
                Err(TokenError::Signature)
            };
            let got = self.cache.get_or_verify(token.as_bytes(), Timestamp::from_secs(NOW), verify);
            assert_eq!(got.unwrap_err(), TokenError::Signature);
        }
    }

    #[test]
    fn the_cache_is_bounded_and_a_flood_does_not_wash_out_what_is_used() {
        for capacity in [50, 1_000] {
            let watched = Watched::new(capacity);
            watched.knows("used");
            watched.knows("used");
            let mut forgotten = 0;
            for i in 0..10 * capacity {
                assert!(!watched.knows(&format!("flood {i}")));
                if i % 10 == 0 && !watched.knows("used") {
                    forgotten += 1;
                }
            }
            assert!(watched.cache.len() <= capacity, "{}", watched.cache.len());
            assert_eq!(forgotten, 0);
        }
    }

    #[test]
    fn what_has_many_scopes_counts_as_several() {
        let scopes: Vec<_> = (0..400).map(|i| format!("service-{i}")).collect();
        let large = verifier().verify(&signed(&with(json!({ "scopes": scopes })))).unwrap();
        let watched = Watched::of(1_010, large);
        for i in 0..100 {
            watched.knows(&format!("flood {i}"));
        }
        assert!((1..=10).contains(&watched.cache.len()), "{}", watched.cache.len());
    }

    #[test]
    fn a_flood_of_bad_tokens_costs_its_checks_and_nothing_else() {
        let watched = Watched::new(50);
        let good: Vec<_> = (0..20).map(|i| format!("good {i}")).collect();
        good.iter().for_each(|token| assert!(!watched.knows(token)));
        let (held, before) = (watched.cache.len(), watched.checks.load(SeqCst));
        for i in 0..5_000 {
            watched.refuses(&format!("bad {i}"));
            watched.refuses("bad");
        }
        assert_eq!(watched.checks.load(SeqCst), before + 10_000);
        assert_eq!(watched.cache.len(), held);
        good.iter().for_each(|token| assert!(watched.knows(token), "{token}"));
    }

    const THREADS: usize = 8;

    #[test]
    fn a_new_token_on_many_threads_is_verified_once() {
        let watched = Watched::new(50);
        for round in 0..50 {
            let (token, start) = (format!("new {round}"), Barrier::new(THREADS));
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.wait();
                        watched.knows(&token)
                    });
                }
            });
            assert_eq!(watched.checks.load(SeqCst), round + 1);
        }
    }

    #[test]
    fn those_who_waited_for_a_bad_token_check_it_at_the_same_time() {
        let watched = Watched::new(50);
        let (begun, asking) = <(AtomicBool, AtomicUsize)>::default();
        let (checking, together) = <(AtomicUsize, AtomicBool)>::default();
        let until = |done: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !done() && start.elapsed() < Duration::from_secs(2) {
                thread::yield_now();
            }
        };
        let verify = || {
            if begun.swap(true, SeqCst) {
                checking.fetch_add(1, SeqCst);
                let meet = || together.load(SeqCst) || checking.load(SeqCst) > 1;
                until(&meet);
                together.fetch_or(meet(), SeqCst);
                checking.fetch_sub(1, SeqCst);
            } else {
                until(&|| asking.load(SeqCst) == THREADS);
                // From having asked to waiting.
                (0..1_000).for_each(|_| thread::yield_now());
            }
            Err(TokenError::Signature)
        };
        let ask = || {
            asking.fetch_add(1, SeqCst);
            let now = Timestamp::from_secs(NOW);
            watched.cache.get_or_verify(b"bad", now, verify).unwrap_err();
        };
        thread::scope(|scope| {
            scope.spawn(ask);
            until(&|| begun.load(SeqCst));
            (1..THREADS).for_each(|_| drop(scope.spawn(ask)));
        });
        assert!(together.into_inner());
        assert_eq!(watched.cache.len(), 0);
    }

    #[test]
    fn nothing_shows_a_token() {
        let token = signed(&good());
        let verified = verifier().verify(&token).unwrap();
        let shown = format!("{verified:?} {:?} {:?}", verifier(), KEY.clone());
        assert!(!shown.contains(token.split('.').next_back().unwrap()));
        let issued = TokenIssuer::new(KEY.clone())
            .login_token(&UserId::new("A").unwrap(), "security-domain")
            .unwrap();
        assert_eq!(format!("{issued:?}"), "IssuedToken(..)");
    }

    /// What jsonwebtoken makes of a token, in our words.
    fn by_the_library(token: &str) -> Result<VerifiedToken, TokenError> {
        let jwk = serde_json::from_value(KEY.verifying_key().to_jwk()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let data = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|e| match e
            .kind()
        {
            ErrorKind::InvalidSignature => TokenError::Signature,
            ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
            ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_err() => {
                TokenError::Algorithm
            }
            ErrorKind::Json(e) if e.is_data() => TokenError::Claims(claim_problem(e)),
            _ => TokenError::Malformed,
        })?;
        if data.header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        verifier().check(token, data.claims)
    }

    /// Members of an object, of which some are there and some are there twice.
    fn object(members: Vec<(&'static str, Vec<String>)>) -> impl Strategy<Value = String> {
        let member = |(name, values): (&'static str, Vec<String>)| {
            // The first value is the good one, and most are.
            let (good, any) = (Just(values[0].clone()), proptest::sample::select(values));
            let value = prop_oneof![9 => good.boxed(), 1 => any.boxed()];
            let one =
                proptest::collection::vec(value.prop_map(move |v| format!("{name:?}:{v}")), 1);
            prop_oneof![
                30 => one.clone().boxed(),
                1 => Just(Vec::new()).boxed(),
                1 => (one.clone(), one).prop_map(|(a, b)| [a, b].concat()).boxed(),
            ]
        };
        let members: Vec<_> = members.into_iter().map(member).collect();
        members.prop_map(|members| format!("{{{}}}", members.concat().join(",")))
    }

    fn values(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    /// Text where a token has its header.
    fn headers() -> impl Strategy<Value = String> {
        let header = object(vec![
            (
                "alg",
                values(&[
                    "\"RS256\"",
                    "\"none\"",
                    "\"RS512\"",
                    "\"HS256\"",
                    "\"rs256\"",
                    "5",
                    "null",
                ]),
            ),
            ("typ", values(&["\"JWT\"", "5", "null"])),
            ("kid", values(&["\"a\"", "[]"])),
            ("x", values(&["1", "{}", "1e999"])),
        ]);
        let ours = Just(r#"{"alg":"RS256"}"#.to_owned());
        prop_oneof![
            8 => ours.boxed(),
            8 => header.boxed(),
            1 => with_crit().boxed(),
            1 => "\\PC{0,8}".boxed(),
        ]
    }

    fn with_crit() -> impl Strategy<Value = String> {
        object(vec![
            ("alg", values(&["\"RS256\""])),
            ("crit", values(&["[\"exp\"]", "[]", "5", "null"])),
        ])
    }

    fn payloads() -> impl Strategy<Value = String> {
        let (late, soon) = ((NOW + 5).to_string(), NOW.to_string());
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let payload = object(vec![
            ("sub", values(&["\"USER\"", "\"no user\"", "5", "null"])),
            ("iat", values(&["1", "1.5", "\"1\"", "-1"])),
            ("exp", values(&[&late, &soon, "1e12", "null", "99999999999999999999"])),
            ("iss", values(&["\"APIML\"", "\"apiml_pat\"", "\"x\"", "[\"APIML\"]"])),
            ("nbf", values(&["0", &late, "\"0\"", "null"])),
            ("scopes", values(&["[\"a\"]", "\"a\"", "[5]", "null"])),
            ("dom", values(&["\"d\"", "\"\\ud800\"", "null"])),
            ("aud", values(&["\"a\"", "null", "[1,{}]", "1e999", "\"\\ud800\"", &deep])),
            ("other", values(&["{}", "null", &deep])),
        ]);
        prop_oneof![20 => payload.boxed(), 1 => "\\PC{0,8}".boxed()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_accepted_is_what_the_library_accepts(
            header in headers(),
            payload in payloads(),
            spoil in prop_oneof![
                12 => Just(None),
                1 => (0usize..4_000, prop_oneof![Just('.'), Just('='), Just('A')]).prop_map(Some),
            ],
        ) {
            let mut token = format!("{}.{}", B64.encode(header), B64.encode(payload));
            let signature =
                jsonwebtoken::crypto::sign(token.as_bytes(), KEY.private(), Algorithm::RS256);
            token = format!("{token}.{}", signature.unwrap());
            if let Some((position, with)) = spoil {
                token.insert(position % (token.len() + 1), with);
            }
            let [ours, theirs] = [verifier().verify(&token), by_the_library(&token)];
            match (&ours, &theirs) {
                (Ok(_), Ok(_)) => {}
                (Err(ours), Err(theirs)) => prop_assert_eq!(ours, theirs),
                _ => prop_assert!(false, "{:?}, the library: {:?}, {}", ours, theirs, token),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_the_verifier_panic(text in "\\PC{0,200}") {
            prop_assert!(verifier().verify(&text).is_err());
        }

        #[test]
        fn a_changed_byte_is_refused(position in 0usize..10_000, byte in b'A'..=b'z') {
            static TOKEN: LazyLock<String> = LazyLock::new(|| signed(&good()));
            let mut bytes = TOKEN.clone().into_bytes();
            let position = position % bytes.len();
            prop_assume!(bytes[position] != byte);
            bytes[position] = byte;
            prop_assert!(verifier().verify(str::from_utf8(&bytes).unwrap()).is_err());
        }
    }
}
