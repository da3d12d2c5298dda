//! Chooses an instance.
//!
//! - By load: two healthy instances are picked at random. The instance with fewer requests in flight is chosen ("power
//!   of two choices"). So a slow instance gets fewer requests than the other instances. Because of the random numbers,
//!   the threads do not all choose the same instance at the same time.
//! - By user: rendezvous hashing. Each healthy instance gets a number, which is a hash of the user, the service and the
//!   id of the instance. The instance with the highest number is chosen. If an instance fails, only its users move.
//!
//! If no instance is healthy, all instances are used as if they were healthy. An ejected instance also gets single
//! requests as probes ([`InstanceState::begin_probe`]).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tokio::time::Instant;

use super::state::InstanceState;

/// Chooses one of `states` by load. `except` is an instance that has just failed. If there is another instance,
/// `except` is not chosen. `random` returns a random number below its argument.
pub(super) fn by_load<S: AsRef<InstanceState>>(
    states: &[S],
    except: Option<usize>,
    mut random: impl FnMut(usize) -> usize,
) -> usize {
    let count = states.len();
    if count < 2 {
        return 0;
    }
    let first = random(count);
    let second = (first + 1 + random(count - 1)) % count;
    let pair = [first, second];
    if except.is_none() && pair.iter().all(|at| states[*at].as_ref().is_healthy()) {
        return least_loaded(states, pair);
    }
    by_load_of_healthy(states, except, random)
}

fn least_loaded<S: AsRef<InstanceState>>(states: &[S], [first, second]: [usize; 2]) -> usize {
    let load = |at: usize| states[at].as_ref().in_flight();
    if load(second) < load(first) { second } else { first }
}

#[cold]
fn by_load_of_healthy<S: AsRef<InstanceState>>(
    states: &[S],
    except: Option<usize>,
    mut random: impl FnMut(usize) -> usize,
) -> usize {
    let others = || (0..states.len()).filter(|at| Some(*at) != except);
    // A second attempt of a request is not used as a probe.
    if except.is_none() {
        let now = Instant::now();
        let mut ejected = others().filter(|at| !states[*at].as_ref().is_healthy());
        if let Some(probed) = ejected.find(|at| states[*at].as_ref().begin_probe(now)) {
            return probed;
        }
    }
    let mut candidates: Vec<_> = others().filter(|at| states[*at].as_ref().is_healthy()).collect();
    if candidates.is_empty() {
        candidates = others().collect();
    }
    match candidates.len() {
        0 => except.unwrap_or_default(),
        1 => candidates[0],
        count => {
            let first = random(count);
            let second = (first + 1 + random(count - 1)) % count;
            least_loaded(states, [candidates[first], candidates[second]])
        }
    }
}

/// Chooses one of `instances` by user. Each item contains the id and the state of an instance. `except` has the same
/// meaning as in [`by_load`].
pub(super) fn by_user<'a, S: AsRef<InstanceState> + 'a>(
    instances: impl Iterator<Item = (&'a str, &'a S)> + Clone,
    except: Option<usize>,
    service: &str,
    user: &str,
) -> usize {
    let others = instances.enumerate().filter(|(at, _)| Some(*at) != except);
    let numbered = others.map(|(at, (id, state))| (rank(user, service, id), at, state.as_ref()));
    let best = |is_candidate: &dyn Fn(&InstanceState) -> bool| {
        let candidates = numbered.clone().filter(|(_, _, state)| is_candidate(state));
        candidates.max_by_key(|(rank, at, _)| (*rank, *at))
    };
    let first = best(&|_| true);
    let Some((_, first, state)) = first else { return except.unwrap_or_default() };
    // Usually, the first instance of the user is healthy. If it is ejected and a probe is due, this request is the
    // probe. But a second attempt of a request, which has a value in `except`, is not used as a probe.
    if state.is_healthy() || except.is_none() && state.begin_probe(Instant::now()) {
        return first;
    }
    best(&|state| state.is_healthy()).map_or(first, |(_, at, _)| at)
}

/// Returns the rank of an instance for a user. The rank must be the same on all nodes and in all versions, so the hash
/// function and its key are fixed. Users cannot choose their ids, so the key need not be secret.
fn rank(user: &str, service: &str, id: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in [user, service, id] {
        hasher.write(part.as_bytes());
        // This byte occurs in no id. So it separates the parts unambiguously.
        hasher.write(&[0]);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use super::*;

    type States = Vec<Arc<InstanceState>>;

    fn states(count: usize) -> States {
        (0..count).map(|_| Arc::default()).collect()
    }

    fn eject(states: &States, at: usize) {
        let now = Instant::now();
        states[at].set_unreachable(now, now);
    }

    fn chosen(states: &States, except: Option<usize>) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(7);
        let chosen = (0..200).map(|_| by_load(states, except, |below| random.usize(..below)));
        let mut chosen: Vec<_> = chosen.collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    #[test]
    fn healthy_instances_are_chosen() {
        let states = states(4);
        assert_eq!(chosen(&states, None), [0, 1, 2, 3]);
        assert_eq!(chosen(&states, Some(2)), [0, 1, 3]);
        eject(&states, 1);
        assert_eq!(chosen(&states, None), [0, 2, 3]);
        assert_eq!(chosen(&states, Some(2)), [0, 3]);
        (0..4).for_each(|at| eject(&states, at));
        assert_eq!(chosen(&states, None), [0, 1, 2, 3], "all are ejected, so all are used");
        let one = self::states(1);
        assert_eq!((chosen(&one, None), chosen(&one, Some(0))), (vec![0], vec![0]));
        eject(&one, 0);
        assert_eq!(chosen(&one, None), [0]);
    }

    #[test]
    fn of_two_instances_the_one_with_fewer_requests_is_chosen() {
        let states = states(2);
        let _requests = [states[0].begin(), states[0].begin(), states[1].begin()];
        assert_eq!(chosen(&states, None), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_gets_a_probe_when_its_ejection_is_over() {
        let states = states(2);
        eject(&states, 0);
        assert_eq!(chosen(&states, None), [1]);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(by_load(&states, Some(1), |_| 0), 0, "the other instance is not healthy either");
        let requests: Vec<_> = (0..3).map(|_| by_load(&states, None, |_| 0)).collect();
        assert_eq!(requests, [0, 1, 1]);
    }

    const IDS: [&str; 3] = ["a:svc:1", "b:svc:1", "c:svc:1"];

    fn of_users(states: &States, except: Option<usize>) -> HashMap<String, usize> {
        let users = (0..300).map(|number| format!("USER{number}"));
        let instances = IDS.into_iter().zip(states);
        users
            .map(|user| {
                let at = by_user(instances.clone(), except, "svc", &user);
                (user, at)
            })
            .collect()
    }

    #[test]
    fn only_the_users_of_a_lost_instance_move_to_another_instance() {
        let states = states(3);
        let before = of_users(&states, None);
        for at in 0..3 {
            let users = before.values().filter(|it| **it == at).count();
            assert!((50..150).contains(&users), "{users} of 300 users at instance {at}");
        }
        eject(&states, 1);
        let after = of_users(&states, None);
        for (user, at) in &before {
            match at {
                1 => assert_ne!(after[user], 1),
                at => assert_eq!(after[user], *at),
            }
        }
        // A second attempt goes to the same instance that the user gets while the first instance is ejected.
        let users_of_1 = before.iter().filter(|(_, at)| **at == 1).map(|(user, _)| user);
        let second = of_users(&self::states(3), Some(1));
        users_of_1.for_each(|user| assert_eq!(after[user], second[user]));
        (0..3).for_each(|at| eject(&states, at));
        assert_eq!(of_users(&states, None), before, "all are ejected, so all are used");
    }

    /// If this test fails, an update of the gateway moves users to other instances.
    #[test]
    fn the_instance_of_a_user_is_the_same_in_all_versions() {
        let states = states(3);
        let at = ["USER", "IBMUSER", "ALICE", "BOB"]
            .map(|user| by_user(IDS.into_iter().zip(&states), None, "svc", user));
        assert_eq!(at, [0, 2, 1, 0]);
    }
}
