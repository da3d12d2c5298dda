//! Writes to Zowe's Caching Service. A write is confirmed by reading the entry back, because releases before 3.6 answer
//! a dropped write with success (docs/reference/zowe-site.md#caching-store-modes).

use std::{collections::VecDeque, time::Duration};

use tokio::time::sleep;

use super::{
    client::ServiceClient,
    error::CachingServiceError,
    list::List,
    pat_hashes::{service_spelling, user_spellings},
    records::token_value,
    salt::{ItemHash, Salt},
};
use crate::{
    clock::Timestamp,
    revocation::Revocation,
    token::{Pat, Validity},
};

/// The maximum number of times that a write is sent in a row.
const TRIES: u32 = 3;

/// The pause before a write is sent for the second time. The pause before the third time is twice as long. Longer
/// pauses are not needed, because a busy service has already waited four seconds for its lock.
const PAUSE: Duration = Duration::from_millis(500);

const MAX_WAITING: usize = 10_000;

/// The latest time of a rule that API ML can read: the largest `long` of Java, in milliseconds. API ML ignores a rule
/// with a larger number.
const LATEST: Timestamp = Timestamp::from_millis(i64::MAX.unsigned_abs());

const DAY_SECS: u64 = 24 * 60 * 60;

/// One entry that the service should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    list: List,
    hash: ItemHash,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Token { issued_at: Timestamp, expires_at: Timestamp },
    Rule { up_to: Timestamp },
}

/// A revocation that the service should have. It is kept without its keys, because the keys depend on the salts, and
/// the salts may change.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Pat(Pat),
    /// A rule for a user or a service. If this is a `Revocation::Token`, nothing is written.
    Rule(Revocation),
}

impl Subject {
    pub(super) fn writes(&self, salts: &[Salt]) -> Result<Vec<Write>, CachingServiceError> {
        match self {
            Self::Pat(pat) => Write::of_pat(pat, salts).ok_or(CachingServiceError::NoText),
            Self::Rule(rule) => Ok(Write::of_rule(rule, salts)),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pat(one), Self::Pat(other)) => one.fingerprint() == other.fingerprint(),
            (Self::Rule(one), Self::Rule(other)) => one == other,
            _ => false,
        }
    }
}

impl Write {
    /// Returns the writes that revoke one PAT. Returns `None` if the verifier does not keep the text of PATs.
    fn of_pat(pat: &Pat, salts: &[Salt]) -> Option<Vec<Self>> {
        let text = pat.expose()?;
        let value = Value::Token { issued_at: pat.issued_at(), expires_at: pat.expires_at() };
        let write = |salt: &Salt| Self { list: List::Tokens, hash: salt.hash(text), value };
        Some(salts.iter().map(write).collect())
    }

    fn of_rule(rule: &Revocation, salts: &[Salt]) -> Vec<Self> {
        let (list, spellings, up_to) = match rule {
            Revocation::Token { .. } => return Vec::new(),
            Revocation::User { user, up_to } => (List::Users, user_spellings(user, None), *up_to),
            Revocation::Service { service, up_to } => {
                (List::Services, vec![service_spelling(service).to_owned()], *up_to)
            }
        };
        let value = Value::Rule { up_to: up_to.min(LATEST) };
        let of_salt = |salt: &Salt| {
            let write = |spelling: &String| Self { list, hash: salt.hash(spelling), value };
            spellings.iter().map(write).collect::<Vec<_>>()
        };
        salts.iter().flat_map(of_salt).collect()
    }

    /// Stores the entry, and reads it back. If the service has a rule with a later time, this rule stays.
    pub(super) async fn confirm(
        &self,
        client: &ServiceClient,
        has_query: bool,
        now: Timestamp,
    ) -> Result<(), CachingServiceError> {
        let mut problem = CachingServiceError::Dropped;
        let Some(ttl) = self.ttl_secs(now) else {
            return Ok(());
        };
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(PAUSE * attempt).await;
            }
            match self.attempt(client, has_query, ttl).await {
                Ok(true) => return Ok(()),
                Ok(false) => problem = CachingServiceError::Dropped,
                Err(error) if error.needs_operator() => return Err(error),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// Stores the entry if the service does not have it. Returns whether the service now has the entry.
    async fn attempt(
        &self,
        client: &ServiceClient,
        has_query: bool,
        ttl: u64,
    ) -> Result<bool, CachingServiceError> {
        if self.is_stored(client, has_query).await? {
            return Ok(true);
        }
        let value = match self.value {
            Value::Token { issued_at, expires_at } => {
                token_value(&self.hash, issued_at, expires_at)
            }
            Value::Rule { up_to } => up_to.as_millis().to_string(),
        };
        client.put(self.list, &self.hash, &value, has_query.then_some(ttl)).await?;
        self.is_stored(client, has_query).await
    }

    /// Returns whether the service has the token, or a rule with this time or a later time.
    async fn is_stored(
        &self,
        client: &ServiceClient,
        has_query: bool,
    ) -> Result<bool, CachingServiceError> {
        let lists = match has_query {
            true => client.query(&[(self.list, self.hash)]).await?,
            false => client.list(self.list).await?,
        };
        let stored = lists.time_of(self.list, &self.hash);
        Ok(stored.is_some_and(|stored| match self.value {
            Value::Token { .. } => true,
            Value::Rule { up_to } => stored >= up_to,
        }))
    }

    /// Returns how many seconds the service must keep the entry. `None` if the entry has no effect any more. Such an
    /// entry must not be written: with a time of 0 seconds, the service would remove an older entry with the same key.
    fn ttl_secs(&self, now: Timestamp) -> Option<u64> {
        let longest = u64::from(Validity::MAX.days()) * DAY_SECS;
        let end = match self.value {
            Value::Token { expires_at, .. } => expires_at.as_secs(),
            Value::Rule { up_to } => up_to.as_secs().saturating_add(longest),
        };
        let left = end.saturating_sub(now.as_secs()).min(longest);
        (left > 0).then_some(left)
    }
}

/// The revocations that the service has not confirmed, in the order of their next writes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    subjects: VecDeque<Subject>,
    /// The number of revocations that were not kept, because of the limit.
    pub(super) lost: u64,
}

impl Waiting {
    pub(super) fn keep(&mut self, subject: Subject) {
        if self.subjects.iter().any(|other| other.is_same(&subject)) {
            return;
        }
        match self.subjects.len() < MAX_WAITING {
            true => self.subjects.push_back(subject),
            false => self.lost += 1,
        }
    }

    pub(super) fn first(&self) -> Option<Subject> {
        self.subjects.front().cloned()
    }

    pub(super) fn remove(&mut self, subject: &Subject) {
        self.subjects.retain(|other| !other.is_same(subject));
    }

    /// Moves the first revocation to the end, so that a revocation that the service always refuses does not block the
    /// others.
    pub(super) fn rotate(&mut self) {
        if !self.subjects.is_empty() {
            self.subjects.rotate_left(1);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.subjects.len()
    }
}
