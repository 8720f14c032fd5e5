//! The violations that are planted.

use posthaste_history::{Committed, Delivered, Effect, History};

use crate::sample::CONSUMERS;

/// A violation to plant, and what must be found: lost, phantom, out of order, double effect.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) plant: fn(&mut History),
    pub(crate) counts: [u64; 4],
    pub(crate) kind: &'static str,
}

const LOST: [u64; 4] = [1, 0, 0, 0];
const PHANTOM: [u64; 4] = [0, 1, 0, 0];
const ORDER: [u64; 4] = [0, 0, 1, 0];
const DOUBLE: [u64; 4] = [0, 0, 0, 1];

pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("a delivery and what followed from it are missing", LOST, "NeverArrived", |history| {
        let id = history.committed[1].id.clone();
        history.deliveries.retain(|one| one.id != id || one.consumer != CONSUMERS[0]);
        history.effects.retain(|one| one.id != id || one.consumer != CONSUMERS[0]);
    }),
    mutant("only the delivery is missing", LOST, "NeverArrived", |history| {
        history.deliveries.remove(1);
    }),
    mutant("a message is missing at both consumers", LOST, "NeverArrived", |history| {
        let id = history.committed[2].id.clone();
        history.deliveries.retain(|one| one.id != id);
        history.effects.retain(|one| one.id != id);
    }),
    mutant("an effect is missing", LOST, "NoEffect", |history| {
        history.effects.remove(7);
    }),
    mutant("nobody listens to its topic", LOST, "NeverArrived", |history| {
        history.committed.push(message("lonely", "elsewhere"));
    }),
    mutant("an acknowledged message is not there", LOST, "Vanished", |history| {
        history.acknowledged.push("acknowledged".to_owned());
    }),
    mutant("a state change has one message too few", LOST, "Torn", |history| {
        history.transactions[4].messages += 1;
    }),
    mutant("a state change without any message", LOST, "Torn", |history| {
        let mut alone = history.transactions[0].clone();
        alone.id = "alone".to_owned();
        history.transactions.push(alone);
    }),
    mutant("a message that nobody committed arrives and takes effect", PHANTOM, "Invented", |h| {
        plant_arrival(h, "invented");
        plant_effect(h, "invented");
    }),
    mutant("a message that nobody committed arrives", PHANTOM, "Invented", |history| {
        plant_arrival(history, "invented");
    }),
    mutant("an effect out of nothing", PHANTOM, "Invented", |history| {
        plant_effect(history, "invented");
    }),
    mutant("a message arrives at somebody it was not for", PHANTOM, "Invented", |history| {
        let mut astray = history.deliveries[3].clone();
        astray.consumer = "stranger".to_owned();
        history.deliveries.push(astray);
    }),
    mutant("a rolled-back message arrives", PHANTOM, "RolledBack", |history| {
        let id = history.rolled_back[0].clone();
        plant_arrival(history, &id);
    }),
    mutant("a rolled-back message takes effect", PHANTOM, "RolledBack", |history| {
        let id = history.rolled_back[0].clone();
        plant_arrival(history, &id);
        plant_effect(history, &id);
    }),
    mutant("a rolled-back message is there", PHANTOM, "RolledBack", |history| {
        let id = history.committed[5].id.clone();
        history.rolled_back.push(id);
    }),
    mutant("a byte is another one on arrival", PHANTOM, "Altered", |history| {
        history.deliveries[2].digest ^= 1;
    }),
    mutant("a byte is another one in the second copy", PHANTOM, "Altered", |history| {
        let mut copy = history.deliveries[0].clone();
        copy.digest ^= 1 << 40;
        history.deliveries.push(copy);
    }),
    mutant("a byte is another one in the effect", PHANTOM, "Altered", |history| {
        history.effects[2].digest ^= 1;
    }),
    mutant("a message without its state change", PHANTOM, "Orphaned", |history| {
        history.committed[0].transaction = Some("missing".to_owned());
        history.transactions[0].messages -= 1;
    }),
    mutant("two messages of one identity", PHANTOM, "StatedTwice", |history| {
        history.committed.push(history.committed[0].clone());
    }),
    mutant("two messages of one key change places", ORDER, "Overtaken", |history| {
        swap_at(history, 0);
    }),
    mutant("a message is overtaken by all others of its key", ORDER, "Overtaken", |history| {
        let first = history.deliveries.remove(0);
        history.deliveries.push(first);
    }),
    mutant("two messages change places at the second consumer", ORDER, "Overtaken", |history| {
        let start = history.deliveries.iter().position(|one| one.consumer == CONSUMERS[1]);
        swap_at(history, start.unwrap_or(0));
    }),
    mutant("an effect happens twice", DOUBLE, "DoubleEffect", |history| {
        history.effects.push(history.effects[9].clone());
    }),
    mutant("an effect happens three times at both consumers", DOUBLE, "DoubleEffect", |history| {
        let id = history.committed[4].id.clone();
        let of_it: Vec<Effect> =
            history.effects.iter().filter(|one| one.id == id).cloned().collect();
        history.effects.extend(of_it.iter().cloned().chain(of_it.iter().cloned()));
    }),
    mutant("a sum says more than its effects", DOUBLE, "WrongSum", |history| {
        history.tallies[0].says += 7;
    }),
    mutant("a sum says less than its effects", DOUBLE, "WrongSum", |history| {
        history.tallies[1].says -= 1;
    }),
];

const fn mutant(
    name: &'static str,
    counts: [u64; 4],
    kind: &'static str,
    plant: fn(&mut History),
) -> Mutant {
    Mutant { name, plant, counts, kind }
}

fn message(id: &str, topic: &str) -> Committed {
    Committed {
        id: id.to_owned(),
        topic: topic.to_owned(),
        key: None,
        stated: 1,
        committed: 2,
        digest: 0,
        transaction: None,
    }
}

fn plant_arrival(history: &mut History, id: &str) {
    let (consumer, id) = (CONSUMERS[0].to_owned(), id.to_owned());
    history.deliveries.insert(4, Delivered { consumer, id, digest: 0 });
}

fn plant_effect(history: &mut History, id: &str) {
    let (consumer, id) = (CONSUMERS[0].to_owned(), id.to_owned());
    history.effects.push(Effect { consumer, id, digest: 0 });
}

/// Makes the last message of the first transaction and the first of the second, which have the
/// same key, change places.
fn swap_at(history: &mut History, start: usize) {
    let of_first = usize::try_from(history.transactions[0].messages).unwrap_or(1);
    history.deliveries.swap(start + of_first - 1, start + of_first);
}
