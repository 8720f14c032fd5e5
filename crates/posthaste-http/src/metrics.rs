//! The figures of a relay in the text format of Prometheus.

use std::fmt;

use posthaste::core::database::Status;
use posthaste::progress::Snapshot;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::health::{Report, seconds_since};

/// The media type of what [`text`] returns.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The whole page. It is made anew for each scrape, from one look, so that its figures belong
/// together.
pub(crate) fn text(report: &Report) -> Result<String, fmt::Error> {
    let destination = ("destination".into(), report.destination.clone().into());
    let mut registry = Registry::with_prefix_and_labels("posthaste", [destination].into_iter());
    let reachable = report.database.as_ref().is_some_and(Result::is_ok);
    flag(&mut registry, "database_up", "Whether the database answers", reachable);
    let ready = report.faults().is_empty();
    flag(&mut registry, "ready", "Whether the relay can do its work", ready);
    if let Some(relay) = &report.relay {
        relay_figures(&mut registry, relay);
    }
    if let Some(Ok(status)) = &report.database {
        database_figures(&mut registry, status);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn relay_figures(registry: &mut Registry, relay: &Snapshot) {
    flag(registry, "leader", "Whether this relay leads", relay.leading);
    flag(registry, "broker_up", "Whether the broker answers", relay.broker_away.is_none());
    let away = relay.broker_away.as_ref().map_or(0.0, |(since, _)| seconds_since(*since));
    gauge(registry, "broker_away_seconds", "For how long the broker is away", away);
    counter(registry, "sent", "Messages sent and settled by this relay", relay.sent);
    counter(registry, "failed", "Attempts of this relay that failed", relay.failed);
    counter(registry, "dead", "Messages that this relay gave up", relay.dead);
    let aside = "New messages that this relay set aside because nobody is bound to them";
    counter(registry, "set_aside", aside, relay.set_aside);
    number(registry, "in_flight", "Messages taken by this relay and not settled", relay.window);
}

fn database_figures(registry: &mut Registry, status: &Status) {
    number(registry, "backlog", "Messages that could be sent and are not yet", status.backlog);
    let oldest = status.oldest_unsent_seconds.unwrap_or(0.0);
    gauge(registry, "oldest_unsent_seconds", "Age of the oldest of the backlog", oldest);
    number(registry, "parked_keys", "Keys that wait behind a dead letter", status.parked_keys);
    number(registry, "dead_letters", "Dead letters in the database", status.dead_letters);
    // Seats say who takes part, not who leads.
    let led = status.leases.iter().filter(|lease| lease.name.starts_with("relay/")).count();
    let leases = u64::try_from(led).unwrap_or(u64::MAX);
    number(registry, "leases", "Leases by which relays lead", leases);
    let sent = status.rates.sent_per_second;
    gauge(registry, "sent_per_second", "Sent by any relay, over the last minute", sent);
    let failed = status.rates.failed_per_second;
    gauge(registry, "failed_per_second", "Failed in any relay, over the last minute", failed);
    let held = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    let states = [
        ("due", status.held.due),
        ("retry", status.held.retry),
        ("behind", status.held.behind),
        ("unroutable", status.held.unroutable),
    ];
    for (state, count) in states {
        held.get_or_create(&[("state", state)]).set(signed(count));
    }
    registry.register("held", "Messages that wait on the side, by state", held);
    let routes = Family::<[(&'static str, String); 2], Gauge>::default();
    for route in &status.unroutable {
        let labels = [("topic", route.topic.clone()), ("kind", route.kind.clone())];
        routes.get_or_create(&labels).set(signed(route.entries));
    }
    let help = "Messages set aside because nobody is bound to their topic and kind";
    registry.register("unroutable", help, routes);
}

fn flag(registry: &mut Registry, name: &str, help: &str, value: bool) {
    registry.register(name, help, ConstGauge::new(i64::from(value)));
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    registry.register(name, help, ConstGauge::new(value));
}

fn number(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(signed(value)));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}
