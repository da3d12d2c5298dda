//! Issues and verifies login tokens and Personal Access Tokens (PATs).
//!
//! Tokens of both kinds are JWTs that an RSA key has signed with RS256. The claim `iss` is `APIML` in a login token and
//! `APIML_PAT` in a PAT. The claim `scopes` of a PAT lists its [scopes](Scope). They decide which services accept the
//! PAT. API ML (Zowe's API Mediation Layer) uses the same claims. If API ML and a gateway with this crate have the same
//! signing key, each of them accepts the tokens of the other.
//!
//! A PAT may stand between the prefix `zowepat_` and a checksum ([`TokenIssuer::with_pat_prefix`]), so that secret
//! scanners recognize it. The verifiers of this module accept each PAT with and without prefix and checksum. API ML
//! accepts only the JWT.
//!
//! [`Rs256Verifier`] verifies tokens of both kinds. A gateway that issues no tokens needs only the public key
//! ([`VerifyingKey::from_pem`], [`VerifyingKey::from_jwk`]). With the feature `remote`, `TrustedIssuers` also verifies
//! the tokens of API ML, of z/OSMF (IBM's management server on z/OS) and of OpenID Connect providers. To accept
//! other tokens, implement [`TokenVerifier`].
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
//! let VerifiedToken::Pat(pat) = verifier.verify(pat.expose())? else { panic!("expected a PAT") };
//! assert_eq!(pat.user().as_str(), "USER");
//! assert_eq!(pat.scopes(), &scopes);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "remote")]
mod algorithm;
#[cfg(feature = "remote")]
mod apiml;
mod cache;
mod claims;
mod error;
mod external;
mod fingerprint;
mod issue;
#[cfg(feature = "remote")]
mod issuer_check;
#[cfg(feature = "remote")]
mod issuer_keys;
#[cfg(feature = "remote")]
mod issuer_url;
#[cfg(feature = "remote")]
mod issuers;
mod key;
mod key_id;
#[cfg(feature = "remote")]
mod key_set;
#[cfg(feature = "remote")]
mod oidc;
mod pat_form;
#[cfg(feature = "remote")]
mod payload;
mod rs256;
mod scope;
mod scope_path;
mod scopes;
mod service_id;
mod verified;
mod verifier;
#[cfg(feature = "remote")]
mod zosmf;

#[cfg(feature = "remote")]
pub use algorithm::{Algorithm, AlgorithmError};
pub use error::TokenError;
pub use external::{ExternalClaims, ExternalSubject, ExternalToken};
pub use fingerprint::{ParseFingerprintError, TokenFingerprint};
pub use issue::{IssueError, IssuedToken, TokenIssuer, Validity};
#[cfg(feature = "remote")]
pub use issuer_check::{AskFuture, AskIssuer, IssuerCheck, TokenStatus};
#[cfg(feature = "remote")]
pub use issuer_keys::{FetchFuture, IssuerKeys, JwkSetSource, JwksUrl, KeyRefresh, UnprotectedUrl};
#[cfg(feature = "remote")]
pub use issuer_url::{IssuerUrl, IssuerUrlError};
#[cfg(feature = "remote")]
pub use issuers::TrustedIssuers;
pub use key::{RsaKeyError, SigningKey, VerifyingKey};
pub use key_id::{KeyId, KeyIdError};
#[cfg(feature = "remote")]
pub use key_set::KeySetError;
#[cfg(feature = "remote")]
pub use oidc::{DuplicateIssuer, OidcIssuer};
pub(crate) use pat_form::PAT_PREFIX;
pub use rs256::Rs256Verifier;
pub use scope::{RequestFacts, Scope, ScopeAccess, ScopeError, ScopeProblem};
pub use scope_path::{MAX_SCOPE_PATH_LEN, ScopePath, ScopePathError};
pub use scopes::{Scopes, ScopesError};
#[doc(no_inline)]
pub use serde_json;
pub use service_id::{ServiceId, ServiceIdError};
pub use verified::{Jwt, Pat, TokenOrigin, VerifiedToken};
pub use verifier::{TokenVerifier, VerifyFuture};

/// The maximum length in bytes of a token that the verifiers of this crate accept. This length includes the prefix and
/// the checksum of a PAT ([`TokenIssuer::with_pat_prefix`]). This is enough for a PAT with hundreds of scopes.
pub const MAX_TOKEN_LEN: usize = 16 * 1024;
