//! A database with concurrent writers: numbers are drawn when a row is stated, rows are visible
//! once their transaction commits, and a snapshot is what PostgreSQL makes of it.

use std::collections::BTreeMap;

use posthaste_core::frontier::Snapshot;

pub(crate) const SESSIONS: usize = 5;
pub(crate) const KEYS: u8 = 3;

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
    /// In which cluster it was stated: a copy keeps the ids of the one that it was copied from.
    cluster: u32,
}

impl Stored {
    /// Of n lanes it belongs to this one modulo n; with two, three and four lanes, some keys share
    /// a lane and others move.
    pub(crate) fn hash(&self) -> u64 {
        [5, 6, 11][usize::from(self.key)]
    }
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
    cluster: u32,
    /// The last transaction id of the cluster before it was handed to us.
    foreign: u64,
    sequence: u64,
    /// Up to where an adopter has raised the sequence for good.
    raised: u64,
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
            cluster: 0,
            foreign: 2,
            sequence: 0,
            raised: 0,
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
        let cluster = self.cluster;
        session.rows.push(Stored { seq, xid, key, stated_at, visible_at: u64::MAX, cluster });
    }

    fn end(&mut self, session: usize) -> Vec<Stored> {
        let session = &mut self.sessions[session];
        if let Some(xid) = session.xid.take() {
            self.latest_ended = self.latest_ended.max(xid);
        }
        std::mem::take(&mut session.rows)
    }

    fn crash(&mut self) {
        let here = self.table.values().filter(|row| row.cluster == self.cluster);
        let latest = here.map(|row| row.xid).max().unwrap_or(self.foreign);
        self.begin_again(latest.max(self.foreign));
    }

    /// Dumped and restored into a cluster whose last transaction id was `latest`.
    pub(crate) fn restore(&mut self, latest: u64) {
        self.cluster += 1;
        self.foreign = latest;
        self.begin_again(latest);
    }

    fn begin_again(&mut self, latest: u64) {
        self.sessions = Default::default();
        self.latest_ended = latest;
        self.next_xid = latest + 1;
        let highest = self.table.keys().next_back().copied().unwrap_or(0);
        self.sequence = highest.max(self.raised);
    }

    /// Holds writers off as a lock on the table does: those that have stated rows come to their
    /// end first, the others go on later. Returns the floor.
    pub(crate) fn hold_writers(&mut self) -> u64 {
        for session in 0..SESSIONS {
            if !self.sessions[session].rows.is_empty() {
                self.act(&Act::Commit(session));
            }
        }
        self.raised = self.sequence;
        self.sequence
    }
}
