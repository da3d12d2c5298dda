//! A service that is replaced while it runs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tower_service::Service;

/// Passes each request to the latest service. At its first request, each clone of this type clones the service. At
/// later requests, it compares one number, and clones the service again if the number has changed. A request stays with
/// the service that it began with.
///
/// A clone that gets no further requests keeps an old service. Each clone belongs to a connection, so it is dropped at
/// the latest at the idle timeout of the connection.
pub(crate) struct Reloadable<S> {
    shared: Arc<Shared<S>>,
    generation: u64,
    /// `None` before the first request. So a clone that only makes other clones keeps no old service.
    current: Option<S>,
}

/// Replaces the service of all clones of a [`Reloadable`].
pub(crate) struct Replace<S>(Arc<Shared<S>>);

struct Shared<S> {
    generation: AtomicU64,
    latest: Mutex<S>,
}

pub(crate) fn reloadable<S>(service: S) -> (Reloadable<S>, Replace<S>) {
    let shared = Arc::new(Shared { generation: AtomicU64::new(0), latest: Mutex::new(service) });
    let reloadable = Reloadable { shared: shared.clone(), generation: 0, current: None };
    (reloadable, Replace(shared))
}

impl<S> Replace<S> {
    /// Replaces the service. Requests that begin from now on get `service`.
    pub(crate) fn set(&self, service: S) {
        let mut latest = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *latest, service);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        drop(latest);
        // The old service is dropped after the lock has been released.
        drop(before);
    }
}

impl<S: Clone> Reloadable<S> {
    #[cold]
    fn take(&mut self) -> &mut S {
        let latest = self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
        self.generation = self.shared.generation.load(Ordering::Acquire);
        let service = latest.clone();
        drop(latest);
        self.current.insert(service)
    }
}

impl<S> Clone for Reloadable<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), generation: self.generation, current: None }
    }
}

impl<S: Service<R> + Clone, R> Service<R> for Reloadable<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        match &mut self.current {
            Some(current) if self.generation == generation => current.poll_ready(cx),
            _ => self.take().poll_ready(cx),
        }
    }

    fn call(&mut self, request: R) -> S::Future {
        match &mut self.current {
            Some(current) => current.call(request),
            // This does not occur if the caller first calls `poll_ready`, as it must.
            None => self.take().call(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
    };

    use tower::ServiceExt;

    use super::*;

    #[derive(Clone)]
    struct Numbered(Arc<u32>);

    impl Service<()> for Numbered {
        type Response = u32;
        type Error = Infallible;
        type Future = Ready<Result<u32, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(*self.0))
        }
    }

    #[tokio::test]
    async fn each_request_gets_the_latest_service_and_old_services_are_dropped() {
        let services: Vec<_> = (0..4).map(Arc::new).collect();
        let numbered = |number: usize| Numbered(services[number].clone());
        let (prototype, replace) = reloadable(numbered(0));
        let mut connections = [prototype.clone(), prototype.clone()];
        let mut answers = async || {
            let mut answers = Vec::new();
            for connection in &mut connections {
                answers.push(connection.ready().await.unwrap().call(()).await.unwrap());
            }
            answers
        };
        assert_eq!(answers().await, [0, 0]);
        for number in 1..4 {
            replace.set(numbered(number));
            assert_eq!(answers().await, [number as u32; 2]);
            assert_eq!(answers().await, [number as u32; 2]);
            for (other, service) in services.iter().enumerate() {
                let uses = Arc::strong_count(service) - 1;
                assert_eq!(uses, if other == number { 3 } else { 0 }, "{other} of {number}");
            }
        }
    }
}
