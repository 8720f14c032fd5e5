//! From settings to a configuration, without touching the world: every mistake is reported, each
//! with the path of the setting, what is wrong and what to do.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use posthaste::{OnDead, OnUnroutable, RelayOptions, TopicPolicy};
use posthaste_core::RetryPolicy;
use posthaste_core::finding::{Finding, Severity};
use posthaste_core::lane::MAX_LANES;
use posthaste_core::limits::{self, PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MOST};
use tracing_subscriber::EnvFilter;

use super::address::Address;
use super::configuration::{
    BrokerConfiguration, Configuration, DatabaseConfiguration, LogConfiguration,
};
use super::layers::Loaded;
use super::nearest::nearest;
use super::options::{self, Known};
use super::period::Period;
use super::reading::located;
use super::size::Size;
use super::{BrokerSettings, OnDeadSetting, RetrySettings, Settings, UnroutableSetting};

/// The name of the broker that `[broker]` configures.
pub(crate) const DEFAULT_BROKER: &str = "default";

/// A larger window would only cost memory.
const MOST_IN_FLIGHT: usize = 100_000;

/// What a command cannot do without.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// A database.
    pub(crate) database: bool,
    /// A broker.
    pub(crate) broker: bool,
}

/// The URL schemes that can be opened, with the options that they take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schemes {
    /// Of databases.
    pub(crate) databases: Known,
    /// Of brokers.
    pub(crate) brokers: Known,
}

/// Checks what was loaded.
///
/// # Errors
/// All findings, of which at least one is a problem.
pub(crate) fn validate(
    loaded: Loaded,
    schemes: &Schemes,
    needs: Needs,
) -> Result<Configuration, Vec<Finding>> {
    let Loaded { settings, origins, findings, .. } = loaded;
    let mut check = Check { origins, findings };
    let configuration = check.settings(&settings, schemes, needs);
    if check.findings.iter().any(|finding| finding.severity == Severity::Problem) {
        return Err(check.findings);
    }
    Ok(Configuration { notices: check.findings, ..configuration })
}

/// What has been checked so far.
pub(super) struct Check {
    origins: BTreeMap<String, super::tree::Origin>,
    findings: Vec<Finding>,
}

impl Check {
    fn settings(&mut self, settings: &Settings, schemes: &Schemes, needs: Needs) -> Configuration {
        let database = self.database(settings, schemes, needs);
        let mut brokers = BTreeMap::new();
        if let Some(default) = &settings.broker {
            self.broker("broker", DEFAULT_BROKER, default, schemes, &mut brokers);
        }
        for (name, broker) in &settings.brokers {
            let path = format!("brokers.{name}");
            if let Err(invalid) = limits::check_name("broker name", name) {
                self.problem(&path, &invalid.to_string(), None);
            }
            self.broker(&path, name, broker, schemes, &mut brokers);
        }
        let relay = self.relay(settings);
        self.destination(settings, &relay.destination, needs);
        let http = settings.http.listen.as_deref().and_then(|listen| self.listen(listen));
        let log = LogConfiguration {
            format: settings.log.format,
            level: settings.log.level.clone().filter(|level| self.level(level)),
        };
        Configuration { database, brokers, relay, http, log, notices: Vec::new() }
    }

    pub(super) fn problem(&mut self, path: &str, what: &str, advice: Option<String>) {
        self.find(Severity::Problem, path, what, advice);
    }

    fn find(&mut self, severity: Severity, path: &str, what: &str, advice: Option<String>) {
        let what = located(what, self.origins.get(path));
        let mut finding = Finding::new(severity, path, what);
        finding.advice = advice;
        self.findings.push(finding);
    }

    /// Whether a value at this path, or below it, has been reported already, so that it is not
    /// called missing as well.
    fn is_reported(&self, path: &str) -> bool {
        self.findings.iter().any(|finding| {
            finding.severity == Severity::Problem
                && (path.starts_with(&finding.subject) || finding.subject.starts_with(path))
        })
    }

    fn database(
        &mut self,
        settings: &Settings,
        schemes: &Schemes,
        needs: Needs,
    ) -> Option<DatabaseConfiguration> {
        let limit = settings.database.payload_limit.map_or(PAYLOAD_BYTES_DEFAULT, |size| size.0);
        if limit == 0 || limit > PAYLOAD_BYTES_MOST {
            let what = format!("a payload limit of {} is not possible", Size(limit));
            let advice = "choose from 1B to 64MiB".to_owned();
            self.problem("database.payload_limit", &what, Some(advice));
        }
        let Some(address) = &settings.database.url else {
            if needs.database && !self.is_reported("database") {
                let advice =
                    "pass --database URL, set POSTHASTE_DATABASE_URL, or write [database] url";
                self.problem("database.url", "no database is configured", Some(advice.to_owned()));
            }
            return None;
        };
        self.address("database.url", address, &schemes.databases);
        let options = options::of_database(self, &settings.database, &schemes.databases);
        Some(DatabaseConfiguration { address: address.clone(), payload_limit: limit, options })
    }

    fn broker(
        &mut self,
        path: &str,
        name: &str,
        given: &BrokerSettings,
        schemes: &Schemes,
        brokers: &mut BTreeMap<String, BrokerConfiguration>,
    ) {
        let url = format!("{path}.url");
        match &given.url {
            Some(address) => {
                self.address(&url, address, &schemes.brokers);
                let options = options::of_broker(self, path, given, &schemes.brokers);
                let address = address.clone();
                let names_subscriptions = given.subscriptions.is_some();
                let broker = BrokerConfiguration { address, options, names_subscriptions };
                brokers.insert(name.to_owned(), broker);
            }
            None if self.is_reported(&url) => {}
            None => self.problem(&url, "this broker has no URL", None),
        }
    }

    fn address(&mut self, path: &str, address: &Address, schemes: &Known) {
        let known =
            schemes.keys().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>().join(", ");
        let Some(scheme) = address.scheme() else {
            let advice = format!("write a URL that begins with one of: {known}");
            return self.problem(path, &format!("'{address}' is not a URL"), Some(advice));
        };
        if !schemes.contains_key(&scheme) {
            let advice = match nearest(&scheme, schemes.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean '{meant}:'? known here: {known}"),
                None => format!("known here: {known}"),
            };
            self.problem(path, &format!("unknown scheme '{scheme}:'"), Some(advice));
        }
    }

    /// The broker that is relayed to has to be one of those that are configured.
    fn destination(&mut self, settings: &Settings, name: &str, needs: Needs) {
        let default = name == DEFAULT_BROKER && settings.broker.is_some();
        if default || settings.brokers.contains_key(name) {
            return;
        }
        if settings.relay.broker.is_some() {
            let names = settings.broker.as_ref().map(|_| DEFAULT_BROKER).into_iter();
            let names: Vec<&str> =
                names.chain(settings.brokers.keys().map(String::as_str)).collect();
            let what = format!("there is no broker called '{name}'");
            let advice = match names.is_empty() {
                true => "write [broker] url".to_owned(),
                false => format!("configured: {}", names.join(", ")),
            };
            self.problem("relay.broker", &what, Some(advice));
        } else if needs.broker && !self.is_reported("broker") {
            let advice = "pass --broker URL, set POSTHASTE_BROKER_URL, or write [broker] url";
            let advice = match settings.brokers.keys().next() {
                Some(first) => format!("{advice}; or choose one: [relay] broker = \"{first}\""),
                None => advice.to_owned(),
            };
            self.problem("broker.url", "no broker is configured", Some(advice));
        }
    }

    fn relay(&mut self, settings: &Settings) -> RelayOptions {
        let relay = &settings.relay;
        let default = RelayOptions::default();
        let retry = self.retry("relay.retry", relay.retry, default.policy.retry);
        let policy = TopicPolicy {
            retry,
            on_dead: on_dead(relay.on_dead, default.policy.on_dead),
            unroutable: unroutable(relay.unroutable, default.policy.unroutable),
            probe_every: self.probe("relay", relay.unroutable_probe, default.policy.probe_every),
        };
        let topics = settings.topics.iter().map(|(topic, own)| {
            let path = format!("topics.{topic}");
            if let Err(invalid) = limits::check_name("topic", topic) {
                self.problem(&path, &invalid.to_string(), None);
            }
            let retry = self.retry(&format!("{path}.retry"), own.retry, policy.retry);
            let own = TopicPolicy {
                retry,
                on_dead: on_dead(own.on_dead, policy.on_dead),
                unroutable: unroutable(own.unroutable, policy.unroutable),
                probe_every: self.probe(&path, own.unroutable_probe, policy.probe_every),
            };
            (topic.clone(), own)
        });
        let topics = topics.collect();
        let (millisecond, second, hour) =
            (Duration::from_millis(1), Duration::from_secs(1), Duration::from_hours(1));
        let poll = relay
            .poll
            .map(|poll| self.period("relay.poll", Some(poll), poll.0, millisecond..=60 * second));
        RelayOptions {
            destination: relay.broker.clone().unwrap_or_else(|| DEFAULT_BROKER.to_owned()),
            lanes: relay.lanes.filter(|lanes| self.lanes(*lanes)),
            window_messages: self.window(relay.window, default.window_messages),
            window_bytes: self.window_bytes(relay.window_bytes, default.window_bytes),
            policy,
            topics,
            lease_ttl: self.period(
                "relay.lease_ttl",
                relay.lease_ttl,
                default.lease_ttl,
                second..=hour,
            ),
            poll,
            grace: self.period("relay.grace", relay.grace, default.grace, Duration::ZERO..=hour),
            keep_sent: relay.keep_sent.map_or(default.keep_sent, |period| period.0),
            ..default
        }
    }

    fn retry(&mut self, path: &str, given: RetrySettings, base: RetryPolicy) -> RetryPolicy {
        let policy = RetryPolicy {
            limit: given.limit.unwrap_or(base.limit),
            first: given.first.map_or(base.first, |period| period.0),
            longest: given.longest.map_or(base.longest, |period| period.0),
        };
        if policy.limit == 0 {
            let what = "a limit of 0 attempts would never send anything";
            self.problem(&format!("{path}.limit"), what, Some("choose at least 1".to_owned()));
        }
        if policy.first < Duration::from_millis(1) {
            let advice = Some("choose at least 1ms".to_owned());
            self.problem(&format!("{path}.first"), "there is no wait between attempts", advice);
        }
        if policy.first > policy.longest {
            let (first, longest) = (Period(policy.first), Period(policy.longest));
            let what = format!("the longest wait ({longest}) is shorter than the first ({first})");
            self.problem(
                &format!("{path}.longest"),
                &what,
                Some(format!("choose {first} or more")),
            );
        }
        policy
    }

    fn lanes(&mut self, lanes: u16) -> bool {
        let is_possible = (1..=MAX_LANES).contains(&lanes);
        if !is_possible {
            let advice = Some(format!("choose from 1 to {MAX_LANES}"));
            self.problem("relay.lanes", &format!("{lanes} is out of range"), advice);
        }
        is_possible
    }

    fn window(&mut self, given: Option<u32>, default: usize) -> usize {
        let window = given.map_or(default, |count| usize::try_from(count).unwrap_or(usize::MAX));
        if window == 0 || window > MOST_IN_FLIGHT {
            let advice = Some(format!("choose from 1 to {MOST_IN_FLIGHT}"));
            self.problem("relay.window", &format!("{window} is out of range"), advice);
        }
        window
    }

    fn window_bytes(&mut self, given: Option<Size>, default: usize) -> usize {
        let bytes = given.map_or(default, |size| size.0);
        if !(64 << 10..=4 << 30).contains(&bytes) {
            let what = format!("{} is out of range", Size(bytes));
            let advice = Some("choose from 64KiB to 4GiB".to_owned());
            self.problem("relay.window_bytes", &what, advice);
        }
        bytes
    }

    /// How often something that nobody is bound to is tried again; 0 would never let it rest.
    fn probe(&mut self, table: &str, given: Option<Period>, default: Duration) -> Duration {
        let Some(given) = given else { return default };
        let (path, hour) = (format!("{table}.unroutable_probe"), Duration::from_hours(1));
        self.period(&path, Some(given), default, Duration::from_millis(100)..=hour)
    }

    /// A length of time.
    fn period(
        &mut self,
        path: &str,
        given: Option<Period>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let period = given.map_or(default, |period| period.0);
        if !range.contains(&period) {
            let what = format!("{} is out of range", Period(period));
            let (least, most) = (Period(*range.start()), Period(*range.end()));
            let advice = Some(format!("choose from {least} to {most}"));
            self.problem(path, &what, advice);
        }
        period
    }

    /// Only loopback, because there is no authentication yet.
    fn listen(&mut self, text: &str) -> Option<SocketAddr> {
        let local = text.strip_prefix("localhost:");
        let local = local.and_then(|port| port.parse().ok());
        let address = local.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let Some(address) = address.or_else(|| text.parse().ok()) else {
            let what = format!("'{text}' is not an address with a port");
            self.problem("http.listen", &what, Some("write it like 127.0.0.1:8025".to_owned()));
            return None;
        };
        if !address.ip().is_loopback() {
            let what =
                format!("{address} can be reached from other machines, and there is no login");
            let advice = format!(
                "listen on 127.0.0.1:{} and let a proxy that authenticates forward to it",
                address.port()
            );
            self.problem("http.listen", &what, Some(advice));
            return None;
        }
        Some(address)
    }

    /// A single word must be a level: tracing would take any other for the name of a module.
    fn level(&mut self, text: &str) -> bool {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let word = !text.contains(['=', ',', '[']);
        let known = LEVELS.contains(&text.to_ascii_lowercase().as_str());
        if (word && !known) || EnvFilter::builder().parse(text).is_err() {
            let what = format!("'{text}' is not a log level");
            let advice = format!("use one of {}, or posthaste=debug,warn", LEVELS.join(", "));
            self.problem("log.level", &what, Some(advice));
            return false;
        }
        true
    }
}

fn on_dead(given: Option<OnDeadSetting>, default: OnDead) -> OnDead {
    match given {
        Some(OnDeadSetting::Skip) => OnDead::Skip,
        Some(OnDeadSetting::Park) => OnDead::Park,
        None => default,
    }
}

fn unroutable(given: Option<UnroutableSetting>, default: OnUnroutable) -> OnUnroutable {
    match given {
        Some(UnroutableSetting::Hold) => OnUnroutable::Hold,
        Some(UnroutableSetting::Accept) => OnUnroutable::Accept,
        Some(UnroutableSetting::Dead) => OnUnroutable::Dead,
        None => default,
    }
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
