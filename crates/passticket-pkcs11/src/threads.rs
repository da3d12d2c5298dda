//! The threads on which a PKCS#11 token computes. A call of a module can take long, so it must not run on the threads
//! of an async runtime. Each token has its own threads, so that a token that hangs does not stop other tokens.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use passticket::{KeySourceError, KeyThreads, KeyWork, KeyWorkFuture};
use tokio::{sync::oneshot, time::timeout};

use super::{error::Pkcs11Error, names::TokenLabel};

/// The maximum number of threads of a token, and of the sessions that they use.
pub(super) const THREADS: usize = 4;

/// The maximum number of jobs that wait for a thread of a token.
const QUEUE: usize = 256;

/// The maximum time that a PassTicket waits for the token: in the queue and for the computation.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// The threads of a token. They start with the first work, and end when this value is dropped.
#[derive(Debug)]
pub(super) struct Threads {
    token: TokenLabel,
    queue: OnceLock<Result<SyncSender<Job>, Pkcs11Error>>,
}

struct Job {
    work: KeyWork,
    /// Work that has not begun at this time does not run.
    until: Instant,
    /// Informs an async caller that the work has ended. `None` for a blocking caller, which waits for a value that the
    /// work itself sends.
    done: Option<oneshot::Sender<()>>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Threads {
    pub(super) fn new(token: TokenLabel) -> Self {
        Self { token, queue: OnceLock::new() }
    }

    /// Runs `work` on one of the threads. Blocks the calling thread until the work has ended, but at most for [`WAIT`].
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        let (result, received) = channel();
        // An error means that the caller does not wait any more.
        let work = move || drop(result.send(work()));
        self.send(Job { work: Box::new(work), until: Instant::now() + WAIT, done: None })?;
        // If the work was too late or has panicked, the thread drops it. This also drops the sender, so `recv_timeout`
        // fails.
        received.recv_timeout(WAIT).map_err(|_| self.timed_out())
    }

    fn send(&self, job: Job) -> Result<(), Pkcs11Error> {
        let token = &self.token;
        let queue = self.queue.get_or_init(|| start(token)).as_ref().map_err(Clone::clone)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                Pkcs11Error::QueueFull { token: token.clone(), waiting: QUEUE }
            }
            TrySendError::Disconnected(_) => Pkcs11Error::NoThread { token: token.clone() },
        })
    }

    fn timed_out(&self) -> Pkcs11Error {
        Pkcs11Error::TimedOut { token: self.token.clone(), after: WAIT }
    }
}

impl KeyThreads for Threads {
    fn run(&self, work: KeyWork) -> KeyWorkFuture {
        let (done, finished) = oneshot::channel();
        let sent = self.send(Job { work, until: Instant::now() + WAIT, done: Some(done) });
        let timed_out = self.timed_out();
        Box::pin(async move {
            sent?;
            match timeout(WAIT, finished).await {
                Ok(Ok(())) => Ok(()),
                // `Ok(Err(_))` means that the thread has dropped the work, because it was too late or has panicked.
                Ok(Err(_)) | Err(_) => Err(KeySourceError::from(timed_out)),
            }
        })
    }
}

/// Starts the threads. Returns an error only if no thread could be started.
fn start(token: &TokenLabel) -> Result<SyncSender<Job>, Pkcs11Error> {
    let (queue, jobs) = sync_channel(QUEUE);
    let jobs = Arc::new(Mutex::new(jobs));
    let started = (0..THREADS).filter(|_| {
        let jobs = jobs.clone();
        let builder = thread::Builder::new().name("pkcs11".to_owned());
        builder.spawn(move || run_all(&jobs)).is_ok()
    });
    match started.count() {
        0 => Err(Pkcs11Error::NoThread { token: token.clone() }),
        _ => Ok(queue),
    }
}

fn run_all(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // One idle thread waits for work. The others wait for the lock.
        let received = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { work, until, done }) = received else { return };
        let is_abandoned = done.as_ref().is_some_and(oneshot::Sender::is_closed);
        if is_abandoned || Instant::now() >= until {
            continue;
        }
        // A panic must not end the thread. It drops the sender of the result, so the caller gets an error.
        if catch_unwind(AssertUnwindSafe(work)).is_ok()
            && let Some(done) = done
        {
            // An error means that the caller does not wait any more.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads() -> Threads {
        Threads::new(TokenLabel::new("T").unwrap())
    }

    #[test]
    fn work_runs_on_another_thread_and_returns_its_result() {
        let caller = thread::current().id();
        let thread = threads().run_blocking(|| thread::current().id()).unwrap();
        assert_ne!(thread, caller);
    }

    #[tokio::test(start_paused = true)]
    async fn work_times_out_and_a_full_queue_is_refused() {
        let threads = threads();
        let (release, blocked) = channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let (began, begun) = channel();
        let block = || {
            let (blocked, began) = (blocked.clone(), began.clone());
            Box::new(move || {
                began.send(()).unwrap();
                let _ = blocked.lock().unwrap().recv();
            })
        };
        let mut hanging: Vec<_> = (0..THREADS).map(|_| threads.run(block())).collect();
        (0..THREADS).for_each(|_| begun.recv().unwrap());
        // All threads are busy, so this work waits.
        let (ran, has_run) = channel();
        let mut waiting: Vec<_> = (0..QUEUE)
            .map(|_| {
                let ran = ran.clone();
                threads.run(Box::new(move || ran.send(()).unwrap()))
            })
            .collect();
        let full = threads.run(Box::new(|| panic!("the queue is full"))).await.unwrap_err();
        assert!(full.reason().contains("overloaded"), "{full}");
        let late = hanging.remove(0).await.unwrap_err();
        assert!(late.reason().contains("has not answered within 5 s"), "{late}");
        assert!(late.retry_after().is_some());
        let late = waiting.remove(0).await.unwrap_err();
        assert!(late.reason().contains("has not answered"), "{late}");
        // Work whose caller has gone does not run.
        drop((hanging, waiting, late));
        drop(release);
        while threads.run_blocking(|| ()).is_err() {
            thread::yield_now();
        }
        drop(ran);
        assert_eq!(has_run.try_iter().count(), 0);
    }

    #[tokio::test]
    async fn a_panic_does_not_end_a_thread() {
        let threads = threads();
        for _ in 0..2 * THREADS {
            let run = threads.run(Box::new(|| std::panic::resume_unwind(Box::new(()))));
            assert!(run.await.is_err());
        }
        assert_eq!(threads.run_blocking(|| 7), Ok(7));
    }
}
