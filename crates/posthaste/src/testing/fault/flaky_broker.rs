//! A broker that answers for single messages as a script says: refused, unknown, or with its
//! channel broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Publisher};
use posthaste_core::retry::Jitter;
use posthaste_core::{Message, MessageId, Outcome, Unavailable};

use super::RewiredBroker;

/// What happens to a message that is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFault {
    /// It is published.
    Pass,
    /// It is not published, and refused for now.
    Refuse,
    /// It is not published, and refused for good.
    RefuseForGood,
    /// It is published, and the answer is lost: unknown.
    LoseAnswer,
    /// It is not published, and nobody can tell: unknown.
    LoseMessage,
    /// It makes the broker close the channel: those before it in the call are published, and
    /// every message of the call is unknown.
    BreakChannel,
    /// The broker is not there: nothing of the call is published, and that is known.
    Unavailable,
}

type Script = dyn Fn(&Message, u32) -> PublishFault + Send + Sync;

/// Makes brokers whose publishers follow a script. Where prefixes per key are promised, what
/// follows a message that was not accepted is not published either and shares its outcome, so
/// that the promise holds.
pub struct FlakyBroker;

impl FlakyBroker {
    /// `script` is asked for every message that is handed over, with how often this message has
    /// been handed over so far (counted from 1).
    pub fn scripted(
        inner: Arc<dyn Broker>,
        script: impl Fn(&Message, u32) -> PublishFault + Send + Sync + 'static,
    ) -> RewiredBroker {
        let prefix = inner.promises().prefix_per_key;
        let script: Arc<Script> = Arc::new(script);
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        RewiredBroker::new(inner).publishing(move |inner| {
            let (script, seen) = (script.clone(), seen.clone());
            Arc::new(FlakyPublisher { inner, script, seen, prefix })
        })
    }

    /// Of a thousand messages, about so many meet a fault of any kind but a refusal for good. The
    /// same seed and the same calls give the same faults.
    pub fn seeded(inner: Arc<dyn Broker>, seed: u64, per_thousand: u64) -> RewiredBroker {
        const FAULTS: [PublishFault; 4] = [
            PublishFault::Refuse,
            PublishFault::LoseAnswer,
            PublishFault::LoseMessage,
            PublishFault::Unavailable,
        ];
        let jitter = Mutex::new(Jitter::new(seed));
        Self::scripted(inner, move |_, _| {
            let mut jitter = jitter.lock().unwrap_or_else(PoisonError::into_inner);
            let (drawn, kind) = (jitter.draw() % 1000, jitter.draw() % 4);
            match usize::try_from(kind) {
                Ok(kind) if drawn < per_thousand => FAULTS[kind],
                _ => PublishFault::Pass,
            }
        })
    }
}

struct FlakyPublisher {
    inner: Arc<dyn Publisher>,
    script: Arc<Script>,
    seen: Arc<Mutex<BTreeMap<MessageId, u32>>>,
    prefix: bool,
}

/// A call, planned: what is handed on, and what the others are told.
#[derive(Default)]
struct Planned {
    passed: Vec<Message>,
    /// One for each message: `None` is answered by the broker, the flag loses that answer.
    outcomes: Vec<(Option<Outcome>, bool)>,
    broken: bool,
}

#[async_trait]
impl Publisher for FlakyPublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let Some(planned) = self.plan(messages) else {
            return Err(Unavailable::new("a script says that the broker is not there"));
        };
        let mut answers = match &planned.passed[..] {
            [] => Vec::new().into_iter(),
            passed => self.inner.publish(passed).await?.into_iter(),
        };
        let lost = || Outcome::unknown("a script lost the answer");
        let outcomes = planned.outcomes.into_iter().map(|(outcome, lose)| match outcome {
            Some(outcome) => outcome,
            None => answers.next().filter(|_| !lose).unwrap_or_else(lost),
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        if planned.broken {
            return Ok(messages.iter().map(|_| Outcome::unknown("the channel broke")).collect());
        }
        Ok(outcomes)
    }
}

impl FlakyPublisher {
    /// `None` if the whole call is unavailable.
    fn plan(&self, messages: &[Message]) -> Option<Planned> {
        let mut planned = Planned::default();
        let mut failed: BTreeMap<(&str, &str), Outcome> = BTreeMap::new();
        let mut whole = BTreeSet::new();
        for message in messages {
            let address = message.key.as_deref().map(|key| (message.topic.as_str(), key));
            let follows = address.and_then(|address| failed.get(&address)).cloned();
            let fault = self.ask(message);
            whole.insert(fault == PublishFault::Unavailable);
            let (outcome, lose) = match (follows, fault) {
                _ if planned.broken => (Some(Outcome::unknown("the channel broke")), false),
                (Some(outcome), _) => (Some(outcome), false),
                (None, PublishFault::Pass | PublishFault::Unavailable) => (None, false),
                (None, PublishFault::LoseAnswer) => (None, true),
                (None, PublishFault::Refuse) => (Some(Outcome::refused("not now")), false),
                (None, PublishFault::RefuseForGood) => {
                    (Some(Outcome::refused_for_good("never")), false)
                }
                (None, PublishFault::LoseMessage) => {
                    (Some(Outcome::unknown("a script lost the message")), false)
                }
                (None, PublishFault::BreakChannel) => {
                    planned.broken = true;
                    (Some(Outcome::unknown("the channel broke")), false)
                }
            };
            if let Some(address) = address.filter(|_| self.prefix) {
                let unknown = lose.then(|| Outcome::unknown("the one before it is unknown"));
                if let Some(outcome) = unknown.or_else(|| follower_of(outcome.as_ref())) {
                    failed.entry(address).or_insert(outcome);
                }
            }
            if outcome.is_none() {
                planned.passed.push(message.clone());
            }
            planned.outcomes.push((outcome, lose));
        }
        (!whole.contains(&true)).then_some(planned)
    }

    fn ask(&self, message: &Message) -> PublishFault {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let times = seen.entry(message.id).or_insert(0);
        *times = times.saturating_add(1);
        (self.script)(message, *times)
    }
}

/// What those behind a message of their key are told.
fn follower_of(outcome: Option<&Outcome>) -> Option<Outcome> {
    match outcome? {
        Outcome::Accepted(_) => None,
        Outcome::Refused(_) | Outcome::Unroutable { .. } => {
            Some(Outcome::refused("the one before it was refused"))
        }
        Outcome::Unknown { .. } => Some(Outcome::unknown("the one before it is unknown")),
    }
}
