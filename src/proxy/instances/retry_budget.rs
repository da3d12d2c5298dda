//! Limits how many requests to a service are sent again.
//!
//! If a service fails because of its load, retries without a limit would double this load. The retries within 10 s are
//! limited to 20 % of the requests of these 10 s, plus 100. The 100 retries are for services with few requests.

use std::time::Duration;

use tower::retry::budget::{Budget, TpsBudget};

/// One deposit is made for this number of requests. One deposit pays for one retry, so 20 % of the requests may be sent
/// again.
const REQUESTS_PER_DEPOSIT: u8 = 5;

/// A deposit that is not used expires after this time.
const LIFETIME: Duration = Duration::from_secs(10);

/// This number times the seconds of [`LIFETIME`] is 100. Within [`LIFETIME`], 100 retries need no deposit, even if all
/// of them occur at the same time.
const FREE_PER_SECOND: u32 = 10;

#[derive(Debug)]
pub(in crate::proxy) struct RetryBudget(TpsBudget);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(TpsBudget::new(LIFETIME, FREE_PER_SECOND, 1.0))
    }
}

impl RetryBudget {
    /// Takes a retry from the budget. Returns false if the budget is used up.
    #[must_use]
    #[cold]
    pub(in crate::proxy) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }

    fn deposit(&self) {
        self.0.deposit();
    }
}

/// Counts the requests of one clone of the proxy on one route, so that only each fifth request takes the lock of the
/// budget.
#[derive(Debug)]
pub(in crate::proxy) struct RequestsUntilDeposit(u8);

impl RequestsUntilDeposit {
    /// Creates a counter, whose first deposit comes after a random number of requests. Each connection of a client may
    /// have a counter of its own. If all counters began with the same number, a client that sends one request on each
    /// connection would either make no deposit, or make a deposit for each request.
    pub(in crate::proxy) fn new() -> Self {
        Self(fastrand::u8(0..REQUESTS_PER_DEPOSIT))
    }

    pub(in crate::proxy) fn add(&mut self, budget: &RetryBudget) {
        match self.0.checked_sub(1) {
            Some(rest) => self.0 = rest,
            None => {
                self.0 = REQUESTS_PER_DEPOSIT - 1;
                budget.deposit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_fifth_of_the_requests_may_be_sent_again() {
        let free = u64::from(FREE_PER_SECOND) * LIFETIME.as_secs();
        let withdrawn =
            |budget: &RetryBudget| (0..10_000).filter(|_| budget.withdraw()).count() as u64;
        let (budget, mut requests) = (RetryBudget::default(), RequestsUntilDeposit::new());
        assert_eq!(withdrawn(&budget), free);
        (0..1000).for_each(|_| requests.add(&budget));
        assert_eq!(withdrawn(&budget), 200);
        tokio::time::advance(2 * LIFETIME).await;
        assert_eq!(withdrawn(&budget), free);
    }
}
