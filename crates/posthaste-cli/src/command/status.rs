//! `posthaste status`: the figures of one destination, from the database itself.

use posthaste_core::database::Status;
use serde_json::json;

use crate::calendar;
use crate::context::Context;
use crate::escape::printable;
use crate::failure::Failure;
use crate::settings::validation::Needs;

/// What to do about messages that nobody is bound to.
const BIND: &str = "start a subscriber or bind a queue and they are sent, or set \
    unroutable = \"accept\" or \"dead\" for their topic";

/// Show what waits, what is held and who relays
#[derive(Debug, clap::Args)]
#[command(after_help = "Reads the database only; no relay has to run.\n\nExamples:\n  \
    posthaste status\n  posthaste status --json | jq .backlog")]
pub(crate) struct Arguments {}

pub(crate) async fn run(_: &Arguments, context: &Context) -> Result<(), Failure> {
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    let destination = configuration.destination();
    let database = configuration.open_database(&context.registry, false).await?;
    let status = database.status(destination).await?;
    let wanted = database.division(destination).await?.wanted;
    if context.output.is_json() {
        return context.output.object(&object(destination, &status, wanted));
    }
    for line in lines(destination, &status, wanted) {
        context.output.line(&line)?;
    }
    Ok(())
}

fn object(destination: &str, status: &Status, wanted: u16) -> serde_json::Value {
    json!({
        "destination": destination,
        "backlog": status.backlog,
        "oldest_unsent_seconds": status.oldest_unsent_seconds,
        "parked_keys": status.parked_keys,
        "held": status.held,
        "unroutable": status.unroutable,
        "dead_letters": status.dead_letters,
        "leases": status.leases,
        "rates": status.rates,
        "checkpoint": status.checkpoint,
        "lanes": status.lanes,
        "lanes_wanted": wanted,
    })
}

fn lines(destination: &str, status: &Status, wanted: u16) -> Vec<String> {
    let oldest = match status.oldest_unsent_seconds {
        Some(seconds) => format!(", the oldest for {}", calendar::ago(seconds)),
        None => String::new(),
    };
    let held = status.held;
    let mut lines = vec![
        format!("destination   {destination}"),
        format!("backlog       {}{oldest}", status.backlog),
        format!(
            "held          {} due later, {} to retry, {} behind their key, {} unroutable",
            held.due, held.retry, held.behind, held.unroutable
        ),
        format!("parked keys   {}", status.parked_keys),
        format!("dead letters  {}", status.dead_letters),
        format!(
            "rates         {:.1} sent/s, {:.1} failed/s over the last minute",
            status.rates.sent_per_second, status.rates.failed_per_second
        ),
    ];
    lines.extend(status.unroutable.iter().map(|route| {
        let (topic, kind) = (printable(&route.topic), printable(&route.kind));
        let said = route.detail.as_deref().map(|said| format!(" ({})", printable(said)));
        let (entries, said) = (route.entries, said.unwrap_or_default());
        format!("unroutable    {entries} of kind {kind} on topic {topic}{said}")
    }));
    if !status.unroutable.is_empty() {
        lines.push(format!("              {BIND}"));
    }
    if (status.lanes, wanted) != (1, 1) {
        lines.push(format!("lanes         {} ({wanted} wanted)", status.lanes));
    }
    // A relay that has a seat among others leads nothing by that.
    if !status.leases.iter().any(|lease| lease.name.starts_with("relay/")) {
        lines.push("relay         none holds the lease: is 'posthaste run' running?".to_owned());
    }
    for lease in &status.leases {
        let (name, owner) = (printable(&lease.name), printable(&lease.owner));
        let remaining = calendar::ago(lease.remaining_seconds);
        let token = lease.token;
        let line = match lease.name.starts_with("seat/") {
            true => format!("relay         {owner} takes part ({name}), {remaining} left"),
            false => {
                format!("lease         {name} held by {owner} (token {token}), {remaining} left")
            }
        };
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use posthaste_core::database::{Held, HeldLease, UnroutableRoute};

    use super::*;

    #[test]
    fn what_nobody_is_bound_to_is_named_with_what_to_do() {
        let route = |kind: &str, entries, detail: Option<&str>| UnroutableRoute {
            topic: "orders".to_owned(),
            kind: kind.to_owned(),
            entries,
            detail: detail.map(str::to_owned),
        };
        let held = Held { unroutable: 4, ..Held::default() };
        let unroutable = vec![route("placed", 3, Some("no queue\u{1b}")), route("paid", 1, None)];
        let status = Status { held, unroutable, ..Status::default() };
        let shown = lines("default", &status, 1);
        let held = "held          0 due later, 0 to retry, 0 behind their key, 4 unroutable";
        assert!(shown.contains(&held.to_owned()), "{shown:?}");
        let first =
            shown.iter().position(|line| line.starts_with("unroutable    3 of kind placed"));
        let first = first.expect("the largest is first");
        assert!(shown[first].contains("no queue") && !shown[first].contains('\u{1b}'));
        assert_eq!(shown[first + 1], "unroutable    1 of kind paid on topic orders");
        assert!(shown[first + 2].contains("bind a queue"), "{shown:?}");
        assert!(!lines("default", &Status::default(), 1).iter().any(|line| line.contains("bind")));
        assert_eq!(object("default", &status, 1)["unroutable"][0]["entries"], 3);
    }

    #[test]
    fn lanes_are_shown_where_there_is_more_than_one_or_another_number_is_wanted() {
        let shown = |lanes, wanted| {
            let status = Status { lanes, ..Status::default() };
            assert_eq!(object("default", &status, wanted)["lanes"], lanes);
            assert_eq!(object("default", &status, wanted)["lanes_wanted"], wanted);
            lines("default", &status, wanted).into_iter().find(|line| line.starts_with("lanes"))
        };
        assert_eq!(shown(1, 1), None);
        assert_eq!(shown(4, 4).as_deref(), Some("lanes         4 (4 wanted)"));
        assert_eq!(shown(1, 2).as_deref(), Some("lanes         1 (2 wanted)"));
    }

    #[test]
    fn a_relay_that_takes_part_does_not_lead_by_that() {
        let lease = |name: &str| HeldLease {
            name: name.to_owned(),
            owner: "host pid 1".to_owned(),
            token: 7,
            remaining_seconds: 3.0,
        };
        let shown = |names: &[&str]| {
            let leases = names.iter().map(|name| lease(name)).collect();
            lines("default", &Status { leases, ..Status::default() }, 1).join("\n")
        };
        let seat = "relay         host pid 1 takes part (seat/default/0)";
        let nobody = shown(&["seat/default/0"]);
        assert!(nobody.contains("none holds the lease") && nobody.contains(seat), "{nobody}");
        let led = shown(&["relay/default/0", "seat/default/0"]);
        assert!(!led.contains("none holds") && led.contains(seat), "{led}");
        assert!(
            led.contains("lease         relay/default/0 held by host pid 1 (token 7)"),
            "{led}"
        );
    }
}
