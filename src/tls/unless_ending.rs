//! Waits for a future until the server shuts down.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Poll, Waker},
};

use tokio::{sync::watch, task::coop::unconstrained};

/// Returns the output of `future`, or `None` when the server shuts down. The caller must not mark the value of `ending`
/// as seen (for example with `borrow_and_update`). Otherwise, `has_changed` would not report the shutdown.
///
/// Reading the value of `ending` takes a lock that all connections share, and a connection is polled several
/// times per request. So the value is read only by the first poll, by a poll with another waker, and by a
/// poll after a change.
pub(super) async fn unless_ending<F: Future + ?Sized>(
    mut future: Pin<&mut F>,
    ending: &watch::Receiver<bool>,
) -> Option<F::Output> {
    let mut receiver = ending.clone();
    // An error of `wait_for` means that the server was dropped. A dropped server also counts as a shutdown.
    // `unconstrained` is needed because tokio does not register the waker of a task that has used up its cooperative
    // budget.
    let mut shutdown = pin!(unconstrained(receiver.wait_for(|ending| *ending)));
    let mut registered: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let is_registered = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_registered && ending.has_changed().is_ok_and(|has_changed| !has_changed) {
            return Poll::Pending;
        }
        registered = Some(cx.waker().clone());
        shutdown.as_mut().poll(cx).map(|_| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        time::Duration,
    };

    use tokio::{
        task::coop,
        time::{sleep, timeout},
    };
    use tokio_test::task;

    use super::*;

    #[test]
    fn a_shutdown_wakes_the_task_that_polled_last() {
        for server_dropped in [false, true] {
            let (end, ending) = watch::channel(false);
            let never = pin!(pending::<()>());
            let mut waiting = pin!(unless_ending(never, &ending));
            let (mut first, mut last) = (task::spawn(()), task::spawn(()));
            for task in [&mut first, &mut last] {
                for _ in 0..2 {
                    assert!(task.enter(|cx, _| waiting.as_mut().poll(cx)).is_pending());
                }
                assert!(!task.is_woken());
            }
            if server_dropped {
                drop(end);
            } else {
                end.send(true).unwrap();
            }
            assert!(last.is_woken());
            let ended = last.enter(|cx, _| waiting.as_mut().poll(cx));
            assert_eq!(ended, Poll::Ready(None), "server dropped: {server_dropped}");
        }
    }

    /// The first poll of a connection may use up the cooperative budget of its task.
    #[tokio::test(start_paused = true)]
    async fn a_shutdown_wakes_a_task_that_has_used_up_its_budget() {
        let (end, ending) = watch::channel(false);
        let mut is_busy = true;
        let busy = poll_fn(move |cx| {
            while is_busy {
                is_busy = pin!(coop::consume_budget()).poll(cx).is_ready();
            }
            Poll::<()>::Pending
        });
        let waiting = tokio::spawn(async move { unless_ending(pin!(busy), &ending).await });
        sleep(Duration::from_secs(1)).await;
        end.send(true).unwrap();
        let ended = timeout(Duration::from_secs(1), waiting).await;
        assert_eq!(ended.expect("the task was not woken").unwrap(), None);
    }

    #[test]
    fn an_output_that_is_ready_at_shutdown_is_returned() {
        let (end, ending) = watch::channel(false);
        end.send(true).unwrap();
        let (ready_output, never) = (pin!(ready("output")), pin!(pending::<()>()));
        let mut served = task::spawn(unless_ending(ready_output, &ending));
        assert_eq!(served.poll(), Poll::Ready(Some("output")));
        let mut ended = task::spawn(unless_ending(never, &ending));
        assert_eq!(ended.poll(), Poll::Ready(None));
    }
}
