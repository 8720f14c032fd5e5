//! A world at rest as evidence for `posthaste-history`, which judges it as it judges real processes.
//! It knows nothing of how the simulator came to its own judgement.

use std::collections::BTreeMap;

use posthaste_history::{
    Committed, Consumer, DeadLetter, Delivered, Effect, History, Transaction, check,
};

use crate::message::digest;
use crate::scenario::CONSUMERS;
use crate::verdict::Wrong;
use crate::witness::{Fate, Standing, audience};
use crate::world::World;

impl World {
    /// Has the checker of histories look at a world at rest.
    pub(crate) fn have_it_checked(&mut self) {
        let report = check(&self.evidence());
        if let Some(violation) = report.witnesses.first() {
            self.witness.blame(Wrong::Judged, None, violation.to_string());
        }
    }

    fn evidence(&self) -> History {
        let consumers = CONSUMERS.iter().map(|(name, topics)| Consumer {
            name: (*name).to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        });
        let mut history = History { consumers: consumers.collect(), ..History::default() };
        let mut stated: BTreeMap<usize, u64> = BTreeMap::new();
        for (number, fate) in (0..).zip(&self.witness.fates) {
            match fate.standing {
                Standing::Committed => self.tell_of(number, fate, &mut history, &mut stated),
                Standing::RolledBack => history.rolled_back.push(id(number)),
                _ => {}
            }
        }
        let business = self.database.state.business.iter();
        history.transactions = business
            .map(|place| Transaction {
                id: place.to_string(),
                messages: stated.get(place).copied().unwrap_or(0),
            })
            .collect();
        for (queue, number) in &self.witness.arrivals {
            let Some(fate) = self.fate_of(*number) else { continue };
            // What a server lost that had committed it is no invention of ours.
            if let Some(message) =
                fate.message.as_ref().filter(|_| fate.standing != Standing::Forgotten)
            {
                let (consumer, digest) = (CONSUMERS[*queue].0.to_owned(), digest(message));
                history.deliveries.push(Delivered { consumer, id: id(*number), digest });
            }
        }
        history
    }

    fn fate_of(&self, number: u32) -> Option<&Fate> {
        usize::try_from(number).ok().and_then(|place| self.witness.fates.get(place))
    }

    fn tell_of(
        &self,
        number: u32,
        fate: &Fate,
        history: &mut History,
        stated: &mut BTreeMap<usize, u64>,
    ) {
        let Some(message) = &fate.message else { return };
        let place = self.transaction_of(number);
        if let Some(place) = place {
            *stated.entry(place).or_default() += 1;
        }
        // What was given up, or was not due, has no order any more; while nobody is bound to one
        // kind, the others of its key go on.
        let ordered = !fate.given_up && !fate.is_due_later;
        let key = message.key.clone().filter(|_| ordered);
        let rebinds = self.witness.rebinds;
        let key = key.map(|key| if rebinds { format!("{key} {}", message.kind) } else { key });
        history.acknowledged.push(id(number));
        history.committed.push(Committed {
            id: id(number),
            topic: message.topic.clone(),
            key,
            stated: fate.stated_at,
            committed: fate.committed_at,
            digest: digest(message),
            transaction: place.map(|place| place.to_string()),
        });
        let state = &self.database.state;
        let kept = state.held.contains_key(&fate.seq) || state.letters.contains_key(&fate.seq);
        if kept || fate.given_up || fate.unwanted {
            history.dead_letters.push(DeadLetter { id: id(number), consumer: None });
        }
        for queue in audience(&message.topic) {
            let consumer = CONSUMERS[queue].0.to_owned();
            for _ in 0..fate.effects[queue] {
                let (consumer, digest) = (consumer.clone(), digest(message));
                history.effects.push(Effect { consumer, id: id(number), digest });
            }
            if fate.buried[queue] {
                let letter = DeadLetter { id: id(number), consumer: Some(consumer) };
                history.dead_letters.push(letter);
            }
        }
    }

    /// The transaction of the script that stated a message, if its state change is there.
    fn transaction_of(&self, number: u32) -> Option<usize> {
        self.scenario.transactions.iter().position(|transaction| {
            let states = |(_, step): &(_, crate::script::Step)| {
                matches!(step, crate::script::Step::State(stated) if stated.number == number)
            };
            transaction.steps.iter().any(states)
        })
    }
}

fn id(number: u32) -> String {
    format!("m{number}")
}
