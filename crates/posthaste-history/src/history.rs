//! The evidence: what was seen, in order.

use std::collections::BTreeMap;

use crate::event::{Event, Line};

/// Everything that is known of one run, as events in the order in which they happened.
///
/// The order of lines is what counts, not their moments: whoever merges several files does it by
/// the moments, which [`read`](crate::read) does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    lines: Vec<Line>,
    pub(crate) unknown: BTreeMap<String, u64>,
    pub(crate) torn: u64,
}

impl History {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was seen next.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Adds what was seen next.
    pub fn note(&mut self, at: u64, node: &str, event: impl Into<Event>) {
        self.push(Line::new(at, node, event));
    }

    /// What was seen, in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What was seen, to be changed.
    pub fn lines_mut(&mut self) -> &mut Vec<Line> {
        &mut self.lines
    }

    /// Events that this version does not know, by name, with their number: nothing was judged by
    /// them.
    pub fn unknown(&self) -> &BTreeMap<String, u64> {
        &self.unknown
    }

    /// Lines that killed processes have left unfinished.
    pub fn torn(&self) -> u64 {
        self.torn
    }
}

impl Extend<Line> for History {
    fn extend<I: IntoIterator<Item = Line>>(&mut self, lines: I) {
        self.lines.extend(lines);
    }
}

impl FromIterator<Line> for History {
    fn from_iter<I: IntoIterator<Item = Line>>(lines: I) -> Self {
        Self { lines: lines.into_iter().collect(), ..Self::default() }
    }
}
