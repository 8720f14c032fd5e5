//! A broker that says which topics and kinds nobody is bound to.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Publisher};
use posthaste_core::{Message, Outcome, Unavailable};

use super::RewiredBroker;

/// Topics and kinds that nobody is bound to. Clones are the same list. All others are bound.
#[derive(Clone, Debug, Default)]
pub struct Bindings(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Bindings {
    /// From now on nobody is bound to this kind on this topic.
    pub fn unbind(&self, topic: &str, kind: &str) {
        self.unbound().insert((topic.to_owned(), kind.to_owned()));
    }

    /// From now on somebody is.
    pub fn bind(&self, topic: &str, kind: &str) {
        self.unbound().remove(&(topic.to_owned(), kind.to_owned()));
    }

    fn outcome(&self, message: &Message) -> Option<Outcome> {
        let route = (message.topic.clone(), message.kind.clone());
        let unbound = self.unbound().contains(&route);
        let detail = || format!("nobody is bound to '{}' with '{}'", route.0, route.1);
        unbound.then(|| Outcome::unroutable(detail()))
    }

    fn unbound(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes brokers that return messages of a topic and kind that nobody is bound to, as a broker
/// with bindings does. Breaks no rule: what is returned is not in the broker.
pub struct UnboundBroker;

impl UnboundBroker {
    /// The broker inside with bindings; everything is bound at first.
    #[expect(clippy::new_ret_no_self, reason = "an unbound broker is a rewired one")]
    pub fn new(inner: Arc<dyn Broker>) -> (RewiredBroker, Bindings) {
        let bindings = Bindings::default();
        let list = bindings.clone();
        let broker = RewiredBroker::new(inner).publishing(move |inner| {
            let bindings = list.clone();
            Arc::new(Returning { inner, bindings })
        });
        (broker, bindings)
    }
}

struct Returning {
    inner: Arc<dyn Publisher>,
    bindings: Bindings,
}

#[async_trait]
impl Publisher for Returning {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        let returned: Vec<Option<Outcome>> =
            messages.iter().map(|message| self.bindings.outcome(message)).collect();
        let passed = messages.iter().zip(&returned).filter(|(_, returned)| returned.is_none());
        let passed: Vec<Message> = passed.map(|(message, _)| message.clone()).collect();
        let mut answers =
            if passed.is_empty() { Vec::new() } else { self.inner.publish(&passed).await? }
                .into_iter();
        let unknown = || Outcome::unknown("the broker inside gave no outcome");
        let outcome = |returned: Option<Outcome>| {
            returned.unwrap_or_else(|| answers.next().unwrap_or_else(unknown))
        };
        Ok(returned.into_iter().map(outcome).collect())
    }
}
