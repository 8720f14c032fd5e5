//! Reading the outbox past a checkpoint, and what may leave the side table.

use std::time::Duration;

use posthaste_core::frontier::{Frontier, Row as Found, Snapshot, Step};
use posthaste_core::outbox::{Batch, Entry, ReadLimit, Ready};
use posthaste_core::relay::Failure;
use posthaste_core::{Checkpoint, Lane, Position};

use super::lanes::lane_of;
use super::state::{Held, Row, Wait};
use super::{Database, OPEN_ROUTE, Writers};
use crate::sabotage::Sabotage;

/// How often a reading goes on by itself while it finds only rows of other lanes.
const ROUNDS: usize = 16;

/// What stands between a frontier and the life of the server in which it was read.
const MARK: char = '@';

/// The frontier in a checkpoint; `None` if there is none in it.
pub(crate) fn frontier_of(checkpoint: &Checkpoint) -> Option<Frontier> {
    Frontier::parse(&without_life(checkpoint)).ok()
}

/// A checkpoint as it is stored.
pub(crate) fn without_life(checkpoint: &Checkpoint) -> Checkpoint {
    let token = checkpoint.as_str();
    Checkpoint::new(token.split_once(MARK).map_or(token, |(token, _)| token))
}

fn life_of(checkpoint: &Checkpoint) -> Option<u64> {
    checkpoint.as_str().split_once(MARK).and_then(|(_, life)| life.parse().ok())
}

impl Database {
    /// The stored checkpoint of a lane.
    ///
    /// # Errors
    /// [`Failure::Fenced`] if there are not that many lanes.
    pub fn checkpoint(&self, lane: &Lane) -> Result<Checkpoint, Failure> {
        if !self.has(lane) {
            return Err(Failure::Fenced);
        }
        let stored = &self.state.checkpoints[usize::from(lane.index)];
        Ok(if stored.is_start() { stored.clone() } else { self.with_life(stored) })
    }

    /// Whether there is this lane in the present division.
    pub(super) fn has(&self, lane: &Lane) -> bool {
        lane.of == self.state.lanes() && lane.index < lane.of
    }

    fn with_life(&self, checkpoint: &Checkpoint) -> Checkpoint {
        match self.writers {
            Writers::One => checkpoint.clone(),
            Writers::Many => Checkpoint::new(format!("{}{MARK}{}", checkpoint.as_str(), self.life)),
        }
    }

    /// The entries of a lane past a checkpoint.
    ///
    /// # Errors
    /// [`Failure::Fenced`] if there are not that many lanes, or the checkpoint was read in another
    /// life of the server.
    pub fn read(&self, lane: &Lane, from: &Checkpoint, limit: ReadLimit) -> Result<Batch, Failure> {
        self.read_against(lane, from, limit, None)
    }

    /// The same, with late rows as they were seen by an earlier snapshot, if one is given: what
    /// two statements with a snapshot each would find.
    pub(crate) fn read_against(
        &self,
        lane: &Lane,
        from: &Checkpoint,
        limit: ReadLimit,
        earlier: Option<&Snapshot>,
    ) -> Result<Batch, Failure> {
        let ageless = self.is_sabotaged(Sabotage::CursorSurvivesFailover);
        let stale = life_of(from).is_some_and(|life| life != self.life && !ageless);
        if !self.has(lane) || stale {
            return Err(Failure::Fenced);
        }
        let mut frontier = frontier_of(from).ok_or(Failure::Unavailable)?;
        for round in 1.. {
            let step = self.step(lane, &frontier, limit, earlier)?;
            frontier = step.next;
            let mut entries = Vec::with_capacity(step.rows.len());
            for found in &step.rows {
                if lane_of(found.hash, lane.of) == lane.index {
                    entries.push(self.entry(lane.index, found.seq, found.body));
                }
            }
            if !entries.is_empty() || !step.more || round >= ROUNDS {
                let checkpoint = self.with_life(&frontier.checkpoint());
                return Ok(Batch { entries, checkpoint, more: step.more });
            }
        }
        Err(Failure::Unavailable)
    }

    fn step(
        &self,
        lane: &Lane,
        frontier: &Frontier,
        limit: ReadLimit,
        earlier: Option<&Snapshot>,
    ) -> Result<Step<&Row>, Failure> {
        let most = limit.messages.max(1).saturating_mul(usize::from(lane.of));
        let plan = frontier.plan();
        let blind = self.is_sabotaged(Sabotage::CursorByNumber);
        let after = match (&plan.late, &plan.new) {
            (Some(late), _) if !blind => late.after,
            _ => plan.new.map_or(0, |new| new.after),
        };
        let mut rows: Vec<Found<&Row>> = Vec::new();
        let (mut room, mut cut, mut bytes, mut late) = (limit.messages.max(1), false, 0, 0);
        for (&seq, row) in self.state.outbox.range(after + 1..) {
            if !plan.wants(seq, row.xid) {
                continue;
            }
            let is_late = seq <= frontier.through();
            if is_late && earlier.is_some_and(|earlier| !earlier.sees(row.xid)) {
                continue;
            }
            if is_late && late >= most / 2 && self.is_sabotaged(Sabotage::LateLimitOfItsOwn) {
                continue;
            }
            if rows.len() == most {
                break;
            }
            let mine = lane_of(row.hash, lane.of) == lane.index;
            if mine && (room == 0 || (bytes > 0 && bytes >= limit.bytes)) {
                cut = true;
                break;
            }
            late += usize::from(is_late);
            room -= usize::from(mine);
            bytes += if mine { row.message.size() } else { 1 };
            rows.push(Found { seq, xid: row.xid, hash: row.hash, bytes: 1, body: row });
        }
        let most = if cut { rows.len() } else { most };
        let limit = ReadLimit { messages: most, bytes: usize::MAX };
        let step = frontier.advance(&self.snapshot(), rows, limit);
        let mut step = step.map_err(|_| Failure::Unavailable)?;
        if self.is_sabotaged(Sabotage::NewBeforeLate) {
            let late = step.rows.partition_point(|row| row.seq <= frontier.through());
            step.rows.rotate_left(late);
        }
        Ok(step)
    }

    /// Which transactions have ended by now, for a reading that asks twice.
    pub(crate) fn earlier_snapshot(&self) -> Snapshot {
        self.snapshot()
    }

    fn entry(&self, lane: u16, seq: u64, row: &Row) -> Entry {
        let message = &row.message;
        let (topic, key) = (message.topic.as_str(), message.key.as_deref());
        let wait = message.due_at.map(|due| due.since(self.now));
        Entry {
            position: Position::new(seq.to_string()),
            attempts: 0,
            due_in: wait.filter(|wait| *wait > Duration::ZERO),
            blocked: self.state.is_blocked(topic, key),
            unroutable: self.joins_those_set_aside(lane, topic, &message.kind, key),
            body: Ok(message.as_ref().clone()),
        }
    }

    /// Whether a new message joins those of its route that are set aside: all do while it is
    /// closed; while it is worked off, those whose key is among them.
    fn joins_those_set_aside(&self, lane: u16, topic: &str, kind: &str, key: Option<&str>) -> bool {
        let held = self.state.held.values();
        held.filter(|held| held.is_aside(lane, topic, kind)).any(|held| {
            let is_closed = held.ready_at.is_some_and(|at| at > OPEN_ROUTE);
            is_closed || (key.is_some() && held.key.as_deref() == key)
        })
    }

    /// What may leave the side table.
    ///
    /// # Errors
    /// [`Failure::Fenced`] if there are not that many lanes.
    pub fn ready(&self, lane: &Lane, limit: ReadLimit) -> Result<Ready, Failure> {
        if !self.has(lane) {
            return Err(Failure::Fenced);
        }
        let mine = || self.state.held.iter().filter(|(_, held)| held.lane == lane.index);
        let near = mine().filter(|(_, held)| held.is_ready(self.now));
        let candidates: Vec<(u64, &Held)> = near
            .filter(|(seq, held)| self.may_go(**seq, held))
            .map(|(seq, held)| (*seq, held))
            .collect();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (seq, held) in &candidates {
            let full = !entries.is_empty() && bytes >= limit.bytes;
            if entries.len() == limit.messages.max(1) || full {
                break;
            }
            let Some(row) = self.state.outbox.get(seq) else { continue };
            bytes += row.message.size();
            entries.push(self.held_entry(*seq, held, row));
        }
        let later = mine().filter_map(|(_, held)| held.ready_at).filter(|at| *at > self.now);
        let next_in = later.min().map(|at| at.since(self.now));
        Ok(Ready { more: candidates.len() > entries.len(), entries, next_in })
    }

    /// Whether nothing of its line stands before it that is not ready.
    fn may_go(&self, seq: u64, held: &Held) -> bool {
        let Some(key) = held.key.as_deref().filter(|_| held.wait == Wait::Retry) else {
            return held.wait != Wait::Parked;
        };
        let before = self.state.held.range(..seq);
        let mut before = before.filter(|(_, other)| other.is_in_line(&held.topic, key));
        before.all(|(_, other)| other.wait == Wait::Retry && other.is_ready(self.now))
    }

    fn held_entry(&self, seq: u64, held: &Held, row: &Row) -> Entry {
        let on_its_own = matches!(held.wait, Wait::Due | Wait::Unroutable);
        let mut before = self.state.held.range(..seq);
        let joins = before.any(|(_, other)| other.is_aside(held.lane, &held.topic, &held.kind));
        Entry {
            position: Position::new(seq.to_string()),
            attempts: held.attempts,
            due_in: None,
            blocked: on_its_own && self.state.is_blocked(&held.topic, held.key.as_deref()),
            unroutable: held.wait != Wait::Unroutable && joins,
            body: Ok(row.message.as_ref().clone()),
        }
    }
}
