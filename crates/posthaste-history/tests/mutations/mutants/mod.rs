//! The violations that are planted, by what they are about.

mod beside;
mod content;
mod delivery;
mod relaying;

use posthaste_history::{History, Invariant};

/// A violation to plant, and the invariant that must find it.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) invariant: Invariant,
    pub(crate) plant: fn(&mut History),
}

const fn mutant(name: &'static str, invariant: Invariant, plant: fn(&mut History)) -> Mutant {
    Mutant { name, invariant, plant }
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Mutant> {
    [content::MUTANTS, delivery::MUTANTS, relaying::MUTANTS, beside::MUTANTS].into_iter().flatten()
}
