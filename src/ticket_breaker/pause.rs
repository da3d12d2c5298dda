//! Pauses that grow.

use std::time::Duration;

/// Returns the pause `first`, doubled `doubled` times, but at most `longest`.
pub(super) fn pause(first: Duration, longest: Duration, doubled: u8) -> Duration {
    first.saturating_mul(1 << doubled.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_up_to_the_longest() {
        let secs = Duration::from_secs;
        for (doubled, want) in [(0, 60), (1, 120), (2, 240), (5, 1920), (6, 3600), (255, 3600)] {
            assert_eq!(pause(secs(60), secs(3600), doubled), secs(want), "{doubled}");
        }
    }
}
