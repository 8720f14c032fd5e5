//! Options of a backend that stand beside its URL: whether the backend takes them, and whether they
//! are within their bounds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use posthaste_core::limits::check_name;

use super::period::Period;
use super::validation::Check;
use super::{BrokerSettings, DatabaseSettings};

/// What a database may be told beside its URL. What is `None` is the backend's to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseOptions {
    /// The schema that holds the tables.
    pub schema: Option<String>,
    /// Most connections at once.
    pub connections: Option<u32>,
    /// How long a statement waits for a lock.
    pub lock_timeout: Option<Duration>,
    /// Whether processes hint commits to each other.
    pub listen: Option<bool>,
}

/// What a broker may be told beside its URL. What is `None` is the backend's to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerOptions {
    /// Put before the names of what is declared there.
    pub prefix: Option<String>,
    /// Whether what is missing is declared.
    pub declare: Option<bool>,
    /// The certificates that the broker's must go back to.
    pub ca_file: Option<PathBuf>,
    /// Most messages that are sent and not confirmed.
    pub window: Option<u32>,
    /// How long one call to publish may take.
    pub publish_timeout: Option<Duration>,
    /// Deliveries of one message before the broker itself gives it up.
    pub delivery_limit: Option<u32>,
    /// Subscriptions whose dead letters are shown, as pairs of topic and name.
    pub subscriptions: Vec<(String, String)>,
}

/// The options that each scheme takes, by their names in the settings.
pub(crate) type Known = BTreeMap<String, &'static [&'static str]>;

/// Of `[database]`.
pub(super) fn of_database(
    check: &mut Check,
    given: &DatabaseSettings,
    known: &Known,
) -> DatabaseOptions {
    let DatabaseSettings { url, schema, connections, lock_timeout, listen, .. } = given;
    let scheme = url.as_ref().and_then(super::address::Address::scheme).unwrap_or_default();
    let taken = Taken { check: &mut *check, path: "database", scheme: &scheme, known };
    taken.only(&[
        ("schema", schema.is_some()),
        ("connections", connections.is_some()),
        ("lock_timeout", lock_timeout.is_some()),
        ("listen", listen.is_some()),
    ]);
    number(check, "database.connections", *connections, 2, 1000);
    time(check, "database.lock_timeout", *lock_timeout, Duration::ZERO, Duration::from_hours(1));
    DatabaseOptions {
        schema: schema.clone(),
        connections: *connections,
        lock_timeout: lock_timeout.map(|period| period.0),
        listen: *listen,
    }
}

/// Of a broker, whose table is at `path`.
pub(super) fn of_broker(
    check: &mut Check,
    path: &str,
    given: &BrokerSettings,
    known: &Known,
) -> BrokerOptions {
    let BrokerSettings {
        url,
        prefix,
        declare,
        ca_file,
        window,
        publish_timeout,
        delivery_limit,
        subscriptions,
    } = given;
    let scheme = url.as_ref().and_then(super::address::Address::scheme).unwrap_or_default();
    let taken = Taken { check: &mut *check, path, scheme: &scheme, known };
    taken.only(&[
        ("prefix", prefix.is_some()),
        ("declare", declare.is_some()),
        ("ca_file", ca_file.is_some()),
        ("window", window.is_some()),
        ("publish_timeout", publish_timeout.is_some()),
        ("delivery_limit", delivery_limit.is_some()),
        ("subscriptions", subscriptions.is_some()),
    ]);
    number(check, &format!("{path}.window"), *window, 1, 65_535);
    number(check, &format!("{path}.delivery_limit"), *delivery_limit, 1, 1_000_000);
    let (shortest, longest) = (Duration::from_millis(100), Duration::from_mins(10));
    time(check, &format!("{path}.publish_timeout"), *publish_timeout, shortest, longest);
    let named = subscriptions.iter().flatten();
    let pairs = named.filter_map(|name| subscription(check, path, name)).collect();
    BrokerOptions {
        prefix: prefix.clone(),
        declare: *declare,
        ca_file: ca_file.clone(),
        window: *window,
        publish_timeout: publish_timeout.map(|period| period.0),
        delivery_limit: *delivery_limit,
        subscriptions: pairs,
    }
}

/// A topic may have dots, the name of a subscription has none.
fn subscription(check: &mut Check, path: &str, text: &str) -> Option<(String, String)> {
    let pair = text.rsplit_once('.').filter(|(topic, name)| !topic.is_empty() && !name.is_empty());
    let is_named = pair.is_some_and(|(topic, name)| {
        check_name("topic", topic).is_ok() && check_name("name", name).is_ok()
    });
    if !is_named {
        let what = format!("'{text}' names no subscription");
        let advice = "write TOPIC.NAME, as in orders.shipping".to_owned();
        check.problem(&format!("{path}.subscriptions"), &what, Some(advice));
    }
    pair.filter(|_| is_named).map(|(topic, name)| (topic.to_owned(), name.to_owned()))
}

/// What is given to a backend of one scheme.
struct Taken<'c> {
    check: &'c mut Check,
    path: &'c str,
    scheme: &'c str,
    known: &'c Known,
}

impl Taken<'_> {
    /// Refuses what is given and not taken. An unknown scheme has been told already.
    fn only(self, options: &[(&str, bool)]) {
        let Some(known) = self.known.get(self.scheme) else { return };
        for (name, _) in options.iter().filter(|(name, given)| *given && !known.contains(name)) {
            let what = format!("{}: takes no such option", self.scheme);
            let advice = match known.is_empty() {
                true => "leave it out".to_owned(),
                false => format!("leave it out; it takes {}", known.join(", ")),
            };
            self.check.problem(&format!("{}.{name}", self.path), &what, Some(advice));
        }
    }
}

fn number(check: &mut Check, path: &str, given: Option<u32>, least: u32, most: u32) {
    if let Some(number) = given.filter(|number| !(least..=most).contains(number)) {
        let advice = Some(format!("choose from {least} to {most}"));
        check.problem(path, &format!("{number} is out of range"), advice);
    }
}

fn time(check: &mut Check, path: &str, given: Option<Period>, least: Duration, most: Duration) {
    if let Some(period) = given.filter(|period| !(least..=most).contains(&period.0)) {
        let advice = Some(format!("choose from {} to {}", Period(least), Period(most)));
        check.problem(path, &format!("{period} is out of range"), advice);
    }
}
