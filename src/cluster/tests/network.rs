//! A simulated network between nodes and the *place* (the store that the nodes share).

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::place::Place;
use crate::{
    cluster::coordinator::{
        Coordinator, CoordinatorError, CoordinatorFuture, Followed, ImageCursor, ImagePart,
        Incarnation, Joined, LeaseRecord, LogPosition, NodeName, Renewed, Term,
    },
    revocation::Record,
};

/// The time limit of a call.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) drops_requests: bool,
    pub(super) drops_replies: bool,
    /// The longest delays.
    pub(super) request_delay: Duration,
    pub(super) reply_delay: Duration,
}

impl Link {
    pub(super) fn is_good(&self) -> bool {
        *self == Self::default()
    }
}

/// The connection of one node to the place.
#[derive(Clone, Debug)]
pub(super) struct Network {
    place: Place,
    link: Arc<Mutex<Link>>,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl Network {
    pub(super) fn new(place: Place, random: fastrand::Rng) -> Self {
        let link = Arc::new(Mutex::new(Link::default()));
        Self { place, link, random: Arc::new(Mutex::new(random)) }
    }

    pub(super) fn set(&self, link: Link) {
        *self.link.lock().unwrap() = link;
    }

    pub(super) fn link(&self) -> Link {
        *self.link.lock().unwrap()
    }

    fn delay(&self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).unwrap();
        let mut random = self.random.lock().unwrap();
        // About half of the messages have at most a tenth of the longest delay.
        let longest = if random.bool() { longest } else { longest / 10 };
        Duration::from_micros(random.u64(0..=longest + 300))
    }

    /// Sends a request. Unless the link drops the request, it arrives, even if the process of the caller ends.
    fn call<T: Send + 'static>(
        &self,
        additional: Duration,
        call: impl AsyncCall<T>,
    ) -> CoordinatorFuture<T> {
        let (sender, receiver) = oneshot::channel();
        let network = self.clone();
        tokio::spawn(async move {
            sleep(network.delay(network.link().request_delay)).await;
            if network.link().drops_requests {
                return;
            }
            let Some(result) = call.run(&network.place).await else { return };
            sleep(network.delay(network.link().reply_delay)).await;
            if !network.link().drops_replies {
                let _ = sender.send(result);
            }
        });
        Box::pin(async move {
            let unreachable = || {
                let (place, reason) = ("place".into(), "no reply".into());
                Err(CoordinatorError::Unreachable { place, reason })
            };
            let reply = async {
                match receiver.await {
                    Ok(result) => result,
                    // There is no reply, so the caller waits until its time limit.
                    Err(_) => pending().await,
                }
            };
            timeout(LIMIT + additional, reply).await.unwrap_or_else(|_| unreachable())
        })
    }
}

/// A call of the place. Its result is `None` if the place never answers.
trait AsyncCall<T>: Send + 'static {
    fn run(self, place: &Place)
    -> impl Future<Output = Option<Result<T, CoordinatorError>>> + Send;
}

impl<T, F> AsyncCall<T> for F
where
    F: FnOnce(&Place) -> Option<Result<T, CoordinatorError>> + Send + 'static,
    T: Send,
{
    async fn run(self, place: &Place) -> Option<Result<T, CoordinatorError>> {
        self(place)
    }
}

struct Follow(Term, LogPosition, Duration);

impl AsyncCall<Followed> for Follow {
    async fn run(self, place: &Place) -> Option<Result<Followed, CoordinatorError>> {
        place.follow(&self.0, self.1, self.2).await
    }
}

impl Coordinator for Network {
    fn join(&self, lease: Duration) -> CoordinatorFuture<Joined> {
        self.call(Duration::ZERO, move |place: &Place| place.join(lease))
    }

    fn publish(
        &self,
        term: Term,
        from: NodeName,
        records: Vec<Record>,
    ) -> CoordinatorFuture<LogPosition> {
        self.call(Duration::ZERO, move |place: &Place| place.publish(&term, &from, records))
    }

    fn follow(
        &self,
        term: Term,
        after: LogPosition,
        wait: Duration,
    ) -> CoordinatorFuture<Followed> {
        self.call(wait, Follow(term, after, wait))
    }

    fn image(&self, term: Term, cursor: Option<ImageCursor>) -> CoordinatorFuture<ImagePart> {
        self.call(Duration::ZERO, move |place: &Place| place.image(&term, cursor))
    }

    fn renew(
        &self,
        term: Term,
        lease: LeaseRecord,
        replaced: Option<Incarnation>,
    ) -> CoordinatorFuture<Renewed> {
        self.call(Duration::ZERO, move |place: &Place| place.renew(&term, lease, replaced))
    }

    fn leases(&self, term: Term) -> CoordinatorFuture<Vec<LeaseRecord>> {
        self.call(Duration::ZERO, move |place: &Place| place.leases(&term))
    }

    fn remove(&self, term: Term, lease: LeaseRecord) -> CoordinatorFuture<()> {
        self.call(Duration::ZERO, move |place: &Place| place.remove(&term, &lease))
    }
}
