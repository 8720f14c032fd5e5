//! What was asked for: the settings as they were typed, before anything is done with them.
//!
//! Three steps, three types. [`Settings`] is plain data and does nothing; [`validation`] turns it
//! into a [`Configuration`] without touching the world and reports every mistake at once;
//! [`Configuration`] can then open what it names. Where a value came from (a line of the file, an
//! environment variable, a flag) is remembered beside the settings, in [`layers::Loaded`].

pub(crate) mod address;
pub(crate) mod configuration;
pub(crate) mod layers;
pub(crate) mod nearest;
pub(crate) mod options;
pub(crate) mod period;
pub(crate) mod reading;
pub(crate) mod size;
pub(crate) mod tree;
pub(crate) mod validation;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use address::Address;
pub(crate) use configuration::Configuration;
use period::Period;
use size::Size;

/// Everything that can be set. Whatever is `None` was left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// `[database]`: where the outbox is.
    #[serde(default)]
    pub(crate) database: DatabaseSettings,
    /// `[broker]`: the broker called `default`; `[brokers.default]` is read as this.
    pub(crate) broker: Option<BrokerSettings>,
    /// `[brokers.NAME]`: further brokers.
    #[serde(default)]
    pub(crate) brokers: BTreeMap<String, BrokerSettings>,
    /// `[relay]`: how `run` relays.
    #[serde(default)]
    pub(crate) relay: RelaySettings,
    /// `[topics."NAME"]`: what is different for one topic.
    #[serde(default)]
    pub(crate) topics: BTreeMap<String, TopicSettings>,
    /// `[http]`: health and metrics.
    #[serde(default)]
    pub(crate) http: HttpSettings,
    /// `[log]`: what is logged, and how.
    #[serde(default)]
    pub(crate) log: LogSettings,
}

/// Where the outbox is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseSettings {
    /// Its URL; the scheme chooses the backend.
    pub(crate) url: Option<Address>,
    /// Most bytes of one payload.
    pub(crate) payload_limit: Option<Size>,
    /// The schema that holds the tables.
    pub(crate) schema: Option<String>,
    /// Most connections at once.
    pub(crate) connections: Option<u32>,
    /// How long a statement waits for a lock.
    pub(crate) lock_timeout: Option<Period>,
    /// Whether processes hint commits to each other.
    pub(crate) listen: Option<bool>,
}

/// A broker.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BrokerSettings {
    /// Its URL; the scheme chooses the backend.
    pub(crate) url: Option<Address>,
    /// Put before the names of what is declared there.
    pub(crate) prefix: Option<String>,
    /// Whether what is missing is declared.
    pub(crate) declare: Option<bool>,
    /// The certificates that the broker's must go back to.
    pub(crate) ca_file: Option<PathBuf>,
    /// Most messages that are sent and not confirmed.
    pub(crate) window: Option<u32>,
    /// How long one call to publish may take.
    pub(crate) publish_timeout: Option<Period>,
    /// Deliveries of one message before the broker itself gives it up.
    pub(crate) delivery_limit: Option<u32>,
    /// Subscriptions whose dead letters are shown, as TOPIC.NAME.
    pub(crate) subscriptions: Option<Vec<String>>,
}

/// How `run` relays.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelaySettings {
    /// The name of the broker to relay to.
    pub(crate) broker: Option<String>,
    /// Into how many lanes the keys are divided, so that several relays share the work.
    pub(crate) lanes: Option<u16>,
    /// Most messages taken and not yet settled.
    pub(crate) window: Option<u32>,
    /// Most bytes of these.
    pub(crate) window_bytes: Option<Size>,
    /// How long a lease lasts that is not renewed.
    pub(crate) lease_ttl: Option<Period>,
    /// The longest time between two looks at the outbox.
    pub(crate) poll: Option<Period>,
    /// How long an orderly stop may take.
    pub(crate) grace: Option<Period>,
    /// How long sent messages are kept.
    pub(crate) keep_sent: Option<Period>,
    /// What happens to a key when one of its messages becomes a dead letter.
    pub(crate) on_dead: Option<OnDeadSetting>,
    /// What happens to messages of a topic and kind that nobody is bound to.
    pub(crate) unroutable: Option<UnroutableSetting>,
    /// How often the first of them is tried again.
    pub(crate) unroutable_probe: Option<Period>,
    /// How often and how long apart a refused message is tried again.
    #[serde(default)]
    pub(crate) retry: RetrySettings,
}

/// How often and how long apart a refused message is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetrySettings {
    /// Attempts before a message becomes a dead letter.
    pub(crate) limit: Option<u32>,
    /// Wait after the first failure.
    pub(crate) first: Option<Period>,
    /// Longest wait.
    pub(crate) longest: Option<Period>,
}

/// What is different for one topic; what is left out is as in `[relay]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicSettings {
    /// What happens to a key when one of its messages becomes a dead letter.
    pub(crate) on_dead: Option<OnDeadSetting>,
    /// What happens to messages of a topic and kind that nobody is bound to.
    pub(crate) unroutable: Option<UnroutableSetting>,
    /// How often the first of them is tried again.
    pub(crate) unroutable_probe: Option<Period>,
    /// Its own retries.
    #[serde(default)]
    pub(crate) retry: RetrySettings,
}

/// What happens to a key when one of its messages becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnDeadSetting {
    /// Later messages of the key wait until an operator acts.
    Park,
    /// Later messages of the key go on without it.
    Skip,
}

/// What happens to messages of a topic and kind that nobody is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnroutableSetting {
    /// They are set aside in order and sent once somebody is bound.
    Hold,
    /// They count as sent.
    Accept,
    /// They become dead letters.
    Dead,
}

/// Health and metrics.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// Address and port; nothing is served if it is left out.
    pub(crate) listen: Option<String>,
}

/// What is logged, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// Text or JSON.
    pub(crate) format: Option<LogFormat>,
    /// A level, or levels per module as in `posthaste=debug,warn`.
    pub(crate) level: Option<String>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
