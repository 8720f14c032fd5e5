//! How much has to happen for a verdict to mean something.

use serde::{Deserialize, Serialize};

use crate::report::Counts;

/// The least of what has to happen. A history in which less happened proves nothing, and is
/// invalid however well it went. Everything is 0 unless it is said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Floors {
    /// Messages whose commit was answered with success.
    pub acknowledged: u64,
    /// In hundredths, the share of faults that met something on its way.
    pub faults_that_hit: u64,
    /// How often a lease went to another owner, in one minute.
    pub failovers_per_minute: u64,
    /// Arrivals after the first of a message at a consumer.
    pub duplicates: u64,
}

/// Something of which too little happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Of what, in words.
    pub what: String,
    /// How much there was.
    pub found: u64,
    /// How much there had to be.
    pub floor: u64,
}

impl Floors {
    /// What there was too little of.
    pub(crate) fn shortfalls(&self, counts: &Counts) -> Vec<Shortfall> {
        let hit = (counts.faults_that_hit * 100).checked_div(counts.faults).unwrap_or(0);
        // Whole minutes would make a run of half a minute look better than it is.
        let per_minute = counts.failovers.saturating_mul(60_000_000_000);
        let failovers = per_minute.checked_div(counts.nanoseconds).unwrap_or(0);
        let found = [
            ("messages acknowledged", counts.acknowledged, self.acknowledged),
            ("percent of the faults met something on its way", hit, self.faults_that_hit),
            ("failovers a minute", failovers, self.failovers_per_minute),
            ("repeated arrivals", counts.repeated, self.duplicates),
        ];
        let short = found.into_iter().filter(|(_, found, floor)| found < floor);
        short
            .map(|(what, found, floor)| Shortfall { what: what.to_owned(), found, floor })
            .collect()
    }
}
