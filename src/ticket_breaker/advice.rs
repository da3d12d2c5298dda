//! Texts that say what an operator should check.

/// The text if services refuse tickets.
pub(super) const CHECK: &str = "compare key, algorithm, APPLID and window with the profile on z/OS, and the clocks; then \
                                resume (docs/operating/refused-tickets.md)";

/// The text if the clocks differ.
pub(super) const CHECK_CLOCK: &str =
    "compare the clocks of the gateway and of z/OS with UTC; tickets resume by themselves";
