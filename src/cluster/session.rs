//! A session of a node with the *place* (the store that the nodes share, such as Redis). The node joins the term,
//! publishes its writes, follows the log, and renews its lease. [`Coordinator`](super::coordinator::Coordinator)
//! explains the term, the log and the image. The *memory* of a node is its own store of all records. A node has *caught
//! up* when its memory has all records of the place up to a known position in the log. A *rule with the current time*
//! ([`Record::RuleOfNow`]) revokes PATs (Personal Access Tokens) of a user or service. It revokes all of them whose
//! records are before the rule in the log, even those whose issue time is later than the time of the rule.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    boot_clock::BootTime,
    coordinator::{
        CoordinatorError, Followed as Log, ImageCursor, Joined, LeaseRecord, LogEntry, LogPosition,
        MAX_PUBLISHED, NodeName, Term,
    },
    memory::Followed,
    options::EmptySite,
    peers::Peers,
    publish_queue::Published,
    rules::applies,
    shared::Shared,
};
use crate::revocation::{Record, StoreError};

/// How long a node waits for entries of the log in one call.
const FOLLOW: Duration = Duration::from_millis(500);

/// A call publishes about this number of bytes at most. The records of PATs can be long, and each call has a time
/// limit.
const MAX_PUBLISHED_BYTES: usize = 1024 * 1024;

/// The memory stores about this number of bytes of the image in one commit. The memory is a file. Each commit writes
/// most pages of this file again, because the fingerprints of tokens are spread over all pages. So a few large commits
/// cost less than many small ones.
const MAX_APPLIED_BYTES: usize = 16 * 1024 * 1024;

/// If a node does not renew its lease for this number of lease times, the other nodes remove its lease record.
const REMOVED_AFTER: u32 = 20;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process with this name is running.
    #[error(
        "another node with the name {0} is running; give each node its own name (cluster.node)"
    )]
    NameTaken(NodeName),
    /// The place has no data of the site, no other node is running, and the options do not permit an empty site.
    #[error("there is no data of this site")]
    EmptySite,
}

/// The state that a node keeps from one session to the next.
#[derive(Debug)]
pub(super) struct Sessions {
    shared: Arc<Shared>,
    /// Whether the memory was empty when the process started. Empty means that the memory had no records except salts,
    /// and had never followed a log. Such a node has no revocations to publish. When the first session begins to follow
    /// the log, this field becomes `false`.
    began_empty: bool,
    /// Whether the node has passed `check_site` in the current term, or does not need this check. A new term sets this
    /// field to `false`.
    site_is_checked: bool,
}

/// The term that a session has joined.
#[derive(Clone, Debug)]
struct InTerm {
    term: Term,
    /// The position from which the session follows the log. `None` if the node must first read the whole image.
    from: Option<LogPosition>,
    last: LogPosition,
}

impl Sessions {
    pub(super) async fn new(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let first = shared.memory.export(None, MAX_PUBLISHED).await?;
        let has_records = first.iter().any(|record| !matches!(record, Record::Salt(_)));
        let began_empty = shared.memory.followed().is_none() && !has_records;
        // It can happen that an earlier process stored a write, and ended before it published this write. So the node
        // publishes its whole memory.
        shared.queue.add_whole();
        Ok(Self { shared, began_empty, site_is_checked: false })
    }

    /// Joins the current term, and runs the tasks of the session until one of them fails.
    pub(super) async fn run(&mut self) -> SessionError {
        let joined = match self.join().await {
            Ok(joined) => joined,
            Err(error) => return error,
        };
        let shared = self.shared.clone();
        let (term, shared) = (joined.term.clone(), &*shared);
        let ended = tokio::select! {
            biased;
            ended = renew(shared, &term) => ended,
            ended = publish_writes(shared, &term) => ended,
            ended = publish_whole(shared, &term) => ended,
            ended = self.catch_up_and_follow(&joined) => ended,
        };
        match ended {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn join(&mut self) -> Result<InTerm, SessionError> {
        let shared = self.shared.clone();
        let Joined { term, last, is_new } = shared.join().await?;
        let now = shared.clock.now();
        let followed = shared.memory.followed().filter(|followed| followed.term == term);
        let is_other = shared.update(|state| {
            let is_other = state.lease.join(&term, now, followed.is_some());
            if is_other {
                state.peers.forget();
                state.last = last;
                state.in_order_after = LogPosition::START;
            }
            is_other
        });
        if is_other && applies!(shared.rules, Union) {
            shared.queue.add_whole();
        }
        if is_new && shared.memory.followed().is_some() {
            shared.counts.incidents.increment();
            tracing::error!(
                "the store that the nodes share (such as Redis) has lost the data of this site; the nodes publish \
                 their data again. Find out why the data is gone"
            );
        }
        // In a new term, the site must be checked again. If a session fails before it sets this field to `true` below,
        // the next session in this term does the check.
        self.site_is_checked &= !is_other;
        if self.began_empty
            && !self.site_is_checked
            && shared.options.empty_site == EmptySite::Refuse
        {
            check_site(&shared, &term).await?;
        }
        self.site_is_checked = true;
        claim_name(&shared, &term).await?;
        let from = {
            let mut state = shared.lock();
            let applied = state.lease.has_caught_up().then(|| state.lease.applied());
            if applied.is_none() && followed.is_some() {
                // The memory does not store each position. So it may already have records of log entries after the
                // position in `followed`. For a PAT in the memory, the node cannot know whether its record is before or
                // after a rule in the log. So up to `last`, `apply` treats a rule with the current time as a rule with
                // a fixed time.
                state.in_order_after = state.in_order_after.max(last);
            }
            applied.or(followed.map(|followed| followed.position))
        };
        Ok(InTerm { term, from, last })
    }

    async fn catch_up_and_follow(&mut self, joined: &InTerm) -> Result<Infallible, SessionError> {
        let shared = self.shared.clone();
        let InTerm { term, from, last } = joined;
        let mut applied = match from {
            // This node has followed this term before. So the place already has the records of all writes that this
            // node has confirmed. If the node must publish its memory, `publish_whole` does this after the node has
            // caught up.
            Some(position) => *position,
            None => {
                let whole = shared.queue.whole().filter(|_| self.began_empty);
                if !self.began_empty {
                    publish_all(&shared, term).await?;
                }
                let has_salt = self.read_image(term, *last).await?;
                match whole {
                    Some(whole) if has_salt => shared.queue.remove_whole(whole),
                    Some(_) => publish_all(&shared, term).await?,
                    None => {}
                }
                *last
            }
        };
        self.began_empty = false;
        loop {
            shared.advance(term, applied);
            store_term(&shared, term, applied).await?;
            let call = shared.coordinator.follow(term.clone(), applied, FOLLOW);
            applied = match shared.call(FOLLOW, call).await? {
                Log::Entries(entries) => self.apply(term, applied, entries).await?,
                Log::Gap => {
                    tracing::info!("this node is far behind, and reads all data again");
                    let last = shared.last_in(term).await?;
                    self.read_image(term, last).await?;
                    last
                }
            };
        }
    }

    /// Applies entries of the log, and returns the position of the last entry.
    async fn apply(
        &self,
        term: &Term,
        after: LogPosition,
        entries: Vec<LogEntry>,
    ) -> Result<LogPosition, SessionError> {
        let shared = self.shared.clone();
        let Some(position) = entries.last().map(|entry| entry.position) else { return Ok(after) };
        shared.update(|state| {
            state.received = u64::try_from(entries.len()).unwrap_or(u64::MAX);
            state.last = state.last.max(position);
        });
        let in_order_after = shared.lock().in_order_after;
        // Entries with the name of this node are applied, too, because another process may have had this name. The
        // memory does not store records again that it already has.
        let records: Vec<_> = entries
            .into_iter()
            .map(|entry| match entry.record {
                Record::RuleOfNow(rule) if entry.position <= in_order_after => {
                    Record::Revocation(rule)
                }
                record => record,
            })
            .collect();
        let derived = shared.memory.apply(records, followed(&shared, term, position)).await?;
        publish_derived(&shared, term, derived).await?;
        Ok(position)
    }

    /// Reads and applies the image. Returns whether the image has a salt.
    async fn read_image(&self, term: &Term, last: LogPosition) -> Result<bool, SessionError> {
        let shared = &*self.shared;
        let mut has_salt = false;
        let mut batch = read_batch(shared, term, None).await?;
        loop {
            let (records, next) = batch;
            has_salt |= records.iter().any(|record| matches!(record, Record::Salt(_)));
            let Some(cursor) = next else {
                let applied = shared.memory.apply(records, followed(shared, term, last));
                publish_derived(shared, term, applied.await?).await?;
                let read_up_to = shared.last_in(term).await?;
                let mut state = shared.lock();
                state.in_order_after = state.in_order_after.max(read_up_to);
                return Ok(has_salt);
            };
            // Reads the next batch while this batch is stored.
            let applied = shared.memory.apply(records, None);
            let (derived, next) = tokio::join!(applied, read_batch(shared, term, Some(cursor)));
            batch = next?;
            publish_derived(shared, term, derived?).await?;
        }
    }
}

/// Reads about [`MAX_APPLIED_BYTES`] of the image. Also returns the cursor of the next batch, or `None` at the end.
async fn read_batch(
    shared: &Shared,
    term: &Term,
    mut cursor: Option<ImageCursor>,
) -> Result<(Vec<Record>, Option<ImageCursor>), CoordinatorError> {
    let (mut records, mut bytes) = (Vec::new(), 0);
    loop {
        let call = shared.coordinator.image(term.clone(), cursor);
        let mut part = shared.call(Duration::ZERO, call).await?;
        bytes += part.records.iter().map(Record::size).sum::<usize>();
        records.append(&mut part.records);
        if part.next.is_none() || bytes >= MAX_APPLIED_BYTES {
            return Ok((records, part.next));
        }
        cursor = part.next;
    }
}

/// Returns the position that the memory may store with the applied records. Returns `None` while the node waits for the
/// data of other nodes.
///
/// If the memory has a position of a term, the next process of this node does not wait for the data of other nodes in
/// this term. So the memory must not store a position before this process has this data.
fn followed(shared: &Shared, term: &Term, position: LogPosition) -> Option<Followed> {
    let has_had_lease = !shared.lock().lease.waits_for_others();
    has_had_lease.then(|| Followed { term: term.clone(), position })
}

/// Stores a position of the term, if the memory has none and [`followed`] permits it. This is necessary if the wait for
/// other nodes ends after `apply` has applied the last record: then `apply` has stored no position.
async fn store_term(shared: &Shared, term: &Term, applied: LogPosition) -> Result<(), StoreError> {
    if shared.memory.followed().is_some_and(|followed| followed.term == *term) {
        return Ok(());
    }
    if let Some(followed) = followed(shared, term, applied) {
        shared.memory.apply(Vec::new(), Some(followed)).await?;
    }
    Ok(())
}

async fn check_site(shared: &Shared, term: &Term) -> Result<(), SessionError> {
    if has_image(shared, term).await? || has_other_node(shared, term).await? {
        Ok(())
    } else {
        Err(SessionError::EmptySite)
    }
}

async fn has_image(shared: &Shared, term: &Term) -> Result<bool, CoordinatorError> {
    // An empty part does not mean that the image is empty: a later part may have records.
    let mut cursor = None;
    loop {
        let call = shared.coordinator.image(term.clone(), cursor);
        let part = shared.call(Duration::ZERO, call).await?;
        match part.next {
            _ if !part.records.is_empty() => return Ok(true),
            None => return Ok(false),
            next => cursor = next,
        }
    }
}

/// Returns whether another node runs. A node runs if its lease changes. A lease that does not change proves nothing: it
/// stays in the place for some time after its node has ended. A running node has published its data, or publishes it
/// before this node gets a lease. So if another node runs, the site has data.
async fn has_other_node(shared: &Shared, term: &Term) -> Result<bool, CoordinatorError> {
    let mut first: Option<Vec<LeaseRecord>> = None;
    let end = shared.clock.now().plus(shared.rules.over());
    loop {
        let mut leases =
            shared.call(Duration::ZERO, shared.coordinator.leases(term.clone())).await?;
        leases.retain(|lease| lease.node != *shared.name());
        if first.as_ref().is_some_and(|first| leases.iter().any(|lease| !first.contains(lease))) {
            return Ok(true);
        }
        if leases.is_empty() || shared.clock.now() >= end {
            return Ok(false);
        }
        if first.is_none() {
            tracing::info!(
                "the store that the nodes share (such as Redis) has no revocations of this site; this node waits \
                 until another node renews its lease"
            );
        }
        first.get_or_insert(leases);
        sleep(shared.rules.lease / 10).await;
    }
}

/// Makes sure that no other process uses the name of this node. If another process has a lease with this name, this
/// function waits. If this lease changes during the wait, the other process still runs, and this function returns an
/// error. If the lease does not change until it has certainly ended, the name is free.
async fn claim_name(shared: &Shared, term: &Term) -> Result<(), SessionError> {
    let (mut peers, mut first): (Peers, Option<LeaseRecord>) = (Peers::default(), None);
    loop {
        let sent = shared.clock.now();
        let leases = shared.call(Duration::ZERO, shared.coordinator.leases(term.clone())).await?;
        let now = shared.clock.now();
        let Some(lease) = leases.iter().find(|lease| lease.node == *shared.name()) else {
            shared.lock().replaced = None;
            return Ok(());
        };
        if lease.incarnation == shared.incarnation {
            shared.skip_to(lease.number);
            return Ok(());
        }
        let is_other = |first: &LeaseRecord| {
            (first.incarnation, first.number) != (lease.incarnation, lease.number)
        };
        if first.as_ref().is_some_and(is_other) {
            return Err(SessionError::NameTaken(shared.name().clone()));
        }
        // The list shows the same lease as before. It is only certain that the lease had not changed at `sent`.
        if peers.unchanged(lease, sent) >= shared.rules.over() {
            shared.lock().replaced = Some(lease.incarnation);
            return Ok(());
        }
        if first.is_none() {
            tracing::info!(
                node = %shared.name(),
                "this node waits until the lease of an earlier process of this node has ended"
            );
        }
        peers.observe(&leases, shared.incarnation, now);
        first = Some(lease.clone());
        sleep(shared.rules.lease / 10).await;
    }
}

async fn renew(shared: &Shared, term: &Term) -> Result<Infallible, SessionError> {
    loop {
        shared.wait_until_renewal_helps().await;
        let (lease, replaced) = shared.next_lease();
        let applied = lease.applied;
        let sent = shared.clock.now();
        let call = shared.coordinator.renew(term.clone(), lease, replaced);
        let renewed = match shared.call(Duration::ZERO, call).await {
            Ok(renewed) => renewed,
            Err(CoordinatorError::NameTaken { name, .. }) => {
                return Err(SessionError::NameTaken(name));
            }
            Err(error) => return Err(error.into()),
        };
        shared.renewed(term, applied, sent, &renewed);
        remove_ended(shared, term, &renewed.leases).await?;
        let now = shared.clock.now();
        let regular = shared.rules.renewal().saturating_sub(now.since(sent));
        // While the node waits for the data of other nodes, no renewal gives it a lease. The first renewal after this
        // wait is sent without delay.
        let waits_until = shared.lock().lease.waits_until().filter(|end| *end > now);
        let pause = waits_until.map_or(regular, |end| regular.min(end.since(now)));
        tokio::select! {
            biased;
            () = shared.renew_now.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

async fn remove_ended(
    shared: &Shared,
    term: &Term,
    leases: &[LeaseRecord],
) -> Result<(), CoordinatorError> {
    let now = shared.clock.now();
    let is_ended = |lease: &&LeaseRecord| {
        let unchanged = shared.lock().peers.unchanged(lease, now);
        lease.incarnation != shared.incarnation && unchanged > shared.rules.lease * REMOVED_AFTER
    };
    for lease in leases.iter().filter(is_ended) {
        tracing::info!(node = %lease.node, "this node removes the lease of another node, which has ended");
        let call = shared.coordinator.remove(term.clone(), lease.clone());
        shared.call(Duration::ZERO, call).await?;
    }
    Ok(())
}

/// Publishes the writes of this node, in their order.
async fn publish_writes(shared: &Shared, term: &Term) -> Result<Infallible, SessionError> {
    loop {
        let batch = shared.queue.next().await;
        let position = if batch.records.is_empty() {
            // The writes of this batch have no records. They only waited until the earlier writes of the queue were
            // published.
            shared.last_in(term).await?
        } else {
            publish(shared, term, batch.records.clone()).await?
        };
        shared.queue.remove(&batch, &Published { term: term.clone(), position });
    }
}

/// Publishes records. Returns the position of the last entry of the log afterwards.
async fn publish(
    shared: &Shared,
    term: &Term,
    records: Vec<Record>,
) -> Result<LogPosition, CoordinatorError> {
    let mut last = LogPosition::START;
    for records in parts(&records) {
        let (term, name) = (term.clone(), shared.name().clone());
        let call = shared.coordinator.publish(term, name, records.to_vec());
        last = shared.call(Duration::ZERO, call).await?;
    }
    Ok(last)
}

/// Divides records into parts for single calls, by their number and their size.
fn parts(mut records: &[Record]) -> impl Iterator<Item = &[Record]> {
    std::iter::from_fn(move || {
        let mut size = 0;
        let fits = |record: &&Record| {
            let is_first = size == 0;
            size += record.size();
            is_first || size <= MAX_PUBLISHED_BYTES
        };
        let len = records.iter().take(MAX_PUBLISHED).take_while(fits).count();
        let (part, rest) = records.split_at(len);
        records = rest;
        (len > 0).then_some(part)
    })
}

/// Publishes the records that result from applied records. For example, a rule with the current time results in
/// revocations of single PATs. The node must publish these revocations before it reports the rule as applied.
async fn publish_derived(
    shared: &Shared,
    term: &Term,
    derived: Vec<Record>,
) -> Result<(), SessionError> {
    if derived.is_empty() {
        return Ok(());
    }
    let published = publish(shared, term, derived.clone()).await;
    if published.is_err() {
        shared.queue.add_unawaited(derived);
    }
    published?;
    Ok(())
}

/// Publishes the whole memory whenever the queue asks for it. This begins when the node has caught up. Before that,
/// `catch_up_and_follow` publishes the memory.
async fn publish_whole(shared: &Shared, term: &Term) -> Result<Infallible, SessionError> {
    shared
        .wait_for(|state| {
            let is_same = state.lease.term() == Some(term);
            (is_same && state.lease.has_caught_up()).then_some(())
        })
        .await;
    loop {
        shared.queue.next_whole().await;
        publish_all(shared, term).await?;
    }
}

/// Publishes the whole memory, if the queue asks for it.
async fn publish_all(shared: &Shared, term: &Term) -> Result<(), SessionError> {
    let Some(whole) = shared.queue.whole() else { return Ok(()) };
    let start: BootTime = shared.clock.now();
    let mut count = 0;
    let mut records = shared.memory.export(None, MAX_PUBLISHED).await?;
    while let Some(last) = records.last().cloned() {
        count += records.len();
        let published = publish(shared, term, records);
        let next = shared.memory.export(Some(last), MAX_PUBLISHED);
        // Reads the next records while these records are published.
        let (published, next) = tokio::join!(published, next);
        published?;
        records = next?;
    }
    shared.queue.remove_whole(whole);
    shared.counts.unions.increment();
    let took = shared.clock.now().since(start);
    tracing::info!(records = count, ?took, "this node has published its whole memory");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::{RecordKind, RecordParts};

    #[test]
    fn records_are_divided_by_their_number_and_their_size() {
        let issued = |services: usize| {
            let value = [&[0; 8][..], b"\x04USER", &vec![1; 8 * services]].concat();
            let kind = RecordKind::Issued;
            let parts = RecordParts { kind, key: vec![7; 40], value, is_of_now: false };
            Record::from_parts(&parts).unwrap()
        };
        let lens = |records: &[Record]| parts(records).map(<[_]>::len).collect::<Vec<_>>();
        assert!(lens(&[]).is_empty());
        let salts = vec![Record::Salt([1; 64]); 2 * MAX_PUBLISHED + 1];
        assert_eq!(lens(&salts), [MAX_PUBLISHED, MAX_PUBLISHED, 1]);
        // A part can have exactly the size of the limit. A single record can exceed the limit.
        let size = issued(2_200).size();
        let fitting = MAX_PUBLISHED_BYTES / size;
        assert_eq!(lens(&vec![issued(2_200); fitting + 1]), [fitting, 1]);
        let records = [issued(0), issued(8_000), issued(8_000)];
        assert_eq!(parts(&records).flatten().cloned().collect::<Vec<_>>(), records);
    }
}
