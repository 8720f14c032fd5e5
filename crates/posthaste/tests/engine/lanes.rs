//! Several relays that share the lanes of one destination.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste::testing::fault::SlowBroker;
use posthaste::{Progress, Relay, RelayOptions};
use posthaste_core::lane::{Division, Lanes as _};
use tokio::task::JoinHandle;

use super::service::Service;

/// A relay of its own that can be killed or asked to stop.
struct Member {
    running: JoinHandle<()>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    progress: Arc<Progress>,
}

impl Member {
    fn start(service: &Service, lanes: Option<u16>) -> Self {
        let broker = SlowBroker::new(
            Arc::new(service.broker.clone()),
            Duration::from_millis(20),
            Duration::ZERO,
        );
        let options = RelayOptions { lanes, ..RelayOptions::default() };
        let relay = Relay::new(Arc::new(service.database.clone()), Arc::new(broker));
        let relay = relay.options(options);
        let progress = relay.progress();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(relay.run_until(async move {
            let _ = stopped.await;
        }));
        Self { running, stop: Some(stop), progress }
    }

    fn led(&self) -> usize {
        self.progress.snapshot().lanes.len()
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.running.await.expect("ends without a panic");
    }
}

async fn division(service: &Service) -> Division {
    service.database.division("default").await.expect("answers")
}

/// Every step of every order was delivered, first copies in order; returns the extra copies.
fn verify(service: &Service, orders: u64, steps: u64) -> usize {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let mut copies = 0;
    for message in service.broker.published("orders") {
        let event: super::service::OrderPlaced =
            serde_json::from_slice(message.payload.as_bytes()).expect("is an event");
        let due = next.entry(event.order).or_default();
        assert!(event.step <= *due, "step {} of order {} came early", event.step, event.order);
        copies += usize::from(event.step < *due);
        *due = (*due).max(event.step + 1);
    }
    assert_eq!(next.len() as u64, orders);
    assert!(next.values().all(|due| *due == steps), "{next:?}");
    copies
}

#[tokio::test(start_paused = true)]
async fn relays_share_lanes_evenly_and_a_killed_one_is_replaced() {
    let service = Service::new();
    let first = Member::start(&service, Some(4));
    service.pass(Duration::from_secs(5)).await;
    assert_eq!((first.led(), division(&service).await), (4, Division { now: 4, wanted: 4 }));
    let second = Member::start(&service, Some(4));
    let third = Member::start(&service, None);
    for step in 0..20 {
        for order in 0..16 {
            service.place(order, step).await;
        }
        service.pass(Duration::from_millis(500)).await;
    }
    let mut led = [first.led(), second.led(), third.led()];
    led.sort_unstable();
    assert_eq!(led, [1, 1, 2]);
    assert_eq!(verify(&service, 16, 20), 0, "hand-overs send nothing twice");

    // As SIGKILL would: what it holds runs out, and the others take it up.
    third.running.abort();
    for order in 0..16 {
        service.place(order, 20).await;
    }
    service.pass(Duration::from_secs(12)).await;
    assert_eq!([first.led(), second.led()], [2, 2]);
    verify(&service, 16, 21);
    first.stop().await;
    service.pass(Duration::from_secs(3)).await;
    assert_eq!(second.led(), 4, "lanes and seat were given back, not left to run out");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_lanes_changes_under_load_and_nothing_is_lost_doubled_or_reordered() {
    let service = Service::new();
    let mut members = vec![Member::start(&service, None), Member::start(&service, None)];
    let mut step = 0;
    for lanes in [4, 3, 7, 1, 2] {
        // A relay that starts with another number asks for it, and all follow.
        members.remove(0).stop().await;
        members.push(Member::start(&service, Some(lanes)));
        for _ in 0..30 {
            for order in 0..8 {
                service.place(order, step).await;
            }
            step += 1;
            service.pass(Duration::from_millis(700)).await;
        }
        assert_eq!(division(&service).await, Division { now: lanes, wanted: lanes });
        let led: usize = members.iter().map(Member::led).sum();
        assert_eq!(led, usize::from(lanes));
    }
    service.pass(Duration::from_secs(5)).await;
    assert_eq!(verify(&service, 8, step), 0);
    for member in members {
        member.stop().await;
    }
}
