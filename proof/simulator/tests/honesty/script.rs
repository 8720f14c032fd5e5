//! Random scripts of what applications and relays do to a database.

use posthaste_simulator::Chance;

/// Connections of writers, relays, and keys.
const SESSIONS: usize = 3;
pub(crate) const OWNERS: usize = 2;
const KEYS: u64 = 3;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Begin(usize),
    /// States a message: its number, its key (0 is none), its kind, and whether it is due now.
    State {
        session: usize,
        number: u8,
        key: u64,
        kind: u64,
        is_due: bool,
    },
    Savepoint(usize),
    RollBackToSavepoint(usize),
    Commit(usize),
    RollBack(usize),
    Acquire(usize),
    Renew(usize),
    Release(usize),
    /// Reads past the checkpoint and settles what was read, with verdicts drawn from this.
    Read {
        owner: usize,
        limit: usize,
        luck: u64,
    },
    /// The same with what may leave the side table.
    Ready {
        owner: usize,
        limit: usize,
        luck: u64,
    },
    /// Sends the last settlement of this owner once more.
    Again(usize),
    /// Reads from the stored checkpoint from now on.
    Restart,
    /// Reposts, or discards, the dead letter of the oldest message.
    Operate {
        reposts: bool,
    },
}

/// A script of some length; with one writer only one transaction is open at a time.
pub(crate) fn script(seed: u64, one_writer: bool) -> Vec<Act> {
    let mut chance = Chance::stream(seed, 9);
    let mut number = 0;
    let mut act = || {
        let session = if one_writer { 0 } else { chance.place(SESSIONS) };
        let owner = chance.place(OWNERS);
        let (limit, luck) = (1 + chance.place(6), chance.draw());
        match chance.below(32) {
            0..=3 => Act::Begin(session),
            4..=9 => {
                number += 1;
                let (key, kind) = (chance.below(KEYS + 1), chance.below(2));
                Act::State { session, number, key, kind, is_due: !chance.percent(10) }
            }
            10 => Act::Savepoint(session),
            11 => Act::RollBackToSavepoint(session),
            12..=15 => Act::Commit(session),
            16 => Act::RollBack(session),
            17..=18 => Act::Acquire(owner),
            19 => Act::Renew(owner),
            20 => Act::Release(owner),
            21..=25 => Act::Read { owner, limit, luck },
            26..=28 => Act::Ready { owner, limit, luck },
            29 => Act::Again(owner),
            30 => Act::Restart,
            _ => Act::Operate { reposts: luck % 2 == 0 },
        }
    };
    (0..90).map(|_| act()).collect()
}
