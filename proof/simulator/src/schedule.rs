//! What is to happen, in the order of time; what falls on one moment happens in the order in which
//! it was planned.

use std::collections::BTreeMap;

use posthaste_core::Moment;

/// Things by the moment at which they happen.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    things: BTreeMap<(Moment, u64), T>,
    planned: u64,
}

impl<T> Schedule<T> {
    pub(crate) fn new() -> Self {
        Self { things: BTreeMap::new(), planned: 0 }
    }

    pub(crate) fn plan(&mut self, at: Moment, thing: T) {
        self.planned += 1;
        self.things.insert((at, self.planned), thing);
    }

    /// The next thing, and when it happens.
    pub(crate) fn next(&mut self) -> Option<(Moment, T)> {
        self.things.pop_first().map(|((at, _), thing)| (at, thing))
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.things.first_key_value().map(|((at, _), _)| *at)
    }
}
