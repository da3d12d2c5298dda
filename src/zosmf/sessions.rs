//! Stores the sessions of users at z/OSMF (IBM's management server on z/OS).

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use quick_cache::{UnitWeighter, sync::Cache};
use sha2::{Digest, Sha256};

use super::session::ZosmfSession;
use crate::{
    clock::{Clock, SystemClock},
    passticket::UserId,
};

/// A session is not used in the last minute before it expires. Otherwise, it could expire before the request arrives at
/// z/OSMF.
const MARGIN: Duration = Duration::from_secs(60);

const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

/// The number of JWTs whose hashes are kept. The hashes take less than 10 MiB together.
const OPENED: u64 = 50_000;

/// The [`ZosmfSession`]s of users, at most one for each user. A session is not used in the last minute before it
/// expires. A session is removed when the user logs out, or when a new session of the user replaces it. It is also
/// removed when there are too many sessions, or when [`get`](Self::get) finds that it expires within a minute. Clones
/// share the sessions.
#[derive(Clone)]
pub struct ZosmfSessions {
    capacity: NonZeroUsize,
    by_user: Arc<Cache<UserId, Arc<ZosmfSession>>>,
    /// The hashes of the JWTs of the sessions that the gateway has opened, at most [`OPENED`].
    opened: Arc<Cache<[u8; 32], ()>>,
    clock: Arc<dyn Clock>,
}

impl Default for ZosmfSessions {
    /// Keeps up to 10,000 sessions, and reads the time from the system clock.
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY, Arc::new(SystemClock))
    }
}

impl ZosmfSessions {
    /// Keeps up to `capacity` sessions. `clock` decides when a session expires.
    pub fn new(capacity: NonZeroUsize, clock: Arc<dyn Clock>) -> Self {
        let by_user = Arc::new(Cache::new(capacity.get()));
        let opened = Arc::new(Cache::with_weighter(100, OPENED, UnitWeighter));
        Self { capacity, by_user, opened, clock }
    }

    /// Returns a store without sessions. Use it if the address of z/OSMF has changed, because the old sessions do not
    /// belong to the new address. But if both servers are in one sysplex (a group of z/OS systems), the new server may
    /// accept the old tokens. So [`has_opened`](Self::has_opened) of the new store still returns `true` for them.
    #[must_use]
    pub fn without_sessions(&self) -> Self {
        Self { opened: self.opened.clone(), ..Self::new(self.capacity, self.clock.clone()) }
    }

    /// Returns whether `token` is the JWT of a session that the gateway has opened, for a login or for the scheme
    /// `zosmf`. Services have received these JWTs, but clients have not. So a gateway that accepts JWTs of z/OSMF as
    /// login tokens should refuse these JWTs ([D23](crate::decisions#d23)).
    ///
    /// The hashes of at most 50,000 tokens are kept while the program runs. For a token whose hash is no longer kept,
    /// this function returns `false`.
    pub fn has_opened(&self, token: &str) -> bool {
        self.opened.get(&hash(token)).is_some()
    }

    /// Call this for a session that the gateway has opened.
    pub(crate) fn remember(&self, session: &ZosmfSession) {
        if let Some(jwt) = session.jwt() {
            self.opened.insert(hash(jwt), ());
        }
    }

    /// Returns the session of `user`, if it is valid for at least one more minute.
    pub fn get(&self, user: &UserId) -> Option<Arc<ZosmfSession>> {
        let session = self.by_user.get(user)?;
        if self.clock.now().plus(MARGIN) < session.expires_at() {
            return Some(session);
        }
        self.by_user.remove_if(user, |stored| Arc::ptr_eq(stored, &session));
        None
    }

    /// Stores `session` for `user`. This call may remove the earlier session of the user, and evict a session because
    /// there are too many. It returns the removed sessions that have not expired. The caller should end them at z/OSMF.
    /// If `session` contains a token of the earlier session, this token is still needed. So the returned session lacks
    /// this token.
    #[must_use = "the sessions are valid at z/OSMF until they are ended there"]
    pub fn keep(
        &self,
        user: UserId,
        session: ZosmfSession,
    ) -> impl Iterator<Item = (UserId, Arc<ZosmfSession>)> {
        self.remember(&session);
        let mut gone = <[Option<(UserId, Arc<ZosmfSession>)>; 2]>::default();
        // All sessions have the same weight. So at most two are removed: the earlier session of the user, and an
        // evicted one.
        let kept = Arc::new(session);
        self.by_user.insert_with_lifecycle(user, kept.clone(), &mut gone);
        let now = self.clock.now();
        gone.into_iter()
            .flatten()
            .filter(move |(_, session)| now < session.expires_at())
            .filter_map(move |(owner, session)| match owner == user {
                true => Some((owner, Arc::new(session.without_tokens_of(&kept)?))),
                false => Some((owner, session)),
            })
    }

    /// Removes the session of `user`. Returns the session if it has not expired.
    pub fn take(&self, user: &UserId) -> Option<Arc<ZosmfSession>> {
        let (_, session) = self.by_user.remove(user)?;
        (self.clock.now() < session.expires_at()).then_some(session)
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl fmt::Debug for ZosmfSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZosmfSessions")
            .field("sessions", &self.by_user.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header::SET_COOKIE};
    use test_support::tickets::user;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    fn session(clock: &dyn Clock, value: &str) -> ZosmfSession {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, format!("LtpaToken2={value}").parse().unwrap());
        ZosmfSession::from_cookies(&headers, &user("A"), clock.now()).unwrap()
    }

    #[test]
    fn a_token_that_the_next_session_also_has_is_not_ended() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1000)));
        let sessions = ZosmfSessions::new(DEFAULT_CAPACITY, clock.clone());
        assert_eq!(sessions.keep(user("A"), session(&*clock, "one")).count(), 0);
        assert_eq!(sessions.keep(user("A"), session(&*clock, "one")).count(), 0);
        assert_eq!(sessions.get(&user("A")).unwrap().ltpa(), Some("one"));
        assert_eq!(sessions.keep(user("A"), session(&*clock, "two")).count(), 1);
    }

    #[test]
    fn a_session_is_used_until_a_minute_before_it_expires() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1000)));
        let sessions = ZosmfSessions::new(DEFAULT_CAPACITY, clock.clone());
        assert_eq!(sessions.keep(user("A"), session(&*clock, "one")).count(), 0);
        let gone: Vec<_> = sessions.keep(user("A"), session(&*clock, "two")).collect();
        let [(owner, earlier)] = &gone[..] else { panic!("{gone:?}") };
        assert_eq!((*owner, earlier.ltpa()), (user("A"), Some("one")));
        assert!(sessions.get(&user("B")).is_none());
        clock.advance(Duration::from_secs(29 * 60 - 1));
        assert_eq!(sessions.get(&user("A")).unwrap().ltpa(), Some("two"));
        clock.advance(Duration::from_secs(1));
        assert!(sessions.get(&user("A")).is_none());
        assert!(sessions.take(&user("A")).is_none());
    }

    #[test]
    fn take_removes_a_session_and_the_number_of_sessions_is_bounded() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1000)));
        let capacity = NonZeroUsize::new(100).unwrap();
        let sessions = ZosmfSessions::new(capacity, clock.clone());
        assert_eq!(sessions.keep(user("A"), session(&*clock, "one")).count(), 0);
        // The last minute is enough to log out.
        clock.advance(Duration::from_secs(29 * 60 + 59));
        assert_eq!(sessions.take(&user("A")).unwrap().ltpa(), Some("one"));
        assert!(sessions.take(&user("A")).is_none());
        let gone: usize = (0..1000)
            .map(|i| sessions.keep(user(&format!("U{i}")), session(&*clock, "x")).count())
            .sum();
        assert!(sessions.by_user.len() <= 100, "{sessions:?}");
        let empty = sessions.without_sessions();
        (0..1000).for_each(|i| drop(empty.keep(user(&format!("U{i}")), session(&*clock, "x"))));
        assert!(empty.by_user.len() <= 100, "{empty:?}");
        // No session is lost: each is stored, or was returned so that it can be ended at z/OSMF.
        assert_eq!(gone + sessions.by_user.len(), 1000);
        // An expired session needs no logout.
        let last = sessions.keep(user("B"), session(&*clock, "x"));
        drop(last);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(sessions.keep(user("B"), session(&*clock, "y")).count(), 0);
    }
}
