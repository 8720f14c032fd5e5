//! Laws of brokers where first use makes a topic and nothing that is published is ever lost: the
//! embedded bus and the memory broker.

use std::time::Duration;

use posthaste_core::broker::Subscription;

use crate::case::BrokerCase;
use crate::hand::ids_of;
use crate::publisher::{LONG_LOCK, assert_quiet, drain, publish, subscribe};
use crate::sample::{keyed, message};

/// Makes a test of every law of topics that hold what nobody has subscribed to yet.
#[macro_export]
macro_rules! topics_suite {
    ($make:ident) => {
        $crate::laws!(
            topics,
            $make,
            [
                what_was_published_before_any_subscription_goes_to_the_first_one,
                what_was_held_comes_before_what_is_published_later,
                a_topic_that_nobody_subscribes_to_holds_nobody_back,
            ]
        );
    };
}

/// Services start in any order.
pub async fn what_was_published_before_any_subscription_goes_to_the_first_one(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let held: Vec<_> = (0..5).map(|n| keyed("orders", "a", &n.to_string())).collect();
    publish(&case.broker, &held).await;
    let mut first = subscribe(&case.second, &Subscription::new("orders", "first")).await;
    let mut next = subscribe(&case.broker, &Subscription::new("orders", "next")).await;
    assert_eq!(ids_of(&drain(first.as_mut(), held.len()).await), ids_of(&held));
    assert_quiet(next.as_mut(), "the first subscription got what was held").await;
    assert_quiet(first.as_mut(), "it got it once").await;
}

/// The order of a key does not depend on when somebody came.
pub async fn what_was_held_comes_before_what_is_published_later(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let stated: Vec<_> = (0..6).map(|n| keyed("orders", "a", &n.to_string())).collect();
    publish(&case.broker, &stated[..3]).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    publish(&case.second, &stated[3..]).await;
    assert_eq!(ids_of(&drain(subscriber.as_mut(), stated.len()).await), ids_of(&stated));
}

/// Held is not stuck.
pub async fn a_topic_that_nobody_subscribes_to_holds_nobody_back(
    make: impl AsyncFn(Duration) -> BrokerCase,
) {
    let case = make(LONG_LOCK).await;
    let mut subscriber = subscribe(&case.broker, &Subscription::new("orders", "one")).await;
    let held: Vec<_> = (0..100).map(|_| keyed("nobody", "a", "{}")).collect();
    publish(&case.broker, &held).await;
    let stated = [message("orders")];
    publish(&case.broker, &stated).await;
    assert_eq!(ids_of(&drain(subscriber.as_mut(), 1).await), ids_of(&stated));
}
