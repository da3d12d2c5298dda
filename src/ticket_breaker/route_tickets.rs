//! Decides about the PassTickets of one route, and about those that the gateway sends in its own requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderMap, Method, StatusCode,
    header::{AGE, DATE},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    answer::{self, RefusedStatuses},
    breaker::TicketBreaker,
    machine::{self, Outcome},
    path_class::{PathClass, RouteSeed},
    permit::{Permit, Sent, Watched},
    proofs::Fingerprint,
    shared::{Asked, Gate, Settled, Shared},
    shared_refusals::{Reserved, SharedOutcome, SharedTicket},
    skew,
};
use crate::{
    log_limit::log_limited,
    passticket::{Applid, GenerateError, UserId},
};

/// A request waits at most this long for the answers to other requests.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A waiting request asks the breaker again after this time at the latest. A ticket without an answer blocks the
/// request only for a limited time, but nothing wakes the request at the end of this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long a request waits before it asks the other nodes again.
const ASK_NODES_AGAIN: Duration = Duration::from_millis(100);

/// The clocks are compared at most once in this number of seconds for each route.
const COMPARE_EVERY: u32 = 4;

/// The maximum number of users, at all nodes together, whose tickets may have no answer yet. It applies while no ticket
/// of the key was accepted recently.
const USERS: u8 = machine::USERS as u8;

/// The breaker for the scheme of one route.
#[derive(Clone)]
pub(crate) struct RouteTickets(Arc<Route>);

struct Route {
    tickets: OwnTickets,
    prefix_len: usize,
    seed: RouteSeed,
    refused: RefusedStatuses,
    /// The clocks are not compared before [`Shared::secs`] reaches this value. [`TicketBreaker::tick`] updates `secs`.
    compare_at: AtomicU32,
}

/// The result of [`RouteTickets::try_now`].
pub(crate) enum Tried {
    Send(Sent),
    Wait,
    Stopped(GenerateError),
}

impl RouteTickets {
    pub(crate) fn new(
        breaker: &TicketBreaker,
        applid: Applid,
        prefix: &str,
        refused: RefusedStatuses,
    ) -> Self {
        Self(Arc::new(Route {
            tickets: OwnTickets::new(breaker, applid),
            prefix_len: prefix.len(),
            seed: RouteSeed::new(prefix),
            refused,
            compare_at: AtomicU32::new(0),
        }))
    }

    /// Returns the class of the path of a request. Services may answer `OPTIONS` without a check of the ticket, because
    /// preflight requests of browsers (CORS) have no credential. So `OPTIONS` has classes of its own.
    #[inline]
    pub(crate) fn class(&self, method: &Method, path: &str) -> PathClass {
        let class = PathClass::of(self.0.seed, path.get(self.0.prefix_len..).unwrap_or(path));
        match *method == Method::OPTIONS {
            true => class.of_options(),
            false => class,
        }
    }

    #[inline]
    pub(crate) fn try_now(&self, user: UserId, class: PathClass) -> Tried {
        let OwnTickets { shared, gate, .. } = &self.0.tickets;
        let proof = shared.proofs.fingerprint(&user, class, gate.epoch());
        if shared.proofs.has(proof) && !gate.is_closed() {
            return Tried::Send(Sent::proven(class, proof));
        }
        self.0.tickets.try_unproven(user, class)
    }

    pub(crate) async fn wait(self, user: UserId, class: PathClass) -> Result<Sent, GenerateError> {
        self.0.tickets.wait(user, class).await
    }

    /// Handles the answer to a request with a ticket. If the answer changes nothing, which is usual, `sent` is not
    /// called. Returns whether the service has refused the ticket.
    #[inline]
    pub(crate) fn answered<'s>(
        &self,
        user: UserId,
        watched: Watched,
        status: StatusCode,
        headers: &HeaderMap,
        sent: impl FnOnce() -> Option<&'s Sent>,
    ) -> bool {
        let Route { tickets: OwnTickets { shared, gate, .. }, compare_at, .. } = &*self.0;
        if shared.secs.load(Ordering::Relaxed) >= compare_at.load(Ordering::Relaxed) {
            self.compare(user, headers);
        }
        let is_repeated = answer::is_success(status) && shared.proofs.is_fresh(watched.proof);
        if is_repeated && !gate.awaits(watched.class) {
            return false;
        }
        self.apply(user, watched, status, headers, sent())
    }

    #[cold]
    fn apply(
        &self,
        user: UserId,
        watched: Watched,
        status: StatusCode,
        headers: &HeaderMap,
        sent: Option<&Sent>,
    ) -> bool {
        let Route { tickets, refused, .. } = &*self.0;
        let Watched { class, proof } = watched;
        let now = tickets.proof(&user, class);
        let was_proven = tickets.shared.proofs.has(now);
        let outcome = answer::judge(status, headers, refused, was_proven);
        // All proofs may have been dropped since the ticket was sent. Then a success counts only if the ticket was
        // reserved.
        let is_reserved = sent.is_some_and(|sent| sent.permit.is_some());
        if outcome == Some(Outcome::Accepted) && proof != now && !is_reserved {
            return false;
        }
        tickets.settle(user, class, outcome, was_proven, sent);
        outcome == Some(Outcome::Refused)
    }

    #[cold]
    fn compare(&self, user: UserId, headers: &HeaderMap) {
        let Route { tickets: OwnTickets { shared, applid, .. }, compare_at, .. } = &*self.0;
        let next = shared.secs.load(Ordering::Relaxed).wrapping_add(COMPARE_EVERY);
        compare_at.store(next, Ordering::Relaxed);
        // An answer with `Age` comes from a cache, so its `Date` may be old.
        if headers.contains_key(AGE) {
            return;
        }
        if let Some(date) = headers.get(DATE).and_then(|date| skew::parse_date(date.as_bytes())) {
            shared.compare(&user, *applid, date);
        }
    }
}

/// The breaker, for tickets of one APPLID.
#[derive(Clone)]
pub(crate) struct OwnTickets {
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    applid: Applid,
}

impl OwnTickets {
    pub(crate) fn new(breaker: &TicketBreaker, applid: Applid) -> Self {
        let shared = breaker.0.clone();
        let gate = shared.gate(&applid);
        Self { shared, gate, applid }
    }

    fn proof(&self, user: &UserId, class: PathClass) -> Fingerprint {
        self.shared.proofs.fingerprint(user, class, self.gate.epoch())
    }

    #[cold]
    fn try_unproven(&self, user: UserId, class: PathClass) -> Tried {
        // If nodes share their refusals, this node must also ask their store. This takes time, so the caller must wait.
        if self.shared.others.get().is_some() {
            return Tried::Wait;
        }
        match self.shared.ask(&self.gate, user, self.applid, class) {
            Asked::Proven => Tried::Send(Sent::proven(class, self.proof(&user, class))),
            Asked::Reserved(id, key) => {
                let permit = self.permit(user, class, id, key);
                Tried::Send(Sent::with(permit, self.proof(&user, class)))
            }
            Asked::Wait => Tried::Wait,
            Asked::Stopped(error) => Tried::Stopped(error),
        }
    }

    fn permit(&self, user: UserId, class: PathClass, id: u64, key: Arc<str>) -> Permit {
        let (shared, gate, applid) = (self.shared.clone(), self.gate.clone(), self.applid);
        Permit::new(shared, gate, user, applid, key, class, id)
    }

    /// Waits until a ticket may be sent.
    pub(crate) async fn wait(&self, user: UserId, class: PathClass) -> Result<Sent, GenerateError> {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            let mut answered = std::pin::pin!(self.gate.answered.notified());
            answered.as_mut().enable();
            match self.shared.ask(&self.gate, user, self.applid, class) {
                Asked::Proven => return Ok(Sent::proven(class, self.proof(&user, class))),
                Asked::Reserved(id, key) => {
                    let permit = self.permit(user, class, id, key);
                    match self.reserve(&permit).await {
                        OtherNodes::Send => {
                            return Ok(Sent::with(permit, self.proof(&user, class)));
                        }
                        OtherNodes::AskAgain => {}
                        OtherNodes::Wait => sleep(ASK_NODES_AGAIN).await,
                    }
                }
                Asked::Stopped(error) => return Err(error),
                Asked::Wait => {
                    let _ = timeout(ASK_AGAIN, answered).await;
                }
            }
            if Instant::now() >= deadline {
                let reason = "other requests wait for the answer of the service to a PassTicket";
                let error = GenerateError::unavailable(user, self.applid, None);
                return Err(error.with_reason(reason));
            }
        }
    }

    /// Asks the other nodes whether the ticket may be sent.
    async fn reserve(&self, permit: &Permit) -> OtherNodes {
        let Some(others) = self.shared.others.get() else { return OtherNodes::Send };
        let ticket = SharedTicket::new(permit.user, permit.applid, permit.class.to_bits());
        let (known, is_proven) = {
            let machine = self.shared.machine();
            let known = machine.refused(&permit.user, &permit.applid);
            (known, machine.is_key_proven(&permit.key, self.shared.now()))
        };
        match others.reserve(ticket, known, (!is_proven).then_some(USERS)).await {
            Ok(Reserved::Yes) => {
                permit.is_shared.store(true, Ordering::Release);
                OtherNodes::Send
            }
            Ok(Reserved::Busy) => {
                permit.withdraw();
                OtherNodes::Wait
            }
            Ok(Reserved::Differs(refusal)) if refusal.refused > known => {
                permit.withdraw();
                let mut machine = self.shared.machine();
                let now = self.shared.now();
                let changes = self.shared.learn_one(&mut machine, &refusal, now);
                self.shared.apply(&machine, &changes, "another node has reported it");
                OtherNodes::AskAgain
            }
            // The store lacks a refusal that this node saw while the store could not be reached. So this node reports
            // it now.
            Ok(Reserved::Differs(_)) => {
                self.shared.tell_others(&**others, ticket, SharedOutcome::Refused);
                OtherNodes::Send
            }
            Err(error) => {
                log_limited!(warn, "refused tickets not shared", { %error }, "refused tickets could not be shared with the other nodes; this node counts only its own");
                OtherNodes::Send
            }
        }
    }

    /// Applies an answer. If `outcome` is `None`, the answer does not show whether the service accepts the ticket.
    #[cold]
    fn settle(
        &self,
        user: UserId,
        class: PathClass,
        outcome: Option<Outcome>,
        was_proven: bool,
        sent: Option<&Sent>,
    ) {
        let permit = sent.and_then(|sent| sent.permit.as_ref());
        match (outcome, permit) {
            (Some(outcome), Some(permit)) => permit.settle(outcome),
            (None, Some(permit)) => permit.withdraw(),
            (Some(outcome), None) => {
                let Self { shared, gate, applid } = self;
                let key = shared.key(&user, applid);
                let settled = Settled { user, applid: *applid, key: &key, class, gate };
                let is_shared = outcome == Outcome::Refused;
                shared.settle(&settled, None, outcome, was_proven, is_shared);
            }
            (None, None) => {}
        }
    }

    #[cfg(feature = "remote")]
    /// Applies the answer to a ticket that the gateway has sent for itself.
    pub(crate) fn settle_own(&self, sent: &Sent, user: UserId, is_accepted: bool) {
        let outcome = if is_accepted { Outcome::Accepted } else { Outcome::Refused };
        self.settle(user, sent.watched.class, Some(outcome), false, Some(sent));
    }
}

enum OtherNodes {
    Send,
    AskAgain,
    Wait,
}
