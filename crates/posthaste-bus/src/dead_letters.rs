//! The dead letters of the bus, by references like `orders/shipping#17`.

use async_trait::async_trait;
use posthaste_core::StoreError;
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Failure, Origin};

use crate::bus::Bus;
use crate::parcel::body;
use crate::protocol::{Dead, Reply, Request};
use crate::shared::unexpected;

#[async_trait]
impl DeadLetters for Bus {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        let DeadFilter { topic, id, after, limit } = filter.clone();
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        match self.ask_anyone(Request::ListDead { topic, id, after, most }).await? {
            Reply::Dead(letters) => Ok(letters.into_iter().map(dead_letter).collect()),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError> {
        match self.ask_anyone(Request::GetDead { reference: reference.to_owned() }).await? {
            Reply::Dead(letters) => Ok(letters.into_iter().next().map(dead_letter)),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError> {
        let (references, actor) = (references.to_vec(), actor.to_owned());
        match self.ask(Request::Repost { references, actor }).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other).into()),
        }
    }

    async fn discard(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let (references, actor) = (references.to_vec(), actor.to_owned());
        let request = Request::Discard { references, actor, reason: reason.to_owned() };
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other).into()),
        }
    }
}

fn dead_letter(dead: Dead) -> DeadLetter {
    let Dead { subscription, sequence, deliveries, reason, detail, at, parcel } = dead;
    let headers: serde_json::Map<String, serde_json::Value> =
        parcel.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    DeadLetter {
        reference: format!("{subscription}#{sequence}"),
        origin: Origin::Broker(subscription),
        id: parcel.id.to_string(),
        topic: parcel.address,
        kind: parcel.kind,
        key: parcel.key,
        headers: serde_json::Value::Object(headers).to_string(),
        content_type: parcel.content_type,
        payload: body(parcel.payload, parcel.is_text),
        stated_at: Some(parcel.stated_at),
        reason,
        detail: detail.clone(),
        attempts: deliveries,
        first_failed_at: None,
        dead_at: at,
        history: vec![Failure { at, attempt: deliveries, detail }],
        parked: false,
        reposted: false,
    }
}
