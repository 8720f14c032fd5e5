//! The calls that a relay makes to its database and its broker.

use std::sync::Arc;

use posthaste_core::outbox::{Feed, Settlement};
use posthaste_core::relay::{Effect, Failure, FlightId, Input};
use posthaste_core::{Database, Lane, Message, Outcome, Publisher, StoreError, Verdict};

use super::RelayOptions;
use super::unbound::{News, fate};
use crate::progress::Progress;

/// Most entries that one round of pruning removes.
const PRUNE_LIMIT: usize = 1000;

/// What a call needs, shared by all of them.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) database: Arc<dyn Database>,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) lane: Lane,
    pub(super) owner: Arc<str>,
    pub(super) options: Arc<RelayOptions>,
    pub(super) progress: Arc<Progress>,
}

impl Hands {
    pub(super) async fn carry_out(self, effect: Effect) -> Input {
        let database = &self.database;
        match effect {
            Effect::Acquire { name, ttl } => {
                let claim = database.acquire(&name, &self.owner, ttl).await;
                Input::Claimed(self.heard("claim the lease", claim))
            }
            Effect::Renew { lease, ttl } => {
                let renewed = database.renew(&lease, ttl).await;
                Input::Renewed(self.heard("renew the lease", renewed))
            }
            Effect::Release { lease } => {
                // Not released is as good as run out: the others only wait longer.
                let _ = self.heard("release the lease", database.release(&lease).await);
                Input::Released
            }
            Effect::Load => {
                let checkpoint = database.checkpoint(&self.lane).await;
                Input::Loaded(self.heard("load the checkpoint", checkpoint))
            }
            Effect::Read { from, limit } => {
                let batch = database.read(&self.lane, &from, limit).await;
                Input::Read(self.heard("read the outbox", batch))
            }
            Effect::Ready { limit } => {
                let ready = database.ready(&self.lane, limit).await;
                Input::Ready(self.heard("read what waits", ready))
            }
            Effect::Settle { lease, settlement } => {
                let settled = database.settle(&lease, &settlement).await;
                if settled.is_ok() {
                    self.count(&settlement);
                }
                Input::Settled(self.heard("settle", settled))
            }
            Effect::Prune { lease } => {
                let pruned = database.prune_sent(&lease, self.options.keep_sent, PRUNE_LIMIT).await;
                let more = pruned.map(|removed| removed >= PRUNE_LIMIT as u64);
                Input::Pruned(self.heard("remove old entries", more))
            }
            Effect::Publish { flight, messages } => self.publish(flight, messages).await,
            Effect::Finish => Input::Tick,
        }
    }

    async fn publish(&self, flight: FlightId, messages: Vec<Message>) -> Input {
        match self.publisher.publish(&messages).await {
            Ok(outcomes) => {
                let known =
                    outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Unknown { .. }));
                if known && self.progress.broker_is_back() {
                    tracing::info!("the broker is back");
                }
                if let Some(Outcome::Unknown { detail }) =
                    outcomes.iter().find(|outcome| matches!(outcome, Outcome::Unknown { .. }))
                {
                    tracing::warn!(detail, "the broker did not say whether it has a message");
                    // One that never answers is as good as away, for whoever looks.
                    if !known {
                        self.progress.broker_is_away(detail.clone());
                    }
                }
                for (message, outcome) in messages.iter().zip(&outcomes) {
                    self.tell_of_route(message, outcome);
                }
                Input::Published { flight, outcomes: Some(outcomes) }
            }
            Err(away) => {
                if self.progress.broker_is_away(story(&away)) {
                    tracing::warn!(error = %story(&away), "the broker is away; waiting for it");
                }
                Input::Published { flight, outcomes: None }
            }
        }
    }

    /// Says once that nobody is bound to a topic and kind, and once that somebody is again.
    fn tell_of_route(&self, message: &Message, outcome: &Outcome) {
        let (topic, kind) = (message.topic.as_str(), message.kind.as_str());
        match (self.progress.unbound.hear(message, outcome), outcome) {
            (Some(News::Closed), Outcome::Unroutable { detail }) => {
                let fate = fate(self.options.unroutable(topic));
                tracing::warn!(
                    topic,
                    kind,
                    detail,
                    "nobody is bound to it; its messages are {fate}"
                );
            }
            (Some(News::Open), _) => tracing::info!(topic, kind, "somebody is bound to it again"),
            _ => {}
        }
    }

    /// Notes how the database is, and reduces an error to what the machine decides by.
    pub(super) fn heard<T>(&self, what: &str, answer: Result<T, StoreError>) -> Result<T, Failure> {
        match answer {
            Ok(value) => {
                if self.progress.database_is_back() {
                    tracing::info!("the database is back");
                }
                Ok(value)
            }
            Err(error) => {
                let failure = Failure::from(&error);
                if failure == Failure::Fenced {
                    tracing::warn!("another relay has taken over; standing by");
                } else if self.progress.database_is_away(story(&error)) {
                    tracing::warn!(error = %story(&error), "cannot {what}; trying again");
                }
                Err(failure)
            }
        }
    }

    fn count(&self, settlement: &Settlement) {
        let (mut sent, mut failed, mut dead, mut set_aside) = (0, 0, 0, 0);
        for settled in &settlement.verdicts {
            match &settled.verdict {
                Verdict::Sent => sent += 1,
                Verdict::Retry { detail, .. } => failed += u64::from(!detail.is_empty()),
                Verdict::Dead { reason, detail, .. } => {
                    dead += 1;
                    let (position, reason) = (settled.position.as_str(), reason.code());
                    tracing::error!(position, reason, detail, "a message became a dead letter");
                }
                Verdict::Unroutable { .. } => set_aside += u64::from(settled.feed == Feed::New),
                Verdict::Due | Verdict::Behind => {}
            }
        }
        self.progress.add(sent, failed, dead, set_aside);
    }
}

/// An error and its causes on one line.
pub(crate) fn story(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        story = format!("{story}: {next}");
        cause = next.source();
    }
    story
}
