//! Reads PKCS12 files (RFC 7292): the key and the certificates of the gateway, and trust stores of Java.

use std::fmt;

use p12_keystore::{CertificateBag, Pkcs12Archive, PrivateKeyBag, error::Error};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use x509_cert::{
    Certificate, TbsCertificate,
    der::{Decode, Encode},
    ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier},
    name::Name,
};
use zeroize::Zeroizing;

use super::{
    passwords::Password,
    pem_text,
    pkcs12_work::{MAX_DERIVATIONS, MAX_ITERATIONS, Work},
    problem::quote,
};

const MAX_CHAIN: usize = 16;

/// The content of a PKCS12 file. There is no `Debug`, because the content has private keys.
///
/// The library that decrypts the file leaves copies of the private keys in freed memory.
pub(super) struct Pkcs12(Pkcs12Archive);

/// A private key and its certificates, as PEM texts.
pub(super) struct KeyEntry {
    pub(super) key: Zeroizing<Vec<u8>>,
    /// The certificate of the key, followed by the certificate authorities (CAs) above it that are in the file.
    pub(super) chain: Vec<u8>,
}

/// The reason why a PKCS12 file, or an entry of it, cannot be used. Messages show this text after the path of the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Pkcs12Error {
    #[error("cannot be opened with the configured password")]
    WrongPassword,
    #[error("cannot be read as a PKCS12 file ({0})")]
    Unreadable(String),
    #[error(
        "has more than {} encrypted parts, or needs more than {} iterations of the key derivation in all; export only the \
         key of the gateway and its certificates, with fewer iterations",
        MAX_DERIVATIONS,
        MAX_ITERATIONS
    )]
    TooMuchWork,
    #[error("has no private key; name the file with the private key of the gateway")]
    NoKey,
    #[error("has several private keys: {0}; set alias to one of these names")]
    SeveralKeys(Aliases),
    #[error("has no private key with the alias {}; set alias to one of these: {aliases}", quote(.alias))]
    NoSuchAlias { alias: String, aliases: Aliases },
    #[error("has no certificate for its private key {}; import the certificate into the file", quote(.0))]
    NoCertificate(String),
    #[error(
        "has no trusted certificate; import the CA certificates with keytool -importcert, or with \
         openssl pkcs12 -export -nokeys"
    )]
    NoTrusted,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aliases(Vec<String>);

impl fmt::Display for Aliases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, alias) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, quote(alias))?;
        }
        Ok(())
    }
}

impl Pkcs12 {
    /// Checks the password and decrypts the file. The library limits the work of each encrypted part, and [`Work`]
    /// limits the work of all parts that are visible without the password. An encrypted part can contain further
    /// encrypted parts. The sum of their work is limited only by the size of the file. The author of these parts knows
    /// the password, and is trusted.
    pub(super) fn open(content: &[u8], password: Option<&Password>) -> Result<Self, Pkcs12Error> {
        if Work::of(content).is_too_much() {
            return Err(Pkcs12Error::TooMuchWork);
        }
        // A file that was made without a password has the empty password.
        let password = password.map_or("", Password::expose);
        let opened = Pkcs12Archive::from_pkcs12(content, password);
        opened.map(Self).map_err(|error| match error {
            Error::MacError(_) => Pkcs12Error::WrongPassword,
            other => Pkcs12Error::Unreadable(other.to_string()),
        })
    }

    /// Returns the private key with this alias, and its certificates. Without an alias, the file must have exactly one
    /// key. As in Java, the comparison of aliases ignores case.
    pub(super) fn key(&self, alias: Option<&str>) -> Result<KeyEntry, Pkcs12Error> {
        let keys = &self.0.keys;
        let aliases = || Aliases(keys.iter().map(|key| self.alias(key)).collect());
        let key = match (keys.as_slice(), alias) {
            ([], _) => return Err(Pkcs12Error::NoKey),
            ([only], None) => only,
            (_, None) => return Err(Pkcs12Error::SeveralKeys(aliases())),
            (_, Some(alias)) => {
                let wanted = alias.to_lowercase();
                let found = keys.iter().find(|key| self.alias(key).to_lowercase() == wanted);
                found.ok_or_else(|| Pkcs12Error::NoSuchAlias {
                    alias: alias.to_owned(),
                    aliases: aliases(),
                })?
            }
        };
        let leaf =
            self.certificate_of(key).ok_or_else(|| Pkcs12Error::NoCertificate(self.alias(key)))?;
        let chain = self.chain(leaf);
        Ok(KeyEntry {
            key: pem_text::private_key(key.key.as_der()),
            chain: pem_text::certificates(
                chain.iter().map(|certificate| certificate.cert.as_der()),
            ),
        })
    }

    /// Returns the trusted certificates, as one PEM text. Java marks them with an attribute. If no certificate has this
    /// attribute and the file has no key, returns all certificates, because OpenSSL makes such files.
    pub(super) fn trusted(&self) -> Result<Vec<u8>, Pkcs12Error> {
        let Pkcs12Archive { keys, certs, .. } = &self.0;
        let is_marked = certs.iter().any(|certificate| certificate.trusted);
        let trusted: Vec<_> = certs
            .iter()
            .filter(|certificate| certificate.trusted || (!is_marked && keys.is_empty()))
            .map(|certificate| certificate.cert.as_der())
            .collect();
        if trusted.is_empty() {
            return Err(Pkcs12Error::NoTrusted);
        }
        Ok(pem_text::certificates(trusted))
    }

    /// Returns the alias of a key: the name of the key, or the name of its certificate. If neither has a name, the
    /// alias is empty.
    fn alias(&self, key: &PrivateKeyBag) -> String {
        let of_certificate = || {
            let same = self.0.certs.iter().find(|certificate| has_id_of(certificate, key))?;
            same.friendly_name.clone()
        };
        key.friendly_name.clone().or_else(of_certificate).unwrap_or_default()
    }

    /// Returns the certificate with the public key of this key. Certificates with the id of the key are tried first.
    /// Some programs write no such ids, so the other certificates are tried, too.
    fn certificate_of(&self, key: &PrivateKeyBag) -> Option<&CertificateBag> {
        let certs = &self.0.certs;
        let (same, others): (Vec<_>, Vec<_>) =
            certs.iter().partition(|certificate| has_id_of(certificate, key));
        same.into_iter().chain(others).find(|certificate| {
            let chain = vec![CertificateDer::from(certificate.cert.as_der().to_vec())];
            let key = PrivatePkcs8KeyDer::from(key.key.as_der()).clone_key();
            CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(key), &aws_lc_rs::default_provider())
                .is_ok()
        })
    }

    fn chain<'a>(&'a self, leaf: &'a CertificateBag) -> Vec<&'a CertificateBag> {
        let parsed: Vec<_> = self
            .0
            .certs
            .iter()
            .filter_map(|bag| Some((bag, Certificate::from_der(bag.cert.as_der()).ok()?)))
            .collect();
        let mut chain = vec![leaf];
        while chain.len() < MAX_CHAIN {
            let last = chain.last().map(|bag| bag.cert.as_der());
            let Some((_, last)) = parsed.iter().find(|(bag, _)| Some(bag.cert.as_der()) == last)
            else {
                break;
            };
            let last = last.tbs_certificate();
            if names_are_equal(last.subject(), last.issuer()) {
                break;
            }
            let issuers = parsed.iter().filter(|(bag, issuer)| {
                names_are_equal(issuer.tbs_certificate().subject(), last.issuer())
                    && chain.iter().all(|known| known.cert.as_der() != bag.cert.as_der())
            });
            // A renewed CA keeps its name, so several certificates can have the right name. The key identifiers say
            // which of them is the issuer.
            match issuers.max_by_key(|(_, issuer)| has_key_id_of_issuer(last, issuer)) {
                Some((bag, _)) => chain.push(*bag),
                None => break,
            }
        }
        chain
    }
}

fn has_id_of(certificate: &CertificateBag, key: &PrivateKeyBag) -> bool {
    match (&certificate.local_key_id, &key.local_key_id) {
        (Some(id), Some(key)) => id.as_slice() == key.as_ref(),
        _ => false,
    }
}

fn names_are_equal(a: &Name, b: &Name) -> bool {
    matches!((a.to_der(), b.to_der()), (Ok(a), Ok(b)) if a == b)
}

/// Returns whether the authority key identifier of `certificate` is the subject key identifier of `issuer`.
fn has_key_id_of_issuer(certificate: &TbsCertificate, issuer: &Certificate) -> bool {
    let wanted = certificate.get_extension::<AuthorityKeyIdentifier>();
    let found = issuer.tbs_certificate().get_extension::<SubjectKeyIdentifier>();
    match (wanted, found) {
        (Ok(Some((_, wanted))), Ok(Some((_, found)))) => {
            wanted.key_identifier.is_some_and(|wanted| wanted.as_bytes() == found.0.as_bytes())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::pki_types::pem::PemObject;
    use test_support::{
        key_stores::{self, PASSWORD},
        pki::{Authority, SERVER, USER},
    };

    use super::*;

    fn open(content: &[u8]) -> Pkcs12 {
        Pkcs12::open(content, Some(&Password::new(PASSWORD))).unwrap()
    }

    fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem).map(Result::unwrap).collect()
    }

    fn authority() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(Authority::trusted().pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_key_has_the_chain_of_its_certificate() {
        for (store, alias, identity) in [
            (key_stores::OPENSSL, None, SERVER),
            (key_stores::OPENSSL, Some("LocalHost"), SERVER),
            (key_stores::OPENSSL_LEGACY, Some("localhost"), SERVER),
            (key_stores::KEYTOOL, Some("localhost"), SERVER),
            (key_stores::KEYTOOL, Some("user"), USER),
        ] {
            let entry = open(store).key(alias).unwrap();
            assert_eq!(certificates(&entry.chain), [identity.certificate_der(), authority()]);
            let key = PrivateKeyDer::from_pem_slice(&entry.key).unwrap();
            let chain = certificates(&entry.chain);
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap();
        }
    }

    #[test]
    fn wrong_passwords_aliases_and_files_have_different_errors() {
        let with = |content, password: Option<&str>| {
            Pkcs12::open(content, password.map(Password::new).as_ref()).err()
        };
        for password in [Some("wrong"), Some(""), None] {
            for store in [key_stores::OPENSSL, key_stores::OPENSSL_LEGACY, key_stores::KEYTOOL] {
                assert_eq!(with(store, password), Some(Pkcs12Error::WrongPassword));
            }
        }
        let unreadable = with(&key_stores::OPENSSL[..500], Some(PASSWORD));
        assert!(matches!(unreadable, Some(Pkcs12Error::Unreadable(_))), "{unreadable:?}");
        let error = |store: &[u8], alias| open(store).key(alias).err().unwrap().to_string();
        for (store, alias, want) in [
            (
                key_stores::KEYTOOL,
                None,
                "has several private keys: \"localhost\", \"user\"; set alias to one of these names",
            ),
            (
                key_stores::KEYTOOL,
                Some("other"),
                "has no private key with the alias \"other\"; set alias to one of these: \"localhost\", \"user\"",
            ),
            (
                key_stores::KEYTOOL_TRUST,
                None,
                "has no private key; name the file with the private key of the gateway",
            ),
        ] {
            assert_eq!(error(store, alias), want);
        }
    }

    #[test]
    fn trusted_certificates_have_the_mark_of_java_unless_the_file_has_no_key() {
        for store in [key_stores::KEYTOOL_TRUST, key_stores::OPENSSL_TRUST] {
            assert_eq!(certificates(&open(store).trusted().unwrap()), [authority()]);
        }
        let without_password = Pkcs12::open(key_stores::KEYTOOL_OPEN_TRUST, None).unwrap();
        assert_eq!(certificates(&without_password.trusted().unwrap()), [authority()]);
        // The CAs in the chain of a private key are not trusted certificates.
        assert_eq!(open(key_stores::KEYTOOL).trusted().err(), Some(Pkcs12Error::NoTrusted));
    }

    /// Makes a PKCS12 file with this key and these certificates.
    fn store(key: &KeyPair, certificates: &[CertificateDer<'_>]) -> Pkcs12 {
        let certificates =
            certificates.iter().map(|der| p12_keystore::Certificate::from_der(der).unwrap());
        let key = PrivateKey::from_der(key.serialized_der()).unwrap();
        let mut store = KeyStore::new();
        let chain = PrivateKeyChain::new("id", key, certificates);
        store.add_entry("gateway", KeyStoreEntry::PrivateKeyChain(chain));
        let writer = store.writer(PASSWORD).encryption_iterations(1).mac_iterations(1);
        open(&writer.write().unwrap())
    }

    fn keys(count: usize, iterations: u32) -> Vec<u8> {
        let key = PrivateKey::from_der(SERVER.key_pair().serialized_der()).unwrap();
        let certificate = p12_keystore::Certificate::from_der(&SERVER.certificate_der()).unwrap();
        let mut store = KeyStore::new();
        for i in 0..count {
            let id = i.to_string();
            let chain = PrivateKeyChain::new(id.as_str(), key.clone(), [certificate.clone()]);
            store.add_entry(&id, KeyStoreEntry::PrivateKeyChain(chain));
        }
        let writer = store.writer(PASSWORD).encryption_iterations(iterations);
        writer.mac_iterations(1).write().unwrap()
    }

    #[test]
    fn a_file_that_asks_for_too_much_work_is_refused_before_it_is_decrypted() {
        let opened =
            |content: &[u8]| Pkcs12::open(content, Some(&Password::new(PASSWORD))).map(|_| ());
        // The certificates are one more encrypted part.
        assert_eq!(opened(&keys(MAX_DERIVATIONS - 1, 1)), Ok(()));
        assert_eq!(opened(&keys(MAX_DERIVATIONS, 1)), Err(Pkcs12Error::TooMuchWork));
        // In each part, 32,768 iterations become 1,000,000, which the library accepts. The change makes the MAC
        // invalid. The error is nevertheless `TooMuchWork`, so the limit is checked before anything is computed.
        let mut content = keys(4, 32_768);
        let positions: Vec<_> = (0..content.len() - 5)
            .filter(|i| content[*i..].starts_with(&[2, 3, 0, 0x80, 0]))
            .collect();
        assert_eq!(positions.len(), 5);
        for position in positions {
            content[position + 2..][..3].copy_from_slice(&[0x0f, 0x42, 0x40]);
        }
        assert_eq!(opened(&content), Err(Pkcs12Error::TooMuchWork));
    }

    #[test]
    fn a_certificate_of_another_key_is_not_used() {
        let (key, other) = (SERVER.key_pair(), USER.certificate_der());
        let error = store(&key, std::slice::from_ref(&other)).key(None).err().unwrap();
        assert_eq!(error, Pkcs12Error::NoCertificate("gateway".to_owned()));
        // By the ids in the file, the first certificate belongs to the key. But this certificate has another public
        // key, so the second certificate is used.
        let entry = store(&key, &[other, SERVER.certificate_der()]).key(None).unwrap();
        assert_eq!(certificates(&entry.chain), [SERVER.certificate_der()]);
    }

    #[test]
    fn the_chain_has_the_issuer_with_the_right_key() {
        let key = SERVER.key_pair();
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.use_authority_key_identifier_extension = true;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let old = USER.key_pair();
        let renewed = KeyPair::generate().unwrap();
        let ca = params("ca");
        let [of_old, of_renewed] = [&old, &renewed].map(|key| ca.self_signed(key).unwrap());
        let signed = |by: &KeyPair| {
            let issuer = Issuer::from_params(&ca, by);
            params("leaf").signed_by(&key, &issuer).unwrap()
        };
        for (by, want) in [(&old, &of_old), (&renewed, &of_renewed)] {
            let leaf = signed(by);
            let all = [leaf.der().clone(), of_old.der().clone(), of_renewed.der().clone()];
            let entry = store(&key, &all).key(None).unwrap();
            assert_eq!(certificates(&entry.chain), [leaf.der().clone(), want.der().clone()]);
        }
    }
}
