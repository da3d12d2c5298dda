//! Tests of [`Rs256Verifier`]. The crate `jsonwebtoken` signs most of the tokens. One test compares the decisions of
//! `jsonwebtoken` with the decisions of `Rs256Verifier`.

use std::{sync::LazyLock, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use proptest::prelude::*;
use serde_json::{Value, json};
use test_support::pki;

use super::*;
use crate::{
    clock::ManualClock,
    token::{KeyId, MAX_TOKEN_LEN, SigningKey, TokenIssuer, Validity},
};

const NOW: u64 = 1_800_000_000;

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());
/// [`KEY`] as a key of the crate jsonwebtoken.
static JSONWEBTOKEN_KEY: LazyLock<EncodingKey> =
    LazyLock::new(|| EncodingKey::from_rsa_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

fn verifier() -> Rs256Verifier {
    Rs256Verifier::new(KEY.verifying_key())
        .with_clock(Arc::new(ManualClock::new(Timestamp::from_secs(NOW))))
}

fn signed(claims: &Value) -> String {
    signed_with(&Header::new(Algorithm::RS256), claims)
}

fn signed_with(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &JSONWEBTOKEN_KEY).unwrap()
}

fn valid_claims() -> Value {
    json!({"sub": "user", "iat": NOW - 5, "exp": NOW + 5, "iss": "APIML_PAT", "scopes": ["a"]})
}

/// Returns the claims of a valid PAT and `new_claims`. A new claim replaces a claim with the same name.
fn with(new_claims: Value) -> Value {
    let mut claims = valid_claims();
    for (k, v) in new_claims.as_object().unwrap() {
        claims[k] = v.clone();
    }
    claims
}

fn without(claim: &str) -> Value {
    let mut claims = valid_claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

#[test]
fn claim_types_and_times_are_checked_without_leeway() {
    enum Want {
        Ok,
        Claims,
        Is(TokenError),
    }
    use Want::{Claims, Is, Ok};
    let cases = [
        ("valid PAT", valid_claims(), Ok),
        ("iss in lower case", with(json!({"iss": "apiml_pat"})), Ok),
        ("login token", with(json!({"iss": "APIML"})), Ok),
        ("exp is one second from now", with(json!({"exp": NOW + 1})), Ok),
        ("exp is now", with(json!({"exp": NOW})), Is(TokenError::Expired { secs_ago: 0 })),
        (
            "exp is in the past",
            with(json!({"exp": NOW - 9})),
            Is(TokenError::Expired { secs_ago: 9 }),
        ),
        ("nbf is now", with(json!({"nbf": NOW})), Ok),
        (
            "nbf is in the future",
            with(json!({"nbf": NOW + 2})),
            Is(TokenError::NotYetValid { in_secs: 2 }),
        ),
        ("exp is a string", with(json!({"exp": (NOW + 5).to_string()})), Claims),
        ("exp is null", with(json!({"exp": null})), Claims),
        ("exp is a float", with(json!({"exp": 1.9e9})), Claims),
        ("exp is negative", with(json!({"exp": -1})), Claims),
        ("exp is an array", with(json!({"exp": [NOW + 5]})), Claims),
        ("no exp", without("exp"), Claims),
        ("nbf is a string", with(json!({"nbf": "0"})), Claims),
        ("nbf is null", with(json!({"nbf": null})), Claims),
        ("no iat", without("iat"), Claims),
        ("iat is a string", with(json!({"iat": "5"})), Claims),
        ("no sub", without("sub"), Claims),
        ("sub is a number", with(json!({"sub": 5})), Claims),
        ("no iss", without("iss"), Claims),
        ("iss is an array", with(json!({"iss": ["APIML"]})), Claims),
        ("unknown iss", with(json!({"iss": "https://idp"})), Is(TokenError::Issuer)),
        ("PAT without scopes", without("scopes"), Claims),
        ("scopes is a string", with(json!({"scopes": "a"})), Claims),
        ("scopes are numbers", with(json!({"scopes": [1]})), Claims),
        (
            "sub is not a user id",
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

/// Signs `payload`, which need not be JSON.
fn signed_text(payload: &str) -> String {
    let message = format!("{}.{}", B64.encode(r#"{"alg":"RS256"}"#), B64.encode(payload));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &JSONWEBTOKEN_KEY, Algorithm::RS256)
            .unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_repeated_claim_is_rejected() {
    let payload = format!(r#"{{"sub":"A","sub":"B","iat":1,"exp":{},"iss":"APIML"}}"#, NOW + 5);
    let got = verifier().verify(&signed_text(&payload));
    assert!(matches!(got, Err(TokenError::Claims(_))), "{got:?}");
}

/// The header and the claims of a JWT must be objects (RFC 7519 §7.2).
#[test]
fn a_payload_that_is_not_a_json_object_is_malformed() {
    let array = json!(["USER", NOW - 5, NOW + 5, "APIML"]).to_string();
    let object = json!({"sub": "USER", "iat": 1, "exp": NOW + 5, "iss": "APIML"}).to_string();
    for payload in [
        "",
        " ",
        "[",
        "]",
        "[]",
        " [1",
        "5",
        "-",
        "1e999",
        "null",
        "nul",
        "true",
        "\"x\"",
        "\"",
        "{",
        "{\"sub\"",
        &array,
        &array[1..],
        &object[1..],
        &format!("[{object}]"),
        &format!("{object}x"),
    ] {
        let token = signed_text(payload);
        let [ours, theirs] = [verifier().verify(&token), verify_with_jsonwebtoken(&token)];
        assert_eq!(ours.as_ref().unwrap_err(), &TokenError::Malformed, "{payload}");
        assert_eq!(theirs.as_ref().unwrap_err(), &TokenError::Malformed, "{payload}");
    }
    let late = signed_text(&format!("\n\t {object}"));
    assert!(verifier().verify(&late).is_ok());
}

#[test]
fn only_rs256_signatures_by_the_right_key_are_accepted() {
    let unsigned = |alg: &str| {
        let header = B64.encode(json!({ "alg": alg }).to_string());
        format!("{header}.{}.", B64.encode(valid_claims().to_string()))
    };
    assert_eq!(verifier().verify(&unsigned("none")).unwrap_err(), TokenError::Algorithm);
    assert_eq!(verifier().verify(&unsigned("RS256")).unwrap_err(), TokenError::Signature);

    // An attacker signs with HS256, and uses the public key as the shared secret: the whole key in PEM, or its modulus
    // in base64url.
    let public = KEY.verifying_key();
    for secret in [public.to_pem(), public.to_jwk()["n"].as_str().unwrap().to_owned()] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &valid_claims(), &key);
        assert_eq!(verifier().verify(&hs256.unwrap()).unwrap_err(), TokenError::Algorithm);
    }

    let header = Header::new(Algorithm::RS512);
    let rs512 = jsonwebtoken::encode(&header, &valid_claims(), &JSONWEBTOKEN_KEY).unwrap();
    assert_eq!(verifier().verify(&rs512).unwrap_err(), TokenError::Algorithm);

    let other_key = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
    let other_verifier = Rs256Verifier::new(other_key.verifying_key());
    assert_eq!(other_verifier.verify(&signed(&valid_claims())).unwrap_err(), TokenError::Signature);
}

#[test]
fn a_bad_header_is_malformed_unless_it_names_another_algorithm() {
    use TokenError::{Algorithm, Malformed};
    let cases = [
        (r#"{"alg":"none"}"#, Algorithm),
        (r#"{"alg":"ES512"}"#, Algorithm),
        (r#"{"alg":"rs256"}"#, Algorithm),
        (r#"{"alg":"HS256"}"#, Algorithm),
        (r#"{"alg":"PS256","kid":"a"}"#, Algorithm),
        (r#"{"alg":"none","typ":5}"#, Algorithm),
        (r#"{"typ":5,"alg":"none"}"#, Algorithm),
        (r#"{"alg":"HS256","kid":[]}"#, Algorithm),
        (r#"{"alg":"RS256","typ":5}"#, Malformed),
        (r#"{"alg":"RS256","kid":[]}"#, Malformed),
        (r#"{"alg":"RS256","crit":5}"#, Malformed),
        (r#"{"alg":5}"#, Malformed),
        (r#"{"alg":null}"#, Malformed),
        (r#"{"alg":["none"]}"#, Malformed),
        (r#"{"alg":{"RS256":null}}"#, Malformed),
        (r#"{"alg":"none","alg":"none"}"#, Malformed),
        (r#"{"typ":"JWT"}"#, Malformed),
        ("{}", Malformed),
        (r#"["none"]"#, Malformed),
        (r#" ["none"]"#, Malformed),
        (r#""none""#, Malformed),
        (r#"{"alg":"none""#, Malformed),
        (r#"{"alg":"none"}}"#, Malformed),
        ("none", Malformed),
        ("", Malformed),
    ];
    let payload = B64.encode(valid_claims().to_string());
    for (header, want) in cases {
        let token = format!("{}.{payload}.AAAA", B64.encode(header));
        assert_eq!(verifier().verify(&token).unwrap_err(), want, "{header}");
    }
    // A header that is not base64url is also malformed.
    for header in ["{}", "a", "eyJhbGciOiJub25lIn0="] {
        let error = verifier().verify(&format!("{header}.{payload}.AAAA")).unwrap_err();
        assert_eq!(error, Malformed, "{header}");
    }
}

#[test]
fn a_critical_extension_is_rejected() {
    let header = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::RS256) };
    let got = verifier().verify(&signed_with(&header, &valid_claims()));
    assert_eq!(got.unwrap_err(), TokenError::Malformed);
}

#[test]
fn tokens_of_at_most_16_kib_are_accepted() {
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
    let too_long = signed(&with(json!({ "scopes": scopes, "jti": "x".repeat(100) })));
    assert!(matches!(verifier().verify(&too_long), Err(TokenError::TooLong { .. })));
}

#[test]
fn issued_tokens_verify_and_have_the_expected_claims() {
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

    let VerifiedToken::Pat(pat) = verifier.verify(token.expose()).unwrap() else {
        panic!("expected a PAT")
    };
    assert_eq!(pat.issued_at().as_millis(), NOW * 1000 + 321);
    clock.advance(Duration::from_secs(172_800));
    assert!(matches!(verifier.verify(token.expose()), Err(TokenError::Expired { .. })));
}

#[test]
fn iat_ms_is_ignored_if_its_seconds_differ_from_iat() {
    let issued_at_millis = |iat_ms: u64| {
        let token = signed(&with(json!({"iat": NOW - 5, "iat_ms": iat_ms})));
        let Ok(VerifiedToken::Pat(pat)) = verifier().verify(&token) else {
            panic!("expected a PAT")
        };
        pat.issued_at().as_millis()
    };
    let iat_in_millis = (NOW - 5) * 1000;
    assert_eq!(issued_at_millis(iat_in_millis + 999), iat_in_millis + 999);
    assert_eq!(issued_at_millis(iat_in_millis + 1000), iat_in_millis);
    assert_eq!(issued_at_millis(u64::MAX), iat_in_millis);
}

#[test]
fn valid_tokens_are_cached_until_they_expire() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
    let verifier = Rs256Verifier::new(KEY.verifying_key())
        .with_clock(clock.clone())
        .with_cache(NonZeroUsize::new(100).unwrap());
    let cache_len = || verifier.cache.as_ref().unwrap().len();
    let token = signed(&valid_claims());
    for _ in 0..3 {
        assert!(verifier.verify(&token).is_ok());
        assert!(verifier.verify(&format!("{token}A")).is_err());
        let (header, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let payload = B64.encode(with(json!({"sub": "admin"})).to_string());
        let forged = format!("{header}.{payload}.{signature}");
        assert!(verifier.verify(&forged).is_err());
    }
    assert_eq!(cache_len(), 1);
    let early = signed(&with(json!({"nbf": NOW + 2})));
    assert!(verifier.verify(&early).is_err());
    assert_eq!(cache_len(), 1);

    clock.advance(Duration::from_secs(4));
    assert!(verifier.verify(&token).is_ok() && verifier.verify(&early).is_ok());
    clock.advance(Duration::from_secs(1));
    for _ in 0..2 {
        let expired = TokenError::Expired { secs_ago: 0 };
        assert_eq!(verifier.verify(&token).unwrap_err(), expired);
        assert_eq!(verifier.verify(&early).unwrap_err(), expired);
    }
    assert_eq!(cache_len(), 0);
}

#[test]
fn debug_output_does_not_contain_the_token() {
    let token = signed(&valid_claims());
    let verified = verifier().verify(&token).unwrap();
    let output = format!("{verified:?} {:?} {:?}", verifier(), KEY.clone());
    let signature = token.split('.').next_back().unwrap();
    assert!(!output.contains(signature));
    let issued = TokenIssuer::new(KEY.clone())
        .login_token(&UserId::new("A").unwrap(), "security-domain")
        .unwrap();
    assert_eq!(format!("{issued:?}"), "IssuedToken(..)");
}

/// Verifies a token. The crate jsonwebtoken verifies the signature and parses the token. This function converts its
/// errors to a [`TokenError`]. [`Rs256Verifier::check`] checks the claims, because the checks of jsonwebtoken allow a
/// leeway.
fn verify_with_jsonwebtoken(token: &str) -> Result<VerifiedToken, TokenError> {
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
                match algorithm(token.split('.').next().unwrap()) {
                    Some(other) if other != "RS256" => TokenError::Algorithm,
                    _ => TokenError::Malformed,
                }
            }
            ErrorKind::Json(e) if e.is_data() && has_object_as_payload(token) => {
                TokenError::Claims(claim_problem(e))
            }
            _ => TokenError::Malformed,
        })?;
    if !has_object_as_payload(token) {
        // jsonwebtoken also accepts an array as the claims.
        return Err(TokenError::Malformed);
    }
    if data.header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    verifier().check(token, data.claims, TokenOrigin::Gateway)
}

fn has_object_as_payload(token: &str) -> bool {
    let payload = B64.decode(token.split('.').nth(1).unwrap()).unwrap();
    str::from_utf8(&payload).unwrap().trim_start().starts_with('{')
}

/// Generates JSON objects. `members` contains the name and the possible values of each member. In some objects, a
/// member is missing or occurs twice.
fn object(members: Vec<(&'static str, Vec<String>)>) -> impl Strategy<Value = String> {
    let member = |(name, values): (&'static str, Vec<String>)| {
        // The first value is valid. The strategy chooses it most often.
        let (valid, any) = (Just(values[0].clone()), proptest::sample::select(values));
        let value = prop_oneof![9 => valid.boxed(), 1 => any.boxed()];
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

/// Generates the texts of headers. Some of the texts are not JSON.
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
    let our_header = Just(r#"{"alg":"RS256"}"#.to_owned());
    prop_oneof![
        8 => our_header.boxed(),
        8 => header.boxed(),
        1 => headers_with_crit().boxed(),
        1 => "\\PC{0,8}".boxed(),
    ]
}

fn headers_with_crit() -> impl Strategy<Value = String> {
    object(vec![
        ("alg", values(&["\"RS256\""])),
        ("crit", values(&["[\"exp\"]", "[]", "5", "null"])),
    ])
}

/// Generates the texts of claims. Some of the texts are not JSON.
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
    let no_object =
        proptest::sample::select(values(&["[", "[]", "5", "null", "\"x\"", "[\"a\",1,2,\"b\"]"]));
    prop_oneof![20 => payload.boxed(), 1 => "\\PC{0,8}".boxed(), 1 => no_object.boxed()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn results_agree_with_jsonwebtoken(
        header in headers(),
        payload in payloads(),
        insertion in prop_oneof![
            12 => Just(None),
            1 => (0usize..4_000, prop_oneof![Just('.'), Just('='), Just('A')]).prop_map(Some),
        ],
    ) {
        let mut token = format!("{}.{}", B64.encode(header), B64.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(token.as_bytes(), &JSONWEBTOKEN_KEY, Algorithm::RS256);
        token = format!("{token}.{}", signature.unwrap());
        if let Some((position, character)) = insertion {
            token.insert(position % (token.len() + 1), character);
        }
        let [ours, theirs] = [verifier().verify(&token), verify_with_jsonwebtoken(&token)];
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
    fn random_texts_give_errors_and_no_panic(text in "\\PC{0,200}") {
        prop_assert!(verifier().verify(&text).is_err());
    }

    #[test]
    fn a_token_with_a_changed_byte_is_rejected(position in 0usize..10_000, byte in b'A'..=b'z') {
        static TOKEN: LazyLock<String> = LazyLock::new(|| signed(&valid_claims()));
        let mut bytes = TOKEN.clone().into_bytes();
        let position = position % bytes.len();
        prop_assume!(bytes[position] != byte);
        bytes[position] = byte;
        prop_assert!(verifier().verify(str::from_utf8(&bytes).unwrap()).is_err());
    }
}

fn other_key() -> SigningKey {
    SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap()
}

/// The verifier finds the correct key even if the header contains no key id, or an id that belongs to no key. The key
/// id in the header decides only which key is tried first. If none of the verifier's keys has signed the token, it is
/// refused, whatever its key id is.
#[test]
fn only_the_listed_keys_verify_tokens() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
    let id = |id: &str| KeyId::new(id).unwrap();
    let token = |key: SigningKey| {
        let issuer = TokenIssuer::new(key).with_clock(clock.clone());
        issuer.login_token(&UserId::new("USER").unwrap(), "x").unwrap().expose().to_owned()
    };
    let (old, new) = (KEY.clone(), other_key().with_key_id(id("2026")));
    let rotating = Rs256Verifier::new(new.verifying_key())
        .with_key(old.verifying_key().with_key_id(id("2025")))
        .with_clock(clock.clone());
    let after = Rs256Verifier::new(new.verifying_key()).with_clock(clock.clone());
    let before = Rs256Verifier::new(old.verifying_key()).with_clock(clock.clone());
    for (name, token, [is_before, is_rotating, is_after]) in [
        ("old, no id", token(old.clone()), [true, true, false]),
        ("old, its id", token(old.clone().with_key_id(id("2025"))), [true, true, false]),
        ("old, unknown id", token(old.clone().with_key_id(id("x"))), [true, true, false]),
        ("old, id of the new key", token(old.with_key_id(id("2026"))), [true, true, false]),
        ("new, its id", token(new.clone()), [false, true, true]),
        ("new, no id", token(other_key()), [false, true, true]),
        ("new, id of the old key", token(new.with_key_id(id("2025"))), [false, true, true]),
    ] {
        for (verifier, wanted) in
            [(&before, is_before), (&rotating, is_rotating), (&after, is_after)]
        {
            let got = verifier.verify(&token);
            assert_eq!(got.is_ok(), wanted, "{name}: {got:?}");
            assert!(wanted || got.unwrap_err() == TokenError::Signature, "{name}");
        }
    }
}

#[test]
fn a_verifier_with_another_key_does_not_share_the_cache() {
    let cached = verifier().with_cache(NonZeroUsize::new(100).unwrap());
    let both = cached.clone().with_key(other_key().verifying_key());
    let claims = serde_json::to_vec(&valid_claims()).unwrap();
    let message = format!("{OUR_HEADER}.{}", B64.encode(claims));
    let signature = other_key().sign(message.as_bytes()).unwrap();
    let token = format!("{message}.{}", B64.encode(signature));
    assert!(both.verify(&token).is_ok());
    assert_eq!(cached.verify(&token).unwrap_err(), TokenError::Signature);
}

#[test]
fn the_header_of_a_token_names_its_key() {
    let issuer = TokenIssuer::new(KEY.clone().with_key_id(KeyId::new("a#1").unwrap()));
    let token = issuer.login_token(&UserId::new("USER").unwrap(), "x").unwrap();
    let header = jsonwebtoken::decode_header(token.expose()).unwrap();
    assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::RS256, Some("a#1")));
    assert_eq!(issuer.verifying_key().to_jwk()["kid"], "a#1");
}

#[test]
fn a_pat_verifies_with_and_without_prefix_and_is_cached_once() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock);
    let (user, scopes) = (UserId::new("USER").unwrap(), Scopes::parse(["a"]).unwrap());
    let prefixed = issuer.clone().with_pat_prefix();
    let pat = prefixed.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
    let long = pat.expose();
    let (jwt, checksum) = long.strip_prefix("zowepat_").unwrap().rsplit_once('.').unwrap();
    assert_eq!(pat.fingerprint(), TokenFingerprint::of(jwt));
    assert!(pat.fingerprint().to_string().starts_with(checksum));
    let plain = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
    assert_eq!(plain.fingerprint(), TokenFingerprint::of(plain.expose()));

    let login = issuer.login_token(&user, "x").unwrap();
    assert!(prefixed.login_token(&user, "x").unwrap().expose().starts_with("ey"));
    let long_login = super::super::pat_form::prefixed(login.expose(), &login.fingerprint());

    let cached = verifier().with_cache(NonZeroUsize::new(100).unwrap()).with_pat_texts();
    let cache_len = || cached.cache.as_ref().unwrap().len();
    for verifier in [&verifier().with_pat_texts(), &cached] {
        for text in [long, jwt, long] {
            let VerifiedToken::Pat(found) = verifier.verify(text).unwrap() else {
                panic!("expected a PAT")
            };
            assert_eq!(found.fingerprint(), pat.fingerprint());
            // Zowe's Caching Service finds a PAT by a hash of its JWT. So `expose` returns the JWT without prefix and
            // checksum, even if the client sent both.
            assert_eq!(found.expose(), Some(jwt));
        }
        assert!(verifier.verify(login.expose()).is_ok());
        for _ in 0..2 {
            let refused = verifier.verify(&long_login).unwrap_err();
            assert!(
                matches!(&refused, TokenError::Claims(why) if why.contains("prefix")),
                "{refused}"
            );
        }
    }
    assert_eq!(cache_len(), 2);

    // The checksum is checked before the signature, and also if the token is cached.
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    let forged_with_checksum =
        super::super::pat_form::prefixed(&forged, &TokenFingerprint::of(&forged));
    for (text, want) in [
        (format!("zowepat_{jwt}"), TokenError::Checksum),
        (format!("zowepat_{jwt}.00000000"), TokenError::Checksum),
        (format!("zowepat_{forged}.{checksum}"), TokenError::Checksum),
        (forged_with_checksum.to_string(), TokenError::Signature),
        (format!("{jwt}.{checksum}"), TokenError::Malformed),
        (format!("zowepat_{long}"), TokenError::Checksum),
    ] {
        for verifier in [&verifier(), &cached] {
            assert_eq!(verifier.verify(&text).unwrap_err(), want, "{text}");
        }
    }
    assert_eq!(cache_len(), 2);
}
