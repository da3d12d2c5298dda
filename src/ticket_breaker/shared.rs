//! The state of the [breaker](super) of PassTickets, with a lock, the log, counters and audit records.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::Notify};

use super::{
    advice::{CHECK, CHECK_CLOCK},
    counts::BreakerCounts,
    machine::{Ask, BUDGET, Change, Decision, Machine, Outcome, Stopped, Why},
    path_class::PathClass,
    proofs::Proofs,
    shared_refusals::{SharedOutcome, SharedRefusal, SharedRefusals, SharedTicket},
    skew,
};
use crate::{
    audit::{Audit, AuditRecord, Detail, Event, ReasonCode},
    clock::{Clock, Timestamp},
    log_limit::log_limited,
    passticket::{Applid, GenerateError, KeyProfiles, UserId},
};

/// How many refused tickets stop the tickets of a user: 1 (the default) or 2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketLimits(HashMap<Applid, u8>);

impl TicketLimits {
    /// Sets the limit of an APPLID. 0 counts as 1. A value above 2 counts as 2, because the third wrong password may
    /// revoke the user.
    #[must_use]
    pub fn with(mut self, applid: Applid, refusals: u8) -> Self {
        self.0.insert(applid, refusals.clamp(1, BUDGET));
        self
    }

    pub(super) fn of(&self, applid: &Applid) -> u8 {
        self.0.get(applid).copied().unwrap_or(1)
    }
}

pub(super) struct Shared {
    pub(super) machine: Mutex<Machine>,
    pub(super) proofs: Proofs,
    pub(super) gates: Mutex<HashMap<Applid, Arc<Gate>>>,
    pub(super) keys: ArcSwap<Keys>,
    pub(super) clock: Arc<dyn Clock>,
    /// Seconds, updated by [`TicketBreaker::tick`](super::TicketBreaker::tick), so that a request need not read the
    /// clock.
    pub(super) secs: AtomicU32,
    pub(super) counts: BreakerCounts,
    pub(super) audit: ArcSwap<Audit>,
    pub(super) others: OnceLock<Arc<dyn SharedRefusals>>,
    pub(super) generation: AtomicU64,
    pub(super) changed: Notify,
    /// Whether the state was handed over. Another process then saves it.
    pub(super) is_handed_over: AtomicBool,
}

#[derive(Default)]
pub(super) struct Keys {
    pub(super) profiles: KeyProfiles,
    pub(super) limits: TicketLimits,
}

/// The state that all tickets of an APPLID share.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Counts how often all proofs ([`Proofs`]) of the APPLID were dropped.
    pub(super) epoch: AtomicU64,
    /// Whether a ticket needs a decision although its paths are proven.
    is_closed: AtomicBool,
    /// The classes of paths whose next success must be reported, even if a success on these paths was reported in the
    /// same minute.
    awaited: AtomicU64,
    /// Wakes the requests that wait for an answer.
    pub(super) answered: Notify,
}

impl Gate {
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns whether the next success on these paths must be reported.
    #[inline]
    pub(super) fn awaits(&self, class: PathClass) -> bool {
        self.awaited.load(Ordering::Acquire) & class.bit() != 0
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

pub(super) enum Asked {
    Proven,
    /// The ticket is reserved with this number, for the key with this name.
    Reserved(u64, Arc<str>),
    Wait,
    Stopped(GenerateError),
}

impl Shared {
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gates(&self) -> MutexGuard<'_, HashMap<Applid, Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the gate of an APPLID. Gates are never removed: the APPLIDs come from the configuration, so their number
    /// is limited.
    pub(super) fn gate(&self, applid: &Applid) -> Arc<Gate> {
        self.gates().entry(*applid).or_default().clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the name of the key profile that makes the tickets. If another system makes them, there is no profile,
    /// and the name is the APPLID.
    pub(super) fn key(&self, user: &UserId, applid: &Applid) -> Arc<str> {
        match self.keys.load().profiles.find(user, applid) {
            Some(profile) => Arc::from(profile.name()),
            None => Arc::from(applid.as_str()),
        }
    }

    pub(super) fn limit(&self, applid: &Applid) -> u8 {
        self.keys.load().limits.of(applid)
    }

    pub(super) fn ask(&self, gate: &Gate, user: UserId, applid: Applid, class: PathClass) -> Asked {
        let key = self.key(&user, &applid);
        let limit = self.limit(&applid);
        let mut machine = self.machine();
        let is_proven = self.proofs.has(self.proofs.fingerprint(&user, class, gate.epoch()));
        let ask = Ask { user, applid, key: &key, class, limit, is_proven };
        let decision = machine.ask(&ask, self.now());
        drop(machine);
        match decision {
            Decision::SendProven => Asked::Proven,
            Decision::Send(id) => Asked::Reserved(id, key),
            Decision::Wait(_) => Asked::Wait,
            Decision::Stopped(stopped) => Asked::Stopped(self.stopped(user, applid, stopped)),
        }
    }

    /// Returns an error if the tickets of the user are stopped. Call this before the gateway gives a ticket to a
    /// client.
    pub(super) fn check(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        let key = self.key(user, applid);
        let limit = self.limit(applid);
        let class = PathClass::from_bits(0);
        let ask = Ask { user: *user, applid: *applid, key: &key, class, limit, is_proven: false };
        match self.machine().check(&ask, self.now()) {
            None => Ok(()),
            Some(stopped) => Err(self.stopped(*user, *applid, stopped)),
        }
    }

    #[cold]
    fn stopped(&self, user: UserId, applid: Applid, stopped: Stopped) -> GenerateError {
        self.counts.not_made.increment((stopped.why.into(),));
        let retry_after = stopped.until.map(|until| {
            let millis = until.as_millis().saturating_sub(self.now().as_millis());
            Duration::from_millis(millis).max(Duration::from_secs(1))
        });
        let reason = match stopped.why {
            Why::User => "a service has refused PassTickets of this user",
            Why::Applid => "services have refused PassTickets of three users in a row",
            Why::Doubt => {
                "the file with the stopped PassTickets of the last process could not be read"
            }
            Why::Paths => "a service has refused PassTickets of three users on these paths",
            Why::Clock => "the clock of a service differs too much from the clock of the gateway",
            Why::Full => "PassTickets of too many users were refused",
            Why::NoAnswers => "the last PassTickets of this user had no answer",
        };
        let check = if stopped.why == Why::Clock { CHECK_CLOCK } else { CHECK };
        let next = match stopped.until {
            Some(_) => "one ticket is tried after a pause",
            None => "POST /tickets/resume on the admin port lets tickets through again",
        };
        GenerateError::stopped(user, applid, retry_after)
            .with_reason(format!("{reason}; {next}; {check}"))
    }

    /// Applies the answer to a ticket. `id` is the number of the reservation, or `None` if the paths were proven.
    pub(super) fn settle(
        self: &Arc<Self>,
        settled: &Settled<'_>,
        id: Option<u64>,
        outcome: Outcome,
        was_proven: bool,
        is_shared: bool,
    ) {
        let Settled { user, applid, key, class, gate } = *settled;
        let limit = self.limit(&applid);
        let ask = Ask { user, applid, key, class, limit, is_proven: was_proven };
        let mut machine = self.machine();
        let refused_before = machine.refused(&user, &applid);
        let proof = self.proofs.fingerprint(&user, class, gate.epoch());
        // If the user has refusals, a success adds a proof only in two cases: the ticket was reserved, or the paths are
        // already proven.
        let adds_proof = id.is_some() || refused_before == 0 || self.proofs.has(proof);
        let changes = machine.settle(&ask, id, outcome, self.now());
        match outcome {
            Outcome::Accepted if adds_proof => self.proofs.add(proof),
            Outcome::Refused if was_proven => {
                // A service has refused a ticket on proven paths, so the key or the clock may be wrong now. All earlier
                // proofs of the APPLID are dropped.
                gate.epoch.fetch_add(1, Ordering::AcqRel);
            }
            Outcome::Refused | Outcome::RefusedEarlier => self.proofs.remove(proof),
            Outcome::Accepted | Outcome::Unknown | Outcome::NotSent => {}
        }
        let others = self.others.get().filter(|_| is_shared || refused_before > 0);
        gate.awaited.store(machine.awaited(&applid), Ordering::Release);
        if !changes.is_empty() {
            let why = if outcome == Outcome::Accepted { "a ticket was accepted" } else { "" };
            self.apply(&machine, &changes, why);
        }
        drop(machine);
        if outcome == Outcome::Refused {
            self.counts.refused.increment();
            // If the limit is two refusals, the first one stops nothing. It must be saved nevertheless, so that it
            // counts after a restart.
            if changes.is_empty() {
                self.has_changed();
            }
        }
        if let Some(others) = others {
            let resumed = machine_resumed(&changes);
            let shared = match outcome {
                // If the success has not resumed the tickets of the user, the refusals were on other paths and still
                // count. So the other nodes only learn that the ticket is no longer reserved.
                Outcome::Accepted if refused_before > 0 && !resumed => SharedOutcome::Withdrawn,
                outcome => outcome.into(),
            };
            self.tell_others(&**others, SharedTicket::new(user, applid, class.to_bits()), shared);
        }
        gate.answered.notify_waiters();
    }

    /// Starts a task that reports an answer to the other nodes, and does not wait for this task. The number of these
    /// tasks is limited, because each of them belongs to one request with a ticket.
    pub(super) fn tell_others(
        self: &Arc<Self>,
        others: &dyn SharedRefusals,
        ticket: SharedTicket,
        outcome: SharedOutcome,
    ) {
        // If the runtime has already ended, no task can run, and the answer is not reported.
        let Ok(runtime) = Handle::try_current() else { return };
        let (told, this) = (others.settle(ticket, outcome), self.clone());
        runtime.spawn(async move {
            match told.await {
                // The other nodes know the refusal now. So this node forgets it when they forget it.
                Ok(()) if outcome == SharedOutcome::Refused => {
                    this.machine().set_shared(&ticket.user, &ticket.applid);
                }
                Ok(()) => {}
                Err(error) => {
                    log_limited!(warn, "answer to a ticket not shared", { %error }, "the answer to a PassTicket could not be shared with the other nodes; only this node counts it");
                }
            }
        });
    }

    pub(super) fn learn_one(
        &self,
        machine: &mut Machine,
        refusal: &SharedRefusal,
        now: Timestamp,
    ) -> Vec<Change> {
        let SharedTicket { user, applid, paths, .. } = refusal.ticket;
        let key = self.key(&user, &applid);
        let class = PathClass::from_bits(paths);
        let limit = self.limit(&applid);
        let ask = Ask { user, applid, key: &key, class, limit, is_proven: false };
        machine.learn(&ask, refusal.refused, refusal.last, now)
    }

    /// Compares the clock of a service with the clock of this machine.
    pub(super) fn compare(&self, user: &UserId, applid: Applid, date: Timestamp) {
        let keys = self.keys.load();
        // If another system makes the tickets, the window of its key is not known.
        let Some(profile) = keys.profiles.find(user, &applid) else { return };
        let now = self.now();
        let secs = skew::clock_difference(date, now);
        let verdict = skew::clock_verdict(secs, profile.at(now).window());
        let key = Arc::from(profile.name());
        let mut machine = self.machine();
        if let Some(change) = machine.compare(&key, applid, secs, verdict, now) {
            if matches!(change, Change::ClockStopped { .. }) {
                self.gate(&applid).epoch.fetch_add(1, Ordering::AcqRel);
            }
            self.apply(&machine, &[change], "the clocks agree");
        }
    }

    pub(super) fn has_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Logs changes, writes audit records, and opens and closes the gates. The caller holds the lock of `machine`, so
    /// that the gates are updated in the order in which the machine changes.
    pub(super) fn apply(&self, machine: &Machine, changes: &[Change], why: &'static str) {
        for (applid, gate) in &*self.gates() {
            gate.awaited.store(machine.awaited(applid), Ordering::Release);
            let is_closed = machine.is_stopped(applid);
            if gate.is_closed.swap(is_closed, Ordering::AcqRel) != is_closed && is_closed {
                gate.epoch.fetch_add(1, Ordering::AcqRel);
            }
        }
        if changes.is_empty() {
            return;
        }
        self.has_changed();
        let audit = self.audit.load();
        for change in changes {
            self.tell(change, why, &audit);
        }
    }

    #[cold]
    fn tell(&self, change: &Change, why: &'static str, audit: &Audit) {
        let time = audit.now();
        let stopped = |applid: Applid, reason: ReasonCode, check: &'static str| {
            AuditRecord::failed(Event::TicketsStopped, reason, time)
                .with_applid(applid)
                .with_detail(Detail::Check { check })
        };
        let resumed = |applid: Applid| {
            AuditRecord::succeeded(Event::TicketsResumed, time)
                .with_applid(applid)
                .with_detail(Detail::Check { check: why })
        };
        match change {
            Change::UserStopped { user, applid, refused } => {
                log_limited!(error, ("tickets of a user stopped", applid), { %user, %applid, refused, check = CHECK }, "PassTickets stopped: the service has refused a ticket of this user");
                let record = || stopped(*applid, ReasonCode::TicketRefused, CHECK).with_user(*user);
                audit.record(record);
            }
            Change::KeyStopped { key, applid, user, whole } => {
                let of = if *whole { "all paths" } else { "some paths" };
                log_limited!(error, ("tickets of an applid stopped", applid), { %key, %applid, last_user = %user, of, check = CHECK }, "PassTickets stopped for all users: the service has refused tickets of three users");
                audit.record(|| stopped(*applid, ReasonCode::TicketRefused, CHECK));
            }
            Change::UserResumed { user, applid } => {
                log_limited!(info, ("tickets of a user resumed", applid), { %user, %applid, why }, "PassTickets of this user resumed");
                audit.record(|| resumed(*applid).with_user(*user));
            }
            Change::KeyResumed { key, applid } => {
                log_limited!(info, ("tickets of an applid resumed", applid), { %key, %applid, why }, "PassTickets resumed for all users");
                audit.record(|| resumed(*applid));
            }
            Change::ClockStopped { key, applid, secs } => {
                log_limited!(error, ("clock stopped", applid), { %key, %applid, difference_secs = secs, check = CHECK_CLOCK }, "PassTickets stopped: the clock of the service differs by half of the window or more");
                audit.record(|| stopped(*applid, ReasonCode::ClockDiffers, CHECK_CLOCK));
            }
            Change::ClockWarning { key, applid, secs } => {
                log_limited!(warn, ("clock differs", applid), { %key, %applid, difference_secs = secs, check = CHECK_CLOCK }, "the clock of the service differs by a quarter of the window or more; at half of it, PassTickets stop");
            }
            Change::ClockAgrees { key, applid } => {
                log_limited!(info, ("clock agrees", applid), { %key, %applid }, "the clock of the service agrees again");
                audit.record(|| resumed(*applid));
            }
        }
    }
}

pub(super) struct Settled<'a> {
    pub(super) user: UserId,
    pub(super) applid: Applid,
    pub(super) key: &'a Arc<str>,
    pub(super) class: PathClass,
    pub(super) gate: &'a Gate,
}

fn machine_resumed(changes: &[Change]) -> bool {
    changes.iter().any(|change| matches!(change, Change::UserResumed { .. }))
}

impl From<Outcome> for SharedOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted => Self::Accepted,
            Outcome::Refused | Outcome::RefusedEarlier => Self::Refused,
            Outcome::Unknown | Outcome::NotSent => Self::Withdrawn,
        }
    }
}
