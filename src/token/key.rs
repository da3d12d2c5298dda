//! The RSA private key that signs tokens, and the RSA public key that verifies them.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::{PublicEncryptingKey, PublicKey, PublicKeyComponents},
    signature::{
        KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use pem::Pem;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_cert::{
    Certificate,
    der::{Decode, asn1::ObjectIdentifier},
    spki::SubjectPublicKeyInfoOwned,
};
use zeroize::Zeroizing;

use super::{KeyId, claims::header};

const MIN_BITS: usize = 2048;
/// The maximum length of a key that [`RSA_PKCS1_2048_8192_SHA256`] accepts, in bits.
const MAX_BITS: usize = 8192;

/// An RSA private key of 2048 to 8192 bits, which makes RS256 signatures.
#[derive(Clone)]
pub struct SigningKey {
    private: Arc<RsaKeyPair>,
    public: VerifyingKey,
}

impl SigningKey {
    /// Reads a PEM document: PKCS #8 (`PRIVATE KEY`) or PKCS #1 (`RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// [`RsaKeyError`] if the document has no RSA private key, or if the key is too short or too long.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RsaKeyError> {
        let (label, der) = document(pem).ok_or(RsaKeyError::NotRsaPrivate)?;
        let der = Zeroizing::new(der);
        let private = match label.as_str() {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            _ => return Err(RsaKeyError::NotRsaPrivate),
        };
        let private = private.map_err(|_| RsaKeyError::NotRsaPrivate)?;
        let public = VerifyingKey::new(private.public_key().clone())?;
        Ok(Self { private: Arc::new(private), public })
    }

    /// Sets the id of the key. The id is in the header (`kid`) of the tokens that this key signs. The public key has
    /// the same id.
    #[must_use]
    pub fn with_key_id(self, id: KeyId) -> Self {
        Self { public: self.public.with_key_id(id), ..self }
    }

    /// Returns the public key that verifies the signatures of this key.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    pub(super) fn header(&self) -> &str {
        self.public.header()
    }

    /// Signs `message` with RS256 (RFC 7518 §3.3).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut signature = vec![0; self.private.public_modulus_len()];
        self.private.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// An RSA public key of 2048 to 8192 bits, which verifies RS256 signatures.
///
/// ```
/// use tower_passticket::token::{Rs256Verifier, VerifyingKey};
///
/// # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
/// # let pem = pem.public_key_pem();
/// let key = VerifyingKey::from_pem(pem.as_bytes())?;
/// let verifier = Rs256Verifier::new(key);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct VerifyingKey {
    /// The key in parsed form. If each check parsed the key, it would take a sixth longer. This form accepts only
    /// RS256, so the header of a token cannot choose another algorithm.
    rs256: ParsedPublicKey,
    public: PublicKey,
    id: Option<KeyId>,
    /// The encoded header of tokens that the matching [`SigningKey`] signs.
    header: Arc<str>,
}

impl VerifyingKey {
    /// Reads a PEM document: SubjectPublicKeyInfo (`PUBLIC KEY`, RFC 5280), PKCS #1
    /// (`RSA PUBLIC KEY`), or a certificate (`CERTIFICATE`). The dates and the issuer of a
    /// certificate are not checked.
    ///
    /// # Errors
    /// [`RsaKeyError`] if the document has no RSA public key, or if the key is too short or too long.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RsaKeyError> {
        let (label, der) = document(pem).ok_or(RsaKeyError::NotRsaPublic)?;
        match label.as_str() {
            "RSA PUBLIC KEY" => Self::from_pkcs1(&der),
            "PUBLIC KEY" => {
                let key = SubjectPublicKeyInfoOwned::from_der(&der);
                Self::from_spki(&key.map_err(|_| RsaKeyError::NotRsaPublic)?)
            }
            "CERTIFICATE" => {
                let certificate = Certificate::from_der(&der);
                let certificate = certificate.map_err(|_| RsaKeyError::NotRsaPublic)?;
                Self::from_spki(certificate.tbs_certificate().subject_public_key_info())
            }
            _ => Err(RsaKeyError::NotRsaPublic),
        }
    }

    /// Reads a JSON Web Key (RFC 7517, RFC 7518 §6.3.1). `kty` must be `RSA`. The members `use`, `alg`
    /// and `key_ops` may be absent. If they are present, `use` must be `sig`, `alg` must be `RS256`, and
    /// `key_ops` must contain `verify`. The member `kid` is ignored; see [`with_key_id`](Self::with_key_id).
    ///
    /// # Errors
    /// [`RsaKeyError`] for the first problem that this function finds.
    pub fn from_jwk(jwk: &Value) -> Result<Self, RsaKeyError> {
        let jwk = Jwk::deserialize(jwk).map_err(|_| RsaKeyError::NotRsaPublic)?;
        if jwk.kty != "RSA" {
            return Err(RsaKeyError::NotRsaPublic);
        }
        let allows_verify = |operations: Vec<String>| operations.iter().any(|op| op == "verify");
        if jwk.r#use.is_some_and(|r#use| r#use != "sig")
            || jwk.key_ops.is_some_and(|operations| !allows_verify(operations))
        {
            return Err(RsaKeyError::NotForSignatures);
        }
        if let Some(alg) = jwk.alg.filter(|alg| alg != "RS256") {
            return Err(RsaKeyError::Algorithm { found: alg.chars().take(20).collect() });
        }
        let magnitude = |text: &str| {
            let bytes =
                BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| RsaKeyError::NotRsaPublic)?;
            // Some issuers write leading zero bytes, as in a DER integer. RFC 7518 §6.3.1.1 forbids them, but this
            // function accepts and skips them.
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Ok(bytes[zeros..].to_vec())
        };
        Self::new(rsa_public_key(magnitude(&jwk.n)?, magnitude(&jwk.e)?)?)
    }

    /// Returns the key in the form that checks RS256 signatures.
    #[cfg(feature = "remote")]
    pub(super) fn parsed(&self) -> &ParsedPublicKey {
        &self.rs256
    }

    /// Returns the key in DER (PKCS #1).
    #[cfg(feature = "remote")]
    pub(super) fn der(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn from_spki(key: &SubjectPublicKeyInfoOwned) -> Result<Self, RsaKeyError> {
        // The object identifier of rsaEncryption (RFC 8017 appendix A.1).
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        match key.subject_public_key.as_bytes() {
            Some(pkcs1) if key.algorithm.oid == RSA => Self::from_pkcs1(pkcs1),
            _ => Err(RsaKeyError::NotRsaPublic),
        }
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, RsaKeyError> {
        Self::new(PublicKey::from_der(der).map_err(|_| RsaKeyError::NotRsaPublic)?)
    }

    fn new(public: PublicKey) -> Result<Self, RsaKeyError> {
        check_length(public.modulus().big_endian_without_leading_zero())?;
        let rs256 = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_ref())
            .map_err(|_| RsaKeyError::NotRsaPublic)?;
        Ok(Self { rs256, public, id: None, header: header(None).into() })
    }

    /// Sets the id of the key. This crate writes the id into the header of tokens. If a token has exactly the header
    /// that this crate writes for this key, a verifier checks the token with this key first.
    #[must_use]
    pub fn with_key_id(self, id: KeyId) -> Self {
        Self { header: header(Some(&id)).into(), id: Some(id), ..self }
    }

    /// Returns the id of the key, if it has one.
    pub fn key_id(&self) -> Option<&KeyId> {
        self.id.as_ref()
    }

    /// Returns whether `other` is the same public key. The ids of the keys are not compared.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.public.as_ref() == other.public.as_ref()
    }

    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// Returns the key as a JSON Web Key (RFC 7517) with the members `kty`, `use`, `alg`, `n` and `e`, and with `kid`
    /// if the key has an id.
    pub fn to_jwk(&self) -> Value {
        let [n, e] = self.components();
        let mut jwk = json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "n": n, "e": e });
        if let Some(id) = &self.id {
            jwk["kid"] = id.as_str().into();
        }
        jwk
    }

    /// Returns the key as a PEM document (`PUBLIC KEY`, SubjectPublicKeyInfo of RFC 5280).
    pub fn to_pem(&self) -> String {
        let der: Result<PublicKeyX509Der<'_>, _> = self.public.as_der();
        let der = der.expect("a parsed key can be encoded as DER");
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&Pem::new("PUBLIC KEY", der.as_ref()), config)
    }

    /// Returns the modulus and the exponent in base64url, as in a JWK.
    fn components(&self) -> [String; 2] {
        [self.public.modulus(), self.public.exponent()]
            .map(|number| BASE64_URL_SAFE_NO_PAD.encode(number.big_endian_without_leading_zero()))
    }

    /// Returns whether `signature` is an RS256 signature of `message` by this key (RFC 7518 §3.3).
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.rs256.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [n, _] = self.components();
        f.debug_struct("VerifyingKey").field("id", &self.id).field("n", &n).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    n: String,
    e: String,
    r#use: Option<String>,
    alg: Option<String>,
    key_ops: Option<Vec<String>>,
}

fn document(pem: &[u8]) -> Option<(String, Vec<u8>)> {
    let pem = pem::parse(pem).ok()?;
    let label = pem.tag().to_owned();
    Some((label, pem.into_contents()))
}

/// Creates an RSA public key of 2048 to 8192 bits. Modulus and exponent must not have leading zero bytes.
pub(super) fn rsa_public_key(n: Vec<u8>, e: Vec<u8>) -> Result<PublicKey, RsaKeyError> {
    check_length(&n)?;
    let key: Result<PublicEncryptingKey, _> = PublicKeyComponents { n, e }.try_into();
    let der = key.and_then(|key| key.as_der()).map_err(|_| RsaKeyError::NotRsaPublic)?;
    PublicKey::from_der(der.as_ref()).map_err(|_| RsaKeyError::NotRsaPublic)
}

fn check_length(modulus: &[u8]) -> Result<(), RsaKeyError> {
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match modulus.len() * 8 - leading {
        bits if bits < MIN_BITS => Err(RsaKeyError::TooShort { bits }),
        bits if bits > MAX_BITS => Err(RsaKeyError::TooLong { bits }),
        _ => Ok(()),
    }
}

/// The reason why a document is not a usable key. The error contains no part of the key.
///
/// The text of the error continues a sentence that begins with the name of the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RsaKeyError {
    /// The document has no RSA private key.
    #[error(
        "is not a PEM document with an RSA private key of {MIN_BITS} bits or more; make one with: openssl genrsa -out FILE 2048"
    )]
    NotRsaPrivate,
    /// The document has no RSA public key.
    #[error(
        "is not an RSA public key; give a PEM document (PUBLIC KEY, RSA PUBLIC KEY, CERTIFICATE) or a JWK with kty RSA"
    )]
    NotRsaPublic,
    /// The key is too short to be safe.
    #[error("is an RSA key of {bits} bits, but at least {MIN_BITS} are needed")]
    TooShort {
        /// The length of the modulus in bits.
        bits: usize,
    },
    /// The key is too long for the signature check.
    #[error("is an RSA key of {bits} bits, but at most {MAX_BITS} are supported")]
    TooLong {
        /// The length of the modulus in bits.
        bits: usize,
    },
    /// The `use` or `key_ops` of the JWK does not allow the verification of signatures.
    #[error("is a JWK that is not for signatures; choose the JWK with \"use\": \"sig\"")]
    NotForSignatures,
    /// The `alg` of the JWK is not RS256.
    #[error("is a JWK for {found:?}, but only RS256 is supported")]
    Algorithm {
        /// The first 20 characters of the `alg` of the JWK.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{KeyPair as RcgenPair, PublicKeyData};
    use test_support::pki;

    use super::*;

    fn rsa() -> RcgenPair {
        RcgenPair::from_pem(pki::SIGNING_KEY).unwrap()
    }

    fn pem_of(label: &str, der: &[u8]) -> Vec<u8> {
        pem::encode(&Pem::new(label, der)).into_bytes()
    }

    fn verifies(key: Result<VerifyingKey, RsaKeyError>, signing: &SigningKey) -> bool {
        key.unwrap().has_signed(b"message", &signing.sign(b"message").unwrap())
    }

    #[test]
    fn private_keys_are_read_from_pkcs_8_and_pkcs_1() {
        let pair = rsa();
        let pkcs8 = SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let key = x509_cert::der::asn1::AnyRef::try_from(pair.serialized_der()).unwrap();
        let pkcs1 = key
            .sequence(|reader: &mut x509_cert::der::SliceReader<'_>| {
                use x509_cert::der::Reader as _;
                let _version: u8 = reader.decode()?;
                let _algorithm: x509_cert::spki::AlgorithmIdentifierOwned = reader.decode()?;
                reader.decode::<x509_cert::der::asn1::OctetString>()
            })
            .unwrap();
        let pkcs1 = SigningKey::from_pem(&pem_of("RSA PRIVATE KEY", pkcs1.as_bytes())).unwrap();
        assert!(verifies(Ok(pkcs1.verifying_key()), &pkcs8));
        assert_eq!(format!("{pkcs8:?}"), "SigningKey(..)");
    }

    #[test]
    fn documents_without_an_rsa_private_key_are_rejected() {
        let pair = rsa();
        let elliptic = pki::USER.key_pair();
        for pem in [
            String::new(),
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            pair.public_key_pem(),
            elliptic.serialize_pem(),
            String::from_utf8(pem_of("PRIVATE KEY", b"0")).unwrap(),
            String::from_utf8(pem_of("EC PRIVATE KEY", pair.serialized_der())).unwrap(),
        ] {
            let error = SigningKey::from_pem(pem.as_bytes()).unwrap_err();
            assert_eq!(error, RsaKeyError::NotRsaPrivate, "{pem}");
        }
    }

    #[test]
    fn public_keys_are_read_from_every_format() {
        let pair = rsa();
        let signing = SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let public = signing.verifying_key();
        let certificate =
            rcgen::CertificateParams::default().self_signed(&pair).unwrap().der().to_vec();
        for pem in [
            pair.public_key_pem().into_bytes(),
            public.to_pem().into_bytes(),
            pem_of("RSA PUBLIC KEY", pair.der_bytes()),
            pem_of("CERTIFICATE", &certificate),
        ] {
            assert!(verifies(VerifyingKey::from_pem(&pem), &signing));
        }
        let jwk = public.to_jwk();
        assert!(verifies(VerifyingKey::from_jwk(&jwk), &signing));
        assert_eq!(VerifyingKey::from_jwk(&jwk).unwrap().to_jwk(), jwk);
        let jwk_of_jsonwebtoken: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
        assert!(jsonwebtoken::DecodingKey::from_jwk(&jwk_of_jsonwebtoken).is_ok());
        assert!(public.to_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));

        let other_signing = SigningKey::from_pem(pki::OTHER_SIGNING_KEY.as_bytes()).unwrap();
        assert!(!verifies(Ok(public), &other_signing));
    }

    #[test]
    fn documents_without_an_rsa_public_key_are_rejected() {
        let elliptic = pki::USER.key_pair();
        let certificate =
            rcgen::CertificateParams::default().self_signed(&elliptic).unwrap().der().to_vec();
        for pem in [
            Vec::new(),
            pki::SIGNING_KEY.into(),
            elliptic.public_key_pem().into_bytes(),
            pem_of("CERTIFICATE", &certificate),
            pem_of("CERTIFICATE", b"0"),
            pem_of("PUBLIC KEY", b""),
            pem_of("RSA PUBLIC KEY", &[0x30, 0]),
        ] {
            assert_eq!(VerifyingKey::from_pem(&pem).unwrap_err(), RsaKeyError::NotRsaPublic);
        }
    }

    #[test]
    fn a_jwk_must_be_for_rs256_signatures() {
        let signing = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        let good = signing.verifying_key().to_jwk();
        let number = |bytes: &[u8]| Value::from(BASE64_URL_SAFE_NO_PAD.encode(bytes));
        let absent = Value::Null;
        let algorithm = |found: &str| Some(RsaKeyError::Algorithm { found: found.to_owned() });
        let modulus = BASE64_URL_SAFE_NO_PAD.decode(good["n"].as_str().unwrap()).unwrap();
        let cases = [
            ("use", absent.clone(), None),
            ("alg", absent.clone(), None),
            ("kid", json!("any"), None),
            ("key_ops", json!(["verify"]), None),
            ("n", number(&[&[0], modulus.as_slice()].concat()), None),
            ("use", json!("enc"), Some(RsaKeyError::NotForSignatures)),
            ("key_ops", json!(["encrypt"]), Some(RsaKeyError::NotForSignatures)),
            ("alg", json!("RS512"), algorithm("RS512")),
            ("alg", json!("PS256"), algorithm("PS256")),
            ("alg", json!("none"), algorithm("none")),
            ("kty", json!("EC"), Some(RsaKeyError::NotRsaPublic)),
            ("kty", json!("rsa"), Some(RsaKeyError::NotRsaPublic)),
            ("kty", absent.clone(), Some(RsaKeyError::NotRsaPublic)),
            ("n", json!("not base64!"), Some(RsaKeyError::NotRsaPublic)),
            ("n", json!(5), Some(RsaKeyError::NotRsaPublic)),
            ("n", json!(""), Some(RsaKeyError::TooShort { bits: 0 })),
            ("n", number(&[0xff; 128]), Some(RsaKeyError::TooShort { bits: 1024 })),
            (
                "n",
                number(&[&[0x7f], [0xff; 255].as_slice()].concat()),
                Some(RsaKeyError::TooShort { bits: 2047 }),
            ),
            ("n", number(&[0xff; 1025]), Some(RsaKeyError::TooLong { bits: 8200 })),
            ("e", absent, Some(RsaKeyError::NotRsaPublic)),
            ("e", json!(""), Some(RsaKeyError::NotRsaPublic)),
            ("e", number(&[1]), Some(RsaKeyError::NotRsaPublic)),
            ("e", number(&[2]), Some(RsaKeyError::NotRsaPublic)),
        ];
        for (member, value, want) in cases {
            let mut jwk = good.clone();
            match value {
                Value::Null => drop(jwk.as_object_mut().unwrap().remove(member)),
                ref value => jwk[member] = value.clone(),
            }
            let got = VerifyingKey::from_jwk(&jwk);
            assert_eq!(got.as_ref().err(), want.as_ref(), "{member}: {value}");
            if want.is_none() {
                assert!(verifies(got, &signing), "{member}: {value}");
            }
        }
        assert_eq!(VerifyingKey::from_jwk(&json!([])).unwrap_err(), RsaKeyError::NotRsaPublic);
    }

    #[test]
    fn a_short_public_key_in_pem_is_rejected() {
        // This is an RSAPublicKey with a modulus of 1024 bits and the exponent 65537.
        let modulus = [&[0x02, 0x81, 0x81, 0x00], [0xff; 128].as_slice()].concat();
        let key = [&[0x30, 0x81, 0x89], modulus.as_slice(), &[0x02, 3, 1, 0, 1]].concat();
        let error = VerifyingKey::from_pem(&pem_of("RSA PUBLIC KEY", &key)).unwrap_err();
        assert_eq!(error, RsaKeyError::TooShort { bits: 1024 });
    }

    proptest! {
        #[test]
        fn random_documents_give_errors_and_no_panic(text in "\\PC{0,200}", bytes: Vec<u8>) {
            for label in ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE", "PRIVATE KEY"] {
                let pem = pem_of(label, &bytes);
                prop_assert!(VerifyingKey::from_pem(&pem).is_err());
                prop_assert!(SigningKey::from_pem(&pem).is_err());
            }
            prop_assert!(VerifyingKey::from_pem(text.as_bytes()).is_err());
            let jwk = json!({ "kty": "RSA", "n": text, "e": "AQAB" });
            prop_assert!(VerifyingKey::from_jwk(&jwk).is_err());
        }
    }
}
