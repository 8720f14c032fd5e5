//! What the upkeep knows from one call to the next, so that each call can be short.
//!
//! It is only in memory: where it is lost, as at a new start, the work of a few calls is done again.

use std::collections::{HashMap, HashSet};

use posthaste_core::StoreError;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

/// The memory, which one call at a time may have.
#[derive(Debug, Default)]
pub(crate) struct Pruning(Mutex<Memory>);

impl Pruning {
    /// Nothing while another call has it.
    pub(crate) fn begin(&self) -> Option<MutexGuard<'_, Memory>> {
        self.0.try_lock().ok()
    }
}

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The row behind which the next call looks for old ones.
    pub(crate) after: i64,
    /// What is known of full partitions, by their names.
    pub(crate) examined: HashMap<String, Examined>,
    /// The bound that the last partition is given.
    pub(crate) proof: Option<Proof>,
    /// What was refused in earlier calls, and whether something was in this one.
    told: HashSet<String>,
    refused: bool,
}

impl Memory {
    /// Says once that a part of the work was refused.
    pub(crate) fn tell(&mut self, refused: &StoreError) {
        self.refused = true;
        let told = refused.to_string();
        if !self.told.contains(&told) {
            tracing::warn!(error = %told, "a part of the clearing up of the outbox was refused");
            self.told.insert(told);
        }
    }

    /// At the end of a call: once one had nothing refused, everything is told anew.
    pub(crate) fn end(&mut self) {
        if !std::mem::take(&mut self.refused) {
            self.told.clear();
        }
    }
}

/// A partition, looked through up to some row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Examined {
    /// The row up to which; nothing once all were looked at.
    pub(crate) after: Option<i64>,
    pub(crate) rows: u64,
    /// When the youngest of them was stated, in microseconds since 1970.
    pub(crate) youngest: i64,
}

/// A constraint under which the last partition can be given an end without a look at its rows.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Where the partition begins.
    pub(crate) from: Option<i64>,
    pub(crate) bound: i64,
    /// The look at its rows; nothing once it was finished and all of them are below the bound.
    pub(crate) task: Option<JoinHandle<Result<(), sqlx::Error>>>,
}
