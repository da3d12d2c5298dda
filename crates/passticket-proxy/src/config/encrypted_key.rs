//! Decrypts private keys in PKCS #8 with PBES2 (RFC 8018): in DER, or in PEM with the label `ENCRYPTED PRIVATE KEY`.

use pkcs8::{
    EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
    pkcs5::{
        EncryptionScheme,
        pbes2::{Kdf, Parameters},
    },
};
use zeroize::Zeroizing;

use super::{passwords::Password, pem_text};

const LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// The maximum number of PBKDF2 iterations. More iterations would keep the program busy for seconds.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The maximum of N·r·p·128 for scrypt (RFC 7914), in bytes. With p = 1, this is about the memory that scrypt uses.
/// OpenSSL encrypts only with values that need less than 32 MiB.
const MAX_SCRYPT_BYTES: u64 = 64 * 1024 * 1024;

/// The reason why a key could not be decrypted. Messages show this text after the path of the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EncryptedKeyError {
    #[error("cannot be decrypted with the configured password; correct the password")]
    WrongPassword,
    #[error("is encrypted in a format that the gateway does not support; encrypt it with PBES2")]
    Unknown,
    #[error(
        "needs too much work to be decrypted; encrypt it with PBKDF2 and at most {MAX_ITERATIONS} iterations"
    )]
    TooMuchWork,
}

pub(super) fn is_present(content: &[u8]) -> bool {
    encrypted(content).is_some()
}

/// Decrypts the first encrypted key of a file. Returns the key as a PEM text.
pub(super) fn decrypt(
    content: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, EncryptedKeyError> {
    let der = encrypted(content).ok_or(EncryptedKeyError::Unknown)?;
    let key =
        EncryptedPrivateKeyInfoRef::try_from(&der[..]).map_err(|_| EncryptedKeyError::Unknown)?;
    let EncryptionScheme::Pbes2(parameters) = &key.encryption_algorithm else {
        return Err(EncryptedKeyError::Unknown);
    };
    check_work(parameters)?;
    // `try_from` has refused unknown ciphers above, so the usual cause of an error here is a wrong password.
    let key = key.decrypt(password.expose()).map_err(|_| EncryptedKeyError::WrongPassword)?;
    // With a wrong password, about one decryption in 256 still finds valid padding, so the result is checked.
    PrivateKeyInfoRef::try_from(key.as_bytes()).map_err(|_| EncryptedKeyError::WrongPassword)?;
    Ok(pem_text::private_key(key.as_bytes()))
}

fn check_work(parameters: &Parameters) -> Result<(), EncryptedKeyError> {
    let is_allowed = match &parameters.kdf {
        Kdf::Pbkdf2(kdf) => kdf.iteration_count <= MAX_ITERATIONS,
        Kdf::Scrypt(kdf) => {
            let blocks = u64::from(kdf.block_size) * 128;
            let memory = kdf.cost_parameter.saturating_mul(blocks);
            memory.saturating_mul(u64::from(kdf.parallelization)) <= MAX_SCRYPT_BYTES
        }
        _ => return Err(EncryptedKeyError::Unknown),
    };
    if is_allowed { Ok(()) } else { Err(EncryptedKeyError::TooMuchWork) }
}

fn encrypted(content: &[u8]) -> Option<Vec<u8>> {
    if EncryptedPrivateKeyInfoRef::try_from(content).is_ok() {
        return Some(content.to_vec());
    }
    let sections = pem::parse_many(content).ok()?;
    sections.into_iter().find(|section| section.tag() == LABEL).map(pem::Pem::into_contents)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    use test_support::{
        key_stores::{
            AES128_SHA512, AES256, DES3_SHA1, PASSWORD, PBES1, SCRYPT, SLOW, TRADITIONAL,
        },
        pki::SERVER,
    };

    use super::*;

    #[test]
    fn keys_of_openssl_are_decrypted_with_the_right_password_only() {
        let decrypt = |content: &[u8], text: &str| decrypt(content, &Password::new(text));
        for key in [AES256, AES128_SHA512, DES3_SHA1, SCRYPT] {
            assert!(is_present(key));
            let decrypted = decrypt(key, PASSWORD).unwrap();
            let decrypted = PrivateKeyDer::from_pem_slice(&decrypted).unwrap();
            assert_eq!(decrypted, SERVER.private_key());
            for wrong in ["", "wrong"] {
                assert_eq!(decrypt(key, wrong), Err(EncryptedKeyError::WrongPassword));
            }
        }
        let der = pem::parse(AES256).unwrap().into_contents();
        assert!(is_present(&der) && decrypt(&der, PASSWORD).is_ok());
        assert_eq!(decrypt(PBES1, PASSWORD), Err(EncryptedKeyError::Unknown));
        assert_eq!(decrypt(SLOW, PASSWORD), Err(EncryptedKeyError::TooMuchWork));
        for other in
            [TRADITIONAL, SERVER.key.as_bytes(), b"", b"-----BEGIN ENCRYPTED PRIVATE KEY-----"]
        {
            assert!(!is_present(other));
            assert_eq!(decrypt(other, PASSWORD), Err(EncryptedKeyError::Unknown));
        }
    }
}
