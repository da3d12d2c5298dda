//! Messages about what has just happened. A page that changes something sends the browser to another page, whose
//! address says what happened. So a reload of that page does not repeat the change.

use super::{form::Form, texts::notices};

/// The query parameter with the notice.
const PARAMETER: &str = "done";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    SignedOut,
    SessionEnded,
    Changed,
    Revoked,
    AllRevoked,
    RuleMade,
}

const ALL: [(Notice, &str, &str); 6] = [
    (Notice::SignedOut, "signed-out", notices::SIGNED_OUT),
    (Notice::SessionEnded, "session-ended", notices::SESSION_ENDED),
    (Notice::Changed, "changed", notices::CHANGED),
    (Notice::Revoked, "revoked", notices::REVOKED),
    (Notice::AllRevoked, "all-revoked", notices::ALL_REVOKED),
    (Notice::RuleMade, "rule-made", notices::RULE_MADE),
];

impl Notice {
    /// Reads the notice in a query. Unknown values are ignored, because anybody can write an address.
    pub(super) fn of(query: &Form) -> Option<Self> {
        let word = query.get(PARAMETER);
        ALL.iter().find(|(_, other, _)| *other == word).map(|(notice, ..)| *notice)
    }

    /// Appends the notice to the path of a page, or to the path with a query.
    pub(super) fn at(self, path: &str) -> String {
        let word = self.entry().1;
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}{PARAMETER}={word}")
    }

    pub(super) fn text(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        // Each notice is in the table, which a test checks.
        ALL.iter().find(|(notice, ..)| *notice == self).unwrap_or(&ALL[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_back_from_an_address() {
        use Notice::{AllRevoked, Changed, Revoked, RuleMade, SessionEnded, SignedOut};
        for notice in [SignedOut, SessionEnded, Changed, Revoked, AllRevoked, RuleMade] {
            let address = notice.at("/x");
            let query = address.strip_prefix("/x?").unwrap();
            assert_eq!(Notice::of(&Form::parse(query.as_bytes()).unwrap()), Some(notice));
        }
        assert_eq!(Changed.at("/x?a=1"), "/x?a=1&done=changed");
        assert_eq!(Notice::of(&Form::parse(b"done=%3Cscript%3E").unwrap()), None);
    }
}
