//! Tests of the behaviour that all registries have in common.

use std::{sync::Arc, time::Duration};

use tokio_test::block_on;

use super::*;
use crate::{
    passticket::UserId,
    revocation::{IssuedPat, Revocation, RevocationIndex, RevocationStore},
    token::{Scopes, ServiceId, TokenFingerprint},
};

const NOW: u64 = 1_800_000_000_400;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LIMIT: u32 = 5;

/// A registry and the revocations on which it is based.
#[derive(Clone)]
pub(in crate::revocation) struct World {
    pub(in crate::revocation) tokens: Arc<dyn AccessTokenStore>,
    pub(in crate::revocation) revocations: Arc<dyn RevocationStore>,
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(NOW + millis)
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A PAT with this text, which is valid for 90 days.
pub(in crate::revocation) fn pat(text: &str, name: &str, scopes: &str, issued: u64) -> IssuedPat {
    IssuedPat {
        token: TokenFingerprint::of(text),
        user: user(name),
        scopes: Scopes::parse([scopes]).unwrap(),
        issued_at: at(issued),
        expires_at: at(issued).plus(90 * DAY),
    }
}

impl World {
    fn change(&self, change: AccessTokenChange, millis: u64) -> AccessTokenOutcome {
        block_on(self.tokens.change(change, at(millis))).unwrap()
    }

    fn try_issue(&self, pat: &IssuedPat, name: &str) -> AccessTokenOutcome {
        let name = TokenName::new(name).ok();
        let change = AccessTokenChange::Issue {
            pat: pat.clone(),
            name,
            description: TokenDescription::default(),
            limit: LIMIT,
        };
        block_on(self.tokens.change(change, pat.issued_at)).unwrap()
    }

    pub(in crate::revocation) fn issue(&self, pat: &IssuedPat, name: &str) -> AccessToken {
        token(self.try_issue(pat, name))
    }

    fn rotate(
        &self,
        old: RotatedPat,
        new: &IssuedPat,
        grace: Duration,
        millis: u64,
    ) -> AccessTokenOutcome {
        let change = AccessTokenChange::Rotate { old, new: new.clone(), grace, limit: LIMIT };
        self.change(change, millis)
    }

    pub(in crate::revocation) fn find(&self, pat: &IssuedPat) -> Option<AccessToken> {
        let key = AccessTokenKey::Verified(pat.clone());
        block_on(self.tokens.find(key, pat.issued_at)).unwrap()
    }

    fn state(&self, pat: &IssuedPat) -> AccessTokenState {
        self.find(pat).unwrap().state
    }

    fn record(&self, revocation: Revocation) {
        block_on(self.revocations.record(revocation)).unwrap();
    }

    fn all(&self, query: &AccessTokenQuery) -> Vec<AccessToken> {
        let (mut tokens, mut query) = (Vec::new(), query.clone());
        loop {
            let page = block_on(self.tokens.list(query.clone(), at(1000))).unwrap();
            assert!(page.tokens.len() <= query.limit);
            tokens.extend(page.tokens);
            match page.next {
                Some(next) => query.after = Some(next.to_string().parse().unwrap()),
                None => return tokens,
            }
        }
    }

    fn names(&self, query: &AccessTokenQuery) -> Vec<String> {
        let names = self.all(query).into_iter();
        names.map(|token| token.name.map_or_else(String::new, |name| name.to_string())).collect()
    }
}

fn token(outcome: AccessTokenOutcome) -> AccessToken {
    match outcome {
        AccessTokenOutcome::Token(token) => token,
        other => panic!("{other:?}"),
    }
}

use AccessTokenState::{Active, Expired, Revoked};

/// Tests the behaviour that all registries have in common. `reopen(None)` makes an empty registry, and
/// `reopen(Some(world))` closes a registry and opens it again.
pub(in crate::revocation) fn test_common_behaviour(mut reopen: impl FnMut(Option<World>) -> World) {
    let world = reopen(None);
    let (one, two, three) =
        (pat("1", "one", "a", 0), pat("2", "one", "a,b", 1), pat("3", "one", "c", 2));
    let other = pat("4", "two", "a", 3);
    let first = world.issue(&one, "Jenkins");
    assert_eq!((first.user, first.state, first.created_at), (user("ONE"), Active, at(0)));
    assert_eq!((first.last_use.is_none(), first.scopes), (true, one.scopes.clone()));
    let second = world.issue(&two, "git");
    world.issue(&three, "");
    world.issue(&other, "other");

    // The newest token of a user is first. Filters and pages do not change the order.
    let of = |name: &str| AccessTokenQuery::new(Some(user(name)));
    let mut all_users = AccessTokenQuery::new(None);
    for limit in [1, 2, 100] {
        let page = |query: AccessTokenQuery| world.names(&AccessTokenQuery { limit, ..query });
        assert_eq!(page(of("one")), ["", "git", "Jenkins"], "{limit}");
        assert_eq!(page(of("two")), ["other"]);
        assert_eq!(page(of("three")), Vec::<String>::new());
        assert_eq!(page(all_users.clone()), ["", "git", "Jenkins", "other"]);
        let service = Some(ServiceId::new("a").unwrap());
        assert_eq!(page(AccessTokenQuery { service, ..of("one") }), ["git", "Jenkins"]);
        assert_eq!(page(AccessTokenQuery { name: Some("JENK".into()), ..of("one") }), ["Jenkins"]);
        assert_eq!(page(AccessTokenQuery { state: Some(Revoked), ..of("one") }), [""; 0]);
    }

    // If a position comes from the list of another user, the page still contains only tokens of the user of the query.
    all_users.limit = 1;
    let page = block_on(world.tokens.list(all_users, at(4))).unwrap();
    let after = AccessTokenQuery { after: page.next, ..of("two") };
    assert_eq!(world.names(&after), ["other"]);

    let foreign = AccessTokenKey::Id(user("two"), first.id);
    assert_eq!(block_on(world.tokens.find(foreign, at(4))).unwrap(), None);
    let revoke = |user, id| AccessTokenChange::Revoke { user, id };
    assert_eq!(world.change(revoke(user("two"), first.id), 4), AccessTokenOutcome::NotFound);

    let relabel = AccessTokenChange::Relabel {
        user: user("one"),
        id: second.id,
        name: TokenName::new("git 2").ok(),
        description: TokenDescription::new("laptop").ok(),
    };
    assert_eq!(token(world.change(relabel, 5)).description.as_str(), "laptop");
    let keep = AccessTokenChange::Relabel {
        user: user("one"),
        id: second.id,
        name: None,
        description: None,
    };
    let kept = token(world.change(keep, 0));
    assert_eq!((kept.name.unwrap().as_str(), kept.description.as_str()), ("git 2", "laptop"));

    let world = reopen(Some(world));
    assert_eq!([&one, &two, &three, &other].map(|pat| world.state(pat)), [Active; 4]);
    world.record(one.revocation());
    assert_eq!([&one, &two].map(|pat| world.state(pat)), [Revoked, Active]);
    token(world.change(revoke(user("one"), second.id), 6));
    assert_eq!(world.state(&two), Revoked);
    world.record(Revocation::Service { service: ServiceId::new("c").unwrap(), up_to: at(2) });
    assert_eq!([&three, &other].map(|pat| world.state(pat)), [Revoked, Active]);
    world.record(Revocation::User { user: user("two"), up_to: at(3) });
    assert_eq!(world.state(&other), Revoked);
    let world = reopen(Some(world));
    assert_eq!([&one, &two, &three, &other].map(|pat| world.state(pat)), [Revoked; 4]);
    let query = AccessTokenQuery { state: Some(Revoked), ..of("one") };
    assert_eq!(world.names(&query), ["", "git 2", "Jenkins"]);
    let expired = block_on(world.tokens.find(AccessTokenKey::Verified(one), at(0).plus(90 * DAY)));
    assert_eq!(expired.unwrap().unwrap().state, Expired);

    test_rotations(&world);
    test_limits(&world);
    test_uses(&world);
    test_idle(&world);
}

fn test_rotations(world: &World) {
    let old = pat("old", "rot", "a,b", 10);
    let issued = world.issue(&old, "rotated");
    let entry = || RotatedPat::Entry(user("rot"), issued.id);
    let mut new = pat("new", "rot", "a,b", 11);
    // The new token must have the scopes and the user of the old token, and must not expire after the old token.
    assert_eq!(world.rotate(entry(), &new, Duration::ZERO, 11), AccessTokenOutcome::NotFound);
    new.expires_at = old.expires_at;
    for wrong in [
        IssuedPat { scopes: Scopes::parse(["a"]).unwrap(), ..new.clone() },
        IssuedPat { user: user("two"), ..new.clone() },
    ] {
        assert_eq!(world.rotate(entry(), &wrong, Duration::ZERO, 11), AccessTokenOutcome::NotFound);
    }
    assert_eq!(world.state(&old), Active);

    // One of two rotations succeeds, and the old token is revoked.
    let rotated = token(world.rotate(entry(), &new, Duration::ZERO, 11));
    assert_eq!((rotated.name.unwrap().as_str(), rotated.state), ("rotated", Active));
    let second = IssuedPat { token: TokenFingerprint::of("second"), ..new.clone() };
    let again = world.rotate(entry(), &second, Duration::ZERO, 12);
    assert_eq!((again, world.find(&second)), (AccessTokenOutcome::AlreadyRotated, None));
    assert_eq!((world.state(&old), world.state(&new)), (Revoked, Active));

    // With a grace period, the old token is revoked at the end of this period. If a client then uses the old token, the
    // whole family is revoked.
    let third = IssuedPat { token: TokenFingerprint::of("third"), ..new.clone() };
    let hour = Duration::from_secs(3600);
    token(world.rotate(RotatedPat::Verified(new.clone()), &third, hour, 20));
    assert_eq!((world.state(&new), world.state(&third)), (Active, Active));
    let misuse = |pat: &IssuedPat| AccessTokenChange::Misuse { pat: pat.clone() };
    assert_eq!(world.change(misuse(&new), 3_600_019), AccessTokenOutcome::Revoked(0));
    assert_eq!(world.change(misuse(&third), 3_600_019), AccessTokenOutcome::Revoked(0));
    let end = |millis| world.change(AccessTokenChange::EndGraces, millis);
    assert_eq!(end(3_600_019), AccessTokenOutcome::Revoked(0));
    assert_eq!(end(3_600_020), AccessTokenOutcome::Revoked(1));
    assert_eq!((end(3_600_020), world.state(&new)), (AccessTokenOutcome::Revoked(0), Revoked));
    assert_eq!(world.state(&third), Active);
    assert_eq!(world.change(misuse(&new), 3_600_021), AccessTokenOutcome::Revoked(1));
    assert_eq!(world.state(&third), Revoked);

    let last = IssuedPat { token: TokenFingerprint::of("last"), ..new };
    let refused = world.rotate(RotatedPat::Verified(third), &last, Duration::ZERO, 3_600_022);
    assert_eq!((refused, world.find(&last)), (AccessTokenOutcome::NotActive(Revoked), None));

    let unknown = pat("unknown", "rot", "a", 30);
    let new = IssuedPat { token: TokenFingerprint::of("of unknown"), ..unknown.clone() };
    token(world.rotate(RotatedPat::Verified(unknown.clone()), &new, Duration::ZERO, 31));
    assert_eq!((world.state(&unknown), world.state(&new)), (Revoked, Active));
}

fn test_limits(world: &World) {
    let pats: Vec<_> =
        (0..LIMIT + 3).map(|i| pat(&format!("limit {i}"), "limit", "a", u64::from(i))).collect();
    for pat in &pats[..LIMIT as usize] {
        world.issue(pat, "x");
    }
    let too_many = AccessTokenOutcome::TooMany { limit: LIMIT };
    let next = &pats[LIMIT as usize];
    assert_eq!((world.try_issue(next, "x"), world.find(next)), (too_many.clone(), None));
    // Without a grace period, the new token takes the place of the old token, so the rotation is possible at the limit.
    let new = IssuedPat { expires_at: pats[0].expires_at, ..next.clone() };
    let old = RotatedPat::Verified(pats[0].clone());
    let hour = Duration::from_secs(3600);
    assert_eq!(world.rotate(old.clone(), &new, hour, 100), too_many);
    token(world.rotate(old, &new, Duration::ZERO, 100));
    // A revoked token does not count toward the limit.
    world.record(pats[1].revocation());
    world.issue(&pats[LIMIT as usize + 1], "x");
    assert_eq!(world.try_issue(&pats[LIMIT as usize + 2], "x"), too_many);
}

fn test_idle(world: &World) {
    let idle = |days: u32, millis| world.change(AccessTokenChange::RevokeIdle(days * DAY), millis);
    let (old, used) = (pat("idle", "idle", "a", 0), pat("not idle", "idle", "a", 0));
    world.issue(&old, "x");
    world.issue(&used, "x");
    let day = 86_400_000;
    let last_use = LastUse::new(at(5 * day), None, None);
    let uses = vec![PatUse::new(used.clone(), last_use)];
    world.change(AccessTokenChange::Use(uses), 5 * day);
    // All tokens of this registry are younger than 20 days.
    idle(20, 7 * day);
    assert_eq!((world.state(&old), world.state(&used)), (Active, Active));
    idle(7, 7 * day);
    assert_eq!((world.state(&old), world.state(&used)), (Revoked, Active));
    assert_eq!(idle(7, 7 * day), AccessTokenOutcome::Revoked(0));
}

fn test_uses(world: &World) {
    let (known, unknown) = (pat("used", "use", "a", 0), pat("seen", "use", "a", 0));
    world.issue(&known, "x");
    let used = |pat: &IssuedPat, millis: u64, from: &str| {
        let service = ServiceId::new("a").ok();
        let last_use = LastUse::new(at(millis), from.parse().ok(), service);
        PatUse::new(pat.clone(), last_use)
    };
    let last = |pat| world.find(pat).unwrap().last_use.map(|it| (it.at, it.from));
    let from = |text: &str| Some(text.parse().unwrap());
    world.change(AccessTokenChange::Use(vec![used(&known, 5, "192.0.2.1")]), 5);
    assert_eq!(last(&known), Some((at(5), from("192.0.2.1"))));
    for (millis, address, want) in [
        (60_004, "192.0.2.2", (at(5), from("192.0.2.1"))),
        (60_005, "::1", (at(60_005), from("::1"))),
        (0, "192.0.2.3", (at(60_005), from("::1"))),
    ] {
        world.change(AccessTokenChange::Use(vec![used(&known, millis, address)]), millis);
        assert_eq!(last(&known), Some(want), "{millis}");
    }
    assert_eq!(world.find(&unknown), None);
    let expired = IssuedPat { expires_at: at(9), ..pat("old and seen", "use", "a", 0) };
    let uses = vec![used(&unknown, 9, "192.0.2.1"), used(&expired, 9, "192.0.2.1")];
    world.change(AccessTokenChange::Use(uses), 9);
    let seen = world.find(&unknown).unwrap();
    assert_eq!((seen.name, seen.state, world.find(&expired)), (None, Active, None));
}

#[test]
fn a_registry_in_memory_behaves_like_all_registries() {
    test_common_behaviour(|world| {
        world.unwrap_or_else(|| {
            let index = Arc::new(RevocationIndex::default());
            let tokens = Arc::new(MemoryAccessTokens::new(index.clone()));
            World { tokens, revocations: index }
        })
    });
}
