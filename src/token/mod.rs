//! JWTs and Personal Access Tokens: keys, issuing, verifying.
//!
//! Both kinds are RS256 JWTs under one key and are told apart by `iss` alone: `APIML` is a login
//! token, `APIML_PAT` a Personal Access Token, whose `scopes` name the services it is good for.
//! The claims are those of Zowe API ML, so that tokens of either side verify on the other.
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
mod fingerprint;
mod issue;
mod key;
mod scope;
mod rs256;

#[cfg(feature = "store")]
pub(crate) use fingerprint::Salt;
pub use fingerprint::TokenFingerprint;
pub use issue::{IssueError, IssuedToken, TokenIssuer, Validity};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use scope::{Scopes, ScopesError, ServiceId, ServiceIdError};
pub use rs256::{Jwt, MAX_TOKEN_LEN, Pat, Rs256Verifier, TokenError, VerifiedToken};
