//! Counters with labels.

use std::{fmt, marker::PhantomData};

use super::{description::LabelName, value::Counter};

/// A label: its name and the fixed set of its values. Implement this trait for an enum.
pub trait Label: Copy + Send + Sync + 'static {
    /// The name of the label.
    const NAME: LabelName;

    /// All values.
    const ALL: &'static [Self];

    /// Returns the position of this value in [`ALL`](Self::ALL).
    fn index(self) -> usize;

    /// Returns the text of this value.
    fn value(self) -> &'static str;
}

/// A combination of label values: a tuple of one or two [`Label`]s.
pub trait LabelSet: Copy + Send + Sync + 'static {
    /// The number of combinations.
    const COUNT: usize;

    /// Returns the index of this combination. It is less than [`COUNT`](Self::COUNT).
    fn index(self) -> usize;

    /// Returns all combinations, in the order of [`index`](Self::index).
    fn all() -> impl Iterator<Item = Self>;

    /// Returns the names and values of the labels.
    fn pairs(self) -> impl Iterator<Item = (LabelName, &'static str)>;
}

impl<A: Label> LabelSet for (A,) {
    const COUNT: usize = A::ALL.len();

    fn index(self) -> usize {
        self.0.index()
    }

    fn all() -> impl Iterator<Item = Self> {
        A::ALL.iter().map(|a| (*a,))
    }

    fn pairs(self) -> impl Iterator<Item = (LabelName, &'static str)> {
        [(A::NAME, self.0.value())].into_iter()
    }
}

impl<A: Label, B: Label> LabelSet for (A, B) {
    const COUNT: usize = A::ALL.len() * B::ALL.len();

    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn all() -> impl Iterator<Item = Self> {
        A::ALL.iter().flat_map(|a| B::ALL.iter().map(|b| (*a, *b)))
    }

    fn pairs(self) -> impl Iterator<Item = (LabelName, &'static str)> {
        [(A::NAME, self.0.value()), (B::NAME, self.1.value())].into_iter()
    }
}

/// A group of counters: one for each combination of labels. All counters exist from the start, with the value 0.
pub struct CounterFamily<L> {
    counters: Box<[Counter]>,
    labels: PhantomData<fn(L)>,
}

impl<L: LabelSet> CounterFamily<L> {
    /// Adds 1 to the counter of this combination.
    pub fn increment(&self, labels: L) {
        let counter = self.counters.get(labels.index());
        debug_assert!(counter.is_some(), "`Label::index` is not the position in `Label::ALL`");
        if let Some(counter) = counter {
            counter.increment();
        }
    }

    /// Returns the counter value for this combination.
    pub fn get(&self, labels: L) -> u64 {
        self.counters.get(labels.index()).map_or(0, Counter::get)
    }

    /// Returns all combinations with their counter values.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::all().map(|labels| (labels, self.get(labels)))
    }
}

impl<L: LabelSet> Default for CounterFamily<L> {
    fn default() -> Self {
        let counters = (0..L::COUNT).map(|_| Counter::new()).collect();
        Self { counters, labels: PhantomData }
    }
}

impl<L> fmt::Debug for CounterFamily<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterFamily").field("series", &self.counters.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Two {
        A,
        B,
    }

    impl Label for Two {
        const NAME: LabelName = LabelName::new("two");
        const ALL: &'static [Self] = &[Self::A, Self::B];

        fn index(self) -> usize {
            self as usize
        }

        fn value(self) -> &'static str {
            match self {
                Self::A => "a",
                Self::B => "b",
            }
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Digit(usize);

    impl Label for Digit {
        const NAME: LabelName = LabelName::new("digit");
        const ALL: &'static [Self] = &[Self(0), Self(1), Self(2)];

        fn index(self) -> usize {
            self.0
        }

        fn value(self) -> &'static str {
            ["0", "1", "2"][self.0]
        }
    }

    #[test]
    fn each_combination_has_its_own_counter() {
        let family = CounterFamily::<(Two, Digit)>::default();
        for (number, labels) in <(Two, Digit)>::all().enumerate() {
            assert_eq!(labels.index(), number, "{labels:?}");
            (0..=number).for_each(|_| family.increment(labels));
        }
        let values: Vec<_> = family.iter().map(|(_, value)| value).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 6]);
        assert_eq!(family.get((Two::B, Digit(1))), 5);
        let pairs: Vec<_> = (Two::B, Digit(1)).pairs().map(|(n, v)| (n.as_str(), v)).collect();
        assert_eq!(pairs, [("two", "b"), ("digit", "1")]);
    }
}
