//! Dead letters: looked at, put back, given up.

use std::sync::Arc;

use posthaste_conformance::run;
use posthaste_conformance::sample::keyed;
use posthaste_core::broker::{Broker, Subscriber, Subscription};
use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Origin};
use posthaste_core::{Message, StoreError};
use posthaste_rabbitmq::{RabbitDeadLetters, RabbitMq};
use posthaste_servers::TestVhost;

use crate::support::*;

struct Case {
    _vhost: TestVhost,
    rabbit: Arc<RabbitMq>,
    subscriber: Box<dyn Subscriber>,
    /// Of another subscription of the same topic.
    other: Box<dyn Subscriber>,
    letters: RabbitDeadLetters,
    stated: Vec<Message>,
}

/// Three dead letters of the subscription `one`.
async fn case() -> Case {
    let vhost = vhost().await;
    let rabbit = open(&vhost.url());
    let mut subscriber = subscribe(&rabbit, "orders").await;
    let subscription = Subscription::new("orders", "other");
    let mut other = rabbit.subscriber(&subscription).await.expect("a subscription");
    let stated: Vec<_> = (0..3).map(|n| keyed("orders", "a", &n.to_string())).collect();
    accept(&rabbit, &stated).await;
    arrive(other.as_mut(), &ids(&stated)).await;
    for _ in &stated {
        let delivery = one(subscriber.as_mut()).await;
        delivery.dead_letter("rejected", "no sense").await.expect("dead letter");
    }
    let names = ["one", "other"].map(|name| ("orders".to_owned(), name.to_owned()));
    let letters = rabbit.dead_letters(&names).expect("good names");
    Case { _vhost: vhost, rabbit, subscriber, other, letters, stated }
}

impl Case {
    async fn list(&self) -> Vec<DeadLetter> {
        self.page(&DeadFilter { limit: 100, ..DeadFilter::default() }).await
    }

    async fn page(&self, filter: &DeadFilter) -> Vec<DeadLetter> {
        within("a list", self.letters.list(filter)).await.expect("list")
    }

    fn reference(&self, n: usize) -> String {
        format!("orders.one/{}", self.stated[n].id)
    }
}

#[test]
fn looking_at_them_takes_nothing_away() {
    run("looking", async {
        let case = case().await;
        for _ in 0..3 {
            let letters = case.list().await;
            let shown: Vec<_> = letters.iter().map(|letter| letter.reference.clone()).collect();
            assert_eq!(shown, [case.reference(0), case.reference(1), case.reference(2)]);
            let first = &letters[0];
            assert_eq!(first.origin, Origin::Broker("orders/one".into()));
            assert_eq!((first.reason.as_str(), first.detail.as_str()), ("rejected", "no sense"));
            assert_eq!((first.key.as_deref(), first.attempts), (Some("a"), 1));
            assert_eq!(first.payload.as_text(), Some("0"));
            assert_eq!(first.stated_at, Some(case.stated[0].stated_at));
        }
        let after = Some(case.reference(0));
        let page = case.page(&DeadFilter { after, limit: 1, ..DeadFilter::default() }).await;
        assert_eq!((page.len(), &page[0].reference), (1, &case.reference(1)));
        let id = Some(case.stated[2].id.to_string());
        let found = case.page(&DeadFilter { id, limit: 9, ..DeadFilter::default() }).await;
        assert_eq!((found.len(), &found[0].reference), (1, &case.reference(2)));
        let topic = Some("invoices".to_owned());
        let none = case.page(&DeadFilter { topic, limit: 9, ..DeadFilter::default() }).await;
        assert!(none.is_empty());
        let got = case.letters.get(&case.reference(1)).await.expect("get");
        assert_eq!(got.map(|letter| letter.reference), Some(case.reference(1)));
        assert!(case.letters.get("orders.one/nothing").await.expect("get").is_none());
        assert!(case.letters.get("unknown.one/x").await.expect("get").is_none());
    });
}

#[test]
fn a_reposted_one_goes_to_its_own_subscription_only() {
    run("reposted", async {
        let mut case = case().await;
        case.letters.repost(&[case.reference(1)], "ann").await.expect("repost");
        let again = one(case.subscriber.as_mut()).await;
        assert_eq!((&again.message, again.attempt), (&case.stated[1], 1), "as it was stated");
        again.complete().await.expect("complete");
        let left: Vec<_> = case.list().await.into_iter().map(|letter| letter.reference).collect();
        assert_eq!(left, [case.reference(0), case.reference(2)]);
        let last = keyed("orders", "a", "last");
        accept(&case.rabbit, std::slice::from_ref(&last)).await;
        assert_eq!(one(case.other.as_mut()).await.message.id, last.id, "the other got no copy");
    });
}

#[test]
fn one_that_is_given_up_is_gone_and_one_that_is_missing_changes_nothing() {
    run("discarded", async {
        let case = case().await;
        let wrong = [case.reference(0), "orders.one/nothing".to_owned()];
        for act in ["repost", "discard"] {
            let failed = match act {
                "repost" => case.letters.repost(&wrong, "ann").await,
                _ => case.letters.discard(&wrong, "ann", "why").await,
            };
            assert!(matches!(failed, Err(StoreError::Rejected { .. })), "{act}: {failed:?}");
            assert_eq!(case.list().await.len(), 3);
        }
        let both = [case.reference(2), case.reference(0)];
        case.letters.discard(&both, "ann", "why").await.expect("discard");
        let left: Vec<_> = case.list().await.into_iter().map(|letter| letter.reference).collect();
        assert_eq!(left, [case.reference(1)]);
    });
}
