//! A world at rest as evidence for `posthaste-history`, which judges it as it judges real
//! processes.
//! It knows nothing of how the simulator came to its own judgement.

use std::collections::BTreeMap;

use posthaste_history::event::{
    Commit, CommitAnswer, ConsumerStarted, DeadLetter, Delivered, Effect, Rest, Row, Transaction,
};
use posthaste_history::{Event, Floors, History, check};

use crate::message::digest;
use crate::scenario::CONSUMERS;
use crate::verdict::Wrong;
use crate::witness::{Fate, Standing, audience};
use crate::world::World;

/// Who notes what is there at the end.
const NODE: &str = "the simulator";

/// A history that is told at its end, in this order.
#[derive(Default)]
struct Account {
    history: History,
    moment: u64,
}

impl Account {
    fn note(&mut self, event: impl Into<Event>) {
        self.moment += 1;
        self.history.note(self.moment, NODE, event);
    }

    fn note_commit(&mut self, number: u32, answer: CommitAnswer) {
        self.note(Commit { transaction: None, ids: vec![id(number)], answer });
    }
}

impl World {
    /// Has the checker of histories look at a world at rest.
    pub(crate) fn have_it_checked(&mut self) {
        let report = check(&self.evidence(), &Floors::default());
        if let Some(violation) = report.witnesses().next() {
            self.witness.blame(Wrong::Judged, None, violation.to_string());
        }
    }

    fn evidence(&self) -> History {
        let mut account = Account::default();
        for (name, topics) in CONSUMERS {
            let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
            let consumer = name.to_owned();
            account.note(ConsumerStarted { consumer, topics, ..ConsumerStarted::default() });
        }
        let mut stated: BTreeMap<usize, u64> = BTreeMap::new();
        for (number, fate) in (0..).zip(&self.witness.fates) {
            match fate.standing {
                Standing::Committed => self.tell_of(number, fate, &mut account, &mut stated),
                Standing::RolledBack => account.note_commit(number, CommitAnswer::RolledBack),
                _ => {}
            }
        }
        for place in &self.database.state.business {
            let messages = stated.get(place).copied().unwrap_or(0);
            account.note(Transaction { id: place.to_string(), messages });
        }
        for (queue, number) in &self.witness.arrivals {
            let Some(fate) = self.fate_of(*number) else { continue };
            // What a server lost that had committed it is no invention of ours.
            if let Some(message) =
                fate.message.as_ref().filter(|_| fate.standing != Standing::Forgotten)
            {
                let (consumer, digest) = (CONSUMERS[*queue].0.to_owned(), digest(message));
                let (id, attempt, database_time) = (id(*number), None, None);
                account.note(Delivered { consumer, id, digest, attempt, database_time });
            }
        }
        account.note(Rest::default());
        account.history
    }

    fn fate_of(&self, number: u32) -> Option<&Fate> {
        usize::try_from(number).ok().and_then(|place| self.witness.fates.get(place))
    }

    fn tell_of(
        &self,
        number: u32,
        fate: &Fate,
        account: &mut Account,
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
        account.note_commit(number, CommitAnswer::Committed);
        account.note(Row {
            id: id(number),
            topic: message.topic.clone(),
            key,
            digest: digest(message),
            position: None,
            transaction: place.map(|place| place.to_string()),
            stated: Some(fate.stated_at),
            committed: Some(fate.committed_at),
            due: None,
            request: None,
        });
        let state = &self.database.state;
        let kept = state.held.contains_key(&fate.seq) || state.letters.contains_key(&fate.seq);
        if kept || fate.given_up || fate.unwanted {
            account.note(DeadLetter { id: id(number), consumer: None });
        }
        for queue in audience(&message.topic) {
            let consumer = CONSUMERS[queue].0.to_owned();
            for _ in 0..fate.effects[queue] {
                let (consumer, digest) = (consumer.clone(), digest(message));
                account.note(Effect { consumer, id: id(number), digest });
            }
            if fate.buried[queue] {
                account.note(DeadLetter { id: id(number), consumer: Some(consumer) });
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
