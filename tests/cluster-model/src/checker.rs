//! Explores the states of a model by a breadth-first search.
//!
//! The crate `stateright` also does this, but it has two disadvantages. Its web server cannot be switched off. It would
//! add 13 crates, and some of them have had no release for years.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

/// A model: states, and the steps from each state to the next ones.
pub trait Model {
    /// A state. The checker treats two states with the same hash as one state. With 100 million states, the probability
    /// that two different states have the same hash is less than 1 in 3,000.
    type State: Clone + Hash;
    /// A step from one state to another.
    type Step: Copy + Debug;

    /// Returns the first state.
    fn first(&self) -> Self::State;

    /// Adds the steps that are possible in a state.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Self::Step>);

    /// Returns the state after a step.
    fn after(&self, state: &Self::State, step: Self::Step) -> Self::State;

    /// Returns a description of the problem of a state, if the state has a problem.
    fn problem(&self, state: &Self::State) -> Option<String>;
}

/// The result of a search.
#[derive(Debug)]
pub enum Outcome {
    /// The search has explored all states, and none has a problem.
    Correct {
        /// The number of states.
        states: usize,
        /// The number of steps to the last new state.
        depth: usize,
    },
    /// A sequence of steps leads to a problem. No shorter sequence does.
    Problem {
        /// The text of [`Model::problem`].
        problem: String,
        /// The steps from the first state to the problem.
        steps: Vec<String>,
    },
    /// The search has found more states than the maximum.
    TooManyStates {
        /// All states that can be reached within this number of steps were explored.
        depth: usize,
    },
}

type Hashes<S> = HashMap<u64, Option<(u64, S)>, BuildHasherDefault<AlreadyHashed>>;

/// Explores the states of a model by their distance from the first state. Stops after the first distance at which it
/// has found more than `max_states` states.
pub fn check<M: Model>(model: &M, max_states: usize) -> Outcome {
    let first = model.first();
    // For each state: the state before it, and the step from that state to this one.
    let mut seen: Hashes<M::Step> = HashMap::default();
    seen.insert(hash(&first), None);
    let (mut level, mut steps, mut depth) = (vec![first], Vec::new(), 0);
    while !level.is_empty() {
        let mut next = Vec::new();
        for state in &level {
            let from = hash(state);
            steps.clear();
            model.steps(state, &mut steps);
            for step in &steps {
                let state = model.after(state, *step);
                let to = hash(&state);
                if seen.contains_key(&to) {
                    continue;
                }
                seen.insert(to, Some((from, *step)));
                if let Some(problem) = model.problem(&state) {
                    return Outcome::Problem { problem, steps: path(&seen, to) };
                }
                next.push(state);
            }
        }
        if seen.len() > max_states {
            return Outcome::TooManyStates { depth };
        }
        depth += usize::from(!next.is_empty());
        level = next;
    }
    Outcome::Correct { states: seen.len(), depth }
}

fn path<S: Copy + Debug>(seen: &Hashes<S>, end: u64) -> Vec<String> {
    let (mut steps, mut at) = (Vec::new(), end);
    while let Some(Some((before, step))) = seen.get(&at) {
        steps.push(format!("{step:?}"));
        at = *before;
    }
    steps.reverse();
    steps
}

fn hash(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A hasher for values that are already hashes. It returns the value itself.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
