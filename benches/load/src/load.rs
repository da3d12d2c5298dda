//! The load: releases each request when it is due, and gives it to a free client.
//!
//! A fixed number of clients send the requests, so the number of requests in flight has a limit. If no client is free,
//! the request waits. Its latency counts from the time at which it was due, so a slow gateway cannot hide this wait.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::{
    outcome::Outcome,
    recorder::{Recorder, Times},
    schedule::Schedule,
};

/// The maximum sleep of the thread that releases requests. After each sleep, the thread checks whether the load was
/// stopped.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// A client that sends one request at a time.
pub(crate) trait Client: Send + 'static {
    /// Sends the request with this number, and waits for the end of the answer.
    fn send(&mut self, number: u64) -> impl Future<Output = Outcome> + Send;
}

#[derive(Debug)]
pub(crate) struct Load {
    schedule: Schedule,
    start: Instant,
    /// After this time, requests that wait are no longer sent.
    give_up: Instant,
    stop_on_wrong_password: bool,
    /// One permit for each request that is due and not yet taken by a client.
    due: Semaphore,
    next: AtomicU64,
    in_flight: AtomicUsize,
    stopped: OnceLock<(String, Duration)>,
    recorder: Mutex<Recorder>,
}

impl Load {
    /// Creates a load that starts now. `patience` is the time after the end of the schedule in which late requests are
    /// still sent.
    pub(crate) fn new(
        schedule: Schedule,
        patience: Duration,
        stop_on_wrong_password: bool,
    ) -> Self {
        let start = Instant::now();
        Self {
            schedule,
            start,
            give_up: start + schedule.end() + patience,
            stop_on_wrong_password,
            due: Semaphore::new(0),
            next: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            stopped: OnceLock::new(),
            recorder: Mutex::new(Recorder::new()),
        }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the load early. The clients send no more requests, but still wait for the answers to earlier requests.
    pub(crate) fn stop(&self, reason: &str) {
        let _ = self.stopped.set((reason.to_owned(), self.elapsed()));
    }

    /// Returns why and when the load was stopped early.
    pub(crate) fn stopped(&self) -> Option<&(String, Duration)> {
        self.stopped.get()
    }

    /// Starts a thread that releases each request when it is due. Timers of Tokio have a precision of a millisecond,
    /// but many answers take less time. The sleep of a thread is precise to about 0.1 ms.
    pub(crate) fn release_in_thread(self: &Arc<Self>) {
        let load = self.clone();
        thread::spawn(move || {
            let mut released = 0;
            while let Some(pause) = load.release(&mut released) {
                thread::sleep(pause.min(LONGEST_SLEEP));
            }
        });
    }

    /// Releases the requests that are due now. Returns the time until the next request is due. Returns `None` after the
    /// last request, and if the load was stopped.
    fn release(&self, released: &mut u64) -> Option<Duration> {
        let elapsed = self.elapsed();
        let due = self.schedule.due_by(elapsed);
        // A semaphore can have only a limited number of permits, so each call adds at most about a million.
        let new = usize::try_from(due - *released).unwrap_or(usize::MAX).min(1 << 20);
        self.due.add_permits(new);
        *released += new as u64;
        if *released == self.schedule.total() || self.stopped().is_some() {
            // From now on, clients take requests without a permit.
            self.due.close();
            return None;
        }
        Some(self.schedule.due(*released).saturating_sub(elapsed))
    }

    /// Lets the clients send all requests. Returns after the last answer or error.
    pub(crate) async fn run<C: Client>(self: &Arc<Self>, clients: Vec<C>) {
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn(self.clone().serve(client));
        }
        // A panic in a client is a defect of this program. Without the requests of this client, the report would be
        // wrong.
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    async fn serve<C: Client>(self: Arc<Self>, mut client: C) {
        loop {
            // A free client waits for a permit, and takes it as soon as the request is due. So if `try_acquire` finds a
            // permit, no other client was free when the request was due.
            let waited_for_place = match self.due.try_acquire() {
                Ok(permit) => {
                    permit.forget();
                    true
                }
                Err(_) => match self.due.acquire().await {
                    Ok(permit) => {
                        permit.forget();
                        false
                    }
                    Err(_) => true,
                },
            };
            if self.stopped().is_some() {
                return;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.schedule.total() {
                return;
            }
            self.send(&mut client, number, waited_for_place).await;
        }
    }

    async fn send<C: Client>(&self, client: &mut C, number: u64, waited_for_place: bool) {
        let due = self.schedule.due(number);
        let is_measured = self.schedule.is_measured(number);
        let sent = self.elapsed();
        if self.start + sent >= self.give_up {
            if is_measured {
                self.recorder().record_not_sent(sent.saturating_sub(due));
            }
            return;
        }
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let outcome = client.send(number).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if is_measured {
            let done = self.elapsed();
            self.recorder().record(Times { due, sent, done, waited_for_place }, &outcome);
        }
        if let Outcome::Answered(answer) = &outcome
            && self.stop_on_wrong_password
            && answer.refusal.as_ref().is_some_and(|it| it.may_count_as_wrong_password())
        {
            self.stop("a password was refused, and z/OS revokes a user after some wrong passwords");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, sleep_until};

    use super::*;
    use crate::outcome::{Answer, Refusal};

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A gateway that answers each request after `latency`. Between the times `from` and `to`, it sends no answers.
    struct Stalling {
        start: Instant,
        latency: Duration,
        from: Duration,
        to: Duration,
    }

    impl Client for Stalling {
        async fn send(&mut self, _: u64) -> Outcome {
            sleep(self.latency).await;
            if (self.from..self.to).contains(&self.start.elapsed()) {
                sleep_until(self.start + self.to).await;
            }
            Outcome::Answered(Answer { status: 200, length: 0, refusal: None })
        }
    }

    /// Runs a load in virtual time.
    async fn run<C: Client>(load: Load, client: impl Fn(&Load) -> C, count: usize) -> Arc<Load> {
        let load = Arc::new(load);
        let clients = (0..count).map(|_| client(&load)).collect();
        let releasing = load.clone();
        tokio::spawn(async move {
            let mut released = 0;
            while let Some(pause) = releasing.release(&mut released) {
                sleep(pause).await;
            }
        });
        load.run(clients).await;
        load
    }

    fn stalling(load: &Load) -> Stalling {
        Stalling { start: load.start, latency: millis(2), from: millis(3000), to: millis(4000) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_stalls_for_a_second_cannot_hide_the_requests_of_that_second() {
        let schedule = Schedule::new(1000.0, millis(1000), millis(10_000));
        let load = run(Load::new(schedule, millis(10_000), false), stalling, 8).await;
        let recorder = load.recorder();
        assert_eq!((recorder.sent, recorder.answered, recorder.not_sent), (10_000, 10_000, 0));
        // About a thousand requests were due while the gateway stalled. Only 8 of them were in flight. The others were
        // late. They delayed later requests, because 8 clients can send only 4000 requests per second.
        let late = recorder.late.len();
        assert!((980..1500).contains(&late), "{late}");
        assert_eq!(recorder.late_by_limit, late);
        assert!((900_000..1_010_000).contains(&recorder.late.max()), "{}", recorder.late.max());
        let p99 = recorder.from_due.value_at_quantile(0.99);
        assert!((850_000..1_010_000).contains(&p99), "{p99}");
        // A generator that counts from the time of sending sees only 8 slow requests of 10,000.
        let p99_from_send = recorder.from_send.value_at_quantile(0.99);
        assert!(p99_from_send < 5000, "{p99_from_send}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_gateway_has_no_late_requests_and_the_rate_is_reached() {
        let schedule = Schedule::new(100.0, millis(1000), millis(5000));
        let client = |load: &Load| Stalling { to: Duration::ZERO, ..stalling(load) };
        let load = run(Load::new(schedule, millis(1000), false), client, 4).await;
        let recorder = load.recorder();
        assert_eq!((recorder.sent, recorder.late.len(), recorder.not_sent), (500, 0, 0));
        assert!(recorder.from_due.max() < 5000, "{}", recorder.from_due.max());
        assert!(
            (millis(5990)..millis(6010)).contains(&recorder.last_done),
            "{:?}",
            recorder.last_done
        );
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_never_sent_count_with_their_wait() {
        // Each answer takes 10 ms, so two clients can send 200 requests per second.
        let schedule = Schedule::new(1000.0, Duration::ZERO, millis(2000));
        let client =
            |load: &Load| Stalling { latency: millis(10), to: Duration::ZERO, ..stalling(load) };
        let load = run(Load::new(schedule, millis(1000), false), client, 2).await;
        assert!(load.elapsed() < millis(3100), "{:?}", load.elapsed());
        let recorder = load.recorder();
        assert_eq!(recorder.sent + recorder.not_sent, 2000);
        assert!((500..650).contains(&recorder.sent), "{}", recorder.sent);
        assert_eq!(recorder.from_due.len(), 2000);
        assert!(recorder.from_due.max() > 2_000_000, "{}", recorder.from_due.max());
    }

    struct Refusing(u16, Option<&'static str>);

    impl Client for Refusing {
        async fn send(&mut self, _: u64) -> Outcome {
            sleep(millis(1)).await;
            let refusal = Some(Refusal {
                status: self.0,
                auth_failure: self.1.map(str::to_owned),
                message_number: None,
            });
            Outcome::Answered(Answer { status: self.0, length: 0, refusal })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_stops_the_load() {
        for (status, auth_failure, stops) in [
            (401, None, true),
            (200, Some("ZWEAG102E Token is not valid"), true),
            (200, Some("ZWEAG141E The generation of the PassTicket failed"), false),
            (503, None, false),
        ] {
            let schedule = Schedule::new(100.0, Duration::ZERO, millis(1000));
            let client = |_: &Load| Refusing(status, auth_failure);
            let load = run(Load::new(schedule, millis(1000), true), client, 1).await;
            assert_eq!(load.stopped().is_some(), stops, "{status} {auth_failure:?}");
            assert_eq!(load.recorder().sent == 1, stops, "{status} {auth_failure:?}");
        }
    }
}
