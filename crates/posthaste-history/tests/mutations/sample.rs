//! Valid histories in which something of every kind happens. What the mutators need has fixed
//! names; the rest differs from seed to seed.

use posthaste_history::History;
use posthaste_history::event::{
    Act, Answer, Audit, Buried, CommitAnswer, ConsumerStarted, DeadLetter, Fault, FaultTarget,
    Format, LeaseAct, LogHeld, OutcomeKind, Pruned, PrunedFrom, RelayStarted, Replay, ReplayPhase,
    Request, Response, Rest, Settlement, Stopped, Stopping, Sum, Verdict, VerdictKind,
};

use crate::run::{BACKOFF, CONSUMERS, LANE, MS, Run, TOPIC, TTL, WINDOW, digest, stated};

pub(crate) const SHIPPING: &str = CONSUMERS[0];
pub(crate) const BILLING: &str = CONSUMERS[1];

/// A valid history.
pub(crate) fn sample(seed: u64) -> History {
    let mut run = Run::new(seed);
    started(&mut run);
    anchors(&mut run);
    relay_is_killed_with_copies(&mut run);
    concurrent(&mut run);
    rolled_back_and_unknown(&mut run);
    traffic(&mut run, "x", 20);
    consumer_is_killed(&mut run);
    fails_at_the_relay(&mut run);
    fails_at_a_consumer(&mut run);
    dead_at_the_relay(&mut run);
    dead_at_a_consumer(&mut run);
    put_off(&mut run);
    gateway(&mut run);
    replay(&mut run);
    run.wait(2_000 * MS);
    relay_is_killed_alone(&mut run);
    run.wait(2_000 * MS);
    run.lease(LeaseAct::Renewed);
    one_key_in_trouble(&mut run);
    pruning(&mut run);
    stop(&mut run);
    truth(&mut run);
    run.history
}

fn started(run: &mut Run) {
    let format = Format::default();
    run.note("driver", Format { faults_known: true, log_order: true, fenced: true, ..format });
    for owner in ["relay-1", "relay-2"] {
        let relay = RelayStarted {
            owner: owner.to_owned(),
            lease_ttl: Some(TTL),
            poll: Some(100 * MS),
            batch: Some(4),
            backoff: Some(BACKOFF),
            attempts: Some(3),
            grace: Some(10_000 * MS),
        };
        run.note(owner, relay);
    }
    for consumer in CONSUMERS {
        let started = ConsumerStarted {
            consumer: consumer.to_owned(),
            topics: vec![TOPIC.to_owned()],
            window: Some(WINDOW),
            backoff: Some(BACKOFF),
            attempts: Some(3),
            grace: Some(10_000 * MS),
        };
        run.note(consumer, started);
    }
    run.lease(LeaseAct::Granted);
}

/// Messages of one key, a transaction each, that nothing befalls.
fn anchors(run: &mut Run) {
    for number in 0..6 {
        let id = format!("a{number}");
        run.write(&format!("t-{id}"), &[stated(&id, Some("ka"), None)], CommitAnswer::Committed);
        run.send(&[&id]);
    }
}

/// Transactions of several messages with and without keys.
fn traffic(run: &mut Run, name: &str, transactions: u64) {
    for number in 0..transactions {
        let count = 1 + run.draws.below(3);
        let messages: Vec<_> = (0..count)
            .map(|place| {
                let key = run.draws.below(5);
                let key = (key > 0).then(|| format!("k{key}"));
                stated(&format!("{name}{number}-{place}"), key.as_deref(), None)
            })
            .collect();
        let ids: Vec<&str> = messages.iter().map(|one| one.id.as_str()).collect();
        run.write(&format!("t-{name}{number}"), &messages, CommitAnswer::Committed);
        run.send(&ids);
        run.wait(run.draws.0 % (10 * MS));
    }
}

/// The other relay takes over once the lease is over.
fn take_over(run: &mut Run) {
    run.wait(TTL + 10 * MS);
    run.holder = 3 - run.holder;
    run.lease(LeaseAct::Granted);
}

/// Killed after the broker had them and before they were settled: they go out again.
fn relay_is_killed_with_copies(run: &mut Run) {
    let messages = [stated("b0", Some("kb"), None), stated("b1", Some("kb"), None)];
    run.write("t-b", &messages, CommitAnswer::Committed);
    run.lease(LeaseAct::Renewed);
    run.read(&["b0", "b1"]);
    run.publish(&["b0", "b1"], OutcomeKind::Accepted);
    run.consume_all(&["b0", "b1"]);
    let (zombie, token) = (run.relay(), run.token);
    run.fault("pause-of-relay", FaultTarget::Relay, Some(zombie.clone()), 50 * MS);
    take_over(run);
    run.read(&["b0", "b1"]);
    run.publish(&["b0", "b1"], OutcomeKind::Accepted);
    for consumer in CONSUMERS {
        for id in ["b0", "b1"] {
            run.deliver(consumer, id);
            run.answer(consumer, id, Answer::Completed);
        }
    }
    run.settle_sent(&["b0", "b1"]);
    let verdict = |id: &str| Verdict { id: id.to_owned(), verdict: VerdictKind::Sent, attempts: 0 };
    let late = Settlement {
        lane: LANE.to_owned(),
        token,
        number: Some(1_000),
        applied: false,
        database_time: Some(run.database_time()),
        checkpoint: None,
        verdicts: ["b0", "b1"].map(verdict).into(),
    };
    run.note(&zombie, late);
}

/// Two transactions of one key at the same time.
fn concurrent(run: &mut Run) {
    let [first, second] = ["c0", "c1"].map(|id| [stated(id, Some("kc"), None)]);
    run.begin("t-c0", &first);
    run.begin("t-c1", &second);
    run.commit("t-c0", &first, CommitAnswer::Committed, true);
    run.commit("t-c1", &second, CommitAnswer::Committed, true);
    run.send(&["c0", "c1"]);
}

fn rolled_back_and_unknown(run: &mut Run) {
    for id in ["gone-0", "gone-1"] {
        let messages = [stated(id, Some("ka"), None)];
        run.write(&format!("t-{id}"), &messages, CommitAnswer::RolledBack);
    }
    let there = [stated("unknown-0", Some("ku"), None)];
    run.write("t-unknown-0", &there, CommitAnswer::Unknown);
    run.send(&["unknown-0"]);
    let missing = [stated("unknown-1", Some("ku"), None)];
    run.begin("t-unknown-1", &missing);
    run.commit("t-unknown-1", &missing, CommitAnswer::Unknown, false);
}

/// Killed between effect and answer, in the middle of a key.
fn consumer_is_killed(run: &mut Run) {
    for number in 0..6 {
        let id = format!("z{number}");
        let messages = [stated(&id, Some("kz"), None)];
        run.write(&format!("t-{id}"), &messages, CommitAnswer::Committed);
        if number != 2 {
            run.send(&[&id]);
            continue;
        }
        run.read(&[&id]);
        run.publish(&[&id], OutcomeKind::Accepted);
        run.consume(BILLING, &id);
        run.deliver(SHIPPING, &id);
        run.handle(SHIPPING, &id, 1);
        run.effect(SHIPPING, &id);
        run.fault("kill-of-consumers", FaultTarget::Consumer, None, 5 * MS);
        run.deliver(SHIPPING, &id);
        run.answer(SHIPPING, &id, Answer::Completed);
        run.settle_sent(&[&id]);
    }
}

fn fails_at_the_relay(run: &mut Run) {
    run.write("t-r0", &[stated("r0", Some("kr"), None)], CommitAnswer::Committed);
    run.write("t-r1", &[stated("r1", Some("kr"), None)], CommitAnswer::Committed);
    run.read(&["r0", "r1"]);
    for attempts in 1..3 {
        run.publish(&["r0"], OutcomeKind::Refused);
        run.settle(&[("r0", VerdictKind::Retry, attempts), ("r1", VerdictKind::Hold, 0)]);
        run.wait(BACKOFF + MS);
    }
    for id in ["r0", "r1"] {
        run.publish(&[id], OutcomeKind::Accepted);
        run.consume_all(&[id]);
        run.settle_sent(&[id]);
    }
}

fn fails_at_a_consumer(run: &mut Run) {
    run.write("t-h0", &[stated("h0", Some("kh"), None)], CommitAnswer::Committed);
    run.read(&["h0"]);
    run.publish(&["h0"], OutcomeKind::Accepted);
    run.consume(BILLING, "h0");
    run.settle_sent(&["h0"]);
    for attempt in 1..=3 {
        run.deliver(SHIPPING, "h0");
        run.handle(SHIPPING, "h0", attempt);
        if attempt < 3 {
            run.answer(SHIPPING, "h0", Answer::Retried);
            run.wait(BACKOFF + MS);
        }
    }
    run.effect(SHIPPING, "h0");
    run.answer(SHIPPING, "h0", Answer::Completed);
    run.lease(LeaseAct::Renewed);
}

pub(crate) fn buried(id: &str, consumer: Option<&str>) -> Buried {
    Buried {
        id: id.to_owned(),
        consumer: consumer.map(str::to_owned),
        digest: digest(id),
        reason: "refused".to_owned(),
        attempts: 3,
        parks_key: false,
    }
}

pub(crate) fn audit(id: &str, consumer: Option<&str>, act: Act) -> Audit {
    Audit {
        id: id.to_owned(),
        consumer: consumer.map(str::to_owned),
        act,
        new_id: None,
        before: None,
        after: None,
    }
}

/// One is reposted and holds its key back until then, one is discarded, one still stands.
fn dead_at_the_relay(run: &mut Run) {
    for id in ["d-reposted", "d-discarded", "d-standing"] {
        let messages = [stated(id, Some(&format!("k-{id}")), None)];
        run.write(&format!("t-{id}"), &messages, CommitAnswer::Committed);
        run.read(&[id]);
        for attempts in 1..=3 {
            run.publish(&[id], OutcomeKind::Refused);
            let verdict = if attempts < 3 { VerdictKind::Retry } else { VerdictKind::Dead };
            if attempts == 3 {
                let parks_key = id == "d-reposted";
                run.note(&run.relay(), Buried { parks_key, ..buried(id, None) });
            }
            run.settle(&[(id, verdict, attempts)]);
            run.wait(BACKOFF + MS);
        }
    }
    let follower = [stated("d-follower", Some("k-d-reposted"), None)];
    run.write("t-d-follower", &follower, CommitAnswer::Committed);
    run.note("operator", audit("d-discarded", None, Act::Discarded));
    run.note("operator", audit("d-reposted", None, Act::Reposted));
    run.publish(&["d-reposted"], OutcomeKind::Accepted);
    run.consume_all(&["d-reposted"]);
    run.settle_sent(&["d-reposted"]);
    run.send(&["d-follower"]);
}

/// One is edited and reposted under another id, one under its own, one is discarded, one stands.
fn dead_at_a_consumer(run: &mut Run) {
    for id in ["e-linked", "e-same", "e-discarded", "e-standing"] {
        run.write(&format!("t-{id}"), &[stated(id, None, None)], CommitAnswer::Committed);
        run.read(&[id]);
        run.publish(&[id], OutcomeKind::Accepted);
        run.consume(BILLING, id);
        run.settle_sent(&[id]);
        for attempt in 1..=3 {
            run.deliver(SHIPPING, id);
            run.handle(SHIPPING, id, attempt);
            if attempt < 3 {
                run.answer(SHIPPING, id, Answer::Retried);
                run.wait(BACKOFF + MS);
            }
        }
        run.note(SHIPPING, buried(id, Some(SHIPPING)));
        run.answer(SHIPPING, id, Answer::DeadLettered);
        run.lease(LeaseAct::Renewed);
    }
    run.note("operator", audit("e-discarded", Some(SHIPPING), Act::Discarded));
    let linked = audit("e-linked", Some(SHIPPING), Act::Reposted);
    run.note("operator", Audit { new_id: Some("e-linked-again".to_owned()), ..linked });
    run.consume(SHIPPING, "e-linked-again");
    run.note("operator", audit("e-same", Some(SHIPPING), Act::Reposted));
    run.consume(SHIPPING, "e-same");
}

/// One arrives when it is due, one is taken back before.
fn put_off(run: &mut Run) {
    let due = run.database_time() + 150 * MS;
    run.write("t-due", &[stated("due", None, Some(due))], CommitAnswer::Committed);
    run.write("t-cancelled", &[stated("cancelled", None, Some(due))], CommitAnswer::Committed);
    run.read(&["due", "cancelled"]);
    run.settle(&[("due", VerdictKind::Hold, 0), ("cancelled", VerdictKind::Hold, 0)]);
    run.note("operator", audit("cancelled", None, Act::Cancelled));
    run.wait(150 * MS);
    run.publish(&["due"], OutcomeKind::Accepted);
    run.consume_all(&["due"]);
    run.settle_sent(&["due"]);
}

fn gateway(run: &mut Run) {
    let ask = |run: &mut Run, request: &str, key: &str, body: u64| {
        let (request, key) = (request.to_owned(), Some(key.to_owned()));
        run.note("client", Request { request, idempotency_key: key, digest: body });
    };
    let answer = |run: &mut Run, request: &str, status, id: Option<&str>| {
        let (request, id) = (request.to_owned(), id.map(str::to_owned));
        let retry_after = status == 503 || status == 429;
        run.note("client", Response { request, status, id, retry_after });
    };
    ask(run, "q0", "key-0", 1);
    run.write("t-g0", &[stated("g0", None, None)], CommitAnswer::Committed);
    if let Some(row) = run.rows.last_mut() {
        row.request = Some("q0".to_owned());
    }
    answer(run, "q0", 201, Some("g0"));
    ask(run, "q1", "key-0", 1);
    answer(run, "q1", 200, Some("g0"));
    ask(run, "q2", "key-0", 2);
    answer(run, "q2", 409, None);
    ask(run, "q3", "key-3", 3);
    answer(run, "q3", 503, None);
    run.send(&["g0"]);
}

fn replay(run: &mut Run) {
    for phase in [ReplayPhase::Began, ReplayPhase::Ended] {
        run.note("rebuild", Replay { scope: "orders-by-day".to_owned(), phase, state: 42 });
    }
}

/// Killed before it had handed over what it had read; nothing else is amiss at that time.
fn relay_is_killed_alone(run: &mut Run) {
    run.lease(LeaseAct::Renewed);
    run.write("t-l0", &[stated("l0", Some("kl"), None)], CommitAnswer::Committed);
    run.read(&["l0"]);
    run.fault("kill-of-relay", FaultTarget::Relay, Some(run.relay()), 5 * MS);
    take_over(run);
    run.send(&["l0"]);
    traffic(run, "more", 3);
}

/// The others go on as before.
fn one_key_in_trouble(run: &mut Run) {
    traffic(run, "before", 40);
    let from = run.now;
    traffic(run, "during", 40);
    let until = run.now;
    let (id, kind, key) = ("poison".to_owned(), "poison".to_owned(), Some("k-bad".to_owned()));
    let (target, name) = (FaultTarget::Handler, None);
    run.note("driver", Fault { id, kind, target, name, key, from, until });
}

fn pruning(run: &mut Run) {
    let from = run.now;
    run.wait(WINDOW);
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let consumer = Some(SHIPPING.to_owned());
    run.note(SHIPPING, Pruned { from: PrunedFrom::Inbox, consumer, ids: ids(&["a0", "a1"]) });
    let outbox = Pruned { from: PrunedFrom::Outbox, consumer: None, ids: ids(&["a0", "a1", "b0"]) };
    run.note("relay-1", outbox);
    let until = run.now;
    let (id, kind) = ("restore-of-broker".to_owned(), "restart".to_owned());
    let (target, name, key) = (FaultTarget::Broker, None, None);
    run.note("driver", Fault { id, kind, target, name, key, from, until });
    run.deliver(SHIPPING, "a1");
    run.answer(SHIPPING, "a1", Answer::Refused);
    for (bytes, alarmed) in [(10, false), (200, true)] {
        let reader = "relay".to_owned();
        run.note("database", LogHeld { reader, bytes, cap: 100, alarmed });
    }
}

fn stop(run: &mut Run) {
    run.wait(MS);
    run.lease(LeaseAct::Granted);
    traffic(run, "last", 2);
    for node in [run.relay().as_str(), SHIPPING, BILLING] {
        run.note(node, Stopping {});
        if node == run.relay() {
            run.lease(LeaseAct::Released);
        }
        run.note(node, Stopped { exit: 0 });
    }
}

fn truth(run: &mut Run) {
    run.wait(1_000 * MS);
    for transaction in std::mem::take(&mut run.transactions) {
        run.note("truth", transaction);
    }
    for row in std::mem::take(&mut run.rows) {
        run.note("truth", row);
    }
    for (consumer, sum) in std::mem::take(&mut run.effects) {
        run.note("truth", Sum { consumer: consumer.to_owned(), effects: sum, says: sum });
    }
    let standing = [("d-standing", None), ("e-standing", Some(SHIPPING.to_owned()))];
    for (id, consumer) in standing {
        run.note("truth", DeadLetter { id: id.to_owned(), consumer });
    }
    run.note("truth", Rest {});
}
