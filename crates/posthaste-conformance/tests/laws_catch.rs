//! Laws can fail: each is run against a backend that breaks it, and must say so.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use posthaste::core::transaction::{OutboxWriter, Transactional};
use posthaste::core::{Broker, Database, Promises};
use posthaste::memory::{MemoryBroker, MemoryDatabase};
use posthaste::testing::fault::{
    Call, CrashPoint, DuplicatingBroker, FaultyBroker, FaultyDatabase, FlakyBroker, OutageBroker,
    OutageSwitch, PublishFault, Strike, When,
};
use posthaste::testing::sabotage::{
    AckBeforeCommit, CommitBeforeInbox, CursorThatSkips, ForgetLanesBefore, ForgetSettlementNumber,
    IgnoreDivision, IgnoreFence, IgnoreOrder, InventMessage, NewIdentity, RetryUnroutable,
    SettleBeforeConfirm, ShareLanes,
};
use posthaste_conformance::{
    BrokerCase, DatabaseCase, Outage, OutageCase, dead_letters, inbox, lanes, leases, outage,
    outbox, publisher, routes, run, settlement, subscriber, writer,
};

/// Runs a law that must find itself broken.
fn assert_broken(law: impl Future<Output = ()>) {
    let broken = catch_unwind(AssertUnwindSafe(|| run("a broken law", law)));
    let panic = broken.expect_err("the law did not notice that it was broken");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(!text.contains("did not come to an end"), "it hung instead of saying so: {text}");
}

/// A case whose handles both go through a wrapper.
fn wrapped<D>(wrap: impl Fn(Arc<MemoryDatabase>) -> D) -> DatabaseCase<D> {
    let inner = Arc::new(MemoryDatabase::new());
    DatabaseCase::new(wrap(inner.clone()), wrap(inner))
}

fn brokered(wrap: impl Fn(Arc<dyn Broker>) -> Arc<dyn Broker>, lock: Duration) -> BrokerCase {
    let inner = MemoryBroker::new().with_lock(lock);
    BrokerCase::new(wrap(Arc::new(inner.clone())), wrap(Arc::new(inner)))
}

#[test]
fn a_cursor_that_skips_loses_entries() {
    let skipping = || wrapped(|inner| CursorThatSkips::new(inner, 5));
    assert_broken(outbox::following_the_checkpoints_reads_every_entry_exactly_once(skipping()));
    assert_broken(outbox::concurrent_writers_lose_and_double_nothing_and_keep_their_order(
        skipping(),
    ));
}

#[test]
fn a_missing_fence_lets_an_old_token_settle() {
    let case = wrapped(IgnoreFence::new);
    assert_broken(settlement::a_settlement_under_an_old_token_changes_nothing(case));
}

#[test]
fn a_forgotten_number_lets_a_settlement_happen_twice() {
    let case = wrapped(ForgetSettlementNumber::new);
    assert_broken(settlement::a_settlement_that_is_repeated_changes_nothing(case));
}

#[test]
fn a_route_that_is_no_more_than_a_failure_is_noticed_by_most_of_its_laws() {
    let hasty = || wrapped(RetryUnroutable::new);
    assert_broken(
        routes::of_what_nobody_is_bound_to_only_the_first_is_tried_when_its_time_has_come(hasty()),
    );
    assert_broken(routes::a_new_entry_of_a_closed_route_joins_it_and_no_other_does(hasty()));
    assert_broken(routes::what_is_set_aside_holds_back_nobody_of_its_key(hasty()));
    assert_broken(routes::a_relay_that_starts_again_finds_what_is_set_aside(hasty()));
    assert_broken(routes::once_the_first_is_sent_the_others_follow_in_order(hasty()));
    assert_broken(routes::a_first_that_comes_back_keeps_its_route_closed(hasty()));
    assert_broken(routes::while_a_route_is_worked_off_only_its_own_keys_join_it(hasty()));
    assert_broken(routes::what_was_not_due_joins_its_route(hasty()));
    assert_broken(routes::what_failed_joins_its_route_only_behind_others_of_it(hasty()));
    assert_broken(routes::a_dead_letter_that_is_reposted_joins_its_route(hasty()));
    assert_broken(routes::what_nobody_is_bound_to_is_counted_by_topic_and_kind(hasty()));
    assert_broken(lanes::what_is_set_aside_is_tried_in_every_lane_after_a_division(hasty()));
}

#[test]
fn lanes_that_overlap_are_noticed() {
    let shared = || wrapped(ShareLanes::new);
    assert_broken(lanes::every_message_is_read_in_one_lane_and_a_key_always_in_the_same(shared()));
    assert_broken(lanes::lanes_settle_each_for_itself(shared()));
}

#[test]
fn a_division_that_forgets_or_mistakes_the_one_before_is_noticed() {
    let forgetful = || wrapped(ForgetLanesBefore::new);
    assert_broken(lanes::a_division_loses_and_repeats_nothing_whatever_was_settled_by_then(
        forgetful(),
    ));
    assert_broken(lanes::a_division_waits_until_the_one_before_is_worked_off(forgetful()));
    assert_broken(lanes::what_commits_after_a_division_is_read_in_its_lane(forgetful()));
    let mistaken = wrapped(IgnoreDivision::new);
    assert_broken(lanes::a_settlement_in_a_lane_of_an_earlier_division_is_refused(mistaken));
    let idle = wrapped(|inner| {
        FaultyDatabase::new(inner, CrashPoint::fail(Call::Divide, When::Before, 1))
    });
    assert_broken(lanes::a_division_needs_the_leases_of_all_present_lanes(idle));
}

#[test]
fn an_inbox_that_forgets_is_noticed_by_most_of_its_laws() {
    let forgetful = || wrapped(CommitBeforeInbox::new);
    assert_broken(inbox::the_first_acceptance_is_first_and_every_later_one_is_before(forgetful()));
    assert_broken(inbox::of_acceptances_that_race_exactly_one_is_first(forgetful()));
    assert_broken(inbox::an_acceptance_forgets_the_attempts(forgetful()));
    assert_broken(inbox::a_buried_message_is_kept_whole_and_accepted_as_before(forgetful()));
    assert_broken(inbox::a_reposted_message_is_first_again_once(forgetful()));
    assert_broken(dead_letters::a_discarded_message_of_a_consumer_stays_done(forgetful()));
}

/// A database that loses its reply is honest; one that loses the effect and says nothing is not.
#[test]
fn calls_without_effect_are_noticed() {
    for call in [Call::Enqueue, Call::Settle, Call::Release, Call::Renew] {
        let failing =
            || wrapped(|inner| FaultyDatabase::new(inner, CrashPoint::fail(call, When::Before, 1)));
        match call {
            Call::Enqueue => {
                assert_broken(writer::messages_of_one_call_are_read_in_the_order_given(failing()));
            }
            Call::Settle => {
                assert_broken(settlement::a_sent_entry_is_gone_for_good(failing()));
            }
            Call::Release => {
                assert_broken(leases::a_released_lease_can_be_claimed_at_once(failing()));
            }
            _ => assert_broken(leases::a_renewed_lease_does_not_run_out(failing())),
        }
    }
}

/// Two databases that do not know of one another are not two handles to one.
#[test]
fn handles_to_different_databases_are_noticed() {
    let apart = || DatabaseCase::new(MemoryDatabase::new(), MemoryDatabase::new());
    assert_broken(outbox::two_handles_read_the_same(apart()));
    assert_broken(leases::a_held_lease_says_by_whom_and_how_long(apart()));
    assert_broken(inbox::attempts_are_counted_durably(apart()));
    assert_broken(leases::of_many_claims_at_once_exactly_one_is_granted(apart()));
    assert_broken(dead_letters::a_dead_letter_of_the_relay_keeps_the_whole_message(apart()));
}

#[test]
fn a_signal_that_is_lost_is_noticed() {
    let deaf = wrapped(|inner| {
        FaultyDatabase::new(inner, |call: Call, _: When| match call {
            Call::Changed => Strike::Hang,
            _ => Strike::Pass,
        })
    });
    assert_broken(outbox::a_commit_is_signalled(deaf));
}

#[test]
fn messages_that_are_accepted_and_not_there_are_noticed() {
    // Handed over later and refused there: accepted, and yet it never arrives.
    let lying = async |lock| {
        let settle = |inner| -> Arc<dyn Broker> {
            let refusing = FlakyBroker::scripted(inner, |_, _| PublishFault::RefuseForGood);
            Arc::new(SettleBeforeConfirm::broker(Arc::new(refusing), Duration::ZERO))
        };
        brokered(settle, lock)
    };
    assert_broken(publisher::every_message_has_one_outcome_in_the_order_given(lying));
}

#[test]
fn a_broken_order_is_noticed() {
    let hold = Duration::from_millis(30);
    let reordering = async |lock| {
        let wrap = |inner| -> Arc<dyn Broker> { Arc::new(IgnoreOrder::broker(inner, 1, hold)) };
        brokered(wrap, lock)
    };
    assert_broken(publisher::calls_may_overlap(reordering));
    assert_broken(subscriber::a_backlog_is_delivered_in_order(reordering));
}

#[test]
fn a_broker_that_says_wrongly_that_it_returns_or_keeps_is_noticed() {
    let silent = async |lock| brokered(|inner| -> Arc<dyn Broker> { inner }, lock).returning();
    assert_broken(publisher::what_nobody_is_bound_to_is_returned_only_where_that_is_declared(
        silent,
    ));
    let undeclared = async |lock| {
        let broker = MemoryBroker::new().with_lock(lock).returning();
        BrokerCase::new(Arc::new(broker.clone()), Arc::new(broker))
    };
    assert_broken(publisher::what_nobody_is_bound_to_is_returned_only_where_that_is_declared(
        undeclared,
    ));
}

#[test]
fn phantoms_are_noticed() {
    let inventing = async |lock| {
        brokered(|inner| -> Arc<dyn Broker> { Arc::new(InventMessage::broker(inner, 1)) }, lock)
    };
    assert_broken(publisher::an_accepted_message_is_delivered_byte_for_byte_to_every_subscription(
        inventing,
    ));
    assert_broken(publisher::calls_may_overlap(inventing));
}

#[test]
fn a_delivery_that_is_settled_on_receipt_is_noticed() {
    let hasty = async |lock| {
        brokered(|inner| -> Arc<dyn Broker> { Arc::new(AckBeforeCommit::broker(inner)) }, lock)
    };
    assert_broken(subscriber::while_a_message_of_a_key_is_unsettled_later_ones_of_it_wait(hasty));
    assert_broken(subscriber::no_more_than_the_prefetch_are_in_hand(hasty));
}

#[test]
fn deliveries_that_are_doubled_or_renamed_are_noticed() {
    let doubling = async |lock| {
        brokered(|inner| -> Arc<dyn Broker> { Arc::new(DuplicatingBroker::new(inner, 1)) }, lock)
    };
    assert_broken(subscriber::a_completed_message_is_not_delivered_again(doubling));
    let renaming = async |lock| {
        brokered(|inner| -> Arc<dyn Broker> { Arc::new(NewIdentity::broker(inner)) }, lock)
    };
    assert_broken(subscriber::a_delivery_that_is_dropped_comes_again_and_is_counted(renaming));
}

/// Claims more than the broker inside keeps.
struct Boastful(MemoryBroker, Promises);

#[async_trait]
impl Broker for Boastful {
    fn publisher(&self) -> Arc<dyn posthaste::core::Publisher> {
        self.0.publisher()
    }

    async fn subscriber(
        &self,
        subscription: &posthaste::core::Subscription,
    ) -> Result<Box<dyn posthaste::core::Subscriber>, posthaste::core::BrokerError> {
        self.0.subscriber(subscription).await
    }

    fn promises(&self) -> Promises {
        self.1
    }

    async fn check(&self) -> Vec<posthaste::core::finding::Finding> {
        self.0.check().await
    }
}

#[test]
fn promises_that_are_not_kept_are_noticed() {
    let boasting = |kept: Promises, promised: Promises, lock: Duration| {
        let broker = MemoryBroker::promising(kept).with_lock(lock);
        let boast = || Arc::new(Boastful(broker.clone(), promised));
        BrokerCase::new(boast(), boast())
    };
    let all = Promises { max_payload: 1000, ..MemoryBroker::new().promises() };
    let unordered = Promises { ordered: false, ..all };
    let order = async |lock| boasting(unordered, all, lock);
    assert_broken(subscriber::while_a_message_of_a_key_is_unsettled_later_ones_of_it_wait(order));
    let loose = Promises { prefix_per_key: false, ..all };
    let prefix = async |lock| boasting(loose, all, lock);
    assert_broken(publisher::a_refusal_fails_its_followers_only_where_that_is_promised(prefix));
    let window = Promises { dedupe_window: Some(Duration::from_secs(60)), ..all };
    let dedupe = async |lock| boasting(all, window, lock);
    assert_broken(publisher::a_repeated_id_is_dropped_only_where_that_is_promised(dedupe));
    let small = Promises { max_payload: 999, ..all };
    let payload = async |lock| boasting(small, all, lock);
    assert_broken(
        publisher::a_payload_at_the_limit_is_accepted_and_one_above_it_is_refused_for_good(payload),
    );
    let few = Promises { max_batch: 10, ..all };
    let batch = async |lock| boasting(few, all, lock);
    assert_broken(publisher::a_full_batch_is_accepted(batch));
    let uncounted = Promises { counts_deliveries: false, ..all };
    let counts = async |lock| boasting(uncounted, all, lock);
    assert_broken(subscriber::a_delivery_that_is_dropped_comes_again_and_is_counted(counts));
}

struct Switch(OutageSwitch);

#[async_trait]
impl Outage for Switch {
    async fn away(&self) {
        self.0.away();
    }

    async fn back(&self) {
        self.0.back();
    }
}

/// A broker that answers "accepted" while it is away.
#[test]
fn an_outage_that_is_talked_away_is_noticed() {
    let durable = Promises { durable: true, ..MemoryBroker::new().promises() };
    let case = || {
        let inner: Arc<dyn Broker> = Arc::new(MemoryBroker::promising(durable));
        let (cut, switch) = OutageBroker::new(inner);
        let lying = SettleBeforeConfirm::broker(Arc::new(cut), Duration::ZERO);
        OutageCase::new(Arc::new(lying), Arc::new(Switch(switch)))
    };
    assert_broken(outage::while_the_broker_is_away_nothing_is_accepted(case()));
    let never_away = || {
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::promising(durable));
        let (_, switch) = OutageBroker::new(broker.clone());
        OutageCase::new(broker, Arc::new(Switch(switch)))
    };
    assert_broken(outage::while_the_broker_is_away_nothing_is_accepted(never_away()));
    assert_broken(outage::what_was_in_hand_comes_again_and_is_counted(never_away()));
}

/// What was said to be unavailable was published all the same.
#[test]
fn an_unavailable_that_is_none_is_noticed() {
    let inner: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let behind = inner.clone();
    let (cut, switch) = OutageBroker::new(inner);
    let case = OutageCase::new(Arc::new(Leaking { cut, behind }), Arc::new(Switch(switch)));
    assert_broken(outage::what_was_unavailable_is_never_delivered(case));
}

/// Publishes behind the back of whoever is told that nothing left the process.
struct Leaking {
    cut: OutageBroker,
    behind: Arc<dyn Broker>,
}

struct LeakingPublisher(Arc<dyn posthaste::core::Publisher>, Arc<dyn posthaste::core::Publisher>);

#[async_trait]
impl posthaste::core::Publisher for LeakingPublisher {
    async fn publish(
        &self,
        messages: &[posthaste::core::Message],
    ) -> Result<Vec<posthaste::core::Outcome>, posthaste::core::Unavailable> {
        let answer = self.0.publish(messages).await;
        if answer.is_err() {
            self.1.publish(messages).await?;
        }
        answer
    }
}

#[async_trait]
impl Broker for Leaking {
    fn publisher(&self) -> Arc<dyn posthaste::core::Publisher> {
        Arc::new(LeakingPublisher(self.cut.publisher(), self.behind.publisher()))
    }

    async fn subscriber(
        &self,
        subscription: &posthaste::core::Subscription,
    ) -> Result<Box<dyn posthaste::core::Subscriber>, posthaste::core::BrokerError> {
        self.cut.subscriber(subscription).await
    }

    fn promises(&self) -> Promises {
        self.cut.promises()
    }

    async fn check(&self) -> Vec<posthaste::core::finding::Finding> {
        self.cut.check().await
    }
}

/// The wrappers without a fault keep the laws: what a test finds is the fault's doing.
#[test]
fn wrappers_that_do_nothing_keep_the_laws() {
    let pass = || wrapped(|inner| FaultyDatabase::new(inner, |_: Call, _: When| Strike::Pass));
    run("read", outbox::following_the_checkpoints_reads_every_entry_exactly_once(pass()));
    run("accept", inbox::several_ids_are_answered_in_the_order_given(pass()));
    run("repost", dead_letters::acts_on_several_are_carried_out_together(pass()));
    let broker = async |lock| {
        let wrap = |inner| -> Arc<dyn Broker> {
            let faulty = FaultyBroker::new(inner, |_: Call, _: When| Strike::Pass);
            Arc::new(FlakyBroker::scripted(Arc::new(faulty), |_, _| PublishFault::Pass))
        };
        brokered(wrap, lock)
    };
    run("publish", publisher::calls_may_overlap(broker));
    run(
        "compete",
        subscriber::competing_subscribers_never_hold_the_same_message_and_keep_the_order(broker),
    );
}

/// The wrappers fit where the relay and the consumer take their databases.
#[test]
fn wrappers_take_a_database_chosen_at_run_time() {
    fn is_store<D: OutboxWriter + Transactional + Clone>(_: &D) {}
    let memory = MemoryDatabase::new();
    let dynamic: Arc<dyn Database> = Arc::new(memory.clone());
    let skipping: Arc<dyn Database> = Arc::new(CursorThatSkips::new(dynamic, 3));
    let faulty: Arc<dyn Database> =
        Arc::new(FaultyDatabase::new(skipping, |_: Call, _: When| Strike::Pass));
    is_store(&CommitBeforeInbox::new(Arc::new(memory)));
    assert!(!faulty.script().is_empty());
}
