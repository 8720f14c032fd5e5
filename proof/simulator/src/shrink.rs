//! Makes a failing world smaller: fewer messages, fewer faults, fewer processes, as long as the
//! same promise is broken.

use crate::database::Writers;
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::verdict::{Verdict, Wrong};
use crate::world::World;

/// Most worlds that are tried.
const MOST_TRIES: usize = 3000;

/// A smaller scenario that breaks the same promise, and what comes of it, with its notes. `None` if
/// the scenario breaks none.
pub fn shrink(scenario: Scenario, sabotage: Option<Sabotage>) -> Option<(Scenario, Verdict)> {
    let what = World::run(scenario.clone(), sabotage, false).violation?.what;
    let mut shrinking = Shrinking { smallest: scenario, sabotage, what, tries: 0 };
    while shrinking.round() && shrinking.tries < MOST_TRIES {}
    let verdict = World::run(shrinking.smallest.clone(), sabotage, true);
    Some((shrinking.smallest, verdict))
}

struct Shrinking {
    smallest: Scenario,
    sabotage: Option<Sabotage>,
    what: Wrong,
    tries: usize,
}

impl Shrinking {
    /// Tries everything once; whether anything helped.
    fn round(&mut self) -> bool {
        let mut helped = self.cut(|scenario| &mut scenario.incidents);
        helped |= self.cut(|scenario| &mut scenario.transactions);
        for place in 0..self.smallest.transactions.len() {
            helped |= self.cut(move |scenario| &mut scenario.transactions[place].steps);
        }
        for place in 0..self.smallest.rates.each().len() {
            let is_zero = *self.smallest.rates.each()[place].1 == 0;
            helped |= !is_zero && self.attempt(|scenario| *scenario.rates.each()[place].1 = 0);
        }
        helped | self.simplify()
    }

    /// Takes out as long pieces of a list as possible.
    fn cut<T>(&mut self, list: impl Fn(&mut Scenario) -> &mut Vec<T>) -> bool {
        let mut helped = false;
        let mut length = list(&mut self.smallest).len();
        while length > 0 {
            let mut start = 0;
            while start < list(&mut self.smallest).len() {
                let cut = self.attempt(|scenario| {
                    let list = list(scenario);
                    let end = (start + length).min(list.len());
                    list.drain(start..end);
                });
                helped |= cut;
                start += if cut { 0 } else { length };
            }
            length /= 2;
        }
        helped
    }

    fn simplify(&mut self) -> bool {
        let mut helped = false;
        let smallest = &self.smallest;
        let (relays, members, skewed) = (smallest.relays, smallest.members, smallest.skew > 0);
        let (drifts, locks) = (smallest.drift > 0, smallest.personality.lock.is_some());
        let many = smallest.writers == Writers::Many;
        helped |= relays > 1 && self.attempt(|scenario| scenario.relays -= 1);
        helped |= members > 1 && self.attempt(|scenario| scenario.members = 1);
        helped |= skewed && self.attempt(|scenario| scenario.skew = 0);
        helped |= drifts && self.attempt(|scenario| scenario.drift = 0);
        helped |= locks && self.attempt(|scenario| scenario.personality.lock = None);
        helped |= many && self.attempt(|scenario| scenario.writers = Writers::One);
        helped
    }

    /// Keeps a change if the same promise is still broken.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        if self.tries >= MOST_TRIES {
            return false;
        }
        self.tries += 1;
        let mut smaller = self.smallest.clone();
        change(&mut smaller);
        let verdict = World::run(smaller.clone(), self.sabotage, false);
        let same = verdict.violation.is_some_and(|violation| violation.what == self.what);
        if same {
            self.smallest = smaller;
        }
        same
    }
}
