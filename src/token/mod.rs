//! JWTs and Personal Access Tokens: keys, issuing, verifying.
//!
//! Both kinds are RS256 JWTs under one key. Their `iss` distinguishes them: `APIML` is a login token,
//! `APIML_PAT` a Personal Access Token, whose `scopes` name the services that it is for. The claims are
//! those of Zowe API ML, so a token of either side verifies on the other.
//!
//! [`Rs256Verifier`] verifies both kinds. A gateway that issues no tokens needs only the public key
//! ([`VerifyingKey::from_pem`], [`VerifyingKey::from_jwk`]). Tokens of other issuers are accepted by
//! implementing [`TokenVerifier`].
//!
//! ```
//! use std::time::Duration;
//! use tower_passticket::{
//!     passticket::UserId,
//!     token::{Scopes, SigningKey, TokenIssuer, Rs256Verifier, Validity, VerifiedToken},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//! let issuer = TokenIssuer::new(key);
//!
//! let scopes = Scopes::parse(["zosmf,ims"])?;
//! let pat = issuer.personal_access_token(&UserId::new("USER")?, &scopes, Validity::MAX)?;
//!
//! let VerifiedToken::Pat(pat) = verifier.verify(pat.expose())? else { panic!("is a PAT") };
//! assert_eq!(pat.user().as_str(), "USER");
//! assert_eq!(pat.scopes(), &scopes);
//! # Ok(())
//! # }
//! ```

mod cache;
mod claims;
mod error;
mod external;
mod fingerprint;
mod issue;
mod key;
mod rs256;
mod scope;
mod verified;
mod verifier;

pub use error::TokenError;
pub use external::{ExternalClaims, ExternalSubject, ExternalToken};
pub use fingerprint::{ParseFingerprintError, TokenFingerprint};
pub use issue::{IssueError, IssuedToken, TokenIssuer, Validity};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use rs256::Rs256Verifier;
pub use scope::{Scopes, ScopesError, ServiceId, ServiceIdError};
#[doc(no_inline)]
pub use serde_json;
pub use verified::{Jwt, Pat, VerifiedToken};
pub use verifier::{TokenVerifier, VerifyFuture};

/// The longest token that a verifier of ours reads, in bytes. A PAT with hundreds of scopes fits.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;
