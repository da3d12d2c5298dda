//! Keys of PassTickets (one-time passwords of z/OS) that are stored outside of this process.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use super::algorithm::Algorithm;

/// A PassTicket key outside of this process, for example in a hardware security module (HSM).
///
/// Each algorithm uses its key only in one function, which is DES or HMAC. A source computes this function, so the key
/// itself never leaves the HSM. [`KeyProfile::from_source`](super::KeyProfile::from_source) makes a profile with a
/// source. Keys in memory ([`LegacyKey`](super::LegacyKey), [`EnhancedKey`](super::EnhancedKey)) need no source and are
/// faster.
///
/// The trait is object-safe. An `Arc` of a source is also a source.
///
/// # Blocking
/// [`compute`](Self::compute) is synchronous and runs up to eight times to make a ticket. A gateway makes tickets on
/// the threads of its async runtime. If a call takes longer than a few microseconds, [`threads`](Self::threads) must
/// return the threads on which it may block. A [`LocalGenerator`](super::LocalGenerator) then makes the whole ticket on
/// one of them. The synchronous functions of this crate, such as [`generate_now`](super::LocalGenerator::generate_now)
/// and [`KeyProfile::evaluate`](super::KeyProfile::evaluate), block the thread of the caller.
///
/// # Example
/// ```
/// use passticket::{
///     clock::Timestamp, Algorithm, Applid, EnhancedKey, EnhancedType, KeyProfile, KeySource,
///     KeySourceError, UserId,
/// };
/// # use hmac::{Hmac, KeyInit, Mac};
/// # #[derive(Debug)]
/// # struct Session;
/// # impl Session {
/// #     fn hmac_sha512(&self, _label: &str, data: &[u8]) -> Result<Vec<u8>, &'static str> {
/// #         let mac = Hmac::<sha2::Sha512>::new_from_slice(&[0xAB; 32]).unwrap();
/// #         Ok(mac.chain_update(data).finalize().into_bytes().to_vec())
/// #     }
/// # }
///
/// /// A key in an HSM.
/// #[derive(Debug)]
/// struct HsmKey {
///     session: Session,
///     label: &'static str,
/// }
///
/// impl KeySource for HsmKey {
///     fn algorithm(&self) -> Algorithm {
///         Algorithm::EnhancedMixed
///     }
///
///     fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError> {
///         let mac = self.session.hmac_sha512(self.label, input).map_err(KeySourceError::new)?;
///         mac.first_chunk().copied().ok_or_else(|| KeySourceError::new("the MAC is too short"))
///     }
/// }
///
/// let (user, noon) = (UserId::new("IBMUSER")?, Timestamp::from_secs(1_767_268_800));
/// let applid = Applid::new("IZUDFLT")?;
/// let hsm = KeyProfile::from_source(applid, HsmKey { session: Session, label: "PTKT.IZUDFLT" });
/// let ticket = hsm.generate(&user, noon)?;
///
/// // The same key in memory gives the same ticket.
/// let key = EnhancedKey::from_hex(&"AB".repeat(32))?;
/// let memory = KeyProfile::enhanced(applid, EnhancedType::Mixed, &key);
/// assert_eq!(ticket, memory.generate(&user, noon)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait KeySource: fmt::Debug + Send + Sync + 'static {
    /// Returns the algorithm of the key. The result must always be the same, because a profile calls this method only
    /// once.
    fn algorithm(&self) -> Algorithm;

    /// Computes the keyed function of the algorithm.
    ///
    /// | algorithm | function | input | result |
    /// |---|---|---|---|
    /// | [`Legacy`](Algorithm::Legacy) | DES, ECB mode, one block | 8 bytes | the encrypted block |
    /// | [`EnhancedUpper`](Algorithm::EnhancedUpper), [`EnhancedMixed`](Algorithm::EnhancedMixed) | HMAC-SHA-512 | 16 or 20 bytes | the left 8 bytes of the MAC |
    ///
    /// # Errors
    /// [`KeySourceError`] if the key cannot be used now. Tickets are then neither made nor accepted.
    fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError>;

    /// Returns the threads for calls of [`compute`](Self::compute) in asynchronous code. The default is `None`:
    /// `compute` never blocks, so it can be called on any thread.
    fn threads(&self) -> Option<Arc<dyn KeyThreads>> {
        None
    }
}

/// Threads that may wait for a key, such as a key in a hardware security module.
pub trait KeyThreads: fmt::Debug + Send + Sync + 'static {
    /// Runs `work` on one of the threads. The future returns `Ok` when `work` has run to its end.
    ///
    /// An implementation must limit how much work waits, and for how long. If the caller drops the future, work that
    /// has not begun should not run.
    ///
    /// # Errors
    /// The future returns a [`KeySourceError`] if `work` was not run, or if it takes too long. Work that takes too long
    /// may still end later.
    fn run(&self, work: KeyWork) -> KeyWorkFuture;
}

/// A computation with a key that may block its thread.
pub type KeyWork = Box<dyn FnOnce() + Send>;

/// The future of [`KeyThreads::run`].
pub type KeyWorkFuture = Pin<Box<dyn Future<Output = Result<(), KeySourceError>> + Send>>;

impl<S: KeySource + ?Sized> KeySource for Arc<S> {
    fn algorithm(&self) -> Algorithm {
        (**self).algorithm()
    }

    fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError> {
        (**self).compute(input)
    }

    fn threads(&self) -> Option<Arc<dyn KeyThreads>> {
        (**self).threads()
    }
}

/// The reason why a [`KeySource`] could not use its key.
///
/// A generator reports this error as
/// [`GenerateError::unavailable`](super::GenerateError::unavailable).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the PassTicket key cannot be used: {reason}")]
pub struct KeySourceError {
    reason: Arc<str>,
    retry_after: Option<Duration>,
}

impl KeySourceError {
    /// Creates an error with a reason for the operator's log. The reason must not contain secrets.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self { reason: reason.into(), retry_after: None }
    }

    /// Sets the time after which the key is expected to work again.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Returns the reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the time after which the key is expected to work again, if the source knows it.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}
