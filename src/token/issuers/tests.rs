//! Tests the verification of tokens of several issuers: the gateway, identity providers, API ML (Zowe's API Mediation
//! Layer) and z/OSMF (IBM's management server on z/OS). The crate `jsonwebtoken` signs the tokens of the providers.

use std::{
    num::NonZeroUsize,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use jsonwebtoken::{Algorithm as Alg, EncodingKey, Header as JwtHeader};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use test_support::{pki, tickets::user};
use tokio::sync::Notify;

use super::*;
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    identity::Registry,
    remote::RemoteError,
    token::{
        AskFuture, AskIssuer, ExternalSubject, FetchFuture, IssuerUrl, KeyId, SigningKey,
        TokenFingerprint, TokenIssuer, TokenStatus, VerifyingKey,
    },
};

const NOW: u64 = 1_800_000_000;
const IDP: &str = "https://idp.example.com/realms/a";
const OTHER_IDP: &str = "https://other.example.com";

/// A key of a provider: the private key, and the entry in the provider's JWK set.
#[derive(Clone)]
struct ProviderKey {
    sign: EncodingKey,
    jwk: Value,
}

impl ProviderKey {
    fn rsa(pem: &str, id: &str) -> Self {
        let key =
            SigningKey::from_pem(pem.as_bytes()).unwrap().with_key_id(KeyId::new(id).unwrap());
        let mut jwk = key.verifying_key().to_jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        Self { sign: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), jwk }
    }

    fn elliptic(id: &str, curve: &str) -> Self {
        let (algorithm, len) = match curve {
            "P-256" => (&rcgen::PKCS_ECDSA_P256_SHA256, 32),
            _ => (&rcgen::PKCS_ECDSA_P384_SHA384, 48),
        };
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let point = &pair.der_bytes()[1..];
        let number = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({
            "kty": "EC", "crv": curve, "kid": id, "use": "sig",
            "x": number(&point[..len]), "y": number(&point[len..]),
        });
        Self { sign: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(), jwk }
    }

    fn with(&self, members: Value) -> Self {
        let mut key = self.clone();
        merge(&mut key.jwk, members);
        key
    }
}

/// The key of the provider [`IDP`], or of API ML.
static RSA: LazyLock<ProviderKey> =
    LazyLock::new(|| ProviderKey::rsa(pki::OTHER_SIGNING_KEY, "rsa"));
/// The private key of [`NEW_RSA`]. It is generated only once, because this takes a long time.
static NEW_PEM: LazyLock<String> = LazyLock::new(|| {
    let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    pair.unwrap().serialize_pem()
});
/// A later key of [`IDP`], or the key of [`OTHER_IDP`] or of z/OSMF.
static NEW_RSA: LazyLock<ProviderKey> = LazyLock::new(|| ProviderKey::rsa(&NEW_PEM, "new"));
static OWN: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

/// The value `null` removes a member.
fn merge(object: &mut Value, members: Value) {
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            object[name] = value.clone();
        }
    }
}

fn jwk_set<'a>(keys: impl IntoIterator<Item = &'a ProviderKey>) -> Bytes {
    let keys: Vec<_> = keys.into_iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string().into()
}

fn fixed<'a>(keys: impl IntoIterator<Item = &'a ProviderKey>) -> IssuerKeys {
    IssuerKeys::from_jwk_set(&jwk_set(keys)).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_secs(NOW)))
}

fn provider(issuer: &str, keys: IssuerKeys) -> OidcIssuer {
    let registry = Registry::new("ldap://idp").unwrap();
    OidcIssuer::new(IssuerUrl::new(issuer).unwrap(), "gateway", registry, keys)
}

fn own() -> Rs256Verifier {
    Rs256Verifier::new(OWN.verifying_key()).with_clock(clock())
}

fn trusted(providers: impl IntoIterator<Item = OidcIssuer>) -> TrustedIssuers {
    providers
        .into_iter()
        .fold(TrustedIssuers::new(own()), |issuers, provider| issuers.with_oidc(provider).unwrap())
}

fn claims() -> Value {
    json!({"iss": IDP, "sub": "jane", "aud": "gateway", "exp": NOW + 60, "iat": NOW - 5})
}

fn with(members: Value) -> Value {
    let mut claims = claims();
    merge(&mut claims, members);
    claims
}

fn token(key: &ProviderKey, algorithm: Alg, claims: &Value) -> String {
    let mut header = JwtHeader::new(algorithm);
    header.kid = key.jwk["kid"].as_str().map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &key.sign).unwrap()
}

fn verify(issuers: &TrustedIssuers, token: &str) -> Result<VerifiedToken, TokenError> {
    issuers.try_verify_now(token.as_bytes()).expect("the keys are fixed")
}

fn name(verified: Result<VerifiedToken, TokenError>) -> Result<String, TokenError> {
    verified.map(|verified| match verified {
        VerifiedToken::External(token) => match token.subject() {
            ExternalSubject::Identity(identity) => identity.name().to_owned(),
            other => panic!("{other:?}"),
        },
        VerifiedToken::Jwt(jwt) => jwt.user().to_string(),
        VerifiedToken::Pat(pat) => pat.user().to_string(),
    })
}

#[test]
fn the_claims_of_a_provider_are_checked() {
    let problem = |text: &str| Err(TokenError::Claims(text.into()));
    let ok = || Ok("jane".to_owned());
    let cases = [
        ("valid", json!({}), ok()),
        ("iss with a slash", json!({"iss": format!("{IDP}/")}), Err(TokenError::Issuer)),
        ("iss in upper case", json!({"iss": IDP.to_uppercase()}), Err(TokenError::Issuer)),
        ("iss is a prefix", json!({"iss": &IDP[..IDP.len() - 1]}), Err(TokenError::Issuer)),
        ("no iss", json!({"iss": null}), problem("iss is missing, repeated or not a string")),
        (
            "iss is an array",
            json!({"iss": [IDP]}),
            problem("iss is missing, repeated or not a string"),
        ),
        ("other aud", json!({"aud": "x"}), problem("aud does not contain an accepted audience")),
        ("no aud", json!({"aud": null}), problem("aud is missing")),
        ("empty aud", json!({"aud": []}), problem("aud does not contain an accepted audience")),
        (
            "aud is a prefix",
            json!({"aud": "gatewa"}),
            problem("aud does not contain an accepted audience"),
        ),
        (
            "aud is a number",
            json!({"aud": 5}),
            problem("aud is neither a string nor an array of at most 64 strings"),
        ),
        (
            "aud is an object",
            json!({"aud": {"gateway": true}}),
            problem("aud is neither a string nor an array of at most 64 strings"),
        ),
        (
            "aud with a number",
            json!({"aud": ["gateway", 5]}),
            problem("aud has an element that is not a string"),
        ),
        (
            "many aud",
            json!({"aud": vec!["gateway"; 65]}),
            problem("aud is neither a string nor an array of at most 64 strings"),
        ),
        ("aud is an array of one", json!({"aud": ["gateway"]}), ok()),
        ("two aud, no azp", json!({"aud": ["x", "gateway"]}), problem("azp is missing")),
        ("two aud, azp is ours", json!({"aud": ["x", "gateway"], "azp": "gateway"}), ok()),
        (
            "two aud, other azp",
            json!({"aud": ["x", "gateway"], "azp": "x"}),
            problem("azp is not an accepted client"),
        ),
        ("one aud, other azp", json!({"azp": "x"}), ok()),
        ("azp is an array", json!({"azp": ["gateway"]}), problem("azp is not a string")),
        ("no exp", json!({"exp": null}), problem("exp is missing")),
        (
            "exp is a string",
            json!({"exp": "1900000000"}),
            problem("exp is not an integer, or is negative"),
        ),
        ("exp is negative", json!({"exp": -1}), problem("exp is not an integer, or is negative")),
        (
            "exp is a fraction",
            json!({"exp": 1.9e9}),
            problem("exp is not an integer, or is negative"),
        ),
        ("exp is now", json!({"exp": NOW}), Err(TokenError::Expired { secs_ago: 0 })),
        ("expired", json!({"exp": NOW - 7}), Err(TokenError::Expired { secs_ago: 7 })),
        ("nbf in a minute", json!({"nbf": NOW + 60}), ok()),
        ("nbf later", json!({"nbf": NOW + 61}), Err(TokenError::NotYetValid { in_secs: 61 })),
        ("nbf is a string", json!({"nbf": "0"}), problem("nbf is not an integer, or is negative")),
        ("iat in a minute", json!({"iat": NOW + 60}), ok()),
        ("iat later", json!({"iat": NOW + 61}), Err(TokenError::NotYetValid { in_secs: 61 })),
        ("no iat", json!({"iat": null}), ok()),
        ("iat is a string", json!({"iat": "0"}), problem("iat is not an integer, or is negative")),
        ("no sub", json!({"sub": null}), problem("no claim names the user")),
        ("sub is a number", json!({"sub": 5}), problem("sub is not a string")),
        ("sub is empty", json!({"sub": ""}), problem("the name of the user is empty or blank")),
        (
            "sub is padded",
            json!({"sub": " jane"}),
            problem("the name of the user begins or ends with a blank"),
        ),
        (
            "a logout token",
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
            problem("events: the token is a security event"),
        ),
        (
            "bound to a key",
            json!({"cnf": {"jkt": "x"}}),
            problem("cnf: tokens that are bound to a key are not supported"),
        ),
        ("exp is the largest number", json!({"exp": u64::MAX}), ok()),
        ("scopes", json!({"scopes": ["a"], "auth.prov": "x"}), ok()),
    ];
    let issuers = trusted([provider(IDP, fixed([&*RSA]))]);
    for (case, members, want) in cases {
        assert_eq!(
            name(verify(&issuers, &token(&RSA, Alg::RS256, &with(members)))),
            want,
            "{case}"
        );
    }
}

#[test]
fn the_authorized_party_is_checked_if_parties_are_set() {
    let provider = provider(IDP, fixed([&*RSA]))
        .with_audience("second")
        .with_authorized_parties(["app", "cli"]);
    let issuers = trusted([provider]);
    for (members, want) in [
        (json!({"azp": "app"}), true),
        (json!({"azp": "cli", "aud": ["second", "x"]}), true),
        (json!({}), false),
        (json!({"azp": "gateway"}), false),
        (json!({"azp": "gateway", "aud": ["gateway", "x"]}), false),
    ] {
        let got = verify(&issuers, &token(&RSA, Alg::RS256, &with(members.clone())));
        assert_eq!(got.is_ok(), want, "{members}");
    }
}

#[test]
fn the_user_is_in_the_first_claim_that_exists() {
    let fields = ["https://example.com/user", "groups.memberOf", "email"];
    let provider = provider(IDP, fixed([&*RSA])).with_user_id_fields(fields);
    let issuers = trusted([provider]);
    let problem = |text: &str| Err(TokenError::Claims(text.into()));
    for (members, want) in [
        (json!({"email": "e@x", "groups": {"memberOf": "g"}}), Ok("g".to_owned())),
        (json!({"email": "e@x", "groups": {"memberOf": ["g"]}}), Ok("g".to_owned())),
        (
            json!({"email": "e@x", "email_verified": true, "groups": {"other": "g"}}),
            Ok("e@x".to_owned()),
        ),
        (json!({"email": "e@x", "email_verified": true, "groups": "g"}), Ok("e@x".to_owned())),
        (json!({"https://example.com/user": "u", "email": "e@x"}), Ok("u".to_owned())),
        (json!({"groups.memberOf": "flat", "groups": {"memberOf": "g"}}), Ok("flat".to_owned())),
        // If a claim has an unusable value, the verifier does not try the next claims.
        (
            json!({"email": "e@x", "groups": {"memberOf": ["g", "h"]}}),
            problem("groups.memberOf is an array, but not of exactly one string"),
        ),
        (
            json!({"email": "e@x", "groups": {"memberOf": []}}),
            problem("groups.memberOf is an array, but not of exactly one string"),
        ),
        (
            json!({"email": "e@x", "groups": {"memberOf": {"a": "b"}}}),
            problem("groups.memberOf is not a string"),
        ),
        (json!({"email": true}), problem("email is not a string")),
        (json!({"email": "e@x", "email_verified": true}), Ok("e@x".to_owned())),
        (json!({"email": "e@x"}), problem("email_verified is not true")),
        (json!({"email": "e@x", "email_verified": "true"}), Ok("e@x".to_owned())),
        (json!({"email": "e@x", "email_verified": false}), problem("email_verified is not true")),
        (json!({"email": "e@x", "email_verified": 1}), problem("email_verified is not true")),
        (json!({}), problem("no claim names the user")),
    ] {
        let got = name(verify(&issuers, &token(&RSA, Alg::RS256, &with(members.clone()))));
        assert_eq!(got, want, "{members}");
    }
}

#[test]
fn only_the_values_that_are_needed_are_kept() {
    let keep = |claim, value| {
        let keys = fixed([&*RSA]);
        trusted([provider(IDP, keys)
            .with_kept_value("other", "x")
            .with_kept_value(claim, value)
            .with_kept_value(claim, "second")])
    };
    let cases = [
        // The claim and the wanted value; the claims of the token; the kept values.
        ("groups", "batch", json!({"groups": "batch"}), json!(["batch"])),
        ("groups", "batch", json!({"groups": ["a", "batch", "batch"]}), json!(["batch"])),
        ("groups", "batch", json!({"groups": ["second", "batch"]}), json!(["batch", "second"])),
        ("groups", "batch", json!({"groups": ["a"]}), Value::Null),
        ("groups", "batch", json!({}), Value::Null),
        ("groups", "batch", json!({"groups": null}), Value::Null),
        ("groups", "1", json!({"groups": [1, true, ["1"], {"1": "1"}]}), Value::Null),
        ("groups", "batch", json!({"groups": {"batch": "batch"}}), Value::Null),
        ("groups", "batch", json!({"groups": "x batch"}), Value::Null),
        ("roles", "batch", json!({"roles": "x batch"}), Value::Null),
        ("roles", "x batch", json!({"roles": "x batch"}), json!(["x batch"])),
        ("scope", "batch", json!({"scope": "openid batch"}), json!(["batch"])),
        ("scp", "batch", json!({"scp": "batch second"}), json!(["batch", "second"])),
        ("scope", "batch", json!({"scope": "openid batch2 \tbatch"}), Value::Null),
        ("scope", "batch", json!({"scope": ["openid", "batch"]}), json!(["batch"])),
        // Nested objects, and a claim whose name has dots.
        (
            "realm_access.roles",
            "batch",
            json!({"realm_access": {"roles": ["batch"]}}),
            json!(["batch"]),
        ),
        (
            "https://example.com/roles",
            "batch",
            json!({"https://example.com/roles": ["batch"]}),
            json!(["batch"]),
        ),
        ("a.b", "batch", json!({"a.b": "x", "a": {"b": "batch"}}), Value::Null),
    ];
    for (claim, value, members, want) in cases {
        let token = token(&RSA, Alg::RS256, &with(members.clone()));
        let Ok(VerifiedToken::External(verified)) = verify(&keep(claim, value), &token) else {
            panic!("{members}")
        };
        let got = verified.claim(claim).cloned().unwrap_or_default();
        assert_eq!(got, want, "{claim} {members}");
        let kept = verified.claims().count();
        assert_eq!(kept, usize::from(!want.is_null()), "{members}");
    }
}

/// If a signed payload contains a claim twice, two programs could read different values.
#[test]
fn a_repeated_claim_of_a_provider_is_refused() {
    let issuers = trusted([provider(IDP, fixed([&*RSA]))]);
    for repeated in
        [r#""sub":"root""#, r#""iss":"https://idp.example.com/realms/a""#, r#""aud":"x""#]
    {
        let payload = claims().to_string().replacen('{', &format!("{{{repeated},"), 1);
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"rsa"}"#);
        let message = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload));
        let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &RSA.sign, Alg::RS256).unwrap();
        let got = verify(&issuers, &format!("{message}.{signed}"));
        assert!(matches!(got, Err(TokenError::Claims(_))), "{repeated}: {got:?}");
    }
}

#[test]
fn a_token_needs_an_algorithm_that_both_the_configuration_and_its_key_permit() {
    let p256 = ProviderKey::elliptic("p256", "P-256");
    let p384 = ProviderKey::elliptic("p384", "P-384");
    let pinned = NEW_RSA.with(json!({"alg": "PS256"}));
    let rsa = [Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512];
    let signed: Vec<(&ProviderKey, Alg)> = rsa
        .iter()
        .flat_map(|algorithm| [(&*RSA, *algorithm), (&pinned, *algorithm)])
        .chain([(&p256, Alg::ES256), (&p384, Alg::ES384)])
        .collect();
    let of = |algorithm: Alg| format!("{algorithm:?}").parse::<Algorithm>().unwrap();
    for configured in rsa.into_iter().chain([Alg::ES256, Alg::ES384]) {
        let keys = fixed([&*RSA, &pinned, &p256, &p384]);
        let issuers = trusted([provider(IDP, keys).with_algorithms([of(configured)])]);
        for (key, algorithm) in &signed {
            let got = name(verify(&issuers, &token(key, *algorithm, &claims())));
            let want = match (*algorithm == configured, key.jwk["alg"].as_str()) {
                (false, _) => Err(TokenError::Algorithm),
                (true, Some("PS256")) if *algorithm != Alg::PS256 => Err(TokenError::Signature),
                (true, _) => Ok("jane".to_owned()),
            };
            assert_eq!(got, want, "{algorithm:?} with {configured:?}, {}", key.jwk["kid"]);
        }
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    let issuers = trusted([provider(IDP, fixed([&*RSA]))]);
    for (typ, is_good) in [
        (json!("JWT"), true),
        (json!("jwt"), true),
        (json!("at+jwt"), true),
        (json!("application/at+JWT"), true),
        (json!("logout+jwt"), false),
        (json!("secevent+jwt"), false),
        (json!("dpop+jwt"), false),
        (json!(""), false),
        (json!(5), false),
        (json!(null), false),
    ] {
        let header = json!({"alg": "RS256", "kid": "rsa", "typ": typ}).to_string();
        let message = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(header),
            BASE64_URL_SAFE_NO_PAD.encode(claims().to_string())
        );
        let signed = jsonwebtoken::crypto::sign(message.as_bytes(), &RSA.sign, Alg::RS256).unwrap();
        let got = verify(&issuers, &format!("{message}.{signed}"));
        assert_eq!(got.is_ok(), is_good, "{typ}: {got:?}");
    }
}

/// Replaces the header of a token. The signature stays the same.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[test]
fn a_header_cannot_choose_another_kind_of_key() {
    let all = Algorithm::RSA.into_iter().chain([Algorithm::Es256, Algorithm::Es384]);
    let p256 = ProviderKey::elliptic("p256", "P-256");
    let issuers = trusted([provider(IDP, fixed([&*RSA, &p256])).with_algorithms(all)]);
    let pem = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
    let pem = pem.verifying_key().to_pem();
    let n = BASE64_URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap()).unwrap();
    for secret in
        [pem.as_bytes(), pem.trim_end().as_bytes(), &n, RSA.jwk["n"].as_str().unwrap().as_bytes()]
    {
        for algorithm in [Alg::HS256, Alg::HS384, Alg::HS512] {
            let mut header = JwtHeader::new(algorithm);
            header.kid = Some("rsa".to_owned());
            let forged =
                jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(secret));
            assert_eq!(verify(&issuers, &forged.unwrap()).unwrap_err(), TokenError::Algorithm);
        }
    }
    let good = token(&RSA, Alg::RS256, &claims());
    let unsigned = good[..=good.rfind('.').unwrap()].to_owned();
    for (header, want) in [
        (json!({"alg": "none", "kid": "rsa"}), TokenError::Algorithm),
        (json!({"alg": "None"}), TokenError::Algorithm),
        (json!({"alg": "rs256", "kid": "rsa"}), TokenError::Algorithm),
        (json!({"alg": "ES256", "kid": "rsa"}), TokenError::Signature),
        (json!({"alg": "RS256", "kid": "p256"}), TokenError::Signature),
        (json!({"alg": "RS256", "kid": "rsa"}), TokenError::Signature),
        (json!({"alg": "RS256", "kid": "../rsa"}), TokenError::Signature),
        (json!({"alg": "RS256", "kid": ""}), TokenError::Signature),
        (json!({"alg": "RS256", "kid": 5}), TokenError::Malformed),
        (json!({"alg": "RS256", "kid": ["rsa"]}), TokenError::Malformed),
        (json!({"alg": ["RS256"]}), TokenError::Malformed),
        (json!({"kid": "rsa"}), TokenError::Malformed),
        (json!({"alg": "RS256", "crit": ["exp"], "exp": 1}), TokenError::Malformed),
        (json!(["RS256"]), TokenError::Malformed),
        // The verifier ignores the attacker's key in the header.
        (
            json!({"alg": "RS256", "jwk": NEW_RSA.jwk, "jku": "https://evil.example/", "x5u": "x"}),
            TokenError::Signature,
        ),
    ] {
        for forged in [with_header(&good, &header), with_header(&unsigned, &header)] {
            assert_eq!(verify(&issuers, &forged).unwrap_err(), want, "{header}");
        }
    }
    let header_with_key = json!({"alg": "RS256", "jwk": NEW_RSA.jwk, "kid": "new"});
    let by_attacker = with_header(&token(&NEW_RSA, Alg::RS256, &claims()), &header_with_key);
    assert_eq!(verify(&issuers, &by_attacker).unwrap_err(), TokenError::Signature);
}

#[test]
fn a_key_of_one_issuer_never_verifies_a_token_of_another() {
    let (a, b) = (RSA.clone(), NEW_RSA.clone());
    let issuers = trusted([provider(IDP, fixed([&a])), provider(OTHER_IDP, fixed([&b]))]);
    let own_as_provider = ProviderKey::rsa(pki::SIGNING_KEY, "rsa");
    let login = |iss: &str| {
        json!({"iss": iss, "sub": "IBMUSER", "aud": "gateway", "exp": NOW + 60, "iat": NOW,
               "scopes": ["a"]})
    };
    for (case, key, iss, is_good) in [
        ("key of a, issuer a", &a, IDP, true),
        ("key of b, issuer b", &b, OTHER_IDP, true),
        ("key of a, issuer b", &a, OTHER_IDP, false),
        ("key of b, issuer a", &b, IDP, false),
        ("key of a, issuer APIML", &a, "APIML", false),
        ("key of a, issuer apiml", &a, "apiml", false),
        ("key of a, issuer APIML_PAT", &a, "APIML_PAT", false),
        ("key of a, issuer zOSMF", &a, "zOSMF", false),
        ("own key, issuer a", &own_as_provider, IDP, false),
        ("own key, issuer APIML", &own_as_provider, "APIML", true),
        ("own key, unknown issuer", &own_as_provider, "https://x", false),
    ] {
        for id in [json!(null), json!("rsa"), json!("new"), key.jwk["kid"].clone()] {
            let key = key.with(json!({ "kid": id }));
            let got = verify(&issuers, &token(&key, Alg::RS256, &login(iss)));
            let want = is_good && (id.is_null() || key.jwk["kid"] == id);
            let want = want
                && (iss == "APIML" || id.is_null() || {
                    let listed = if iss == IDP { &a } else { &b };
                    listed.jwk["kid"] == id
                });
            assert_eq!(got.is_ok(), want, "{case}, {id}: {got:?}");
        }
    }
}

#[test]
fn tokens_of_the_gateway_need_no_provider() {
    let issuer = TokenIssuer::new(OWN.clone().with_key_id(KeyId::new("k").unwrap()));
    let issuer = issuer.with_clock(clock());
    let own = Rs256Verifier::new(issuer.verifying_key()).with_clock(clock());
    let issuers = TrustedIssuers::new(own).with_oidc(provider(IDP, fixed([&*RSA]))).unwrap();
    let login = issuer.login_token(&user("USER"), "x").unwrap();
    let VerifiedToken::Jwt(jwt) = verify(&issuers, login.expose()).unwrap() else { panic!() };
    assert_eq!(jwt.origin(), TokenOrigin::Gateway);
    let twice = issuers.with_oidc(provider(IDP, fixed([&*RSA]))).unwrap_err();
    assert_eq!(twice, DuplicateIssuer(IssuerUrl::new(IDP).unwrap()));
}

/// The issuer in both tokens is `APIML`. So only the key that verifies a token shows who issued it.
#[test]
fn tokens_of_api_ml_are_distinguished_from_tokens_of_the_gateway() {
    let apiml = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
    let issue = |key: &SigningKey| TokenIssuer::new(key.clone()).with_clock(clock());
    let own_verifier = own().with_apiml_keys(IssuerKeys::fixed(&apiml.verifying_key()));
    let issuers = TrustedIssuers::new(own_verifier.clone());
    let both = own().with_apiml_keys(IssuerKeys::fixed(&OWN.verifying_key()));
    for (verifier, key, origin) in [
        (&own_verifier, &*OWN, TokenOrigin::Gateway),
        (&own_verifier, &apiml, TokenOrigin::Apiml),
        (&both, &*OWN, TokenOrigin::Gateway),
    ] {
        let login = issue(key).login_token(&user("USER"), "x").unwrap();
        let through = TrustedIssuers::new(verifier.clone());
        for got in [verifier.verify(login.expose()), verify(&through, login.expose())] {
            let VerifiedToken::Jwt(jwt) = got.unwrap() else { panic!("{origin:?}") };
            assert_eq!(jwt.origin(), origin);
        }
    }
    // The verifier refuses PATs of API ML, because it does not know which of them API ML has revoked.
    let scopes = crate::token::Scopes::parse(["a"]).unwrap();
    let pat =
        issue(&apiml).personal_access_token(&user("USER"), &scopes, crate::token::Validity::MAX);
    assert_eq!(verify(&issuers, pat.unwrap().expose()).unwrap_err(), TokenError::Issuer);
    let stranger = token(
        &NEW_RSA,
        Alg::RS256,
        &json!({"iss": "APIML", "sub": "A", "iat": NOW, "exp": NOW + 9}),
    );
    assert_eq!(verify(&issuers, &stranger).unwrap_err(), TokenError::Signature);
}

/// A source of keys that counts its calls. A test can change its answer.
#[derive(Clone)]
struct Source(Arc<SourceState>);

struct SourceState {
    answer: Mutex<Result<Bytes, RemoteError>>,
    calls: AtomicUsize,
    /// If this is set, each fetch waits for a permit.
    gate: Option<tokio::sync::Semaphore>,
    begun: Notify,
}

impl Source {
    fn new(answer: Bytes) -> Self {
        Self::with_gate(answer, None)
    }

    fn with_gate(answer: Bytes, gate: Option<tokio::sync::Semaphore>) -> Self {
        Self(Arc::new(SourceState {
            answer: Mutex::new(Ok(answer)),
            calls: AtomicUsize::new(0),
            gate,
            begun: Notify::new(),
        }))
    }

    fn set(&self, answer: Result<Bytes, RemoteError>) {
        *self.0.answer.lock().unwrap() = answer;
    }

    fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    fn fetch(&self) -> FetchFuture {
        let state = self.0.clone();
        Box::pin(async move {
            state.calls.fetch_add(1, SeqCst);
            state.begun.notify_one();
            if let Some(gate) = &state.gate {
                gate.acquire().await.unwrap().forget();
            }
            state.answer.lock().unwrap().clone()
        })
    }
}

/// Returns a verifier with a cache of tokens. It fetches the keys of a provider from `source`.
fn fetching(source: &Source) -> (TrustedIssuers, Arc<ManualClock>) {
    let (clock, source) = (clock(), source.clone());
    let keys = IssuerKeys::fetched(IDP, move || source.fetch()).with_clock(clock.clone());
    let own = Rs256Verifier::new(OWN.verifying_key())
        .with_clock(clock.clone())
        .with_cache(NonZeroUsize::new(100).unwrap());
    (TrustedIssuers::new(own).with_oidc(provider(IDP, keys)).unwrap(), clock)
}

async fn decide(issuers: &TrustedIssuers, token: &str) -> Result<String, TokenError> {
    name(match issuers.try_verify_now(token.as_bytes()) {
        Some(decided) => decided,
        None => issuers.verify_token(token.as_bytes()).await,
    })
}

fn lasting(subject: &str) -> Value {
    with(json!({"exp": NOW + 100_000, "sub": subject}))
}

#[tokio::test]
async fn a_new_key_is_fetched_when_its_first_token_arrives() {
    let source = Source::new(jwk_set([&*RSA]));
    let (issuers, clock) = fetching(&source);
    let old = token(&RSA, Alg::RS256, &lasting("old"));
    assert_eq!(decide(&issuers, &old).await.unwrap(), "old");
    assert_eq!(source.calls(), 1);
    // The token is cached.
    assert!(issuers.try_verify_now(old.as_bytes()).unwrap().is_ok());

    // The provider rotates its keys. For 30 s after a fetch, a token with an unknown key is refused, and causes no
    // other fetch.
    source.set(Ok(jwk_set([&*RSA, &*NEW_RSA])));
    let new = token(&NEW_RSA, Alg::RS256, &lasting("new"));
    clock.advance(Duration::from_millis(29_999));
    assert_eq!(decide(&issuers, &new).await.unwrap_err(), TokenError::Signature);
    assert_eq!(source.calls(), 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(decide(&issuers, &new).await.unwrap(), "new");
    assert_eq!(source.calls(), 2);

    // Tokens with unknown key ids cause at most one fetch in 30 s.
    for i in 0..100 {
        let forged = RSA.with(json!({"kid": format!("forged {i}")}));
        let forged = token(&forged, Alg::RS256, &lasting("forged"));
        assert_eq!(decide(&issuers, &forged).await.unwrap_err(), TokenError::Signature);
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(source.calls(), 5);
    // A token with a known key id and a wrong signature causes no fetch.
    clock.advance(Duration::from_secs(60));
    let wrong = token(&NEW_RSA.with(json!({"kid": "rsa"})), Alg::RS256, &lasting("x"));
    assert_eq!(decide(&issuers, &wrong).await.unwrap_err(), TokenError::Signature);
    assert_eq!(source.calls(), 5);
}

#[tokio::test]
async fn a_token_without_a_key_id_is_checked_with_each_key() {
    let source = Source::new(jwk_set([&*RSA]));
    let (issuers, clock) = fetching(&source);
    let anonymous = |key: &ProviderKey| key.with(json!({"kid": null}));
    let old = token(&anonymous(&RSA), Alg::RS256, &lasting("old"));
    let new = token(&anonymous(&NEW_RSA), Alg::RS256, &lasting("new"));
    assert_eq!(decide(&issuers, &old).await.unwrap(), "old");
    assert!(decide(&issuers, &new).await.is_err());
    source.set(Ok(jwk_set([&anonymous(&NEW_RSA), &*RSA])));
    clock.advance(Duration::from_secs(30));
    assert_eq!(decide(&issuers, &new).await.unwrap(), "new");
}

#[tokio::test]
async fn a_token_of_a_withdrawn_key_is_refused_although_it_is_cached() {
    let source = Source::new(jwk_set([&*RSA, &*NEW_RSA]));
    let (issuers, clock) = fetching(&source);
    let stolen = token(&RSA, Alg::RS256, &lasting("stolen"));
    let good = token(&NEW_RSA, Alg::RS256, &lasting("good"));
    assert!(decide(&issuers, &stolen).await.is_ok() && decide(&issuers, &good).await.is_ok());
    source.set(Ok(jwk_set([&*NEW_RSA])));
    // After ten minutes, the next token that needs keys causes a fetch.
    clock.advance(Duration::from_secs(600));
    assert!(decide(&issuers, &stolen).await.is_ok());
    let other = token(&NEW_RSA, Alg::RS256, &lasting("other"));
    assert!(decide(&issuers, &other).await.is_ok());
    assert_eq!(decide(&issuers, &stolen).await.unwrap_err(), TokenError::Signature);
    assert!(decide(&issuers, &good).await.is_ok());
}

#[tokio::test]
async fn the_last_good_keys_stay_if_a_fetch_fails() {
    let source = Source::new(jwk_set([&*RSA]));
    let (issuers, clock) = fetching(&source);
    let subject = AtomicUsize::new(0);
    let fresh = || {
        let subject = subject.fetch_add(1, SeqCst).to_string();
        token(&RSA, Alg::RS256, &lasting(&subject))
    };
    assert!(decide(&issuers, &fresh()).await.is_ok());
    let many: Vec<_> = (0..33).map(|_| RSA.jwk.clone()).collect();
    for (calls, answer) in [
        Err(RemoteError::Unavailable("down".to_owned())),
        Err(RemoteError::Answer("status 302".to_owned())),
        Ok(Bytes::from_static(b"<html>")),
        Ok(Bytes::from_static(b"[]")),
        Ok(Bytes::from_static(b"{}")),
        Ok(Bytes::from_static(br#"{"keys": {}}"#)),
        Ok(json!({ "keys": many }).to_string().into()),
        Ok(Bytes::from(vec![b' '; 64 * 1024 + 1])),
    ]
    .into_iter()
    .enumerate()
    {
        source.set(answer.clone());
        clock.advance(Duration::from_secs(601));
        assert!(decide(&issuers, &fresh()).await.is_ok(), "{answer:?}");
        assert_eq!(source.calls(), calls + 2);
        // For 30 s after this attempt to fetch the keys, no token waits for another attempt.
        assert!(issuers.try_verify_now(fresh().as_bytes()).unwrap().is_ok());
    }
}

#[tokio::test]
async fn without_keys_of_a_provider_its_tokens_are_refused_and_the_keys_are_fetched_again() {
    let source = Source::new(Bytes::new());
    let (issuers, clock) = fetching(&source);
    let jane = token(&RSA, Alg::RS256, &lasting("jane"));
    for calls in 1..3 {
        for _ in 0..3 {
            let got = decide(&issuers, &jane).await.unwrap_err();
            assert!(matches!(got, TokenError::Unavailable(_)), "{got}");
        }
        assert_eq!(source.calls(), calls);
        clock.advance(Duration::from_secs(5));
    }
    // Tokens of other issuers do not depend on the provider.
    let issuer = TokenIssuer::new(OWN.clone()).with_clock(clock.clone());
    let own = issuer.login_token(&user("USER"), "x").unwrap();
    assert_eq!(decide(&issuers, own.expose()).await.unwrap(), "USER");
    source.set(Ok(jwk_set([&*RSA])));
    assert_eq!(decide(&issuers, &jane).await.unwrap(), "jane");
}

#[tokio::test]
async fn concurrent_tokens_share_one_fetch_and_a_disconnecting_client_does_not_cancel_it() {
    let gate = tokio::sync::Semaphore::new(0);
    let source = Source::with_gate(jwk_set([&*RSA]), Some(gate));
    let (issuers, _) = fetching(&source);
    let tokens: Vec<_> =
        (0..20).map(|i| token(&RSA, Alg::RS256, &lasting(&i.to_string()))).collect();
    assert!(issuers.try_verify_now(tokens[0].as_bytes()).is_none());
    let leaving = tokio::spawn(issuers.verify_token(tokens[0].as_bytes()));
    source.0.begun.notified().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    let waiting: Vec<_> = tokens
        .iter()
        .map(|token| {
            assert!(issuers.try_verify_now(token.as_bytes()).is_none());
            tokio::spawn(issuers.verify_token(token.as_bytes()))
        })
        .collect();
    tokio::task::yield_now().await;
    source.0.gate.as_ref().unwrap().add_permits(100);
    for (i, waiting) in waiting.into_iter().enumerate() {
        assert_eq!(name(waiting.await.unwrap()).unwrap(), i.to_string());
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test]
async fn dropped_requests_leave_only_one_task() {
    let source = Source::with_gate(jwk_set([&*RSA]), Some(tokio::sync::Semaphore::new(0)));
    let (issuers, _) = fetching(&source);
    let token = token(&RSA, Alg::RS256, &lasting("jane"));
    for _ in 0..1000 {
        assert!(issuers.try_verify_now(token.as_bytes()).is_none());
        let mut request = issuers.verify_token(token.as_bytes());
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        assert!(request.as_mut().poll(&mut context).is_pending());
        drop(request);
        tokio::task::yield_now().await;
    }
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
    assert_eq!(source.calls(), 1);
    source.0.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(decide(&issuers, &token).await.unwrap(), "jane");
}

#[tokio::test]
async fn the_last_good_keys_stay_if_a_source_panics() {
    let panics = Arc::new(Mutex::new(false));
    let clock = clock();
    let keys = IssuerKeys::fetched(IDP, {
        let panics = panics.clone();
        move || -> FetchFuture {
            assert!(
                !*panics.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
                "panic of the test"
            );
            Box::pin(async { Ok(jwk_set([&*RSA])) })
        }
    });
    let issuers = trusted([provider(IDP, keys.with_clock(clock.clone()))]);
    assert!(decide(&issuers, &token(&RSA, Alg::RS256, &claims())).await.is_ok());
    *panics.lock().unwrap() = true;
    clock.advance(Duration::from_secs(700));
    assert!(decide(&issuers, &token(&RSA, Alg::RS256, &lasting("x"))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_fresh_without_tokens() {
    /// The monotonic time of Tokio, which the test has paused.
    #[derive(Debug)]
    struct Paused(tokio::time::Instant);
    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::from_secs(NOW)
        }
        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }
    // While an issuer has no keys, the intervals between the fetches grow.
    for (answer, calls) in [(jwk_set([&*RSA]), 6..=7), (Bytes::new(), 10..=15)] {
        let source = Source::new(answer);
        let keys = IssuerKeys::fetched(IDP, {
            let source = source.clone();
            move || source.fetch()
        });
        let keys = keys.with_clock(Arc::new(Paused(tokio::time::Instant::now())));
        let keeping = tokio::spawn(keys.keep_fresh());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(source.calls(), 1);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(calls.contains(&source.calls()), "{}", source.calls());
        keeping.abort();
    }
}

/// The verifiers in this test trust different issuers. All of them are made from the same verifier with a cache.
#[test]
fn a_cached_token_is_accepted_only_by_verifiers_that_trust_its_issuer() {
    let own = own().with_cache(NonZeroUsize::new(100).unwrap());
    let none = TrustedIssuers::new(own.clone());
    let with_a = none.clone().with_oidc(provider(IDP, fixed([&*RSA]))).unwrap();
    let with_b = TrustedIssuers::new(own.clone())
        .with_oidc(provider(OTHER_IDP, fixed([&*NEW_RSA])))
        .unwrap();
    let both = with_a.clone().with_oidc(provider(OTHER_IDP, fixed([&*NEW_RSA]))).unwrap();
    let jane = token(&RSA, Alg::RS256, &claims());
    let joe = token(&NEW_RSA, Alg::RS256, &with(json!({"iss": OTHER_IDP})));
    for _ in 0..2 {
        for (verifier, accepts_jane, accepts_joe) in [
            (&both, true, true),
            (&with_a, true, false),
            (&with_b, false, true),
            (&none, false, false),
        ] {
            assert_eq!(verify(verifier, &jane).is_ok(), accepts_jane, "{verifier:?}");
            assert_eq!(verify(verifier, &joe).is_ok(), accepts_joe, "{verifier:?}");
        }
        assert!(own.verify(&jane).unwrap_err().is_foreign());
    }
}

#[tokio::test]
async fn a_cached_token_causes_a_fetch_if_the_keys_are_too_old() {
    let source = Source::new(jwk_set([&*RSA, &*NEW_RSA]));
    let (issuers, clock) = fetching(&source);
    let stolen = token(&RSA, Alg::RS256, &lasting("stolen"));
    assert!(decide(&issuers, &stolen).await.is_ok());
    source.set(Ok(jwk_set([&*NEW_RSA])));
    clock.advance(Duration::from_secs(599));
    assert!(issuers.try_verify_now(stolen.as_bytes()).unwrap().is_ok());
    clock.advance(Duration::from_secs(31));
    // The verification of this token does not wait for the fetch.
    assert!(issuers.try_verify_now(stolen.as_bytes()).unwrap().is_ok());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(decide(&issuers, &stolen).await.unwrap_err(), TokenError::Signature);
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn a_jwk_set_without_a_usable_key_withdraws_all_keys() {
    let none = || Bytes::from_static(br#"{"keys": []}"#);
    let other_kind = || Bytes::from_static(br#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#);
    for empty in [none(), other_kind()] {
        let source = Source::new(jwk_set([&*RSA]));
        let (issuers, clock) = fetching(&source);
        let jane = token(&RSA, Alg::RS256, &lasting("jane"));
        assert!(decide(&issuers, &jane).await.is_ok());
        source.set(Ok(empty));
        clock.advance(Duration::from_secs(600));
        let new = token(&RSA, Alg::RS256, &lasting("new"));
        for token in [&new, &jane] {
            let got = decide(&issuers, token).await.unwrap_err();
            assert!(matches!(got, TokenError::Unavailable(_)), "{got}");
        }
        source.set(Ok(jwk_set([&*RSA])));
        clock.advance(Duration::from_secs(5));
        assert!(decide(&issuers, &jane).await.is_ok());
    }
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_again_are_discarded_after_a_day() {
    let source = Source::new(jwk_set([&*RSA]));
    let (issuers, clock) = fetching(&source);
    let (jane, joe) =
        (token(&RSA, Alg::RS256, &lasting("jane")), token(&RSA, Alg::RS256, &lasting("joe")));
    assert!(decide(&issuers, &jane).await.is_ok());
    source.set(Err(RemoteError::Unavailable("down".to_owned())));
    clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(decide(&issuers, &jane).await.is_ok() && decide(&issuers, &joe).await.is_ok());
    clock.advance(Duration::from_secs(31));
    for token in [&jane, &joe, &jane] {
        let got = decide(&issuers, token).await.unwrap_err();
        assert!(matches!(got, TokenError::Unavailable(_)), "{got}");
    }
    source.set(Ok(jwk_set([&*RSA])));
    clock.advance(Duration::from_secs(5));
    assert!(decide(&issuers, &jane).await.is_ok());
}

#[test]
fn a_key_without_a_key_id_verifies_tokens_with_any_key_id() {
    let fixed_key = IssuerKeys::fixed(&VerifyingKey::from_jwk(&RSA.jwk).unwrap());
    let listed = fixed([&RSA.with(json!({"kid": null}))]);
    for keys in [fixed_key, listed] {
        let issuers = trusted([provider(IDP, keys)]);
        for id in [json!(null), json!("rsa"), json!("any")] {
            let good = token(&RSA.with(json!({ "kid": id })), Alg::RS256, &claims());
            assert!(verify(&issuers, &good).is_ok(), "{id}");
            let forged = token(&NEW_RSA.with(json!({ "kid": id })), Alg::RS256, &claims());
            assert_eq!(verify(&issuers, &forged).unwrap_err(), TokenError::Signature, "{id}");
        }
    }
}

#[tokio::test]
async fn tokens_are_refused_after_their_key_has_lost_the_algorithm() {
    let source = Source::new(jwk_set([&*RSA]));
    let (issuers, clock) = fetching(&source);
    let jane = token(&RSA, Alg::RS256, &lasting("jane"));
    assert!(decide(&issuers, &jane).await.is_ok());
    source.set(Ok(jwk_set([&RSA.with(json!({"alg": "PS256"}))])));
    clock.advance(Duration::from_secs(600));
    let other = token(&RSA, Alg::RS256, &lasting("other"));
    assert_eq!(decide(&issuers, &other).await.unwrap_err(), TokenError::Signature);
    assert_eq!(decide(&issuers, &jane).await.unwrap_err(), TokenError::Signature);
}

/// The Python library PyJWT has created these tokens.
#[test]
fn tokens_of_another_jwt_library_are_accepted_or_refused_correctly() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/pyjwt.json")).unwrap();
    let algorithms = [Algorithm::Rs256, Algorithm::Ps256];
    let issuers = trusted([provider(IDP, fixed([&*RSA])).with_algorithms(algorithms)]);
    let tokens = vectors["tokens"].as_array().unwrap();
    for vector in tokens {
        let got = verify(&issuers, vector["token"].as_str().unwrap());
        assert_eq!(got.is_ok(), vector["accepted"], "{}: {got:?}", vector["case"]);
    }
    assert_eq!(tokens.len(), 15);
}

/// An issuer that is asked whether a token is still valid, and counts the calls. A test can change its answer.
#[derive(Clone)]
struct Asked(Arc<AskedState>);

struct AskedState {
    answer: Mutex<Result<TokenStatus, RemoteError>>,
    calls: AtomicUsize,
}

impl Asked {
    fn new() -> Self {
        let answer = Mutex::new(Ok(TokenStatus::Active));
        Self(Arc::new(AskedState { answer, calls: AtomicUsize::new(0) }))
    }

    fn set(&self, answer: Result<TokenStatus, RemoteError>) {
        *self.0.answer.lock().unwrap() = answer;
    }

    fn take_calls(&self) -> usize {
        self.0.calls.swap(0, SeqCst)
    }
}

impl AskIssuer for Asked {
    fn ask(&self, token: &str, verified: &VerifiedToken) -> AskFuture {
        assert_eq!(verified.fingerprint(), TokenFingerprint::of(token));
        let state = self.0.clone();
        Box::pin(async move {
            state.calls.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
            state.answer.lock().unwrap().clone()
        })
    }
}

/// Returns a verifier of the tokens of API ML (key `RSA`) and of z/OSMF (key `NEW_RSA`). It asks the two issuers.
fn site() -> (TrustedIssuers, [Asked; 2], Arc<ManualClock>) {
    let (clock, asked) = (clock(), [Asked::new(), Asked::new()]);
    let check = |name, asked: &Asked| {
        let check = IssuerCheck::new(name, asked.clone());
        check.with_memory_and_clock(Duration::from_secs(60), clock.clone())
    };
    let own = Rs256Verifier::new(OWN.verifying_key())
        .with_clock(clock.clone())
        .with_cache(NonZeroUsize::new(100).unwrap())
        .with_apiml_keys(fixed([&*RSA]));
    let issuers = TrustedIssuers::new(own)
        .with_apiml_check(check("API ML", &asked[0]))
        .with_zosmf(fixed([&*NEW_RSA]), check("z/OSMF", &asked[1]));
    (issuers, asked, clock)
}

fn site_token(key: &ProviderKey, iss: &str) -> String {
    let claims = json!({
        "iss": iss, "sub": "IBMUSER", "iat": NOW, "exp": NOW + 28_800, "scopes": ["a", "b"],
        "token_type": "Bearer",
    });
    token(&key.with(json!({"kid": null})), Alg::RS256, &claims)
}

#[tokio::test]
async fn tokens_of_the_site_are_accepted_only_if_their_issuer_has_signed_them() {
    let (issuers, asked, _) = site();
    let own = ProviderKey::rsa(pki::SIGNING_KEY, "x");
    for (key, iss, want) in [
        (&*RSA, "APIML", Some(TokenOrigin::Apiml)),
        (&*RSA, "apiml", Some(TokenOrigin::Apiml)),
        (&*RSA, "APIML_PAT", Some(TokenOrigin::Apiml)),
        (&*RSA, "zOSMF", None),
        (&*NEW_RSA, "zOSMF", Some(TokenOrigin::Zosmf)),
        (&*NEW_RSA, "zosmf", Some(TokenOrigin::Zosmf)),
        (&*NEW_RSA, "APIML", None),
        (&*NEW_RSA, "APIML_PAT", None),
        (&own, "APIML", Some(TokenOrigin::Gateway)),
        (&own, "APIML_PAT", Some(TokenOrigin::Gateway)),
        (&own, "zOSMF", None),
        (&*RSA, "https://idp", None),
    ] {
        for _ in 0..2 {
            let token = site_token(key, iss);
            let got = match issuers.try_verify_now(token.as_bytes()) {
                Some(decided) => decided,
                None => issuers.verify_token(token.as_bytes()).await,
            };
            let origin = got.as_ref().ok().map(|verified| match verified {
                VerifiedToken::Jwt(jwt) => (jwt.origin(), *jwt.user()),
                VerifiedToken::Pat(pat) => (pat.origin(), *pat.user()),
                VerifiedToken::External(_) => panic!("{iss}"),
            });
            assert_eq!(origin, want.map(|want| (want, user("IBMUSER"))), "{iss}: {got:?}");
        }
    }
    // The verifier has asked each issuer once about each of its tokens, and never about the gateway's own tokens.
    assert_eq!(asked.each_ref().map(Asked::take_calls), [3, 2]);
}

#[tokio::test]
async fn an_answer_of_an_issuer_is_cached_and_a_token_is_refused_if_the_call_fails() {
    let (issuers, asked, clock) = site();
    let own = ProviderKey::rsa(pki::SIGNING_KEY, "x");
    for (key, iss, asked) in [(&*RSA, "APIML", &asked[0]), (&*NEW_RSA, "zOSMF", &asked[1])] {
        let token = site_token(key, iss);
        assert!(issuers.try_verify_now(token.as_bytes()).is_none());
        assert_eq!(decide(&issuers, &token).await.unwrap(), "IBMUSER");
        asked.set(Ok(TokenStatus::Ended));
        clock.advance(Duration::from_millis(59_999));
        assert!(issuers.try_verify_now(token.as_bytes()).unwrap().is_ok());
        assert_eq!(asked.take_calls(), 1);
        clock.advance(Duration::from_millis(1));
        assert_eq!(decide(&issuers, &token).await.unwrap_err(), TokenError::LoggedOut);
        let cached = issuers.try_verify_now(token.as_bytes()).unwrap();
        assert_eq!(cached.unwrap_err(), TokenError::LoggedOut);
        assert_eq!(asked.take_calls(), 1);
        for error in [
            RemoteError::Unavailable("down".to_owned()),
            RemoteError::Answer("status 302".to_owned()),
        ] {
            asked.set(Err(error));
            clock.advance(Duration::from_secs(60));
            let got = decide(&issuers, &token).await.unwrap_err();
            assert!(matches!(got, TokenError::Unavailable(_)), "{got}");
        }
        // The gateway's own tokens need no answer of the issuer.
        assert!(decide(&issuers, &site_token(&own, "APIML")).await.is_ok());
        asked.set(Ok(TokenStatus::Active));
        clock.advance(Duration::from_secs(60));
        asked.take_calls();
        let many = (0..20).map(|_| issuers.verify_token(token.as_bytes()));
        for verifying in many.map(tokio::spawn).collect::<Vec<_>>() {
            assert!(verifying.await.unwrap().is_ok());
        }
        assert_eq!(asked.take_calls(), 1);
    }
}

#[tokio::test]
async fn the_header_and_the_claims_of_tokens_of_the_site_are_checked() {
    let (issuers, _, _) = site();
    let signed = |header: Value, members: Value| {
        let mut claims = json!({"iss": "zOSMF", "sub": "IBMUSER", "iat": NOW, "exp": NOW + 60});
        merge(&mut claims, members);
        test_support::jws::sign(NEW_PEM.as_str(), &header, &claims)
    };
    let rs256 = || json!({"alg": "RS256"});
    for (token, want) in [
        (signed(rs256(), json!({})), None),
        (signed(json!({"alg": "RS256", "kid": "any", "typ": "JWT"}), json!({})), None),
        (signed(rs256(), json!({"iat": NOW + 60})), None),
        (signed(rs256(), json!({"iat": NOW + 61})), Some(TokenError::NotYetValid { in_secs: 61 })),
        (signed(rs256(), json!({"exp": NOW})), Some(TokenError::Expired { secs_ago: 0 })),
        (signed(rs256(), json!({"nbf": NOW + 1})), Some(TokenError::NotYetValid { in_secs: 1 })),
        (signed(json!({"alg": "RS512"}), json!({})), Some(TokenError::Algorithm)),
        (signed(json!({"alg": "none"}), json!({})), Some(TokenError::Algorithm)),
        (signed(json!({"alg": "HS256"}), json!({})), Some(TokenError::Algorithm)),
        (signed(json!({"alg": "RS256", "crit": ["x"]}), json!({})), Some(TokenError::Malformed)),
    ] {
        assert_eq!(decide(&issuers, &token).await.err(), want, "{token}");
    }
    for members in [
        json!({"sub": null}),
        json!({"exp": null}),
        json!({"iat": null}),
        json!({"exp": "1900000000"}),
        json!({"sub": "too long for a user id"}),
    ] {
        assert!(decide(&issuers, &signed(rs256(), members.clone())).await.is_err(), "{members}");
    }
}

/// If the gateway does not ask API ML about tokens, it refuses Personal Access Tokens (PATs) of API ML, because API ML
/// may have revoked them.
#[test]
fn pats_of_api_ml_are_refused_if_api_ml_is_not_asked() {
    let own = own().with_apiml_keys(fixed([&*RSA]));
    let issuers = TrustedIssuers::new(own.clone());
    for token in [site_token(&RSA, "APIML_PAT"), site_token(&NEW_RSA, "APIML_PAT")] {
        assert!(verify(&issuers, &token).is_err() && own.verify(&token).is_err());
    }
    assert!(verify(&issuers, &site_token(&RSA, "APIML")).is_ok());
}

#[tokio::test]
async fn missing_keys_of_api_ml_affect_only_tokens_of_api_ml() {
    let source = Source::new(Bytes::from_static(b"<html>"));
    let (clock, fetched) = (clock(), source.clone());
    let keys = IssuerKeys::fetched("API ML", move || fetched.fetch()).with_clock(clock.clone());
    let verifier = Rs256Verifier::new(OWN.verifying_key()).with_clock(clock.clone());
    let issuers = TrustedIssuers::new(verifier.with_apiml_keys(keys));
    let foreign = site_token(&RSA, "APIML");
    let got = decide(&issuers, &foreign).await.unwrap_err();
    assert!(matches!(got, TokenError::Unavailable(_)), "{got}");
    let own = ProviderKey::rsa(pki::SIGNING_KEY, "x");
    assert!(decide(&issuers, &site_token(&own, "APIML")).await.is_ok());
    source.set(Ok(jwk_set([&RSA.with(json!({"kid": null}))])));
    clock.advance(Duration::from_secs(5));
    assert_eq!(decide(&issuers, &foreign).await.unwrap(), "IBMUSER");
    assert_eq!(
        decide(&issuers, &site_token(&NEW_RSA, "APIML")).await.unwrap_err(),
        TokenError::Signature
    );
}

#[test]
fn keys_that_cannot_verify_signatures_are_skipped() {
    let p256 = ProviderKey::elliptic("p256", "P-256");
    let x = p256.jwk["x"].clone();
    let short = BASE64_URL_SAFE_NO_PAD.encode([1; 31]);
    let weak = BASE64_URL_SAFE_NO_PAD.encode([0xff; 128]);
    let long = "k".repeat(257);
    for (case, jwk) in [
        ("encryption", RSA.with(json!({"use": "enc"}))),
        ("use is an array", RSA.with(json!({"use": ["sig"]}))),
        ("operations", RSA.with(json!({"key_ops": ["encrypt"]}))),
        ("operations is a string", RSA.with(json!({"key_ops": "verify"}))),
        ("unknown algorithm", RSA.with(json!({"alg": "RSA-OAEP"}))),
        ("algorithm none", RSA.with(json!({"alg": "none"}))),
        ("algorithm HS256", RSA.with(json!({"alg": "HS256"}))),
        ("algorithm of another kind", RSA.with(json!({"alg": "ES256"}))),
        ("algorithm is null", {
            let mut key = RSA.clone();
            key.jwk["alg"] = Value::Null;
            key
        }),
        ("a private key", RSA.with(json!({"d": "AAAA"}))),
        ("a shared secret", RSA.with(json!({"k": "AAAA"}))),
        ("kid is a number", RSA.with(json!({"kid": 5}))),
        ("a long kid", RSA.with(json!({"kid": long}))),
        ("a weak key", RSA.with(json!({"n": weak}))),
        ("exponent 1", RSA.with(json!({"e": "AQ"}))),
        ("no exponent", RSA.with(json!({"e": null}))),
        ("kty oct", RSA.with(json!({"kty": "oct"}))),
        ("kty EC", RSA.with(json!({"kty": "EC"}))),
        ("off the curve", p256.with(json!({"y": x}))),
        ("a short coordinate", p256.with(json!({"y": short}))),
        ("another curve", p256.with(json!({"crv": "P-384"}))),
        ("an unknown curve", p256.with(json!({"crv": "secp256k1"}))),
        ("the point at infinity", p256.with(json!({"x": "", "y": ""}))),
    ] {
        let alone = IssuerKeys::from_jwk_set(&jwk_set([&jwk])).unwrap_err();
        assert_eq!(alone, crate::token::KeySetError::NoUsableKey { listed: 1 }, "{case}");
        let issuers = trusted([provider(IDP, fixed([&jwk, &*NEW_RSA]))]);
        assert!(verify(&issuers, &token(&NEW_RSA, Alg::RS256, &claims())).is_ok(), "{case}");
    }
    // If a token has no key id, the verifier tries at most 16 keys.
    let anonymous = RSA.with(json!({"kid": null}));
    let jane = token(&anonymous, Alg::RS256, &claims());
    for (others, is_good) in [(15, true), (16, false)] {
        let keys = std::iter::repeat_n(&*NEW_RSA, others).chain([&anonymous]);
        let issuers = trusted([provider(IDP, fixed(keys))]);
        assert_eq!(verify(&issuers, &jane).is_ok(), is_good, "{others}");
    }
    let twin = NEW_RSA.with(json!({"kid": "rsa"}));
    let issuers = trusted([provider(IDP, fixed([&*RSA, &twin]))]);
    for key in [&*RSA, &twin] {
        assert!(verify(&issuers, &token(key, Alg::RS256, &claims())).is_ok());
    }
}

#[test]
fn an_empty_audience_matches_no_token() {
    let issuer = IssuerUrl::new(IDP).unwrap();
    let registry = Registry::new("r").unwrap();
    let issuers = trusted([OidcIssuer::new(issuer, "", registry, fixed([&*RSA]))]);
    for aud in [json!(""), json!([""]), json!([])] {
        let got = verify(&issuers, &token(&RSA, Alg::RS256, &with(json!({ "aud": aud }))));
        assert!(matches!(got, Err(TokenError::Claims(_))), "{aud}: {got:?}");
    }
}

#[test]
fn debug_shows_only_the_number_of_keys() {
    let key = VerifyingKey::from_jwk(&RSA.jwk).unwrap();
    let shown = format!("{:?}", IssuerKeys::fixed(&key));
    assert_eq!(shown, "IssuerKeys { keys: Some(1), fetched: false, .. }");
}

/// API ML. It records each token about which it is asked.
#[derive(Clone, Default)]
struct Texts(Arc<Mutex<Vec<String>>>);

impl AskIssuer for Texts {
    fn ask(&self, token: &str, _: &VerifiedToken) -> AskFuture {
        self.0.lock().unwrap().push(token.to_owned());
        Box::pin(ready(Ok(TokenStatus::Active)))
    }
}

#[tokio::test]
async fn api_ml_is_asked_about_the_jwt_of_a_prefixed_pat() {
    let texts = Texts::default();
    let own = Rs256Verifier::new(OWN.verifying_key())
        .with_clock(clock())
        .with_cache(NonZeroUsize::new(100).unwrap())
        .with_apiml_keys(fixed([&*RSA]));
    let check = IssuerCheck::new("API ML", texts.clone());
    let issuers = TrustedIssuers::new(own).with_apiml_check(check);
    let prefixed = |jwt: &str| {
        let fingerprint = TokenFingerprint::of(jwt);
        crate::token::pat_form::prefixed(jwt, &fingerprint).to_string()
    };
    let pat = site_token(&RSA, "APIML_PAT");
    assert_eq!(decide(&issuers, &prefixed(&pat)).await.unwrap(), "IBMUSER");
    assert_eq!(*texts.0.lock().unwrap(), [pat.as_str()]);
    // The answer about one form is also the answer about the other form.
    assert!(issuers.try_verify_now(pat.as_bytes()).unwrap().is_ok());
    assert!(issuers.try_verify_now(prefixed(&pat).as_bytes()).unwrap().is_ok());

    let wrong = format!("zowepat_{pat}.00000000");
    assert_eq!(
        issuers.try_verify_now(wrong.as_bytes()).unwrap().unwrap_err(),
        TokenError::Checksum
    );
    assert_eq!(issuers.verify_token(wrong.as_bytes()).await.unwrap_err(), TokenError::Checksum);
    assert_eq!(
        issuers.verify_for_logout(wrong.as_bytes()).await.unwrap_err(),
        TokenError::Checksum
    );
    // Only a PAT has the prefix.
    let login = prefixed(&site_token(&RSA, "APIML"));
    for refused in [
        issuers.try_verify_now(login.as_bytes()).unwrap(),
        issuers.verify_token(login.as_bytes()).await,
        issuers.verify_for_logout(login.as_bytes()).await,
    ] {
        assert!(matches!(refused, Err(TokenError::Claims(_))));
    }
    assert_eq!(texts.0.lock().unwrap().len(), 1);
}
