//! The dead letters of subscriptions: looked at without being taken, put back into their own queue,
//! or given up.
//!
//! A queue has no index. To find a dead letter all before it are fetched and not acknowledged, and
//! the broker puts them back, in order, when the channel ends. Meanwhile nobody else sees them, so
//! that two people who look at once may each see a part.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Failure as Failed, Origin};
use posthaste_core::{BrokerError, Outcome, StoreError, Timestamp};
use tokio::sync::Mutex;

use crate::confirms::Parcel;
use crate::connection::Wire;
use crate::echo::Echo;
use crate::envelope;
use crate::error::Failure;
use crate::grip::now;
use crate::rabbit::RabbitMq;
use crate::subscriber::{Apart, Consuming};
use crate::topology::Names;

/// Dead letters that are looked at in one queue.
const MOST: usize = 10_000;
/// The code for what the broker itself gave up, as the embedded bus says it.
const MAX_DELIVERIES: &str = "max-deliveries";

/// The dead letters of some subscriptions, by references like `orders.shipping/ID`. Only the first
/// 10,000 of each are seen. A repost of several is not atomic: the error says how many were done.
/// Who did what is logged; the broker keeps no record.
pub struct RabbitDeadLetters {
    consuming: Arc<Consuming>,
    shelves: Vec<Shelf>,
    /// One look at a time: two would hide dead letters from each other.
    looking: Mutex<()>,
}

/// The dead letters of one subscription.
struct Shelf {
    topic: String,
    name: String,
    names: Names,
}

impl Shelf {
    /// What the references of its dead letters begin with.
    fn prefix(&self) -> String {
        format!("{}.{}/", self.topic, self.name)
    }
}

impl RabbitMq {
    /// The dead letters of these subscriptions, each a topic and a name.
    ///
    /// # Errors
    /// [`BrokerError::Rejected`] for a name that no subscription can have.
    pub fn dead_letters(
        &self,
        subscriptions: &[(String, String)],
    ) -> Result<RabbitDeadLetters, BrokerError> {
        let shelf = |(topic, name): &(String, String)| {
            let names = Names::new(&self.options, topic, name)?;
            Ok(Shelf { topic: topic.clone(), name: name.clone(), names })
        };
        let shelves: Result<_, Failure> = subscriptions.iter().map(shelf).collect();
        let consuming = Arc::clone(&self.consuming);
        Ok(RabbitDeadLetters { consuming, shelves: shelves?, looking: Mutex::default() })
    }
}

/// A walk through one queue; when it ends, what was not acknowledged is put back.
struct Walk {
    _apart: Apart,
    wire: Arc<Wire>,
    channel: Channel,
    queue: ShortString,
    prefix: String,
    seen: usize,
    references: HashSet<String>,
}

impl Walk {
    async fn begin(consuming: &Consuming, shelf: &Shelf) -> Result<Self, Failure> {
        // One that cannot be read ends the connection: it must not be that of consumers.
        let apart = consuming.apart();
        let wire = apart.0.wire().await?;
        let channel = wire.channel().await?;
        let (queue, prefix) = (shelf.names.dead.clone(), shelf.prefix());
        Ok(Self {
            _apart: apart,
            wire,
            channel,
            queue,
            prefix,
            seen: 0,
            references: HashSet::new(),
        })
    }

    /// The next one and its reference.
    async fn next(&mut self) -> Result<Option<(String, BasicGetMessage)>, Failure> {
        if self.seen == MOST {
            return Ok(None);
        }
        self.seen += 1;
        let getting = self.channel.basic_get(self.queue.clone(), BasicGetOptions::default());
        let what = format!("look into queue '{}'", self.queue);
        let Some(found) = self.wire.ask(&what, getting).await? else { return Ok(None) };
        let name = format!("{}{}", self.prefix, label(&found));
        let mut reference = name.clone();
        let mut copies = 1;
        while !self.references.insert(reference.clone()) {
            copies += 1;
            reference = format!("{name}~{copies}");
        }
        Ok(Some((reference, found)))
    }

    /// Has the broker forget some, and put back the others.
    async fn end(self, done: &[BasicGetMessage]) -> Result<(), Failure> {
        for one in done {
            let acking = one.acker.ack(BasicAckOptions::default());
            if !self.wire.ask("take a dead letter away", acking).await? {
                return Err(Failure::Unavailable(format!(
                    "the look into queue '{}' ended before a dead letter was taken away",
                    self.queue
                )));
            }
        }
        if !done.is_empty() {
            Echo::new(self.channel.clone(), self.wire.patience()).heard().await?;
        }
        let closing = self.channel.close(200, "bye".into());
        self.wire.ask("end a look into a queue", closing).await
    }
}

/// What one is called: its id, or a number made of all that is in it.
fn label(found: &BasicGetMessage) -> String {
    match found.properties.message_id() {
        Some(id) if !id.as_str().is_empty() => id.as_str().to_owned(),
        _ => {
            let mut hasher = DefaultHasher::new();
            found.data.hash(&mut hasher);
            format!("{:?}", envelope::revived(&found.properties)).hash(&mut hasher);
            envelope::header(&found.properties, envelope::DEAD_AT).hash(&mut hasher);
            format!("no-id-{:016x}", hasher.finish())
        }
    }
}

impl RabbitDeadLetters {
    /// Where a dead letter with this reference would be.
    fn shelf(&self, reference: &str) -> Result<&Shelf, Failure> {
        let is_here = |shelf: &&Shelf| reference.starts_with(&shelf.prefix());
        self.shelves.iter().find(is_here).ok_or_else(|| {
            Failure::Rejected(format!(
                "'{}' is not a dead letter of a subscription that is known here",
                reference.escape_debug()
            ))
        })
    }

    async fn find(&self, reference: &str) -> Result<Option<DeadLetter>, Failure> {
        let _one = self.looking.lock().await;
        let Ok(shelf) = self.shelf(reference) else { return Ok(None) };
        let mut walk = Walk::begin(&self.consuming, shelf).await?;
        let mut letter = None;
        while let Some((found, message)) = walk.next().await? {
            if found == reference {
                letter = Some(dead_letter(shelf, found, &message));
                break;
            }
        }
        walk.end(&[]).await?;
        Ok(letter)
    }

    async fn page(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, Failure> {
        let _one = self.looking.lock().await;
        let mut letters = Vec::new();
        let mut is_after = filter.after.is_none();
        for shelf in &self.shelves {
            let unwanted = filter.topic.as_ref().is_some_and(|topic| *topic != shelf.topic);
            // The pages before have shown all of the shelves before.
            let is_before = !is_after
                && filter.after.as_ref().is_some_and(|after| !after.starts_with(&shelf.prefix()));
            if unwanted || is_before || letters.len() >= filter.limit {
                continue;
            }
            let mut walk = Walk::begin(&self.consuming, shelf).await?;
            while letters.len() < filter.limit
                && let Some((reference, message)) = walk.next().await?
            {
                if !is_after {
                    is_after = filter.after.as_ref() == Some(&reference);
                    continue;
                }
                let letter = dead_letter(shelf, reference, &message);
                if filter.id.as_ref().is_none_or(|id| *id == letter.id) {
                    letters.push(letter);
                }
            }
            walk.end(&[]).await?;
        }
        match &filter.after {
            Some(after) if !is_after => Err(Failure::Rejected(format!(
                "'{}' is not there any more: list from the beginning",
                after.escape_debug()
            ))),
            _ => Ok(letters),
        }
    }

    /// Does something to each of these, all of which must be there.
    async fn act(&self, references: &[String], repost: bool) -> Result<(), Failure> {
        let _one = self.looking.lock().await;
        let mut taken = Vec::new();
        for shelf in &self.shelves {
            let mut wanted: HashSet<&String> =
                references.iter().filter(|it| it.starts_with(&shelf.prefix())).collect();
            if wanted.is_empty() {
                continue;
            }
            let mut walk = Walk::begin(&self.consuming, shelf).await?;
            let mut found = Vec::new();
            while !wanted.is_empty()
                && let Some((reference, message)) = walk.next().await?
            {
                if wanted.remove(&reference) {
                    found.push(message);
                }
            }
            taken.push((shelf, walk, found));
        }
        let found: usize = taken.iter().map(|(_, _, found)| found.len()).sum();
        let asked = references.iter().collect::<HashSet<_>>().len();
        if found != asked {
            for (_, walk, _) in taken {
                walk.end(&[]).await?;
            }
            return Err(Failure::Rejected(format!(
                "{} of {asked} are not there any more, and nothing was changed",
                asked - found
            )));
        }
        for (shelf, walk, found) in taken {
            let mut done = Vec::new();
            let mut failed = None;
            for message in found {
                if repost && let Err(failure) = self.put_back(shelf, &message).await {
                    failed = Some(failure);
                    break;
                }
                done.push(message);
            }
            walk.end(&done).await?;
            if let Some(failure) = failed {
                let (count, queue) = (done.len(), &shelf.names.queue);
                return Err(Failure::Unavailable(format!(
                    "stopped after {count} of queue '{queue}': {failure}"
                )));
            }
        }
        Ok(())
    }

    /// Publishes it to the queue it came from, and to no other subscription.
    async fn put_back(&self, shelf: &Shelf, message: &BasicGetMessage) -> Result<(), Failure> {
        let parcel = Parcel {
            exchange: ShortString::default(),
            routing_key: shelf.names.queue.clone(),
            properties: envelope::revived(&message.properties),
            payload: envelope::payload(message.data.clone()),
        };
        match self.consuming.publishing.send_raw(parcel).await? {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Unroutable { .. } => {
                Err(Failure::Missing(format!("queue '{}' does not exist", shelf.names.queue)))
            }
            Outcome::Refused(refusal) => Err(Failure::Unavailable(refusal.detail)),
            Outcome::Unknown { detail } => Err(Failure::Unavailable(detail)),
        }
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.page(filter).await?)
    }

    async fn get(&self, reference: &str) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.find(reference).await?)
    }

    async fn repost(&self, references: &[String], actor: &str) -> Result<(), StoreError> {
        self.act(references, true).await?;
        tracing::info!(?references, actor, "dead letters were reposted");
        Ok(())
    }

    async fn discard(
        &self,
        references: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.act(references, false).await?;
        tracing::info!(?references, actor, reason, "dead letters were discarded");
        Ok(())
    }
}

fn dead_letter(shelf: &Shelf, reference: String, found: &BasicGetMessage) -> DeadLetter {
    let properties: &BasicProperties = &found.properties;
    let header = |name: &str| envelope::header(properties, name);
    let text = |value: &Option<ShortString>| value.as_ref().map(|it| it.as_str().to_owned());
    let brokers = header("x-first-death-reason").map(|reason| match reason.as_str() {
        "delivery_limit" => MAX_DELIVERIES.to_owned(),
        _ => reason,
    });
    let reason = header(envelope::DEAD_REASON).or(brokers).unwrap_or_default();
    let detail = header(envelope::DEAD_DETAIL)
        .or_else(|| header("x-death").map(|deaths| format!("given up by the broker: {deaths}")))
        .unwrap_or_default();
    let attempts = header(envelope::DEAD_ATTEMPTS).and_then(|count| count.parse().ok());
    let attempts = attempts.unwrap_or(0);
    let died = envelope::micros(properties, envelope::DEAD_AT);
    let at = died.or_else(|| envelope::died_at(properties)).unwrap_or_else(now);
    let headers = envelope::headers(properties);
    let headers: serde_json::Map<String, serde_json::Value> =
        headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    let stated_at = envelope::micros(properties, envelope::STATED_AT)
        .or_else(|| seconds.map(|it| Timestamp::from_millis(it.saturating_mul(1000))));
    DeadLetter {
        reference,
        origin: Origin::Broker(format!("{}/{}", shelf.topic, shelf.name)),
        id: text(properties.message_id()).unwrap_or_default(),
        topic: shelf.topic.clone(),
        kind: text(properties.kind()).unwrap_or_default(),
        key: header(envelope::KEY),
        headers: serde_json::Value::Object(headers).to_string(),
        content_type: text(properties.content_type()),
        payload: envelope::payload(found.data.clone()),
        stated_at,
        reason,
        detail: detail.clone(),
        attempts,
        first_failed_at: None,
        dead_at: at,
        history: vec![Failed { at, attempt: attempts, detail }],
        parked: false,
        reposted: false,
    }
}
