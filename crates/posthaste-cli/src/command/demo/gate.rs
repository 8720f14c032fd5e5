//! How many messages may be committed by now.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Lets writers commit messages up to a number that is raised step by step, and ends them when
/// the last one is committed.
#[derive(Debug)]
pub(super) struct Gate {
    total: u64,
    opened: AtomicU64,
    committed: AtomicU64,
    permits: Semaphore,
}

/// Leave to commit some messages; dropping it gives them back.
pub(super) struct Leave<'g> {
    gate: &'g Gate,
    permits: SemaphorePermit<'g>,
}

impl Gate {
    /// A gate that is shut, for this many messages in all.
    pub(super) fn new(total: u64) -> Self {
        let (opened, committed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { total, opened, committed, permits: Semaphore::new(0) }
    }

    /// Lets this many pass in all; never fewer than before.
    pub(super) fn open_to(&self, number: u64) {
        let number = number.min(self.total);
        let before = self.opened.fetch_max(number, Ordering::Relaxed);
        let more = number.saturating_sub(before);
        self.permits.add_permits(usize::try_from(more).unwrap_or(0));
    }

    /// How many are committed.
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits for leave to commit at least one message and takes up to `most`; `None` once all
    /// are committed.
    pub(super) async fn pass(&self, most: u32) -> Option<Leave<'_>> {
        let mut permits = self.permits.acquire().await.ok()?;
        for _ in 1..most {
            match self.permits.try_acquire() {
                Ok(another) => permits.merge(another),
                Err(_) => break,
            }
        }
        Some(Leave { gate: self, permits })
    }
}

impl Leave<'_> {
    /// For how many messages.
    pub(super) fn messages(&self) -> usize {
        self.permits.num_permits()
    }

    /// They are committed.
    pub(super) fn used(self) {
        let messages = u64::try_from(self.messages()).unwrap_or(0);
        self.permits.forget();
        let before = self.gate.committed.fetch_add(messages, Ordering::Relaxed);
        if before + messages >= self.gate.total {
            self.gate.permits.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exactly_as_many_pass_as_were_let() {
        let gate = Gate::new(5);
        gate.open_to(3);
        let three = gate.pass(9).await.expect("open");
        assert_eq!(three.messages(), 3);
        drop(three);
        let two = gate.pass(2).await.expect("open");
        two.used();
        gate.open_to(2);
        assert_eq!(gate.permits.available_permits(), 1, "a gate never shuts");
        gate.open_to(99);
        let rest = gate.pass(9).await.expect("open");
        assert_eq!(rest.messages(), 3);
        rest.used();
        assert!(gate.pass(1).await.is_none(), "all are committed");
    }
}
