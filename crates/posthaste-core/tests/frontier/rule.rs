//! How a rule is driven: the rule of the core, and whatever else claims to read exactly.

use std::fmt::Debug;

use posthaste_core::frontier::{BadInheritance, Frontier, Row};
use posthaste_core::outbox::ReadLimit;

use crate::model::{Act, Database, Stored};

/// What one reading gave.
pub(crate) struct Reading<S> {
    /// The numbers of its rows, in the order in which they are sent.
    pub(crate) rows: Vec<u64>,
    pub(crate) next: S,
    pub(crate) more: bool,
}

/// What a printed state is, and says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Token {
    pub(crate) length: usize,
    /// Late rows were cut.
    pub(crate) catching_up: bool,
    pub(crate) adopting: bool,
    pub(crate) inheriting: bool,
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

    /// Whether the state says that a committed row of its lane was sent, if it can say so at all.
    fn has_sent(_state: &Self::State, _row: &Stored) -> Option<bool> {
        None
    }

    fn token(_state: &Self::State) -> Token {
        Token::default()
    }

    /// Goes on in another cluster; of no meaning to a rule that stays where it is.
    fn adopt(state: Self::State, _floor: u64) -> Self::State {
        state
    }

    /// Where each of `lanes` new lanes begins; `None` if the old ones cannot be divided now.
    fn inherit(_old: &[Self::State], _lanes: usize) -> Option<Self::State> {
        None
    }
}

/// Rows of different sizes, so that now and then the bytes cut a reading and not the count.
fn size(row: &Stored) -> Row<()> {
    let bytes = usize::try_from(row.seq % 4).expect("a small number");
    Row { seq: row.seq, xid: row.xid, hash: row.hash(), bytes, body: () }
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

    fn has_sent(state: &Frontier, row: &Stored) -> Option<bool> {
        Some(state.has_sent(row.seq, row.xid, row.hash()))
    }

    fn token(state: &Frontier) -> Token {
        Token {
            length: state.checkpoint().as_str().len(),
            catching_up: state.catching_up().is_some(),
            adopting: state.adopting().is_some(),
            inheriting: state.inheriting(),
        }
    }

    fn adopt(state: Frontier, floor: u64) -> Frontier {
        state.adopt(floor)
    }

    fn inherit(old: &[Frontier], _lanes: usize) -> Option<Frontier> {
        match Frontier::inherit(old) {
            Ok(begun) => Some(begun),
            Err(BadInheritance::StillInheriting { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }
}
