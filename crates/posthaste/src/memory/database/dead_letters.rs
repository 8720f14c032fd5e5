//! Dead letters: kept whole until an operator reposts or discards them, which is recorded.

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};

use super::MemoryDatabase;
use super::side_table::Held;
use super::state::{AuditAct, AuditRecord, DeadRow, DeadSource, History, State};

#[async_trait]
impl DeadLetters for MemoryDatabase {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        let state = self.shared.migrated()?;
        let after = filter.after.as_deref().map(number).transpose()?.unwrap_or(0);
        let wanted = |letter: &&DeadLetter| {
            filter.topic.as_ref().is_none_or(|topic| *topic == letter.topic)
                && filter.id.as_ref().is_none_or(|id| *id == letter.id)
        };
        let rows = state.dead.range(after + 1..).map(|(_, row)| &row.letter);
        Ok(rows.filter(wanted).take(filter.limit).cloned().collect())
    }

    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError> {
        let state = self.shared.migrated()?;
        let row = reference.parse().ok().and_then(|number: u64| state.dead.get(&number));
        Ok(row.map(|row| row.letter.clone()))
    }

    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError> {
        self.act(references, actor, "", AuditAct::Repost)
    }

    async fn discard(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        if reason.trim().is_empty() {
            return Err(StoreError::rejected("a discard needs a reason"));
        }
        self.act(references, actor, reason, AuditAct::Discard)
    }
}

impl MemoryDatabase {
    fn act(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
        act: AuditAct,
    ) -> Result<(), StoreError> {
        let at = self.shared.clock.now();
        let mut state = self.shared.migrated()?;
        let mut numbers = Vec::with_capacity(references.len());
        for reference in references {
            let number = number(reference)?;
            let row = state.dead.get(&number).filter(|_| !numbers.contains(&number));
            let row = row.ok_or_else(|| missing(reference))?;
            if row.letter.reposted && act == AuditAct::Repost {
                return Err(StoreError::rejected(format!(
                    "dead letter {reference} was reposted and waits for its consumer; nothing was \
                     changed"
                )));
            }
            numbers.push(number);
        }
        for (number, reference) in numbers.into_iter().zip(references) {
            let Some(row) = state.dead.remove(&number) else { return Err(missing(reference)) };
            match act {
                AuditAct::Repost => state.send_again(number, row, at),
                AuditAct::Discard => state.give_up(row, at),
            }
            let (actor, reason) = (actor.to_owned(), reason.to_owned());
            let reference = reference.clone();
            state.audit.push(AuditRecord { at, actor, act, reference, reason });
        }
        drop(state);
        self.shared.announce();
        Ok(())
    }
}

impl State {
    fn send_again(&mut self, number: u64, mut row: DeadRow, now: posthaste_core::Timestamp) {
        match row.source {
            DeadSource::Relay { destination, seq } => {
                let place = self.rows.get(&seq).map(|row| row.place(seq)).unwrap_or_default();
                let table = &mut self.destination(&destination).side_table;
                let side = table.hold(seq, place.clone(), Held::Retry { at: now });
                (side.attempts, side.detail) = (0, None);
                side.history = History::default();
                table.normalise(&place.address, now);
            }
            DeadSource::Consumer { ref consumer, ref message } => {
                let key = (consumer.clone(), message.id);
                self.inbox.remove(&key);
                self.attempts.remove(&key);
                row.letter.reposted = true;
                self.dead.insert(number, row);
            }
        }
    }

    fn give_up(&mut self, row: DeadRow, now: posthaste_core::Timestamp) {
        match row.source {
            DeadSource::Relay { destination, seq } => {
                let table = &mut self.destination(&destination).side_table;
                if let Some(side) = table.rows.remove(&seq) {
                    table.normalise(&side.place.address, now);
                }
            }
            DeadSource::Consumer { consumer, message } => {
                self.accept(consumer, message.id, now, false);
            }
        }
    }
}

fn number(reference: &str) -> Result<u64, StoreError> {
    reference.parse().map_err(|_| missing(reference))
}

fn missing(reference: &str) -> StoreError {
    let reason = format!("there is no dead letter '{reference}'; nothing was changed");
    StoreError::rejected(reason)
}
