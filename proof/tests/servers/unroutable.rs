//! A binding that disappears and comes back under load: what nobody is bound to is set aside, in
//! order and with nothing counted, and sent when somebody is; nothing else waits for it.

use posthaste::Event;
use posthaste::core::database::UnroutableRoute;
use posthaste_proof::Failure;
use posthaste_proof::chance::Chance;
use posthaste_proof::node::RabbitTuning;
use posthaste_proof::shop::{Order, Receipt};
use serde_json::json;

use posthaste_proof::crew::Crew;
use posthaste_proof::rig::{SOON, consumers, number};
use posthaste_proof::site::{FILED, ORDERS, RECEIPTS, Site};

/// Entries that are set aside.
const ASIDE: &str = "select count(*) from posthaste_held where state = 'unroutable'";

/// Entries that are set aside and have arrived nevertheless.
const RECEIVED: &str = "select count(*) from posthaste_held h \
     join posthaste_outbox o on o.seq = h.seq \
     join shop_effect e on e.message = cast(o.id as text) where h.state = 'unroutable'";

/// Attempts that were counted for anything that is held.
const COUNTED: &str =
    "select cast((select coalesce(sum(attempts), 0) from posthaste_held) as bigint)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_is_bound_to_is_set_aside_and_sent_later() -> Result<(), Failure> {
    let chance = Chance::from_environment(251);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let crew = site.crew(2).await?;
    for _ in 0..2 {
        site.goes_on(30).await?;
        site.vhost.unbind(Receipt::TOPIC, RECEIPTS, "#").await;
        site.world.until(ASIDE, 30, SOON).await?;
        // Orders go on, although their receipts do not.
        site.goes_on(30).await?;
        let [UnroutableRoute { topic, kind, entries, detail }] =
            &site.status().await?.unroutable[..]
        else {
            return Err("one route and no other is to be seen".into());
        };
        assert_eq!((topic.as_str(), kind.as_str()), (Receipt::TOPIC, Receipt::KIND));
        assert!(*entries >= 30 && detail.is_some(), "{entries} entries: {detail:?}");
        assert_eq!(number(&site.world, COUNTED).await?, 0, "nothing is counted");
        site.goes_on(30).await?;
        assert_eq!(number(&site.world, RECEIVED).await?, 0, "it came although it was set aside");
        let filed = number(&site.world, FILED).await?;
        site.vhost.bind(Receipt::TOPIC, RECEIPTS, "#").await;
        site.world.until(FILED, filed + 60, SOON).await?;
    }
    let truth = site.judged(crew, 200).await?;
    assert_eq!(truth.copies, 0, "what was returned was not sent, and what was sent is not again");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}

/// The exchange is deleted under load, upon which the broker closes the channel of whoever
/// publishes to it. Declared again it is bound to nothing; then it is bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_is_deleted_is_declared_again_and_nothing_is_lost() -> Result<(), Failure>
{
    let chance = Chance::from_environment(252);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let crew = site.crew(2).await?;
    for _ in 0..2 {
        site.goes_on(30).await?;
        site.vhost.delete_exchange(Receipt::TOPIC).await;
        site.world.until(ASIDE, 20, SOON).await?;
        site.goes_on(30).await?;
        site.vhost.declare_exchange(Receipt::TOPIC, "topic").await;
        site.vhost.bind(Receipt::TOPIC, RECEIPTS, "#").await;
        let filed = number(&site.world, FILED).await?;
        site.world.until(FILED, filed + 40, SOON).await?;
    }
    let truth = site.judged(crew, 200).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}

/// Queues that are deleted while they are empty: the relay sets aside what it is to send until the
/// consumers are back, which declare them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_are_missing_are_waited_for() -> Result<(), Failure> {
    let chance = Chance::from_environment(253);
    let Some(site) = Site::shared(&chance).await? else { return Ok(()) };
    let mut crew = site.crew(2).await?;
    for round in 0..2 {
        site.goes_on(30).await?;
        // What is in a queue goes with it: that is the operator's will and no loss of ours.
        for name in crew.names("relay") {
            let relay = crew.member(&name)?;
            relay.ask_to_end()?;
            relay.end(SOON).await?;
        }
        site.until_empty(ORDERS).await?;
        site.until_empty(RECEIPTS).await?;
        if round == 0 {
            // The consumer is told that its queue is gone, and makes it anew.
            site.vhost.delete_queue(RECEIPTS).await;
            site.vhost.delete_queue(ORDERS).await;
        } else {
            let consumer = crew.member("consumer")?;
            consumer.ask_to_end()?;
            consumer.end(SOON).await?;
            site.vhost.delete_queue(RECEIPTS).await;
            site.vhost.delete_queue(ORDERS).await;
        }
        for name in crew.names("relay") {
            crew.restart(&name).await?;
        }
        if round == 1 {
            site.world.until(ASIDE, 30, SOON).await?;
            crew.restart("consumer").await?;
        }
    }
    site.goes_on(30).await?;
    let truth = site.judged(crew, 100).await?;
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}

/// Nobody but an operator may declare anything, and the operator comes late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_declared_everything_waits_for_the_operator() -> Result<(), Failure> {
    let chance = Chance::from_environment(254);
    let Some(mut site) = Site::shared(&chance).await? else { return Ok(()) };
    site.world.rabbit = RabbitTuning { declare: false, ..site.world.rabbit };
    let mut crew = Crew::of(&site.world);
    for number in 1..=2 {
        crew.add(&format!("relay {number}"), [posthaste_proof::site::relay()]).await?;
    }
    site.add_writers(&mut crew).await?;
    site.world.until(ASIDE, 60, SOON).await?;
    for (topic, queue) in [(Order::TOPIC, ORDERS), (Receipt::TOPIC, RECEIPTS)] {
        site.vhost.declare_exchange(topic, "topic").await;
        let ordered = json!({ "x-queue-type": "quorum", "x-single-active-consumer": true });
        site.vhost.declare_queue(queue, &ordered).await;
        site.vhost.declare_queue(&format!("{queue}.dead"), &json!({})).await;
        site.vhost.bind(topic, queue, "#").await;
    }
    crew.add("consumer", consumers()).await?;
    site.goes_on(100).await?;
    let truth = site.judged(crew, 100).await?;
    assert_eq!(truth.copies, 0, "no fault, no copy");
    assert!(truth.dead.is_empty(), "nothing was to be given up: {:?}", truth.dead);
    site.world.remove()
}
