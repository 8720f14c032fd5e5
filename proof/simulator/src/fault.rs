//! Faults: how often calls go wrong, and what befalls whole processes and servers. A seed first
//! chooses which of them there are, so that each world knows some of them well.

use std::fmt;
use std::time::Duration;

use posthaste_core::Moment;

use crate::chance::Chance;
use crate::database::Act;

/// How often calls go wrong, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    /// A call to the database is lost before it has an effect.
    pub(crate) database_lost: u64,
    /// The answer of the database is lost.
    pub(crate) database_unanswered: u64,
    /// Whether a writer's commit happened is not known to it.
    pub(crate) commit_unknown: u64,
    /// The broker cannot be reached.
    pub(crate) broker_away: u64,
    /// The broker refuses a message for now.
    pub(crate) refused: u64,
    /// The broker refuses a message for good.
    pub(crate) refused_for_good: u64,
    /// The broker has a message, or a part of a call, and its answer is lost.
    pub(crate) confirm_lost: u64,
    /// The broker gives no answer and has nothing.
    pub(crate) silent: u64,
    /// Of what was lost, this much arrives long after.
    pub(crate) late: u64,
    /// The broker delivers a message once more, long after it was done with.
    pub(crate) copied: u64,
    /// Telling the broker that a delivery is done is lost.
    pub(crate) done_lost: u64,
    /// A handler fails.
    pub(crate) handler_fails: u64,
    /// A message is one that its handler never takes.
    pub(crate) handler_refuses: u64,
    /// A message is one that ends the process of its handler.
    pub(crate) handler_kills: u64,
    /// A call or an answer takes very long.
    pub(crate) slow: u64,
    /// A hint that something was committed is lost.
    pub(crate) hint_lost: u64,
    /// A message is one that breaks the connection to the broker.
    pub(crate) poison: u64,
}

impl Rates {
    /// Some of them, by chance.
    pub(crate) fn choose(chance: &mut Chance) -> Self {
        let mut rate = |likely, most| {
            if chance.percent(likely) { 1 + chance.below(most) } else { 0 }
        };
        Self {
            database_lost: rate(30, 15),
            database_unanswered: rate(30, 15),
            commit_unknown: rate(40, 20),
            broker_away: rate(25, 40),
            refused: rate(35, 35),
            refused_for_good: rate(25, 10),
            confirm_lost: rate(40, 25),
            silent: rate(25, 15),
            late: rate(50, 60),
            copied: rate(30, 10),
            done_lost: rate(35, 10),
            handler_fails: rate(35, 25),
            handler_refuses: rate(20, 10),
            handler_kills: rate(20, 5),
            slow: rate(40, 6),
            hint_lost: rate(40, 80),
            poison: rate(15, 4),
        }
    }

    /// Nothing goes wrong any more; messages that are bad stay so.
    pub(crate) fn healed(self) -> Self {
        Self {
            handler_refuses: self.handler_refuses,
            handler_kills: self.handler_kills,
            poison: self.poison,
            ..Self::default()
        }
    }

    /// All rates with their names, to be set to nothing one by one.
    pub(crate) fn each(&mut self) -> [(&'static str, &mut u64); 17] {
        [
            ("database_lost", &mut self.database_lost),
            ("database_unanswered", &mut self.database_unanswered),
            ("commit_unknown", &mut self.commit_unknown),
            ("broker_away", &mut self.broker_away),
            ("refused", &mut self.refused),
            ("refused_for_good", &mut self.refused_for_good),
            ("confirm_lost", &mut self.confirm_lost),
            ("silent", &mut self.silent),
            ("late", &mut self.late),
            ("copied", &mut self.copied),
            ("done_lost", &mut self.done_lost),
            ("handler_fails", &mut self.handler_fails),
            ("handler_refuses", &mut self.handler_refuses),
            ("handler_kills", &mut self.handler_kills),
            ("slow", &mut self.slow),
            ("hint_lost", &mut self.hint_lost),
            ("poison", &mut self.poison),
        ]
    }
}

/// Those that are not zero.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rates = *self;
        let mut nothing = true;
        for (name, rate) in rates.each().into_iter().filter(|(_, rate)| **rate > 0) {
            write!(f, "{}{name} {rate}", if nothing { "" } else { ", " })?;
            nothing = false;
        }
        if nothing { f.write_str("nothing goes wrong") } else { Ok(()) }
    }
}

/// Something that befalls a process or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incident {
    /// When.
    pub(crate) at: Moment,
    /// What.
    pub(crate) what: Calamity,
}

/// What can befall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calamity {
    /// A relay ends at once, and another one is started in its place.
    RelayCrash { node: usize, down: Duration },
    /// A relay does nothing for a while.
    RelayPause { node: usize, pause: Duration },
    /// A relay is asked to stop, and another one is started in its place.
    RelayStop { node: usize },
    /// A consumer ends at once, and another one is started in its place.
    ConsumerCrash { node: usize, down: Duration },
    /// A consumer does nothing for a while.
    ConsumerPause { node: usize, pause: Duration },
    /// A consumer is asked to stop, and another one is started in its place.
    ConsumerStop { node: usize },
    /// The database ends at once and comes back.
    DatabaseCrash { down: Duration },
    /// The database is lost, and a standby that received nothing for a while takes over.
    Failover { lag: Duration, down: Duration },
    /// The database's calendar is set by some milliseconds.
    CalendarJump { millis: i64 },
    /// The database of the consumers ends at once and comes back.
    InboxCrash { down: Duration },
    /// The broker ends at once and comes back.
    BrokerCrash { down: Duration },
    /// Nobody is bound to a kind for a while.
    Unbound { kind: usize, gone: Duration },
    /// Another number of lanes is asked for.
    Divide { lanes: u16 },
    /// An operator acts on the oldest dead letter of the relay.
    Operator { act: Act },
}
