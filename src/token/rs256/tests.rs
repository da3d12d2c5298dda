use std::{sync::LazyLock, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use proptest::prelude::*;
use serde_json::{Value, json};
use test_support::pki;

use super::*;
use crate::{
    clock::ManualClock,
    token::{SigningKey, TokenIssuer, Validity},
};

const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());
/// The same key for jsonwebtoken, which is the oracle here.
static ORACLE: LazyLock<EncodingKey> =
    LazyLock::new(|| EncodingKey::from_rsa_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

fn verifier() -> Rs256Verifier {
    Rs256Verifier::new(KEY.verifying_key())
        .with_clock(Arc::new(ManualClock::new(Timestamp::from_secs(NOW))))
}

fn signed(claims: &Value) -> String {
    signed_with(&Header::new(Algorithm::RS256), claims)
}

fn signed_with(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &ORACLE).unwrap()
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
fn a_repeated_claim_is_refused() {
    let payload = format!(r#"{{"sub":"A","sub":"B","iat":1,"exp":{},"iss":"APIML"}}"#, NOW + 5);
    let message = format!("{}.{}", B64.encode(r#"{"alg":"RS256"}"#), B64.encode(payload));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &ORACLE, Algorithm::RS256).unwrap();
    let got = verifier().verify(&format!("{message}.{signature}"));
    assert!(matches!(got, Err(TokenError::Claims(_))), "{got:?}");
}

#[test]
fn only_rs256_under_the_key_verifies() {
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
    let rs512 = jsonwebtoken::encode(&header, &good(), &ORACLE).unwrap();
    assert_eq!(verifier().verify(&rs512).unwrap_err(), TokenError::Algorithm);

    let foreign = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
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
fn tokens_up_to_16_kib_are_read() {
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
fn issued_tokens_verify_and_have_the_claims_of_the_reference() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(NOW * 1000 + 321)));
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock.clone());
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock.clone());
    let user = UserId::new("user").unwrap();
    let scopes = Scopes::parse(["b", "A"]).unwrap();
    let token = issuer.personal_access_token(&user, &scopes, Validity::requested(Some(2))).unwrap();

    let mut parts = token.expose().split('.').map(|p| B64.decode(p).unwrap());
    assert_eq!(parts.next().unwrap(), br#"{"alg":"RS256"}"#);
    let mut claims: Value = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    assert!(claims.as_object_mut().unwrap().remove("jti").unwrap().as_str().unwrap().len() == 36);
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
fn good_tokens_are_cached_until_they_expire() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
    let verifier = Rs256Verifier::new(KEY.verifying_key())
        .with_clock(clock.clone())
        .with_cache(NonZeroUsize::new(100).unwrap());
    let cached = || verifier.cache.as_ref().unwrap().len();
    let token = signed(&good());
    for _ in 0..3 {
        assert!(verifier.verify(&token).is_ok());
        // Another spelling of the signature is not a valid token.
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

#[test]
fn debug_output_has_no_token() {
    let token = signed(&good());
    let verified = verifier().verify(&token).unwrap();
    let shown = format!("{verified:?} {:?} {:?}", verifier(), KEY.clone());
    assert!(!shown.contains(token.split('.').next_back().unwrap()));
    let issued = TokenIssuer::new(KEY.clone())
        .login_token(&UserId::new("A").unwrap(), "security-domain")
        .unwrap();
    assert_eq!(format!("{issued:?}"), "IssuedToken(..)");
}

/// The answer of jsonwebtoken, as an error of ours.
fn by_jsonwebtoken(token: &str) -> Result<VerifiedToken, TokenError> {
    let jwk = serde_json::from_value(KEY.verifying_key().to_jwk()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let data =
        jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|e| match e.kind() {
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

/// A JSON object in which a member may be absent or repeated.
fn object(members: Vec<(&'static str, Vec<String>)>) -> impl Strategy<Value = String> {
    let member = |(name, values): (&'static str, Vec<String>)| {
        // The first value is the good one, and is chosen most often.
        let (good, any) = (Just(values[0].clone()), proptest::sample::select(values));
        let value = prop_oneof![9 => good.boxed(), 1 => any.boxed()];
        let one = proptest::collection::vec(value.prop_map(move |v| format!("{name:?}:{v}")), 1);
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

/// Texts in the place of the header.
fn headers() -> impl Strategy<Value = String> {
    let header = object(vec![
        (
            "alg",
            values(&["\"RS256\"", "\"none\"", "\"RS512\"", "\"HS256\"", "\"rs256\"", "5", "null"]),
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
    fn accepts_what_jsonwebtoken_accepts(
        header in headers(),
        payload in payloads(),
        spoil in prop_oneof![
            12 => Just(None),
            1 => (0usize..4_000, prop_oneof![Just('.'), Just('='), Just('A')]).prop_map(Some),
        ],
    ) {
        let mut token = format!("{}.{}", B64.encode(header), B64.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(token.as_bytes(), &ORACLE, Algorithm::RS256);
        token = format!("{token}.{}", signature.unwrap());
        if let Some((position, with)) = spoil {
            token.insert(position % (token.len() + 1), with);
        }
        let [ours, theirs] = [verifier().verify(&token), by_jsonwebtoken(&token)];
        match (&ours, &theirs) {
            (Ok(_), Ok(_)) => {}
            (Err(ours), Err(theirs)) => prop_assert_eq!(ours, theirs),
            _ => prop_assert!(false, "{:?}, jsonwebtoken: {:?}, {}", ours, theirs, token),
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
