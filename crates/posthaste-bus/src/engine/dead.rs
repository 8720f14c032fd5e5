//! Dead letters: listed, reposted, discarded. What a person does is recorded in the same
//! transaction, for all that were named or for none.

use std::collections::{HashMap, HashSet};

use posthaste_core::MessageId;

use super::Engine;
use super::book::Now;
use super::change::Change;
use super::ledger::Found;
use super::requests::{Done, rejected};
use crate::protocol::{Dead, Reply};
use crate::store::{DeadKey, DeadRow};

/// Bytes of one page of dead letters, at most (one may be larger).
const PAGE_BYTES: usize = 8 * 1024 * 1024;

impl Engine {
    pub(super) fn list_dead(
        &mut self,
        topic: Option<&str>,
        id: Option<&str>,
        after: Option<&str>,
        most: u64,
    ) -> Done {
        let id = match id.map(str::parse::<MessageId>) {
            None => None,
            Some(Ok(id)) => Some(id),
            // What is not an id is the id of nothing here.
            Some(Err(_)) => return Ok(Reply::Dead(Vec::new())),
        };
        let after = match after {
            None => (0, 0),
            Some(reference) => match split(reference) {
                Some((path, sequence)) => (sequence, self.find(path).unwrap_or(i64::MAX)),
                None => return Ok(rejected(not_a_reference(reference))),
            },
        };
        let rows = self.store.dead(topic, id, after, most, PAGE_BYTES)?;
        Ok(Reply::Dead(rows.into_iter().map(|row| self.dead(row)).collect()))
    }

    pub(super) fn get_dead(&mut self, reference: &str) -> Done {
        let key = self.dead_in(&self.paths(), reference)?;
        let row = match key {
            Some(key) => self.store.dead_letter(key.subscription, key.sequence)?,
            None => None,
        };
        Ok(Reply::Dead(row.into_iter().map(|row| self.dead(row)).collect()))
    }

    pub(super) fn repost(&mut self, now: Now, references: &[String], actor: &str) -> Done {
        let rows = match self.dead_all(references)? {
            Ok(rows) => rows,
            Err(reply) => return Ok(reply),
        };
        for (reference, row) in references.iter().zip(&rows) {
            let DeadKey { subscription, sequence, .. } = *row;
            self.store.record_act(now.wall, actor, "repost", reference, row.id, None)?;
            let again = Change::Again { sequence, deliveries: 0, wait: None, aside: true };
            self.store.write_change(subscription, &again, now.wall)?;
        }
        for DeadKey { subscription, sequence, key, .. } in rows {
            if let Some(desk) = self.book.desks.get_mut(&subscription) {
                let key = key.map(Into::into);
                let deliveries = Some(0);
                desk.ledger.admit(Found { sequence, key, deliveries, due: None, aside: true });
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn discard(
        &mut self,
        now: Now,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Done {
        let rows = match self.dead_all(references)? {
            Ok(rows) => rows,
            Err(reply) => return Ok(reply),
        };
        for (reference, row) in references.iter().zip(rows) {
            let DeadKey { subscription, sequence, id, .. } = row;
            self.store.record_act(now.wall, actor, "discard", reference, id, Some(reason))?;
            let low = self.book.desks.get(&subscription).map_or(0, |desk| desk.ledger.low());
            self.write_change(subscription, Change::Removed { sequence }, low, now)?;
        }
        Ok(Reply::Done)
    }

    /// A body that was held may now be removed, although the removal has passed it before.
    pub(super) fn body_is_free(&mut self, subscription: i64, sequence: i64) {
        let address = self.book.desks.get(&subscription).map(|desk| desk.address);
        if let Some(place) = address.and_then(|id| self.book.places.get_mut(&id)) {
            place.cleaned = place.cleaned.min(sequence - 1);
            self.is_littered = true;
        }
    }

    /// The rows of all references, each named once, or why not.
    fn dead_all(&self, references: &[String]) -> rusqlite::Result<Result<Vec<DeadKey>, Reply>> {
        let paths = self.paths();
        let mut named = HashSet::with_capacity(references.len());
        let mut rows = Vec::with_capacity(references.len());
        for reference in references {
            let Some(row) = self.dead_in(&paths, reference)? else {
                return Ok(Err(rejected(format!(
                    "there is no dead letter {}; nothing was changed",
                    shown(reference)
                ))));
            };
            if !named.insert((row.subscription, row.sequence)) {
                return Ok(Err(rejected(format!(
                    "dead letter {} is named twice; nothing was changed",
                    shown(reference)
                ))));
            }
            rows.push(row);
        }
        Ok(Ok(rows))
    }

    /// Subscriptions by their names for people, of which two can be equal (`a/b` of `c`, `a` of
    /// `b/c`); the number of a message then tells which one is meant.
    fn paths(&self) -> HashMap<String, Vec<i64>> {
        let mut paths: HashMap<String, Vec<i64>> = HashMap::new();
        for id in self.book.desks.keys() {
            paths.entry(self.book.path(*id)).or_default().push(*id);
        }
        paths
    }

    fn dead_in(
        &self,
        paths: &HashMap<String, Vec<i64>>,
        reference: &str,
    ) -> rusqlite::Result<Option<DeadKey>> {
        let Some((path, sequence)) = split(reference) else { return Ok(None) };
        for subscription in paths.get(path).into_iter().flatten() {
            if let Some(row) = self.store.dead_key(*subscription, sequence)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    fn find(&self, path: &str) -> Option<i64> {
        self.book.desks.keys().copied().find(|id| self.book.path(*id) == path)
    }

    fn dead(&self, row: DeadRow) -> Dead {
        let DeadRow { subscription, sequence, deliveries, reason, detail, at, parcel } = row;
        let subscription = self.book.path(subscription);
        Dead { subscription, sequence, deliveries, reason, detail, at, parcel }
    }
}

/// `orders/shipping#17` is number 17 of the subscription `orders/shipping`.
fn split(reference: &str) -> Option<(&str, i64)> {
    let (path, sequence) = reference.rsplit_once('#')?;
    Some((path, sequence.parse().ok()?))
}

fn not_a_reference(reference: &str) -> String {
    format!("{} is not a reference like orders/shipping#17", shown(reference))
}

fn shown(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_from_their_end() {
        assert_eq!(split("orders/shipping#17"), Some(("orders/shipping", 17)));
        assert_eq!(split("a#b#3"), Some(("a#b", 3)));
        for wrong in ["orders", "orders#", "orders#x", ""] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert!(not_a_reference("\u{1b}x").contains("\\u{1b}"));
    }
}
