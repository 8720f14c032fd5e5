//! How a rule is driven: the rule of the core, and whatever else claims to read exactly.

use std::fmt::Debug;

use posthaste_core::frontier::{Frontier, Row};
use posthaste_core::outbox::ReadLimit;

use crate::model::{Act, Database, Stored};

/// What one reading gave.
pub(crate) struct Reading<S> {
    /// The numbers of its rows, in the order in which they are sent.
    pub(crate) rows: Vec<u64>,
    pub(crate) next: S,
    pub(crate) more: bool,
}

pub(crate) trait Rule {
    type State: Clone + Debug + PartialEq;

    fn start() -> Self::State;

    /// One reading; a rule with two statements runs `meanwhile` between them.
    fn read(
        from: &Self::State,
        database: &mut Database,
        limit: usize,
        meanwhile: &[Act],
    ) -> Reading<Self::State>;

    /// What is left of the state in the store.
    fn stored(state: &Self::State) -> Self::State {
        state.clone()
    }

    /// The highest number that was read.
    fn frontier(state: &Self::State) -> u64;

    /// Whether the state says that a committed row was sent, if it can say so at all.
    fn has_sent(_state: &Self::State, _seq: u64, _xid: u64) -> Option<bool> {
        None
    }

    /// Length of the printed state, and whether it says that late rows were cut.
    fn token(_state: &Self::State) -> (usize, bool) {
        (0, false)
    }
}

/// Rows of different sizes, so that now and then the bytes cut a reading and not the count.
fn size(row: &Stored) -> Row<()> {
    let bytes = usize::try_from(row.seq % 4).expect("a small number");
    Row { seq: row.seq, xid: row.xid, hash: 0, bytes, body: () }
}

/// The rule of the core.
pub(crate) struct Exact;

impl Rule for Exact {
    type State = Frontier;

    fn start() -> Frontier {
        Frontier::start()
    }

    fn read(
        from: &Frontier,
        database: &mut Database,
        limit: usize,
        _meanwhile: &[Act],
    ) -> Reading<Frontier> {
        let snapshot = database.snapshot();
        let plan = from.plan();
        let visible = database.table().values();
        let wanted = visible.filter(|row| plan.wants(row.seq, row.xid)).take(limit);
        let rows = wanted.map(size);
        let limit = ReadLimit { messages: limit, bytes: 2 * limit };
        let step = from.advance(&snapshot, rows.collect(), limit).expect("read as planned");
        Reading {
            rows: step.rows.iter().map(|row| row.seq).collect(),
            next: step.next,
            more: step.more,
        }
    }

    fn stored(state: &Frontier) -> Frontier {
        Frontier::parse(&state.checkpoint()).expect("a checkpoint reads back")
    }

    fn frontier(state: &Frontier) -> u64 {
        state.through()
    }

    fn has_sent(state: &Frontier, seq: u64, xid: u64) -> Option<bool> {
        Some(state.has_sent(seq, xid, 0))
    }

    fn token(state: &Frontier) -> (usize, bool) {
        (state.checkpoint().as_str().len(), state.catching_up().is_some())
    }
}
