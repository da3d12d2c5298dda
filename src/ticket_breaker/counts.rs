//! The metrics of the [breaker](super) of PassTickets.

use super::machine::Why;
use crate::metrics::{Counter, CounterFamily, Description, Label, LabelName};

pub(super) const REFUSED: Description = Description::counter(
    "passticket_refused_tickets_total",
    "PassTickets that a service has refused. Each one counts as a wrong password on z/OS.",
);
pub(super) const NOT_MADE: Description = Description::counter(
    "passticket_stopped_tickets_total",
    "PassTickets that were not made, because the service has refused earlier ones or because the clocks differ.",
);
pub(super) const USERS: Description = Description::gauge(
    "passticket_stopped_users",
    "Pairs of user and APPLID whose tickets are stopped.",
);
pub(super) const APPLIDS: Description = Description::gauge(
    "passticket_stopped_applids",
    "Keys whose tickets are stopped for all users, or for all users on some paths.",
);
pub(super) const CLOCK: Description = Description::gauge(
    "passticket_service_clock_difference_seconds",
    "The clock of the service minus the clock of the gateway, at the last comparison.",
);
pub(super) const UNSAVED: Description = Description::counter(
    "passticket_stopped_tickets_write_errors_total",
    "Failed attempts to write the file with the stopped tickets.",
);

/// Why a ticket was not made, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoppedBy {
    User,
    Applid,
    Paths,
    Clock,
    Full,
    NoAnswers,
}

impl Label for StoppedBy {
    const NAME: LabelName = LabelName::new("stopped");
    const ALL: &'static [Self] =
        &[Self::User, Self::Applid, Self::Paths, Self::Clock, Self::Full, Self::NoAnswers];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Applid => "applid",
            Self::Paths => "paths",
            Self::Clock => "clock",
            Self::Full => "full",
            Self::NoAnswers => "no-answers",
        }
    }
}

impl From<Why> for StoppedBy {
    fn from(why: Why) -> Self {
        match why {
            Why::User => Self::User,
            Why::Applid | Why::Doubt => Self::Applid,
            Why::Paths => Self::Paths,
            Why::Clock => Self::Clock,
            Why::Full => Self::Full,
            Why::NoAnswers => Self::NoAnswers,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct BreakerCounts {
    pub(super) refused: Counter,
    pub(super) not_made: CounterFamily<(StoppedBy,)>,
    pub(super) unsaved: Counter,
}
