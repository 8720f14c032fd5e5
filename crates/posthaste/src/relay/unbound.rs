//! Topics and kinds that nobody is bound to, as this process last heard: so that it says so once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use posthaste_core::judge::OnUnroutable;
use posthaste_core::{Message, Outcome};

/// Most topics and kinds that are remembered; of more nothing is said.
const MOST: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Unbound(Mutex<BTreeSet<(String, String)>>);

/// What people should hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nobody is bound any more.
    Closed,
    /// Somebody is bound again.
    Open,
}

impl Unbound {
    /// Takes in the outcome of a message; whether it is news.
    pub(crate) fn hear(&self, message: &Message, outcome: &Outcome) -> Option<News> {
        let route = || (message.topic.clone(), message.kind.clone());
        let mut routes = self.routes();
        match outcome {
            Outcome::Unroutable { .. } if routes.len() < MOST => {
                routes.insert(route()).then_some(News::Closed)
            }
            Outcome::Accepted(_) if !routes.is_empty() => {
                routes.remove(&route()).then_some(News::Open)
            }
            _ => None,
        }
    }

    fn routes(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of such messages, for people.
pub(super) fn fate(policy: OnUnroutable) -> &'static str {
    match policy {
        OnUnroutable::Hold => "set aside until somebody is",
        OnUnroutable::Accept => "counted as sent",
        OnUnroutable::Dead => "kept as dead letters",
    }
}

#[cfg(test)]
mod tests {
    use posthaste_core::{MessageId, Timestamp};

    use super::*;

    #[test]
    fn a_topic_and_kind_is_news_once_each_way() {
        let unbound = Unbound::default();
        let message = |kind: &str| {
            let at = Timestamp::from_millis(0);
            Message::new(MessageId::from_bytes([0; 16]), "orders", kind, "{}", at)
        };
        let (returned, accepted) = (Outcome::unroutable("nobody"), Outcome::accepted());
        assert_eq!(unbound.hear(&message("a"), &accepted), None);
        assert_eq!(unbound.hear(&message("a"), &returned), Some(News::Closed));
        assert_eq!(unbound.hear(&message("a"), &returned), None);
        assert_eq!(unbound.hear(&message("b"), &accepted), None);
        assert_eq!(unbound.hear(&message("a"), &Outcome::refused("busy")), None);
        assert_eq!(unbound.hear(&message("a"), &accepted), Some(News::Open));
        assert_eq!(unbound.hear(&message("a"), &accepted), None);
        for kind in 0..MOST {
            assert_eq!(unbound.hear(&message(&kind.to_string()), &returned), Some(News::Closed));
        }
        assert_eq!(unbound.hear(&message("one more"), &returned), None);
    }
}
