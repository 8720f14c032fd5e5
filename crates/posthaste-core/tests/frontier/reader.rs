//! Runs a history and checks every property on the way.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;

use crate::history::{Event, History, LANES};
use crate::model::{Act, Database, SESSIONS, Stored};
use crate::rule::{Reading, Rule};

const AHEAD: usize = 3;
/// Two snapshots of every session, each id and each bound with at most eight digits here.
const LONGEST_REACH: usize = 3 * 9 + 2 * (2 + SESSIONS) * 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// At rest, a committed row is not sent.
    Lost,
    /// A row is sent that is not committed.
    Phantom,
    /// A row is sent again although nobody died since, or although it is settled.
    Copy,
    /// A row overtakes one of its key that was visible before it was stated.
    OutOfOrder,
    FrontierFell,
    /// What is stored differs from what is known, or from what was sent.
    Forgetful,
    /// The printed state is longer than the running transactions account for.
    TooLong,
    /// Reading never comes to rest.
    Endless,
}

#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) kind: Violation,
    /// Read by people, in the output of a failed test.
    #[expect(dead_code, reason = "shown by Debug")]
    pub(crate) detail: String,
}

/// How often a history came to a difficult place.
#[derive(Default)]
pub(crate) struct Markers {
    late: usize,
    cut: usize,
    died_catching_up: usize,
    died_with_sent: usize,
    overlapped: usize,
    reused: usize,
    moves: Moves,
}

#[derive(Default)]
struct Moves {
    late_adopting: usize,
    adopted_catching_up: usize,
    adopted_adopting: usize,
    adopted_inheriting: usize,
    died_adopting: usize,
    died_inheriting: usize,
    divided_catching_up: usize,
    divided_adopting: usize,
    divided_half_adopted: usize,
    inherited: usize,
    refused: usize,
}

impl Markers {
    pub(crate) const fn all(&self) -> [(&'static str, usize); 6] {
        [
            ("a late row", self.late),
            ("late rows cut by the limit", self.cut),
            ("a death while catching up", self.died_catching_up),
            ("a death with rows sent and not settled", self.died_with_sent),
            ("a reading ahead of what is settled", self.overlapped),
            ("a crash of the database with open transactions", self.reused),
        ]
    }

    pub(crate) const fn moves(&self) -> [(&'static str, usize); 11] {
        let moves = &self.moves;
        [
            ("a late row read while adopting", moves.late_adopting),
            ("an adoption while catching up", moves.adopted_catching_up),
            ("an adoption while adopting", moves.adopted_adopting),
            ("an adoption while inheriting", moves.adopted_inheriting),
            ("a death while adopting", moves.died_adopting),
            ("a death while inheriting", moves.died_inheriting),
            ("a division while catching up", moves.divided_catching_up),
            ("a division while adopting", moves.divided_adopting),
            ("a division where some have adopted and some not", moves.divided_half_adopted),
            ("a division of lanes that differ", moves.inherited),
            ("a division that has to wait", moves.refused),
        ]
    }
}

/// The reader of one lane, alive or dead.
struct Lane<S> {
    ahead: S,
    stored: S,
    flying: VecDeque<(VecDeque<u64>, Vec<u64>, S)>,
}

impl<S: Clone> Lane<S> {
    fn begin(stored: S) -> Self {
        Self { ahead: stored.clone(), stored, flying: VecDeque::new() }
    }
}

struct Reader<'a, R: Rule> {
    database: Database,
    ordered: bool,
    /// Nobody reads a copy that is not adopted.
    adopted: bool,
    lanes: Vec<Lane<R::State>>,
    sent: BTreeSet<u64>,
    sent_in_this_life: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    /// Whether readings may leave rows out.
    moved: bool,
    markers: &'a mut Markers,
}

/// Runs a history to its end and then to rest.
pub(crate) fn run<R: Rule>(history: &History, markers: &mut Markers) -> Result<(), Broken> {
    let mut reader = Reader::<R> {
        database: Database::new(history.cache, history.one_writer),
        ordered: history.cache == 1,
        adopted: true,
        lanes: vec![Lane::begin(R::start())],
        sent: BTreeSet::new(),
        sent_in_this_life: BTreeSet::new(),
        settled: BTreeSet::new(),
        moved: false,
        markers,
    };
    for event in &history.events {
        reader.happen(event)?;
    }
    reader.rest(history.events.len())
}

fn broken(kind: Violation, detail: impl Debug) -> Result<(), Broken> {
    Err(Broken { kind, detail: format!("{detail:?}") })
}

impl<R: Rule> Reader<'_, R> {
    fn happen(&mut self, event: &Event) -> Result<(), Broken> {
        let which = |lane: usize| lane % self.lanes.len();
        match event {
            Event::Act(act) => {
                if matches!(act, Act::Crash) && self.database.running() > 0 {
                    self.markers.reused += 1;
                }
                self.database.act(act);
                Ok(())
            }
            Event::Read { lane, limit, meanwhile, keep } => {
                self.read(which(*lane), *limit, meanwhile, *keep)
            }
            Event::Send(lane, count) => self.send(which(*lane), *count),
            Event::Settle(lane) => self.settle(which(*lane)),
            Event::Die(lane) => {
                self.die(which(*lane));
                Ok(())
            }
            Event::Divide(lanes) => self.divide(*lanes),
            Event::Restore { latest, meanwhile, adopted } => {
                self.die_all();
                self.database.restore(*latest);
                self.adopted = false;
                meanwhile.iter().for_each(|act| self.database.act(act));
                if *adopted { self.adopt() } else { Ok(()) }
            }
            Event::Adopt => self.adopt(),
        }
    }

    /// Whether a row belongs to a lane.
    fn owns(&self, lane: usize, row: &Stored) -> bool {
        usize::try_from(row.hash()).expect("a small number") % self.lanes.len() == lane
    }

    fn read(
        &mut self,
        lane: usize,
        limit: usize,
        meanwhile: &[Act],
        keep: bool,
    ) -> Result<(), Broken> {
        if self.lanes[lane].flying.len() >= AHEAD || !self.adopted {
            return Ok(());
        }
        // Nothing is left out before the first move, and a frontier alone is moved on once at most.
        let mut patience = if self.moved { 3 * self.database.table().len() + 3 } else { 1 };
        let mut reading = self.read_once(lane, limit, meanwhile)?;
        while reading.rows.is_empty() && reading.more {
            if patience == 0 {
                return broken(Violation::Endless, "too many readings in a row without a row");
            }
            patience -= 1;
            self.lanes[lane].ahead = reading.next;
            reading = self.read_once(lane, limit, &[])?;
        }
        if !reading.rows.is_empty() || keep {
            let lane = &mut self.lanes[lane];
            self.markers.overlapped += usize::from(!lane.flying.is_empty());
            lane.ahead = reading.next.clone();
            let rows: VecDeque<u64> = reading.rows.into();
            lane.flying.push_back((rows.clone(), rows.into(), reading.next));
        }
        Ok(())
    }

    fn read_once(
        &mut self,
        lane: usize,
        limit: usize,
        meanwhile: &[Act],
    ) -> Result<Reading<R::State>, Broken> {
        let ahead = &self.lanes[lane].ahead;
        let before = R::frontier(ahead);
        let adopting = R::token(ahead).adopting;
        let restarted = R::stored(ahead);
        let mut reading = R::read(ahead, &mut self.database, limit, meanwhile);
        let after = R::frontier(&reading.next);
        if after < before {
            broken(Violation::FrontierFell, (before, after))?;
        }
        let token = R::token(&reading.next);
        let reaches = if token.inheriting { 1 + LANES } else { 1 };
        if token.length > "v1;adopting=;inherits=".len() + reaches * (LONGEST_REACH + 24) {
            broken(Violation::TooLong, token)?;
        }
        self.markers.cut += usize::from(token.catching_up);
        if meanwhile.is_empty() {
            let again = R::read(&restarted, &mut self.database, limit, meanwhile);
            if (&again.rows, &again.next) != (&reading.rows, &reading.next) {
                broken(Violation::Copy, "a restart reads something else")?;
            }
        }
        let table = self.database.table();
        reading.rows.retain(|seq| table.get(seq).is_none_or(|row| self.owns(lane, row)));
        let late = reading.rows.iter().filter(|seq| **seq <= before).count();
        self.markers.late += late;
        self.markers.moves.late_adopting += if adopting { late } else { 0 };
        Ok(reading)
    }

    fn send(&mut self, lane: usize, count: usize) -> Result<(), Broken> {
        for _ in 0..count {
            let flying = &mut self.lanes[lane].flying;
            let Some(seq) = flying.iter_mut().find_map(|(rows, _, _)| rows.pop_front()) else {
                break;
            };
            let Some(row) = self.database.table().get(&seq) else {
                return broken(Violation::Phantom, seq);
            };
            if self.settled.contains(&seq) || !self.sent_in_this_life.insert(seq) {
                return broken(Violation::Copy, row);
            }
            if self.ordered && self.sent.insert(seq) {
                let overtaken = self.database.table().values().find(|earlier| {
                    earlier.key == row.key
                        && earlier.visible_at < row.stated_at
                        && !self.sent.contains(&earlier.seq)
                });
                if let Some(earlier) = overtaken {
                    return broken(Violation::OutOfOrder, (row, earlier));
                }
            }
            self.sent.insert(seq);
        }
        Ok(())
    }

    fn settle(&mut self, lane: usize) -> Result<(), Broken> {
        let reader = &mut self.lanes[lane];
        let Some((_, rows, next)) = reader.flying.pop_front_if(|(rest, _, _)| rest.is_empty())
        else {
            return Ok(());
        };
        self.settled.extend(rows);
        if R::frontier(&next) < R::frontier(&reader.stored) {
            broken(Violation::FrontierFell, (&reader.stored, &next))?;
        }
        reader.stored = R::stored(&next);
        self.remembers(lane)
    }

    /// What is stored says of every row of the lane whether it is settled.
    fn remembers(&self, lane: usize) -> Result<(), Broken> {
        let stored = &self.lanes[lane].stored;
        for row in self.database.table().values().filter(|row| self.owns(lane, row)) {
            let says = R::has_sent(stored, row);
            if says.is_some_and(|says| says != self.settled.contains(&row.seq)) {
                broken(Violation::Forgetful, (row, stored))?;
            }
        }
        Ok(())
    }

    fn die(&mut self, lane: usize) {
        let token = R::token(&self.lanes[lane].stored);
        self.markers.died_catching_up += usize::from(token.catching_up);
        self.markers.moves.died_adopting += usize::from(token.adopting);
        self.markers.moves.died_inheriting += usize::from(token.inheriting);
        let mut unsettled: Vec<u64> =
            self.sent_in_this_life.difference(&self.settled).copied().collect();
        unsettled.retain(|seq| self.owns(lane, &self.database.table()[seq]));
        self.markers.died_with_sent += usize::from(!unsettled.is_empty());
        for seq in unsettled {
            self.sent_in_this_life.remove(&seq);
        }
        let stored = self.lanes[lane].stored.clone();
        self.lanes[lane] = Lane::begin(stored);
    }

    fn die_all(&mut self) {
        (0..self.lanes.len()).for_each(|lane| self.die(lane));
    }

    /// Ends the readers of all lanes and begins with others.
    fn divide(&mut self, lanes: usize) -> Result<(), Broken> {
        let old: Vec<R::State> = self.lanes.iter().map(|lane| lane.stored.clone()).collect();
        let Some(begun) = R::inherit(&old, lanes) else {
            self.markers.moves.refused += 1;
            return Ok(());
        };
        self.die_all();
        let tokens: Vec<_> = old.iter().map(R::token).collect();
        let adopting = tokens.iter().filter(|token| token.adopting).count();
        let moves = &mut self.markers.moves;
        moves.divided_catching_up += usize::from(tokens.iter().any(|token| token.catching_up));
        moves.divided_adopting += usize::from(adopting > 0);
        moves.divided_half_adopted += usize::from(adopting > 0 && adopting < old.len());
        moves.inherited += usize::from(R::token(&begun).inheriting);
        self.moved = true;
        let begun = R::stored(&begun);
        self.lanes = (0..lanes).map(|_| Lane::begin(begun.clone())).collect();
        (0..lanes).try_for_each(|lane| self.remembers(lane))
    }

    /// Ends the readers of all lanes and lets them go on in the cluster in which they are.
    fn adopt(&mut self) -> Result<(), Broken> {
        self.die_all();
        let floor = self.database.hold_writers();
        self.adopted = true;
        self.moved = true;
        for lane in 0..self.lanes.len() {
            let before = self.lanes[lane].stored.clone();
            let token = R::token(&before);
            let moves = &mut self.markers.moves;
            moves.adopted_catching_up += usize::from(token.catching_up);
            moves.adopted_adopting += usize::from(token.adopting);
            moves.adopted_inheriting += usize::from(token.inheriting);
            let adopted = R::stored(&R::adopt(before.clone(), floor));
            if R::frontier(&adopted) < R::frontier(&before) {
                broken(Violation::FrontierFell, (&before, &adopted))?;
            }
            self.lanes[lane] = Lane::begin(adopted);
            self.remembers(lane)?;
        }
        Ok(())
    }

    /// Lets every second open transaction commit, reads until nothing is left and looks what is
    /// there.
    fn rest(&mut self, events: usize) -> Result<(), Broken> {
        for session in 0..SESSIONS {
            let end = [Act::Commit(session), Act::Rollback(session)];
            self.database.act(&end[session % 2]);
        }
        if !self.adopted {
            self.adopt()?;
        }
        for lane in 0..self.lanes.len() {
            self.rest_lane(lane, events)?;
        }
        let committed = self.database.table().values();
        let lost: Vec<_> = committed.filter(|row| !self.sent.contains(&row.seq)).collect();
        if lost.is_empty() { self.move_to_an_end(events) } else { broken(Violation::Lost, lost) }
    }

    fn rest_lane(&mut self, lane: usize, events: usize) -> Result<(), Broken> {
        for turn in 0.. {
            if turn > 2 * events + 10 {
                return broken(Violation::Endless, &self.lanes[lane].ahead);
            }
            self.send(lane, usize::MAX)?;
            while !self.lanes[lane].flying.is_empty() {
                self.settle(lane)?;
            }
            self.read(lane, 1 + turn % 4, &[], false)?;
            if self.lanes[lane].flying.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Once there were as many transactions as before a crash, one look into a quiet table ends
    /// every adoption and every inheritance.
    fn move_to_an_end(&mut self, events: usize) -> Result<(), Broken> {
        for _ in 0..events {
            self.database.act(&Act::Touch(0));
            self.database.act(&Act::Commit(0));
        }
        for lane in 0..self.lanes.len() {
            self.read(lane, usize::MAX / 2, &[], true)?;
            self.settle(lane)?;
            let token = R::token(&self.lanes[lane].stored);
            if token.inheriting || token.adopting {
                return broken(Violation::Endless, &self.lanes[lane].stored);
            }
        }
        Ok(())
    }
}
