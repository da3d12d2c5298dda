//! The repeated check of a credential that must be valid for longer than one exchange.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{proofs::Expiry, tunnels::Tunnels};
use crate::{
    audit::ReasonCode,
    revocation::{CheckError, CheckFuture, RevokedBy},
    token::VerifiedToken,
};

/// The interval between checks of a token. Revocations cause additional checks.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// If the revocation store cannot answer a check, the gateway checks the token again within this time. If the store
/// answers no check in this time, the token counts as not valid.
const CHECK_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// The value is the reason in the audit log.
    Expired(ReasonCode),
    Revoked(RevokedBy),
    /// The revocation store could not answer for [`CHECK_AGAIN_AFTER`].
    Unchecked,
}

impl Invalid {
    /// Returns the reason for the client.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Expired(_) => "the credential has expired",
            Self::Revoked(_) => "the token was revoked",
            Self::Unchecked => "the token cannot be checked",
        }
    }
}

pub(super) struct CredentialCheck {
    expiry: Option<Expiry>,
    pub(super) next: Instant,
    /// A check that waits for a server.
    waiting: Option<CheckFuture>,
    /// The time of the first check that the revocation store could not answer. `None` if the store has answered the
    /// last check.
    unavailable_since: Option<Instant>,
}

impl CredentialCheck {
    /// Prepares the checks of a credential. The first check is due at `next`.
    pub(super) fn new(expiry: Option<Expiry>, next: Instant) -> Self {
        Self { expiry, next, waiting: None, unavailable_since: None }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Checks whether the credential is still valid. If a server must answer, call [`poll`](Self::poll) afterwards.
    /// `token` is the token of the credential.
    ///
    /// # Errors
    /// The reason why the credential is not valid.
    pub(super) fn begin(
        &mut self,
        tunnels: &Tunnels,
        token: Option<&VerifiedToken>,
        now: Instant,
    ) -> Result<(), Invalid> {
        self.next = now + CHECK_EVERY;
        if let Some(Expiry { at, reason }) = self.expiry {
            // The system time may be changed, so the remaining time is computed at each check.
            let left = at.as_millis().saturating_sub(tunnels.clock.now().as_millis());
            if left == 0 {
                return Err(Invalid::Expired(reason));
            }
            self.next = self.next.min(now + Duration::from_millis(left));
        }
        let Some(token) = token else { return Ok(()) };
        match tunnels.revocations.try_check_now(token) {
            Some(result) => self.apply(result, now),
            None => {
                self.waiting = Some(tunnels.revocations.check_token(token));
                Ok(())
            }
        }
    }

    /// Polls the check that waits for a server, if there is one.
    ///
    /// # Errors
    /// The reason why the credential is not valid.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), Invalid> {
        if let Some(waiting) = &mut self.waiting
            && let Poll::Ready(result) = waiting.as_mut().poll(cx)
        {
            self.waiting = None;
            return self.apply(result, Instant::now());
        }
        Ok(())
    }

    fn apply(&mut self, result: Result<(), CheckError>, now: Instant) -> Result<(), Invalid> {
        match result {
            Ok(()) => self.unavailable_since = None,
            Err(CheckError::Revoked(by)) => return Err(Invalid::Revoked(by)),
            Err(CheckError::Unavailable) => {
                // The revocation of another token may cause the next check immediately. So the time since the first
                // failure decides, and not the number of failed checks.
                let end = *self.unavailable_since.get_or_insert(now) + CHECK_AGAIN_AFTER;
                if now >= end {
                    return Err(Invalid::Unchecked);
                }
                self.next = self.next.min(end);
            }
        }
        Ok(())
    }
}
