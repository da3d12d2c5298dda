//! The handle of the breaker, for the program.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{
    counts::{APPLIDS, BreakerCounts, CLOCK, NOT_MADE, REFUSED, UNSAVED, USERS},
    file,
    guarded::GuardedGenerator,
    machine::{BUDGET, Change},
    proofs::Proofs,
    report::{StoppedApplid, StoppedReport, StoppedUser},
    saved::{self, RestoreError},
    shared::{Keys, Shared, TicketLimits},
    shared_refusals::SharedRefusals,
};
use crate::{
    audit::Audit,
    clock::{Clock, SystemClock, Timestamp},
    log_limit::log_limited,
    metrics::{Collect, Exposition, LabelName},
    passticket::{Applid, KeyProfile, KeyProfiles, PassTicketGenerator, UserId},
};

/// At this interval, [`TicketBreaker::run`] calls [`TicketBreaker::tick`] and reads the refusals that other nodes have
/// seen. It also tries again to save a state that it could not save.
const TICK: Duration = Duration::from_secs(1);

/// Watches whether services accept PassTickets. After too many refusals, it stops the making of PassTickets for the
/// user or the key. Clones share the state. See the [module](super).
///
/// A [`PassTicketScheme`](crate::layer::PassTicketScheme) with a breaker asks the breaker before each ticket. The proxy
/// (`proxy::Forward`) reports the answers. Run [`run`](Self::run) in a runtime while the breaker is used.
#[derive(Clone)]
pub struct TicketBreaker(pub(super) Arc<Shared>);

impl TicketBreaker {
    /// Creates a breaker for tickets of these keys. The windows of the keys determine how much clocks may differ.
    pub fn new(profiles: KeyProfiles, limits: TicketLimits) -> Self {
        Self::with_clock(profiles, limits, Arc::new(SystemClock))
    }

    /// Creates a breaker that reads the time from `clock`.
    pub fn with_clock(profiles: KeyProfiles, limits: TicketLimits, clock: Arc<dyn Clock>) -> Self {
        let breaker = Self(Arc::new(Shared {
            machine: Mutex::default(),
            proofs: Proofs::default(),
            gates: Mutex::default(),
            keys: ArcSwap::from_pointee(Keys { profiles, limits }),
            clock,
            secs: AtomicU32::new(0),
            counts: BreakerCounts::default(),
            audit: ArcSwap::from_pointee(Audit::none()),
            others: OnceLock::new(),
            generation: AtomicU64::new(0),
            changed: Notify::new(),
            is_handed_over: AtomicBool::new(false),
        }));
        breaker.tick();
        breaker
    }

    /// From now on, counts refused tickets together with the other nodes, which share the store `others`. Only the
    /// first call has an effect.
    pub fn share(&self, others: Arc<dyn SharedRefusals>) {
        let _ = self.0.others.set(others);
    }

    /// Writes a record to `audit` when the making of tickets is stopped or resumed.
    pub fn set_audit(&self, audit: Audit) {
        self.0.audit.store(Arc::new(audit));
    }

    /// Replaces the keys and the limits. If a key was changed or removed, the refusals of its tickets are forgotten.
    pub fn set_keys(&self, profiles: KeyProfiles, limits: TicketLimits) {
        let before = self.0.keys.swap(Arc::new(Keys { profiles: profiles.clone(), limits }));
        let now = self.0.clock.now();
        for changed in changed_keys(&before.profiles, &profiles, now) {
            self.forget_key(&changed, &profiles, "a key was changed");
        }
        for removed in removed_keys(&before.profiles, &profiles) {
            self.forget_key(&removed, &before.profiles, "a key was removed");
        }
    }

    /// Forgets the refusals of the tickets that `key` has made. `profiles` says which users have this key.
    fn forget_key(&self, key: &KeyProfile, profiles: &KeyProfiles, why: &'static str) {
        let (applid, name) = (*key.applid(), Arc::from(key.name()));
        let has_key =
            |user: &UserId| profiles.find(user, &applid).is_some_and(|it| it.name() == key.name());
        let mut machine = self.0.machine();
        let changes = machine.key_changed(&name, applid, has_key);
        self.0.gate(&applid).epoch.fetch_add(1, Ordering::AcqRel);
        self.0.apply(&machine, &changes, why);
        drop(machine);
        if let Some(others) = self.0.others.get() {
            for change in &changes {
                if let Change::UserResumed { user, applid } = change {
                    others.resume(Some(*applid), Some(*user));
                }
            }
        }
    }

    /// Returns a generator that makes no ticket if the breaker has stopped tickets for the user and APPLID. The
    /// generator is for tickets whose use the gateway does not see, such as those of the auth API.
    pub fn guard<G: PassTicketGenerator>(&self, generator: G) -> GuardedGenerator<G> {
        GuardedGenerator::new(self.0.clone(), generator)
    }

    /// Forgets the refusals of tickets for `applid` and `user`. `None` stands for all APPLIDs, or for all users. If
    /// `user` is `None`, the breaker also makes tickets with the stopped keys of these APPLIDs again. Returns how many
    /// pairs of user and APPLID had refusals, plus how many keys were stopped. An operator uses this function after the
    /// cause of the refusals was removed.
    pub fn resume(&self, applid: Option<Applid>, user: Option<UserId>) -> usize {
        let mut machine = self.0.machine();
        let changes = machine.resume(applid, user);
        // All proofs ([`Proofs`]) of these APPLIDs are dropped, so the tickets of each user are tried one at a time
        // again.
        for (of, gate) in &*self.0.gates() {
            if applid.is_none_or(|applid| applid == *of) {
                gate.epoch.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.0.apply(&machine, &changes, "an administrator has asked for it");
        drop(machine);
        if let Some(others) = self.0.others.get() {
            others.resume(applid, user);
        }
        changes.len()
    }

    /// Returns the users and keys whose tickets are stopped, and the keys with a warning about the clock. The report
    /// contains user ids.
    pub fn report(&self) -> StoppedReport {
        let machine = self.0.machine();
        let keys = self.0.keys.load();
        let users = machine
            .users()
            .filter(|(_, own)| own.refused >= keys.limits.of(&own.applid) && !own.is_open);
        let users = users.map(|(user, own)| StoppedUser {
            user: *user,
            applid: own.applid,
            refused: own.refused,
            next: (own.refused < BUDGET).then_some(own.next),
        });
        let applids = machine.keys().filter(|(_, scope)| {
            !scope.stops.is_empty() || scope.clock_stop.is_some() || scope.is_warned
        });
        let applids = applids.map(|(key, scope)| StoppedApplid {
            key: key.to_string(),
            applid: scope.applid,
            is_stopped: scope.stops.iter().any(|stop| stop.class.is_none()),
            stopped_paths: scope.stops.iter().filter(|stop| stop.class.is_some()).count(),
            is_stopped_by_clock: scope.clock_stop.is_some(),
            clock_difference: scope.skew.filter(|_| scope.is_warned).map(|skew| skew.secs),
            next: scope
                .stops
                .iter()
                .map(|stop| stop.next)
                .chain(scope.clock_stop.map(|stop| stop.next))
                .max(),
        });
        let mut report = StoppedReport { users: users.collect(), applids: applids.collect() };
        report.users.sort_by_key(|it| (it.applid, it.user));
        report.applids.sort_by(|one, other| one.key.cmp(&other.key));
        report
    }

    /// Returns the state as text, for another process. From now on, [`run`](Self::run) writes no file.
    pub fn hand_over(&self) -> String {
        self.0.is_handed_over.store(true, Ordering::Release);
        saved::to_text(&self.0.machine())
    }

    /// Undoes [`hand_over`](Self::hand_over), because the other process has ended: [`run`](Self::run) writes the file
    /// again.
    pub fn take_back(&self) {
        self.0.is_handed_over.store(false, Ordering::Release);
        self.0.has_changed();
    }

    /// Continues with a state that [`hand_over`](Self::hand_over) returned or that [`run`](Self::run) saved. Call this
    /// before the first ticket.
    ///
    /// # Errors
    /// [`RestoreError`] if the text is not a state of this version. In this case, the state of the breaker does not
    /// change.
    pub fn restore(&self, text: &str) -> Result<(), RestoreError> {
        let restored = saved::from_text(text)?;
        let mut machine = self.0.machine();
        *machine = restored;
        self.0.apply(&machine, &[], "");
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Continues without the state of the last process, because it cannot be read. For each key, the breaker permits
    /// one ticket of one user at a time, until a service accepts one. Call this before the first ticket.
    pub fn begin_without_state(&self) {
        self.0.machine().doubt_all_keys();
    }

    /// Updates the time that requests read in place of the clock. [`run`](Self::run) calls this each second.
    pub fn tick(&self) {
        let secs = self.0.clock.monotonic().as_secs();
        self.0.secs.store(secs as u32, Ordering::Relaxed);
        self.0.proofs.set_minute(secs / 60);
    }

    /// Saves the state in `file` whenever the state changes, and reads each second which refusals other nodes have
    /// seen. Does not return. Without `file`, the state is not saved.
    ///
    /// If the file cannot be written, this is logged and counted, and the gateway continues. But after a restart, the
    /// gateway does not know the latest stops, and may send wrong tickets again.
    pub async fn run(self, file: Option<PathBuf>) {
        // A new breaker has nothing to save.
        let mut saved = 0;
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.tick();
                    self.learn().await;
                }
                () = self.0.changed.notified() => {}
            }
            let generation = self.0.generation.load(Ordering::Acquire);
            let Some(file) = &file else { continue };
            if saved == generation || self.0.is_handed_over.load(Ordering::Acquire) {
                continue;
            }
            let text = saved::to_text(&self.0.machine());
            match file::write(file.clone(), text).await {
                Ok(()) => saved = generation,
                Err(error) => {
                    self.0.counts.unsaved.increment();
                    let path = file.display();
                    log_limited!(error, "stopped tickets not saved", { file = %path, %error }, "the stopped tickets cannot be saved; after a restart, refused tickets would be sent again");
                }
            }
        }
    }

    pub(super) async fn learn(&self) {
        let Some(others) = self.0.others.get() else { return };
        let list = match others.list().await {
            Ok(list) => list,
            Err(error) => {
                log_limited!(warn, "refused tickets not shared", { %error }, "refused tickets could not be shared with the other nodes; this node counts only its own");
                return;
            }
        };
        let mut machine = self.0.machine();
        let now = self.0.clock.now();
        let mut changes = Vec::new();
        let mut known = HashSet::new();
        for refusal in &list {
            let ticket = refusal.ticket;
            known.insert((ticket.user, ticket.applid));
            if machine.knows(&ticket.user, &ticket.applid, refusal.refused.min(BUDGET)) {
                continue;
            }
            changes.extend(self.0.learn_one(&mut machine, refusal, now));
        }
        changes.extend(machine.keep_shared(|user, applid| known.contains(&(*user, *applid)), now));
        self.0.apply(&machine, &changes, "another node has reported it");
    }
}

/// Returns the profiles of `new` that `old` does not have, or that have another key, algorithm or window in `old`.
fn changed_keys(old: &KeyProfiles, new: &KeyProfiles, now: Timestamp) -> Vec<Arc<KeyProfile>> {
    // The profiles of one list have different names.
    let old: HashMap<_, _> = old.iter().map(|profile| (profile.name(), profile)).collect();
    let changed = new.iter().filter(|profile| {
        let before = old.get(&profile.name()).filter(|it| it.applid() == profile.applid());
        before.is_none_or(|before| !makes_same_tickets(before.at(now), profile.at(now)))
    });
    changed.cloned().collect()
}

fn removed_keys(old: &KeyProfiles, new: &KeyProfiles) -> Vec<Arc<KeyProfile>> {
    let kept: HashSet<_> = new.iter().map(|profile| profile.name()).collect();
    old.iter().filter(|profile| !kept.contains(&profile.name())).cloned().collect()
}

/// Returns whether two keys have the same algorithm and window, and make the same ticket for the same user and time.
/// The comparison uses a user and a time for which no real ticket is made. A key that cannot be used now counts as
/// unchanged.
fn makes_same_tickets(one: &KeyProfile, other: &KeyProfile) -> bool {
    let (Ok(user), time) = (UserId::new("$COMPARE"), Timestamp::from_secs(0)) else { return true };
    match (one.generate(&user, time), other.generate(&user, time)) {
        (Ok(ticket), Ok(same)) => {
            ticket == same && one.window() == other.window() && one.algorithm() == other.algorithm()
        }
        _ => true,
    }
}

impl Collect for TicketBreaker {
    fn collect(&self, exposition: &mut Exposition) {
        let report = self.report();
        let counts = &self.0.counts;
        exposition.value(&REFUSED, counts.refused.get());
        exposition.family(&NOT_MADE, &counts.not_made);
        exposition.value(&UNSAVED, counts.unsaved.get());
        exposition.value(&USERS, report.users.len() as u64);
        let stopped = report.applids.iter().filter(|it| it.is_stopped());
        exposition.value(&APPLIDS, stopped.count() as u64);
        let machine = self.0.machine();
        let skews: Vec<_> = machine
            .keys()
            .filter_map(|(key, scope)| Some((key.clone(), scope.skew?.secs)))
            .collect();
        drop(machine);
        // The names of keys come from the configuration, so their number is limited.
        let samples = skews.iter().map(|(key, secs)| ([(KEY, &**key)], *secs));
        exposition.series(&CLOCK, samples);
    }
}

const KEY: LabelName = LabelName::new("key");

impl fmt::Debug for TicketBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketBreaker").finish_non_exhaustive()
    }
}
