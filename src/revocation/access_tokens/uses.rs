//! Collects the uses of Personal Access Tokens, and writes them to the registry later.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    AccessTokenStore,
    changes::{AccessTokenChange, AccessTokenOutcome, PatUse},
    entry::LastUse,
};
use crate::{
    clock::Timestamp,
    metrics::{Collect, Counter, Description, Exposition},
    revocation::{IssuedPat, StoreError},
    token::{Pat, ServiceId, TokenFingerprint},
};

const DROPPED: Description = Description::counter(
    "passticket_access_token_uses_dropped_total",
    "Uses of Personal Access Tokens that were not recorded, because too many waited.",
);

const DROPPED_MISUSES: Description = Description::counter(
    "passticket_access_token_misuses_dropped_total",
    "Uses of refused Personal Access Tokens that were not reported to the registry, because too many waited.",
);

/// The number of slots. A slot remembers the last report of a token. If two tokens share a slot, the only effect is
/// that more reports are made.
const SLOTS: usize = 16_384;

/// The maximum number of uses that wait to be written. Further uses are dropped.
const MAX_USES: usize = 4096;

/// The maximum number of uses of revoked tokens that wait to be written.
const MAX_MISUSES: usize = 256;

const WRITE_EVERY_SECS: u64 = 10;

/// The recent uses of Personal Access Tokens (PATs), which are written to a registry later. Share it by an `Arc` with
/// the layers, and call [`flush`](Self::flush) about every second.
///
/// A request with a PAT reads two atomic numbers. The first request with each PAT in a minute also adds a report to a
/// queue. A request never waits for the registry. If too many reports wait, new ones are dropped. One metric counts the
/// dropped uses, and another one the dropped reports of refused tokens.
pub struct TokenUses {
    /// The current minute. `flush` sets it, so that a request reads no clock.
    minute: AtomicU64,
    used: Box<[AtomicU64]>,
    misused: Box<[AtomicU64]>,
    queue: Mutex<Queue>,
    dropped: Counter,
    dropped_misuses: Counter,
}

#[derive(Default)]
struct Queue {
    now: Option<Timestamp>,
    written_at: Option<Timestamp>,
    uses: Vec<PatUse>,
    misuses: Vec<IssuedPat>,
}

impl Default for TokenUses {
    fn default() -> Self {
        let slots = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            minute: AtomicU64::new(0),
            used: slots(SLOTS),
            misused: slots(SLOTS / 16),
            queue: Mutex::default(),
            dropped: Counter::default(),
            dropped_misuses: Counter::default(),
        }
    }
}

impl TokenUses {
    /// Reports that a request with `pat` was accepted. `from` is usually not called for repeated uses of a token in the
    /// same minute.
    pub fn used(&self, pat: &Pat, service: &ServiceId, from: impl FnOnce() -> Option<IpAddr>) {
        if self.is_new(&self.used, &pat.fingerprint()) {
            self.add_use(pat, service, from());
        }
    }

    #[cold]
    fn add_use(&self, pat: &Pat, service: &ServiceId, from: Option<IpAddr>) {
        let mut queue = self.lock();
        let Some(at) = queue.now else { return };
        if queue.uses.len() < MAX_USES {
            // The time of the last `flush` may be before the token was issued.
            let last_use = LastUse::new(at.max(pat.issued_at()), from, Some(service.clone()));
            queue.uses.push(PatUse::new(pat.into(), last_use));
        } else {
            drop(queue);
            self.dropped.increment();
        }
    }

    /// Reports that a request with `pat` was refused, because this token is revoked.
    #[cold]
    pub fn refused(&self, pat: &Pat) {
        if !self.is_new(&self.misused, &pat.fingerprint()) {
            return;
        }
        let mut queue = self.lock();
        if queue.misuses.len() < MAX_MISUSES {
            queue.misuses.push(pat.into());
        } else {
            drop(queue);
            self.dropped_misuses.increment();
        }
    }

    /// Returns `true` for the first report of the token in this minute, and stores the report in the slot of the token.
    /// Before the first `flush`, always returns `false`.
    fn is_new(&self, slots: &[AtomicU64], token: &TokenFingerprint) -> bool {
        let minute = self.minute.load(Ordering::Relaxed);
        let [number, ..] = token.as_bytes().as_chunks::<8>().0 else { return false };
        let number = u64::from_le_bytes(*number);
        let slot = &slots[number as usize % slots.len()];
        let report = (number & !0xff_ffff) | minute;
        if slot.load(Ordering::Relaxed) == report || minute == 0 {
            return false;
        }
        slot.store(report, Ordering::Relaxed);
        true
    }

    /// Sets the time that the next uses get in their reports, and writes the waiting reports to `store`. Reports of
    /// uses are written at most every 10 seconds. Also revokes the rotated tokens whose grace period has ended. Returns
    /// the number of tokens that were revoked because a rotated token was used after its grace period.
    ///
    /// # Errors
    /// The first error of `store`. The reports that were not written before the error are then lost.
    pub async fn flush(
        &self,
        store: &impl AccessTokenStore,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        // 24 bits are enough: the numbers of the minutes repeat only after 31 years.
        self.minute.store((now.as_secs() / 60) & 0xff_ffff, Ordering::Relaxed);
        let (uses, misuses) = {
            let mut queue = self.lock();
            queue.now = Some(now);
            let is_due = queue.written_at.is_none_or(|written| {
                now < written || now.as_secs() - written.as_secs() >= WRITE_EVERY_SECS
            });
            let uses = if is_due && !queue.uses.is_empty() {
                queue.written_at = Some(now);
                std::mem::take(&mut queue.uses)
            } else {
                Vec::new()
            };
            (uses, std::mem::take(&mut queue.misuses))
        };
        let mut changes = vec![AccessTokenChange::EndGraces];
        if !uses.is_empty() {
            changes.push(AccessTokenChange::Use(uses));
        }
        for change in changes {
            store.change(change, now).await?;
        }
        let mut revoked = 0;
        for pat in misuses {
            if let AccessTokenOutcome::Revoked(count) =
                store.change(AccessTokenChange::Misuse { pat }, now).await?
            {
                revoked += count;
            }
        }
        Ok(revoked)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for TokenUses {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&DROPPED, self.dropped.get());
        exposition.value(&DROPPED_MISUSES, self.dropped_misuses.get());
    }
}

impl fmt::Debug for TokenUses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenUses")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use test_support::pki;
    use tokio_test::block_on;

    use super::*;
    use crate::{
        clock::ManualClock,
        passticket::UserId,
        revocation::{
            AccessTokenKey, AccessTokenState, MemoryAccessTokens, RevocationIndex, RotatedPat,
            TokenDescription,
        },
        token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
    };

    const NOW: u64 = 1_800_000_000;

    static KEY: LazyLock<SigningKey> =
        LazyLock::new(|| SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap());

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(NOW + secs)
    }

    fn pat() -> Pat {
        let clock = Arc::new(ManualClock::new(at(0)));
        let (user, scopes) = (UserId::new("USER").unwrap(), Scopes::parse(["a"]).unwrap());
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock.clone());
        let token = issuer.personal_access_token(&user, &scopes, Validity::MAX).unwrap();
        let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(clock);
        match verifier.verify(token.expose()) {
            Ok(VerifiedToken::Pat(pat)) => pat,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn uses_are_recorded_once_a_minute_and_written_later() {
        let store = MemoryAccessTokens::new(Arc::default());
        let (uses, pat, service) = (TokenUses::default(), pat(), ServiceId::new("a").unwrap());
        let flush = |secs| block_on(uses.flush(&store, at(secs))).unwrap();
        let used = |address: &str| uses.used(&pat, &service, || address.parse().ok());
        let last = |secs| {
            let key = AccessTokenKey::Verified((&pat).into());
            let entry = block_on(store.find(key, at(secs))).unwrap()?;
            entry.last_use.map(|last| (last.at, last.from.unwrap().to_string()))
        };
        // Before the first flush, there is no time.
        used("192.0.2.1");
        flush(0);
        assert_eq!(last(0), None);
        used("192.0.2.2");
        used("192.0.2.3");
        flush(1);
        assert_eq!(last(1), Some((at(0), "192.0.2.2".to_owned())));
        // This use is in the next minute. It is written when ten seconds have passed since the last write.
        flush(60);
        used("192.0.2.4");
        flush(61);
        assert_eq!(last(61), Some((at(60), "192.0.2.4".to_owned())));
        let other = self::pat();
        uses.used(&other, &service, || None);
        flush(62);
        assert_eq!(uses.lock().uses.len(), 1);
        flush(71);
        assert_eq!(uses.lock().uses.len(), 0);
    }

    #[test]
    fn the_first_use_is_not_before_the_issue_time() {
        let store = MemoryAccessTokens::new(Arc::default());
        let (uses, pat, service) = (TokenUses::default(), pat(), ServiceId::new("a").unwrap());
        block_on(uses.flush(&store, Timestamp::from_secs(NOW - 1))).unwrap();
        uses.used(&pat, &service, || None);
        block_on(uses.flush(&store, at(10))).unwrap();
        let key = AccessTokenKey::Verified((&pat).into());
        let entry = block_on(store.find(key, at(10))).unwrap().unwrap();
        assert_eq!(entry.last_use.unwrap().at, pat.issued_at());
    }

    #[test]
    fn the_queues_are_limited() {
        let (uses, store) = (TokenUses::default(), MemoryAccessTokens::new(Arc::default()));
        block_on(uses.flush(&store, at(0))).unwrap();
        let (pat, service) = (pat(), ServiceId::new("a").unwrap());
        for _ in 0..MAX_USES + 5 {
            uses.add_use(&pat, &service, None);
        }
        assert_eq!((uses.lock().uses.len(), uses.dropped.get()), (MAX_USES, 5));
        let mut reported = 0;
        while uses.dropped_misuses.get() == 0 {
            uses.refused(&self::pat());
            reported += 1;
            assert!(reported < 4 * MAX_MISUSES, "no report of a refused token was dropped");
        }
        assert_eq!(uses.lock().misuses.len(), MAX_MISUSES);
    }

    #[test]
    fn a_use_of_a_rotated_token_after_its_grace_revokes_its_family() {
        let index = Arc::new(RevocationIndex::default());
        let (uses, store) = (TokenUses::default(), MemoryAccessTokens::new(index));
        let (old, new) = (pat(), pat());
        let description = TokenDescription::default();
        let issue =
            AccessTokenChange::Issue { pat: (&old).into(), name: None, description, limit: 9 };
        block_on(store.change(issue, at(0))).unwrap();
        let rotate = AccessTokenChange::Rotate {
            old: RotatedPat::Verified((&old).into()),
            new: (&new).into(),
            grace: std::time::Duration::ZERO,
            limit: 9,
        };
        block_on(store.change(rotate, at(0))).unwrap();
        let state = || {
            let key = AccessTokenKey::Verified((&new).into());
            block_on(store.find(key, at(2))).unwrap().unwrap().state
        };
        assert_eq!(block_on(uses.flush(&store, at(1))).unwrap(), 0);
        assert_eq!(state(), AccessTokenState::Active);
        uses.refused(&old);
        assert_eq!(block_on(uses.flush(&store, at(2))).unwrap(), 1);
        assert_eq!(state(), AccessTokenState::Revoked);
    }
}
