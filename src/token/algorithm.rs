//! The signature algorithms that the gateway accepts for tokens of other issuers.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};

/// A signature algorithm (RFC 7518 §3.1) of tokens of other issuers: RSA or ECDSA.
///
/// This type has no variant for `none` (tokens without a signature), and no variant for algorithms with a shared
/// secret, such as `HS256`. So a configuration cannot permit them.
///
/// ECDSA signatures are not unique: from one valid signature, anyone can compute a second one. With the second
/// signature, the token has another [fingerprint](super::TokenFingerprint). So a revocation of the first fingerprint
/// does not apply to the token with the second signature. RSA signatures do not have this property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with the curve P-256 and SHA-256.
    Es256,
    /// ECDSA with the curve P-384 and SHA-384.
    Es384,
}

impl Algorithm {
    /// The algorithms for which an RSA key can be used.
    pub(super) const RSA: [Self; 6] =
        [Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];

    /// Returns the name in the header of a token (`alg`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    pub(super) fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    /// Reads the name of an algorithm. It is case-sensitive, as in a token.
    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        let all = Self::RSA.into_iter().chain([Self::Es256, Self::Es384]);
        let error = || AlgorithmError { text: text.chars().take(20).collect() };
        all.into_iter().find(|algorithm| algorithm.name() == text).ok_or_else(error)
    }
}

/// The text is not the name of an [`Algorithm`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an accepted algorithm; write RS256, RS384, RS512, PS256, PS384, PS512, ES256 or ES384"
)]
pub struct AlgorithmError {
    /// The first 20 characters of the text.
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_algorithms_with_a_public_key_have_a_name() {
        for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"] {
            assert_eq!(name.parse::<Algorithm>().unwrap().to_string(), name);
        }
        for name in ["none", "None", "", "HS256", "HS512", "rs256", "ES256K", "ES512", "EdDSA"] {
            let error = name.parse::<Algorithm>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name:?} is not an accepted")), "{error}");
        }
    }
}
