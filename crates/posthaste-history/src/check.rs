//! From a history to a report.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Committed, History};
use crate::report::{Plain, Report};
use crate::violation::Violation;

/// Says whether the promise was kept in this history, and if not, where.
pub fn check(history: &History) -> Report {
    let index = Index::of(history);
    let mut violations = Vec::new();
    index.atomicity(&mut violations);
    index.invention(&mut violations);
    let plain = index.arrival(&mut violations);
    index.order(&mut violations);
    index.sums(&mut violations);
    Report::new(plain, violations)
}

/// What happened to one message at one consumer.
#[derive(Clone, Copy, Default)]
struct Fate {
    arrivals: u64,
    effects: u64,
}

/// The history by id.
struct Index<'h> {
    history: &'h History,
    committed: BTreeMap<&'h str, &'h Committed>,
    rolled_back: BTreeSet<&'h str>,
    /// Who receives a topic.
    audience: BTreeMap<&'h str, BTreeSet<&'h str>>,
    /// By consumer and id.
    fates: BTreeMap<(&'h str, &'h str), Fate>,
    /// Dead letters, by the consumer that gave up, if it was one.
    dead: BTreeSet<(Option<&'h str>, &'h str)>,
}

impl<'h> Index<'h> {
    fn of(history: &'h History) -> Self {
        let mut audience: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for consumer in &history.consumers {
            for topic in &consumer.topics {
                audience.entry(topic).or_default().insert(&consumer.name);
            }
        }
        let mut fates: BTreeMap<(&str, &str), Fate> = BTreeMap::new();
        for delivered in &history.deliveries {
            fates.entry((&delivered.consumer, &delivered.id)).or_default().arrivals += 1;
        }
        for effect in &history.effects {
            fates.entry((&effect.consumer, &effect.id)).or_default().effects += 1;
        }
        let dead = history.dead_letters.iter();
        Self {
            committed: history.committed.iter().map(|one| (one.id.as_str(), one)).collect(),
            rolled_back: history.rolled_back.iter().map(String::as_str).collect(),
            dead: dead.map(|letter| (letter.consumer.as_deref(), letter.id.as_str())).collect(),
            audience,
            fates,
            history,
        }
    }

    /// Messages and state changes are there together or not at all.
    fn atomicity(&self, violations: &mut Vec<Violation>) {
        let mut found: BTreeMap<&str, u64> =
            self.history.transactions.iter().map(|one| (one.id.as_str(), 0)).collect();
        let mut seen = BTreeSet::new();
        for message in &self.history.committed {
            let id = message.id.clone();
            if !seen.insert(message.id.as_str()) {
                violations.push(Violation::StatedTwice { id });
                continue;
            }
            if let Some(transaction) = &message.transaction {
                match found.get_mut(transaction.as_str()) {
                    Some(messages) => *messages += 1,
                    None => {
                        let transaction = transaction.clone();
                        violations.push(Violation::Orphaned { id, transaction });
                    }
                }
            }
        }
        for transaction in &self.history.transactions {
            let found = found.get(transaction.id.as_str()).copied().unwrap_or(0);
            if found != transaction.messages {
                let (transaction, stated) = (transaction.id.clone(), transaction.messages);
                violations.push(Violation::Torn { transaction, stated, found });
            }
        }
        for id in &self.history.acknowledged {
            if !self.committed.contains_key(id.as_str()) {
                violations.push(Violation::Vanished { id: id.clone() });
            }
        }
        for id in &self.rolled_back {
            if self.committed.contains_key(id) {
                violations.push(Violation::RolledBack { id: (*id).to_owned() });
            }
        }
    }

    /// Nothing arrives or takes effect that was not committed, as it was committed.
    fn invention(&self, violations: &mut Vec<Violation>) {
        let delivered =
            self.history.deliveries.iter().map(|one| (&one.consumer, &one.id, one.digest));
        let effects = self.history.effects.iter().map(|one| (&one.consumer, &one.id, one.digest));
        let mut told = BTreeSet::new();
        for (consumer, id, digest) in delivered.chain(effects) {
            let (id, consumer) = (id.clone(), consumer.clone());
            let violation = match self.committed.get(id.as_str()) {
                _ if self.rolled_back.contains(id.as_str()) => Violation::RolledBack { id },
                None => Violation::Invented { id, consumer },
                Some(message) if !self.is_for(message, &consumer) => {
                    Violation::Invented { id, consumer }
                }
                Some(message) if message.digest != digest => Violation::Altered { id, consumer },
                Some(_) => continue,
            };
            if told.insert(violation.clone()) {
                violations.push(violation);
            }
        }
    }

    /// Every committed message arrives and takes effect once wherever it was to go.
    fn arrival(&self, violations: &mut Vec<Violation>) -> Plain {
        let mut plain = Plain {
            committed: self.committed.len() as u64,
            rolled_back: self.rolled_back.len() as u64,
            ..Plain::default()
        };
        for message in self.committed.values() {
            let nobody = BTreeSet::new();
            let audience = self.audience.get(message.topic.as_str()).unwrap_or(&nobody);
            let unsent = self.dead.contains(&(None, message.id.as_str()));
            let (mut arrived, mut took_effect, mut dead) = (true, true, false);
            if audience.is_empty() {
                (arrived, took_effect, dead) = (false, false, unsent);
                if !unsent {
                    let id = message.id.clone();
                    violations.push(Violation::NeverArrived { id, consumer: None });
                }
            }
            for consumer in audience {
                let fate = self.fates.get(&(*consumer, message.id.as_str()));
                let fate = fate.copied().unwrap_or_default();
                let given_up =
                    unsent || self.dead.contains(&(Some(*consumer), message.id.as_str()));
                arrived &= fate.arrivals > 0;
                took_effect &= fate.effects > 0;
                if fate.arrivals == 0 || fate.effects == 0 {
                    dead |= given_up;
                }
                let extra = fate.effects.saturating_sub(1);
                plain.duplicates_absorbed += fate.arrivals.saturating_sub(1).saturating_sub(extra);
                violations.extend(fault(fate, given_up, message, consumer));
            }
            plain.delivered += u64::from(arrived);
            plain.effects += u64::from(took_effect);
            plain.dead_letters += u64::from(dead);
        }
        plain
    }

    /// By first arrival: what was committed before another of its key was stated comes first.
    fn order(&self, violations: &mut Vec<Violation>) {
        let mut latest: BTreeMap<(&str, &str, &str), &Committed> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for delivered in &self.history.deliveries {
            let Some(message) = self.committed.get(delivered.id.as_str()).copied() else {
                continue;
            };
            let Some(key) = &message.key else { continue };
            let consumer = delivered.consumer.as_str();
            if !seen.insert((consumer, message.id.as_str())) {
                continue;
            }
            let latest = latest.entry((consumer, &message.topic, key)).or_insert(message);
            if message.committed < latest.stated {
                violations.push(Violation::Overtaken {
                    id: message.id.clone(),
                    by: latest.id.clone(),
                    topic: message.topic.clone(),
                    key: key.clone(),
                    consumer: delivered.consumer.clone(),
                });
            }
            if message.stated > latest.stated {
                *latest = message;
            }
        }
    }

    fn sums(&self, violations: &mut Vec<Violation>) {
        let wrong = self.history.tallies.iter().filter(|tally| tally.effects != tally.says);
        violations.extend(wrong.map(|tally| Violation::WrongSum {
            consumer: tally.consumer.clone(),
            effects: tally.effects,
            says: tally.says,
        }));
    }

    fn is_for(&self, message: &Committed, consumer: &str) -> bool {
        self.audience.get(message.topic.as_str()).is_some_and(|names| names.contains(consumer))
    }
}

/// What is wrong with the fate of a message at one consumer.
fn fault(fate: Fate, given_up: bool, message: &Committed, consumer: &str) -> Option<Violation> {
    let (id, consumer) = (message.id.clone(), consumer.to_owned());
    match fate {
        Fate { effects: 2.., .. } => {
            Some(Violation::DoubleEffect { id, consumer, times: fate.effects })
        }
        Fate { arrivals: 0, .. } if !given_up => {
            Some(Violation::NeverArrived { id, consumer: Some(consumer) })
        }
        Fate { effects: 0, .. } if !given_up => Some(Violation::NoEffect { id, consumer }),
        Fate { .. } => None,
    }
}
