//! A database with concurrent writers: numbers are drawn when a row is stated, rows are visible
//! once their transaction commits, and a snapshot is what PostgreSQL makes of it.

use std::collections::BTreeMap;

use posthaste_core::frontier::Snapshot;

pub(crate) const SESSIONS: usize = 5;

/// What a writer, or the ground it stands on, does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Takes a transaction id, without a row of ours.
    Touch(usize),
    /// States a row of this key.
    State(usize, u8),
    Commit(usize),
    Rollback(usize),
    /// Open transactions are gone; numbers and ids that left no trace are given out again.
    Crash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) xid: u64,
    pub(crate) key: u8,
    pub(crate) stated_at: u64,
    pub(crate) visible_at: u64,
}

#[derive(Default)]
struct Session {
    xid: Option<u64>,
    rows: Vec<Stored>,
    numbers: Vec<u64>,
}

pub(crate) struct Database {
    clock: u64,
    next_xid: u64,
    latest_ended: u64,
    sequence: u64,
    cache: u64,
    one_writer: bool,
    sessions: [Session; SESSIONS],
    table: BTreeMap<u64, Stored>,
}

impl Database {
    /// A database whose sequence hands out `cache` numbers at a time to each session.
    pub(crate) fn new(cache: u64, one_writer: bool) -> Self {
        Self {
            clock: 0,
            next_xid: 3,
            latest_ended: 2,
            sequence: 0,
            cache,
            one_writer,
            sessions: Default::default(),
            table: BTreeMap::new(),
        }
    }

    /// The committed rows.
    pub(crate) const fn table(&self) -> &BTreeMap<u64, Stored> {
        &self.table
    }

    pub(crate) fn running(&self) -> usize {
        self.sessions.iter().filter(|session| session.xid.is_some()).count()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        if self.one_writer {
            return Snapshot::BEGINNING;
        }
        let xmax = self.latest_ended + 1;
        let running = self.sessions.iter().filter_map(|session| session.xid);
        let mut in_progress: Vec<u64> = running.filter(|xid| *xid < xmax).collect();
        in_progress.sort_unstable();
        let xmin = in_progress.first().copied().unwrap_or(xmax);
        Snapshot::new(xmin, xmax, in_progress).expect("a model of PostgreSQL")
    }

    pub(crate) fn act(&mut self, act: &Act) {
        self.clock += 1;
        match *act {
            Act::Touch(session) => {
                self.transaction(session);
            }
            Act::State(session, key) => self.state(session, key),
            Act::Commit(session) => {
                let rows = self.end(session);
                for row in rows {
                    self.table.insert(row.seq, Stored { visible_at: self.clock, ..row });
                }
            }
            Act::Rollback(session) => {
                self.end(session);
            }
            Act::Crash => self.crash(),
        }
    }

    /// The id of the session's transaction. With one writer it may run only if nobody else does.
    fn transaction(&mut self, session: usize) -> Option<u64> {
        if self.sessions[session].xid.is_none() {
            if self.one_writer && self.running() > 0 {
                return None;
            }
            self.sessions[session].xid = Some(self.next_xid);
            self.next_xid += 1;
        }
        self.sessions[session].xid
    }

    fn state(&mut self, session: usize, key: u8) {
        let Some(xid) = self.transaction(session) else { return };
        if self.sessions[session].numbers.is_empty() {
            let block = self.sequence + 1..=self.sequence + self.cache;
            self.sequence += self.cache;
            self.sessions[session].numbers = block.rev().collect();
        }
        let xid = if self.one_writer { 0 } else { xid };
        let stated_at = self.clock;
        let session = &mut self.sessions[session];
        let seq = session.numbers.pop().expect("a block was drawn");
        session.rows.push(Stored { seq, xid, key, stated_at, visible_at: u64::MAX });
    }

    fn end(&mut self, session: usize) -> Vec<Stored> {
        let session = &mut self.sessions[session];
        if let Some(xid) = session.xid.take() {
            self.latest_ended = self.latest_ended.max(xid);
        }
        std::mem::take(&mut session.rows)
    }

    fn crash(&mut self) {
        self.sessions = Default::default();
        let traces = self.table.values().map(|row| row.xid);
        self.latest_ended = traces.max().unwrap_or(2).max(2);
        self.next_xid = self.latest_ended + 1;
        self.sequence = self.table.keys().next_back().copied().unwrap_or(0);
    }
}
