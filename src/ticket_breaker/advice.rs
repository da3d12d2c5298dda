//! What an operator should check.

/// What an operator should check if tickets are refused.
pub(super) const CHECK: &str = "compare key, algorithm, APPLID and window with the profile on z/OS, and the clocks; then \
                                resume (docs/operating/refused-tickets.md)";

/// The same for clocks.
pub(super) const CHECK_CLOCK: &str =
    "compare the clocks of the gateway and of z/OS with UTC; tickets resume by themselves";
