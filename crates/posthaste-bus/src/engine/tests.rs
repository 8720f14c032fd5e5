//! A file that fails: at the beginning of a group, while it is written, at its commit, and while
//! something is read. Nobody waits for ever, nothing that was accepted is lost, and what has
//! nothing to do with the failure goes on.

use std::path::PathBuf;
use std::time::Duration;

use posthaste_core::dead_letter::{DeadFilter, DeadLetters};
use posthaste_core::{
    Broker, BrokerError, Delivery, Message, MessageId, Outcome, Subscriber, Subscription,
    Timestamp, Unavailable,
};
use rusqlite::ffi;
use tempfile::TempDir;

use crate::bus::Bus;
use crate::options::BusOptions;
use crate::store::fault::Faulty;

/// Long enough for a slow machine, and much shorter than a lock.
const SOON: Duration = Duration::from_secs(15);
/// More often than any test fails.
const ALWAYS: u32 = u32::MAX;

struct Place {
    bus: Bus,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut BusOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = BusOptions { lock: Duration::from_secs(600), ..BusOptions::default() };
        change(&mut options);
        let url = format!("bus://{}/bus.db", folder.path().display());
        let bus = Bus::open(&url, options).expect("opened");
        Self { bus, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("bus.db")
    }

    fn fault(&self, beginning: &'static str, code: i32, times: u32) -> Faulty {
        Faulty::new(&self.file(), beginning, code, times)
    }

    async fn reader(&self, name: &str) -> Box<dyn Subscriber> {
        self.bus.subscriber(&Subscription::new("orders", name)).await.expect("a subscriber")
    }

    async fn publish(&self, text: &str) -> Result<Outcome, Unavailable> {
        let batch = [message(None, text)];
        self.bus.publisher().publish(&batch).await.map(|mut outcomes| outcomes.remove(0))
    }

    async fn accept(&self, text: &str) {
        let said = self.publish(text).await;
        assert!(matches!(said, Ok(Outcome::Accepted(_))), "{said:?}");
    }
}

fn message(key: Option<&str>, text: &str) -> Message {
    let id = MessageId::from_bytes([7; 16]);
    let at = Timestamp::from_millis(1_700_000_000_000);
    let mut message = Message::new(id, "orders", "order.placed", text, at);
    message.key = key.map(str::to_owned);
    message
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(SOON * 3, test).await.expect("it ends") });
    runtime.shutdown_background();
}

async fn one(reader: &mut dyn Subscriber) -> Delivery {
    let received = tokio::time::timeout(SOON, reader.receive(1)).await.expect("soon");
    received.expect("received").remove(0)
}

fn text(delivery: &Delivery) -> &str {
    delivery.message.payload.as_text().expect("text")
}

async fn hit(fault: &Faulty) {
    let hit = async {
        while fault.hits() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, hit).await.expect("the fault is met");
}

#[test]
fn a_receiver_that_asks_while_the_file_fails_is_served_after_it() {
    for beginning in ["BEGIN", "SELECT m.seq", "UPDATE subscription SET low", "COMMIT"] {
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_IOERR] {
            run(async {
                let place = Place::new();
                let mut reader = place.reader("reader").await;
                place.accept("x").await;
                let fault = place.fault(beginning, code, 2);
                let got = one(&mut *reader).await;
                assert_eq!(text(&got), "x");
                assert_eq!(fault.hits(), 2, "{beginning}");
                got.complete().await.expect("completed");
            });
        }
    }
}

#[test]
fn a_demand_that_was_made_while_the_file_failed_stands() {
    run(async {
        let place = Place::new();
        let mut reader = place.reader("reader").await;
        let fault = place.fault("BEGIN", ffi::SQLITE_IOERR, 1);
        let waiting = tokio::spawn(async move { text(&one(&mut *reader).await).to_owned() });
        hit(&fault).await;
        place.accept("x").await;
        assert_eq!(waiting.await.expect("received"), "x");
    });
}

#[test]
fn a_retry_that_is_due_while_the_file_fails_comes() {
    run(async {
        let place = Place::new();
        let mut reader = place.reader("reader").await;
        place.accept("x").await;
        one(&mut *reader).await.retry(Duration::from_millis(150)).await.expect("retried");
        let waiting = tokio::spawn(async move { one(&mut *reader).await.attempt });
        let fault = place.fault("INSERT OR REPLACE INTO exception", ffi::SQLITE_IOERR, 2);
        assert_eq!(waiting.await.expect("received"), 2);
        assert_eq!(fault.hits(), 2);
    });
}

#[test]
fn who_goes_while_the_file_fails_is_gone() {
    for beginning in ["BEGIN", "COMMIT"] {
        run(async {
            let place = Place::new();
            let mut reader = place.reader("reader").await;
            place.accept("x").await;
            let mut asked = Box::pin(reader.receive(1));
            assert!(futures_ready(&mut asked).await.is_none());
            let locked = async || {
                let figures = place.bus.status().await.expect("status");
                figures[0].locked == 1
            };
            while !locked().await {
                tokio::task::yield_now().await;
            }
            drop(asked);
            let fault = place.fault(beginning, ffi::SQLITE_BUSY, 1);
            drop(reader);
            hit(&fault).await;
            let mut next = place.reader("reader").await;
            let got = one(&mut *next).await;
            assert_eq!((text(&got), got.attempt), ("x", 1));
            assert_eq!(place.bus.status().await.expect("status")[0].consumers, 1);
        });
    }
}

async fn futures_ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn locks_outlive_a_group_that_fails() {
    for beginning in ["BEGIN", "INSERT INTO message", "UPDATE subscription SET low", "COMMIT"] {
        run(async {
            let place = Place::new();
            let mut reader = place.reader("reader").await;
            let mut other = place.reader("other").await;
            place.accept("x").await;
            let held = one(&mut *reader).await;
            let settled = one(&mut *other).await;
            let fault = place.fault(beginning, ffi::SQLITE_IOERR, 1);
            drop(place.publish("y").await);
            let failed = settled.complete().await;
            hit(&fault).await;
            held.renew().await.expect("still locked");
            held.complete().await.expect("completed");
            if failed.is_err() {
                assert!(matches!(failed, Err(BrokerError::Unavailable { .. })), "{failed:?}");
                let again = one(&mut *other).await;
                assert_eq!((text(&again), again.attempt), ("x", 2));
            }
        });
    }
}

#[test]
fn a_question_that_fails_fails_alone() {
    run(async {
        let place = Place::new();
        let mut reader = place.reader("reader").await;
        place.accept("x").await;
        let held = one(&mut *reader).await;
        for beginning in ["SELECT e.subscription", "SELECT count(*)"] {
            let fault = place.fault(beginning, ffi::SQLITE_IOERR, 1);
            let failed = if beginning.contains("subscription") {
                place.bus.list(&DeadFilter { limit: 5, ..DeadFilter::default() }).await.is_err()
            } else {
                place.bus.status().await.is_err()
            };
            assert!(failed && fault.hits() == 1, "{beginning}");
            held.renew().await.expect("still locked");
        }
        held.complete().await.expect("completed");
    });
}

#[test]
fn a_new_subscription_that_cannot_be_written_leaves_nothing() {
    for beginning in ["INSERT INTO address", "INSERT INTO subscription"] {
        run(async {
            let place = Place::new();
            let mut reader = place.reader("reader").await;
            place.accept("x").await;
            let held = one(&mut *reader).await;
            let fault = place.fault(beginning, ffi::SQLITE_FULL, 1);
            let failed = place.bus.subscriber(&Subscription::new("bills", "reader")).await;
            assert!(matches!(failed.err(), Some(BrokerError::Unavailable { .. })));
            assert_eq!(fault.hits(), 1);
            held.complete().await.expect("completed");
            assert_eq!(place.bus.addresses().await.expect("listed").len(), 1);
            place.bus.subscriber(&Subscription::new("bills", "reader")).await.expect("now");
            assert_eq!(place.bus.addresses().await.expect("listed").len(), 2);
        });
    }
}

#[test]
fn an_outage_of_the_file_is_told_from_a_no_and_from_nobody_knows() {
    let cases = [
        ("BEGIN", ffi::SQLITE_BUSY, false),
        ("BEGIN", ffi::SQLITE_IOERR, false),
        ("INSERT INTO message", ffi::SQLITE_FULL, false),
        ("INSERT INTO message", ffi::SQLITE_IOERR, false),
        ("COMMIT", ffi::SQLITE_BUSY, false),
        ("COMMIT", ffi::SQLITE_FULL, false),
        ("COMMIT", ffi::SQLITE_IOERR, true),
    ];
    for (beginning, code, is_unknown) in cases {
        run(async {
            let place = Place::new();
            let mut reader = place.reader("reader").await;
            let fault = place.fault(beginning, code, ALWAYS);
            let said = place.publish("x").await;
            let right = match &said {
                Err(Unavailable { .. }) => !is_unknown,
                Ok(Outcome::Unknown { .. }) => is_unknown,
                Ok(_) => false,
            };
            assert!(right, "{beginning} {code}: {said:?}");
            drop(fault);
            place.accept("y").await;
            assert_eq!(text(&one(&mut *reader).await), "y");
        });
    }
}

#[test]
fn a_message_that_does_not_fit_is_refused_with_its_followers_and_nobody_else() {
    run(async {
        let place = Place::with(|options| options.max_pages = Some(64));
        let mut reader = place.reader("reader").await;
        let batch = [
            message(Some("a"), "a1"),
            message(Some("a"), &"x".repeat(400_000)),
            message(Some("a"), "a2"),
            message(Some("b"), "b1"),
            message(None, &"x".repeat(400_000)),
            message(None, "c1"),
        ];
        let outcomes = place.bus.publisher().publish(&batch).await.expect("available");
        let said: String = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Accepted(_) => 'a',
                Outcome::Refused(refusal) if !refusal.permanent => 'r',
                _ => '?',
            })
            .collect();
        assert_eq!(said, "arrara", "{outcomes:?}");
        for wanted in ["a1", "b1", "c1"] {
            let got = one(&mut *reader).await;
            assert_eq!(text(&got), wanted);
            got.complete().await.expect("completed");
        }
    });
}

/// The laws of an outage, where the outage is the file's.
mod outage {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use posthaste_conformance::{Outage, OutageCase};

    use super::{ALWAYS, Faulty, Place, ffi};

    struct Failing {
        place: Place,
        beginning: &'static str,
        fault: Mutex<Option<Faulty>>,
    }

    #[async_trait]
    impl Outage for Failing {
        async fn away(&self) {
            let fault = self.place.fault(self.beginning, ffi::SQLITE_FULL, ALWAYS);
            *self.fault.lock().expect("no panic") = Some(fault);
        }

        async fn back(&self) {
            drop(self.fault.lock().expect("no panic").take());
        }
    }

    fn case(beginning: &'static str) -> OutageCase {
        let place = Place::new();
        let bus = Arc::new(place.bus.clone());
        OutageCase::new(bus, Arc::new(Failing { place, beginning, fault: Mutex::default() }))
    }

    async fn begin() -> OutageCase {
        case("BEGIN")
    }

    async fn commit() -> OutageCase {
        case("COMMIT")
    }

    mod at_the_beginning {
        use super::begin;
        posthaste_conformance::outage_suite!(begin);
    }

    mod at_the_commit {
        use super::commit;
        posthaste_conformance::outage_suite!(commit);
    }
}
