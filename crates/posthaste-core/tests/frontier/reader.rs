//! Runs a history and checks every property on the way.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;

use crate::history::{Event, History};
use crate::model::{Act, Database, SESSIONS};
use crate::rule::{Reading, Rule};

const AHEAD: usize = 3;
/// Two snapshots of every session, each id and each bound with at most eight digits here.
const LONGEST_TOKEN: usize = 2 + 3 * 9 + 2 * (2 + SESSIONS) * 9;

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
}

struct Reader<'a, R: Rule> {
    database: Database,
    ordered: bool,
    ahead: R::State,
    stored: R::State,
    flying: VecDeque<(VecDeque<u64>, Vec<u64>, R::State)>,
    sent: BTreeSet<u64>,
    sent_in_this_life: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    markers: &'a mut Markers,
}

/// Runs a history to its end and then to rest.
pub(crate) fn run<R: Rule>(history: &History, markers: &mut Markers) -> Result<(), Broken> {
    let mut reader = Reader::<R> {
        database: Database::new(history.cache, history.one_writer),
        ordered: history.cache == 1,
        ahead: R::start(),
        stored: R::start(),
        flying: VecDeque::new(),
        sent: BTreeSet::new(),
        sent_in_this_life: BTreeSet::new(),
        settled: BTreeSet::new(),
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
        match event {
            Event::Act(act) => {
                if matches!(act, Act::Crash) && self.database.running() > 0 {
                    self.markers.reused += 1;
                }
                self.database.act(act);
                Ok(())
            }
            Event::Read { limit, meanwhile, keep } => self.read(*limit, meanwhile, *keep),
            Event::Send(count) => self.send(*count),
            Event::Settle => self.settle(),
            Event::Die => self.die(),
        }
    }

    fn read(&mut self, limit: usize, meanwhile: &[Act], keep: bool) -> Result<(), Broken> {
        if self.flying.len() >= AHEAD {
            return Ok(());
        }
        let mut reading = self.read_once(limit, meanwhile)?;
        if reading.rows.is_empty() && reading.more {
            self.ahead = reading.next;
            reading = self.read_once(limit, &[])?;
            if reading.rows.is_empty() && reading.more {
                return broken(Violation::Endless, "two readings in a row without a row");
            }
        }
        if !reading.rows.is_empty() || keep {
            self.markers.overlapped += usize::from(!self.flying.is_empty());
            self.ahead = reading.next.clone();
            let rows: VecDeque<u64> = reading.rows.into();
            self.flying.push_back((rows.clone(), rows.into(), reading.next));
        }
        Ok(())
    }

    fn read_once(&mut self, limit: usize, meanwhile: &[Act]) -> Result<Reading<R::State>, Broken> {
        let before = R::frontier(&self.ahead);
        let restarted = R::stored(&self.ahead);
        let reading = R::read(&self.ahead, &mut self.database, limit, meanwhile);
        let after = R::frontier(&reading.next);
        if after < before {
            broken(Violation::FrontierFell, (before, after))?;
        }
        let (length, cut) = R::token(&reading.next);
        if length > LONGEST_TOKEN {
            broken(Violation::TooLong, length)?;
        }
        self.markers.cut += usize::from(cut);
        self.markers.late += reading.rows.iter().filter(|seq| **seq <= before).count();
        if meanwhile.is_empty() {
            let again = R::read(&restarted, &mut self.database, limit, meanwhile);
            if (&again.rows, &again.next) != (&reading.rows, &reading.next) {
                broken(Violation::Copy, "a restart reads something else")?;
            }
        }
        Ok(reading)
    }

    fn send(&mut self, count: usize) -> Result<(), Broken> {
        for _ in 0..count {
            let unsent = self.flying.iter_mut().find_map(|(rows, _, _)| rows.pop_front());
            let Some(seq) = unsent else { break };
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

    fn settle(&mut self) -> Result<(), Broken> {
        let Some((_, rows, next)) = self.flying.pop_front_if(|(rest, _, _)| rest.is_empty()) else {
            return Ok(());
        };
        self.settled.extend(rows);
        if R::frontier(&next) < R::frontier(&self.stored) {
            broken(Violation::FrontierFell, (&self.stored, &next))?;
        }
        self.stored = R::stored(&next);
        for row in self.database.table().values() {
            let says = R::has_sent(&self.stored, row.seq, row.xid);
            if says.is_some_and(|says| says != self.settled.contains(&row.seq)) {
                broken(Violation::Forgetful, (row, &self.stored))?;
            }
        }
        Ok(())
    }

    fn die(&mut self) -> Result<(), Broken> {
        self.markers.died_catching_up += usize::from(R::token(&self.stored).1);
        self.markers.died_with_sent +=
            usize::from(self.sent_in_this_life.difference(&self.settled).next().is_some());
        self.flying.clear();
        self.sent_in_this_life.clear();
        self.ahead = self.stored.clone();
        Ok(())
    }

    /// Lets every second open transaction commit, reads until nothing is left and looks what is
    /// there.
    fn rest(&mut self, events: usize) -> Result<(), Broken> {
        for session in 0..SESSIONS {
            let end = [Act::Commit(session), Act::Rollback(session)];
            self.database.act(&end[session % 2]);
        }
        for turn in 0.. {
            if turn > 2 * events + 10 {
                return broken(Violation::Endless, &self.ahead);
            }
            self.send(usize::MAX)?;
            while !self.flying.is_empty() {
                self.settle()?;
            }
            self.read(1 + turn % 4, &[], false)?;
            if self.flying.is_empty() {
                break;
            }
        }
        let committed = self.database.table().values();
        let lost: Vec<_> = committed.filter(|row| !self.sent.contains(&row.seq)).collect();
        if lost.is_empty() { Ok(()) } else { broken(Violation::Lost, lost) }
    }
}
