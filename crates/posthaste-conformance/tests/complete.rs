//! Every law that is written is in a suite: one that nobody runs protects nobody.

const SEAMS: [(&str, &str); 14] = [
    ("dead_letters", include_str!("../src/dead_letters.rs")),
    ("inbox", include_str!("../src/inbox.rs")),
    ("lanes", include_str!("../src/lanes.rs")),
    ("leases", include_str!("../src/leases.rs")),
    ("monitor", include_str!("../src/monitor.rs")),
    ("outage", include_str!("../src/outage.rs")),
    ("outbox", include_str!("../src/outbox.rs")),
    ("publisher", include_str!("../src/publisher.rs")),
    ("routes", include_str!("../src/routes.rs")),
    ("schema", include_str!("../src/schema.rs")),
    ("settlement", include_str!("../src/settlement.rs")),
    ("subscriber", include_str!("../src/subscriber.rs")),
    ("topics", include_str!("../src/topics.rs")),
    ("writer", include_str!("../src/writer.rs")),
];

/// The names in the list of a suite.
fn listed(source: &str) -> Vec<&str> {
    let (_, rest) = source.split_once("$crate::laws!(").expect("a list of laws");
    let (_, list) = rest.split_once('[').expect("the beginning of the list");
    let (list, _) = list.split_once(']').expect("the end of the list");
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// The names of the laws that are written.
fn written(source: &str) -> Vec<&str> {
    let after = source.split("\npub async fn ").skip(1);
    after.filter_map(|text| text.split(['<', '(']).next()).collect()
}

#[test]
fn every_law_that_is_written_is_in_its_suite() {
    for (seam, source) in SEAMS {
        let (mut listed, mut written) = (listed(source), written(source));
        assert!(written.len() > 2, "the laws of {seam} were found: {written:?}");
        listed.sort_unstable();
        written.sort_unstable();
        assert_eq!(listed, written, "the suite and the laws of {seam}");
    }
}
