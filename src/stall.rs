//! Checks that a peer makes a minimum progress while the gateway waits for the peer to send or take data.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A peer must send or take this many bytes in each period while the gateway waits for the peer.
pub(crate) const MIN_PROGRESS: u64 = 4 * 1024;

/// The time limit that is used if a limit is so long that the clock cannot represent its end.
pub(crate) const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer sends or takes a body too slowly")
    }
}

impl std::error::Error for Stalled {}

/// Watches whether a peer makes progress ([D28](crate::decisions#d28)).
///
/// If the limit were a time for the next byte, a peer could keep a connection for hours with one byte per minute. So
/// the limit is a minimum number of bytes in each period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MinimumProgress {
    limit: Duration,
    window: Option<Window>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    end: Instant,
    bytes_at_start: u64,
}

impl MinimumProgress {
    /// Creates a check that requires [`MIN_PROGRESS`] bytes from the peer within each period of length `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, window: None }
    }

    /// Ends the current period. Call this when no data waits for the peer.
    #[cfg(feature = "tls")]
    pub(crate) fn clear(&mut self) {
        self.window = None;
    }

    /// Extends the current period by `time`, the length of a pause in which the gateway did not wait for the peer. Call
    /// this after the pause, before the gateway waits for the peer again.
    #[cfg(feature = "proxy")]
    pub(crate) fn skip(&mut self, time: Duration) {
        if let Some(window) = &mut self.window {
            window.end += time;
        }
    }

    /// Checks the progress of the peer. Call this while the gateway waits for the peer. `bytes` is the number of bytes
    /// that the peer has sent or taken so far. If the gateway still waits at the returned time, call this function
    /// again.
    pub(crate) fn waiting(&mut self, now: Instant, bytes: u64) -> Result<Instant, Stalled> {
        match self.window {
            Some(Window { end, .. }) if now < end => return Ok(end),
            Some(window) if bytes.wrapping_sub(window.bytes_at_start) < MIN_PROGRESS => {
                return Err(Stalled);
            }
            _ => {}
        }
        let end = now.checked_add(self.limit).unwrap_or(now + LONG);
        self.window = Some(Window { end, bytes_at_start: bytes });
        Ok(end)
    }
}

/// A [`MinimumProgress`] with a timer, for a future that waits for the peer.
#[derive(Debug)]
pub(crate) struct StallTimer {
    progress: MinimumProgress,
    /// `None` before the first wait. Most peers never make the gateway wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl StallTimer {
    /// Creates a check that requires [`MIN_PROGRESS`] bytes from the peer within each period of length `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { progress: MinimumProgress::new(limit), timer: None }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn clear(&mut self) {
        self.progress.clear();
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn skip(&mut self, time: Duration) {
        self.progress.skip(time);
    }

    /// Checks the progress of the peer. Call this while the gateway waits for the peer. `bytes` is the number of bytes
    /// that the peer has sent or taken so far. Returns `Ready` if the peer makes too little progress.
    #[cold]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, bytes: u64) -> Poll<Stalled> {
        loop {
            let end = match self.progress.waiting(Instant::now(), bytes) {
                Ok(end) => end,
                Err(stalled) => return Poll::Ready(stalled),
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
            if timer.deadline() != end {
                timer.as_mut().reset(end);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        /// The gateway waits for the peer. The value is the number of bytes since the start.
        Waiting(u64),
        Clear,
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_must_take_4_kib_in_each_window_in_which_data_waits() {
        use Event::{Clear, Waiting};
        let limit = Duration::from_secs(60);
        let cases: [(&str, &[(u64, Event)], Option<u64>); 6] = [
            ("nothing is taken", &[(0, Waiting(9)), (59, Waiting(9)), (60, Waiting(9))], Some(60)),
            (
                "4 KiB are taken",
                &[(0, Waiting(0)), (60, Waiting(4096)), (119, Waiting(4096))],
                None,
            ),
            ("4 KiB less one byte", &[(0, Waiting(0)), (60, Waiting(4095))], Some(60)),
            (
                "the second window is too slow",
                &[(0, Waiting(0)), (60, Waiting(9000)), (120, Waiting(9001))],
                Some(120),
            ),
            ("a pause without data", &[(0, Waiting(0)), (59, Clear), (60, Waiting(1))], None),
            ("a late check", &[(0, Waiting(0)), (90, Waiting(4096)), (149, Waiting(4096))], None),
        ];
        for (name, events, want) in cases {
            let start = Instant::now();
            let mut progress = MinimumProgress::new(limit);
            let mut stalled = None;
            for (second, event) in events {
                let now = start + Duration::from_secs(*second);
                match event {
                    Waiting(bytes) if progress.waiting(now, *bytes).is_err() => {
                        stalled = Some(*second);
                    }
                    Waiting(_) => {}
                    Clear => progress.clear(),
                }
            }
            assert_eq!(stalled, want, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_the_range_of_the_clock_is_possible() {
        let now = Instant::now();
        assert!(MinimumProgress::new(Duration::MAX).waiting(now, 0).is_ok_and(|end| end > now));
    }
}
