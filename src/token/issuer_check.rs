//! Asks an issuer whether one of its tokens is still valid. The signature does not show this, because it stays valid
//! after the user has logged out. So a token with a wrong signature is refused without a call.
//!
//! The answer "valid" is cached for 60 s, or for the time that [`IssuerCheck::with_memory`] sets. The answer "not
//! valid" is cached for 10 s, and the error of a failed call for 1 s. Concurrent requests with the same token share one
//! call to the issuer. If the call fails, the token is refused.

use std::{fmt, num::NonZeroUsize, pin::Pin, sync::Arc, time::Duration};

use super::{TokenError, TokenFingerprint, VerifiedToken};
use crate::{
    clock::Clock,
    log_limit::log_limited,
    remote::{CachePolicy, RemoteError, SingleFlightCache},
};

/// The maximum number of cached answers.
const ANSWERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// The answer of an issuer about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an issuer accepts its token or does not")]
pub enum TokenStatus {
    /// The issuer accepts the token.
    Active,
    /// The issuer does not accept the token, for example because the user has logged out.
    Ended,
}

/// The future that [`AskIssuer::ask`] returns. It borrows nothing.
pub type AskFuture = Pin<Box<dyn Future<Output = Result<TokenStatus, RemoteError>> + Send>>;

/// Asks an issuer whether one of its tokens is still valid.
///
/// `Apiml` (for Zowe's API Mediation Layer) and `Zosmf` (for IBM's management server on z/OS) implement this trait. The
/// answer must depend only on the token, because all requests with the token share the cached answer.
pub trait AskIssuer: Send + Sync + 'static {
    /// Asks about `token`, whose signature was checked. `verified` contains its claims. The future must limit how long
    /// it waits.
    ///
    /// Return an error if the response of the issuer does not show whether the token is valid.
    fn ask(&self, token: &str, verified: &VerifiedToken) -> AskFuture;
}

/// Asks an issuer about its tokens, and caches the answers. Clones share the cache.
#[derive(Clone)]
pub struct IssuerCheck(Arc<Inner>);

struct Inner {
    /// The name of the issuer in logs and errors.
    issuer: Box<str>,
    source: Arc<dyn AskIssuer>,
    cache: SingleFlightCache<TokenFingerprint, (), RemoteError>,
}

impl IssuerCheck {
    /// Creates a check that asks `source`. `issuer` is the name in logs and errors.
    ///
    /// The answer that a token is valid is cached for 60 s. So a token may be accepted for up to 60 s after a logout at
    /// the issuer.
    pub fn new(issuer: &str, source: impl AskIssuer) -> Self {
        Self::with(issuer, Arc::new(source), DEFAULT_LIFETIME, None)
    }

    /// Sets how long the cache keeps the answer that a token is valid. With zero, it does not keep this answer: only
    /// concurrent requests share it. The returned value has an empty cache.
    #[must_use]
    pub fn with_memory(self, memory: Duration) -> Self {
        Self::with(&self.0.issuer, self.0.source.clone(), memory, None)
    }

    /// Sets how long the cache keeps the answer that a token is valid, and the clock of the cache. The returned value
    /// has an empty cache.
    #[must_use]
    pub fn with_memory_and_clock(self, memory: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::with(&self.0.issuer, self.0.source.clone(), memory, Some(clock))
    }

    fn with(
        issuer: &str,
        source: Arc<dyn AskIssuer>,
        lifetime: Duration,
        clock: Option<Arc<dyn Clock>>,
    ) -> Self {
        let policy = CachePolicy::default().with_entries(ANSWERS).with_found(lifetime);
        let cache = SingleFlightCache::new(policy);
        let cache = match clock {
            Some(clock) => cache.with_clock(clock),
            None => cache,
        };
        Self(Arc::new(Inner { issuer: issuer.into(), source, cache }))
    }

    /// Returns the cached answer, or `None` if the issuer must be asked.
    pub(super) fn cached(&self, verified: &VerifiedToken) -> Option<Result<(), TokenError>> {
        let answer = self.0.cache.cached(&verified.fingerprint())?;
        Some(self.decide(answer))
    }

    pub(super) async fn check(
        &self,
        token: &str,
        verified: &VerifiedToken,
    ) -> Result<(), TokenError> {
        let found = async {
            let status = self.0.source.ask(token, verified).await?;
            Ok((status == TokenStatus::Active).then_some(()))
        };
        let answer = self.0.cache.get(&verified.fingerprint(), found).await;
        self.decide(answer)
    }

    fn decide(&self, answer: Result<Option<()>, RemoteError>) -> Result<(), TokenError> {
        match answer {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(TokenError::LoggedOut),
            Err(error) => {
                let issuer = &self.0.issuer;
                log_limited!(
                    warn, ("issuer check", issuer), { %issuer, %error },
                    "an issuer could not be asked whether a token is still valid; the token is refused"
                );
                let text = format!(
                    "{issuer} could not be asked whether the token is still valid: {error}"
                );
                Err(TokenError::Unavailable(text.into()))
            }
        }
    }
}

impl fmt::Debug for IssuerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerCheck")
            .field("issuer", &self.0.issuer)
            .field("cache", &self.0.cache)
            .finish_non_exhaustive()
    }
}
