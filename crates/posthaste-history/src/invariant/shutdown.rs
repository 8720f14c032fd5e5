//! I13: after a node was asked to stop it reads nothing and takes no lease, everything that it was
//! at is brought to an end or given back, its leases are released, and it ends in time with exit
//! status 0.
//!
//! A stop during which the node is hit by a fault is not judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, LeaseAct, Line, Stopped};
use crate::examination::Examination;
use crate::index::{Index, Seen};
use crate::violation::Harm;

/// What a node has open.
#[derive(Default)]
struct Open<'h> {
    asked: Option<&'h Line>,
    flights: BTreeMap<(&'h str, &'h str), &'h Line>,
    deliveries: BTreeMap<(&'h str, &'h str), &'h Line>,
    leases: BTreeMap<&'h str, &'h Line>,
    claims: Vec<&'h Line>,
}

pub(super) fn examine(index: &Index<'_>, examination: &mut Examination) {
    let asked: BTreeSet<&str> =
        index.kinds.stopping.iter().map(|stopping| stopping.line.node.as_str()).collect();
    let mut nodes: BTreeMap<&str, Open<'_>> = BTreeMap::new();
    for line in index.lines.iter().filter(|line| asked.contains(line.node.as_str())) {
        let node = nodes.entry(&line.node).or_default();
        match &line.event {
            Event::RelayStarted(_) | Event::ConsumerStarted(_) if node.asked.is_some() => {
                *node = Open::default();
            }
            Event::Stopping(_) => node.asked = Some(line),
            Event::Stopped(stopped) => {
                let node = std::mem::take(node);
                if let Some(asked) = node.asked.filter(|asked| !is_hit(index, asked, line)) {
                    examination.look();
                    ended(index, &node, asked, line, stopped, examination);
                }
            }
            _ => node.take(line),
        }
    }
}

impl<'h> Open<'h> {
    fn take(&mut self, line: &'h Line) {
        match &line.event {
            Event::Read(read) if self.asked.is_some() && !read.entries.is_empty() => {
                self.claims.push(line);
            }
            Event::Publishing(publishing) => {
                let ids = publishing.ids.iter();
                self.flights.extend(ids.map(|id| ((&*publishing.flight, &**id), line)));
            }
            Event::Outcome(outcome) => {
                self.flights.remove(&(&*outcome.flight, &*outcome.id));
            }
            Event::Delivered(delivered) => {
                self.deliveries.insert((&delivered.consumer, &delivered.id), line);
            }
            Event::Answered(answered) => {
                self.deliveries.remove(&(&*answered.consumer, &*answered.id));
            }
            Event::Lease(lease) => match lease.act {
                LeaseAct::Granted => {
                    self.leases.insert(&lease.name, line);
                    self.claims.extend(self.asked.is_some().then_some(line));
                }
                LeaseAct::Renewed => {}
                LeaseAct::Released | LeaseAct::Lost => {
                    self.leases.remove(lease.name.as_str());
                }
            },
            _ => {}
        }
    }
}

fn is_hit(index: &Index<'_>, asked: &Line, ended: &Line) -> bool {
    index.faults_within(asked.at, ended.at).next().is_some()
}

fn ended(
    index: &Index<'_>,
    open: &Open<'_>,
    asked: &Line,
    ended: &Line,
    stopped: &Stopped,
    examination: &mut Examination,
) {
    let node = ended.node.as_str();
    let grace = grace(index, node);
    let mut find = |what: String, line| {
        examination.find(Harm::Other, node, what, &[asked, line]);
    };
    if let Some(claim) = open.claims.first() {
        find(format!("{node} took on more after it was asked to stop"), claim);
    }
    if let Some(((_, id), line)) = open.flights.first_key_value() {
        find(format!("{node} stopped while message {id} was on its way to the broker"), line);
    }
    // Whoever does not note how deliveries are settled is not judged by that.
    let notes_answers = index.kinds.answers.iter().any(|answered| answered.line.node == node);
    if let Some(((_, id), line)) = open.deliveries.first_key_value().filter(|_| notes_answers) {
        find(format!("{node} stopped without settling message {id}"), line);
    }
    if let Some((name, line)) = open.leases.first_key_value() {
        find(format!("{node} stopped and left lease {name} to expire"), line);
    }
    if stopped.exit != 0 {
        find(format!("{node} stopped with exit status {}", stopped.exit), ended);
    }
    if grace.is_some_and(|grace| ended.at.saturating_sub(asked.at) > grace) {
        find(format!("{node} took longer to stop than it may"), ended);
    }
}

/// How long a stop of a node may take.
fn grace(index: &Index<'_>, node: &str) -> Option<u64> {
    fn of<T>(seen: &[Seen<'_, T>], node: &str, grace: fn(&T) -> Option<u64>) -> Option<u64> {
        let of_node = seen.iter().filter(|one| one.line.node == node);
        of_node.filter_map(|one| grace(one.event)).max()
    }
    let relay = of(&index.kinds.relays, node, |relay| relay.grace);
    relay.max(of(&index.kinds.consumers, node, |consumer| consumer.grace))
}
