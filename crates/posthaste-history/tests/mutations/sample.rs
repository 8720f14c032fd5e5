//! Valid histories: two consumers, keys and messages without one, redeliveries, rollbacks.

use posthaste_history::{
    Committed, Consumer, Delivered, Digest, Effect, History, Tally, Transaction,
};

const TRANSACTIONS: u64 = 60;
const KEYS: u64 = 5;
pub(crate) const CONSUMERS: [&str; 2] = ["shipping", "billing"];

/// Draws of a linear congruential generator: enough to vary a history.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % limit
    }
}

/// A valid history. The first three messages share a key and have no copies.
pub(crate) fn sample(seed: u64) -> History {
    let mut draws = Draws(seed);
    let mut history = History { consumers: CONSUMERS.map(consumer).into(), ..History::default() };
    let mut clock = 0;
    for number in 0..TRANSACTIONS {
        let messages = 1 + draws.below(3);
        let first = history.committed.len();
        if number > 2 && draws.below(5) == 0 {
            history.rolled_back.push(format!("gone-{number}"));
            continue;
        }
        clock += 2;
        for place in 0..messages {
            let id = format!("m-{number}-{place}");
            let key = match number {
                0..=2 => Some("k0".to_owned()),
                _ => Some(draws.below(KEYS + 1)).filter(|key| *key > 0).map(|k| format!("k{k}")),
            };
            let digest = Digest::new().field(id.as_bytes()).finish();
            history.acknowledged.push(id.clone());
            history.committed.push(Committed {
                id,
                topic: "orders".to_owned(),
                key,
                stated: clock,
                committed: clock + 1,
                digest,
                transaction: Some(format!("t-{number}")),
            });
        }
        let messages = (history.committed.len() - first) as u64;
        history.transactions.push(Transaction { id: format!("t-{number}"), messages });
    }
    for name in CONSUMERS {
        deliver(&mut history, name, &mut draws);
    }
    history
}

fn consumer(name: &str) -> Consumer {
    Consumer { name: name.to_owned(), topics: vec!["orders".to_owned()] }
}

/// Everything in order, some of it again a little later.
fn deliver(history: &mut History, name: &str, draws: &mut Draws) {
    let mut again: Vec<Delivered> = Vec::new();
    for (place, message) in history.committed.iter().enumerate() {
        let (consumer, id, digest) = (name.to_owned(), message.id.clone(), message.digest);
        let delivered = Delivered { consumer: consumer.clone(), id: id.clone(), digest };
        if place > 5 && (place == 6 || draws.below(6) == 0) {
            again.push(delivered.clone());
        }
        history.deliveries.push(delivered);
        history.effects.push(Effect { consumer, id, digest });
        if draws.below(4) == 0 {
            history.deliveries.append(&mut again);
        }
    }
    history.deliveries.append(&mut again);
    let sum = i64::try_from(history.committed.len()).unwrap_or(0) * 7;
    history.tallies.push(Tally { consumer: name.to_owned(), effects: sum, says: sum });
}
