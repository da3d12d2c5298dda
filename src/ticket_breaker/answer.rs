//! Decides what the answer of a service says about the PassTicket of the request.

use http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE};

use super::machine::Outcome;

/// The statuses by which a service refuses a ticket. The default is 401 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedStatuses([u64; 4]);

impl RefusedStatuses {
    /// No status: the gateway does not watch the answers of the service.
    pub const NONE: Self = Self([0; 4]);

    /// Adds a status from 400 to 599. Ignores all others.
    #[must_use]
    pub fn with(mut self, status: StatusCode) -> Self {
        let status = status.as_u16();
        if (400..=599).contains(&status) {
            let at = status - 400;
            self.0[at as usize / 64] |= 1 << (at % 64);
        }
        self
    }

    /// Returns whether no status counts as a refusal.
    pub const fn is_none(&self) -> bool {
        matches!(self.0, [0, 0, 0, 0])
    }

    /// Returns whether the status counts as a refusal.
    #[inline]
    pub fn contains(&self, status: StatusCode) -> bool {
        let at = usize::from(status.as_u16().wrapping_sub(400));
        self.0.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }
}

impl Default for RefusedStatuses {
    fn default() -> Self {
        Self::NONE.with(StatusCode::UNAUTHORIZED)
    }
}

/// Returns whether the status can mean that the service has accepted the ticket. A service that does not check the
/// ticket sends the same statuses.
#[inline]
pub(super) fn is_success(status: StatusCode) -> bool {
    status.is_success()
        || status == StatusCode::SWITCHING_PROTOCOLS
        || status == StatusCode::NOT_MODIFIED
}

/// Returns what an answer says about the ticket. Returns `None` if the answer says nothing: for example, the service
/// has failed, or has no such path.
///
/// `was_proven` says whether the service has recently accepted a ticket of the same user on paths of the same class.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    refused: &RefusedStatuses,
    was_proven: bool,
) -> Option<Outcome> {
    if !refused.contains(status) {
        return is_success(status).then_some(Outcome::Accepted);
    }
    let is_unrelated =
        was_proven && status == StatusCode::UNAUTHORIZED && asks_for_something_else(headers);
    (!is_unrelated).then_some(Outcome::Refused)
}

/// Returns whether the service asks only for credentials other than `Basic`, such as `Bearer`.
fn asks_for_something_else(headers: &HeaderMap) -> bool {
    let mut challenges = headers.get_all(WWW_AUTHENTICATE).iter().peekable();
    if challenges.peek().is_none() {
        return false;
    }
    // A line can have several challenges, and the text of a parameter can contain any word. If `Basic` occurs anywhere,
    // the answer counts as a refusal.
    challenges.all(|line| {
        let line = line.as_bytes();
        !line.is_empty() && !line.windows(5).any(|word| word.eq_ignore_ascii_case(b"basic"))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_status_of_the_list_is_a_refusal() {
        let of = |statuses: &[u16]| {
            let statuses = statuses.iter().map(|it| StatusCode::from_u16(*it).unwrap());
            statuses.fold(RefusedStatuses::NONE, RefusedStatuses::with)
        };
        let (accepted, refused) = (Some(Outcome::Accepted), Some(Outcome::Refused));
        for (statuses, status, want) in [
            (&[401][..], 401, refused),
            (&[401], 403, None),
            (&[401, 403, 500], 403, refused),
            (&[401, 403, 500], 500, refused),
            (&[403], 401, None),
            (&[], 401, None),
            (&[200], 200, accepted),
            (&[599], 599, refused),
            (&[401], 200, accepted),
            (&[401], 204, accepted),
            (&[401], 101, accepted),
            (&[401], 304, accepted),
            (&[401], 302, None),
            (&[401], 404, None),
            (&[401], 503, None),
            (&[401], 100, None),
            (&[401], 999, None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = judge(status, &HeaderMap::new(), &of(statuses), false);
            assert_eq!(got, want, "{statuses:?} {status}");
        }
        assert_eq!(RefusedStatuses::default(), of(&[401]));
        assert!(of(&[]).is_none() && of(&[302]).is_none() && !of(&[464]).is_none());
    }

    #[test]
    fn a_401_that_asks_for_another_credential_counts_only_if_no_ticket_was_accepted_before() {
        let (refused, unrelated) = (Some(Outcome::Refused), None);
        for (challenges, was_proven, want) in [
            (&[][..], false, refused),
            (&[], true, refused),
            (&["Basic realm=\"x\""], true, refused),
            (&["Bearer"], false, refused),
            (&["Bearer"], true, unrelated),
            (&["Bearer", "BASIC"], true, refused),
            (&["Bearer realm=\"x\", basic realm=\"y\""], true, refused),
            (&["Form"], true, unrelated),
            (&[""], true, refused),
        ] {
            let mut headers = HeaderMap::new();
            for challenge in challenges {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            let statuses = RefusedStatuses::default();
            let got = judge(StatusCode::UNAUTHORIZED, &headers, &statuses, was_proven);
            assert_eq!(got, want, "{challenges:?} {was_proven}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        let statuses = RefusedStatuses::default().with(StatusCode::FORBIDDEN);
        assert_eq!(judge(StatusCode::FORBIDDEN, &headers, &statuses, true), refused);
    }
}
