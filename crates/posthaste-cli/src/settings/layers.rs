//! Where settings come from: a flag counts more than an environment variable, and that more than
//! the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use posthaste_core::finding::{Finding, Severity};

use super::nearest::nearest;
use super::reading;
use super::tree::{Node, Origin};
use super::{Settings, address::Address};

/// The file that is read if none is named.
pub(crate) const DEFAULT_FILE: &str = "posthaste.toml";

/// The variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "POSTHASTE_CONFIG";

/// Every setting that has an environment variable: the variable, and the path of the setting.
pub(crate) const VARIABLES: [(&str, &str); 32] = [
    ("POSTHASTE_DATABASE_URL", "database.url"),
    ("POSTHASTE_DATABASE_PAYLOAD_LIMIT", "database.payload_limit"),
    ("POSTHASTE_DATABASE_SCHEMA", "database.schema"),
    ("POSTHASTE_DATABASE_CONNECTIONS", "database.connections"),
    ("POSTHASTE_DATABASE_LOCK_TIMEOUT", "database.lock_timeout"),
    ("POSTHASTE_DATABASE_LISTEN", "database.listen"),
    ("POSTHASTE_BROKER_URL", "broker.url"),
    ("POSTHASTE_BROKER_PREFIX", "broker.prefix"),
    ("POSTHASTE_BROKER_DECLARE", "broker.declare"),
    ("POSTHASTE_BROKER_CA_FILE", "broker.ca_file"),
    ("POSTHASTE_BROKER_WINDOW", "broker.window"),
    ("POSTHASTE_BROKER_PUBLISH_TIMEOUT", "broker.publish_timeout"),
    ("POSTHASTE_BROKER_DELIVERY_LIMIT", "broker.delivery_limit"),
    ("POSTHASTE_BROKER_SUBSCRIPTIONS", "broker.subscriptions"),
    ("POSTHASTE_RELAY_BROKER", "relay.broker"),
    ("POSTHASTE_RELAY_LANES", "relay.lanes"),
    ("POSTHASTE_RELAY_WINDOW", "relay.window"),
    ("POSTHASTE_RELAY_WINDOW_BYTES", "relay.window_bytes"),
    ("POSTHASTE_RELAY_LEASE_TTL", "relay.lease_ttl"),
    ("POSTHASTE_RELAY_POLL", "relay.poll"),
    ("POSTHASTE_RELAY_GRACE", "relay.grace"),
    ("POSTHASTE_RELAY_KEEP_SENT", "relay.keep_sent"),
    ("POSTHASTE_RELAY_ON_DEAD", "relay.on_dead"),
    ("POSTHASTE_RELAY_UNROUTABLE", "relay.unroutable"),
    ("POSTHASTE_RELAY_UNROUTABLE_PROBE", "relay.unroutable_probe"),
    ("POSTHASTE_RELAY_RETRY_LIMIT", "relay.retry.limit"),
    ("POSTHASTE_RELAY_RETRY_FIRST", "relay.retry.first"),
    ("POSTHASTE_RELAY_RETRY_LONGEST", "relay.retry.longest"),
    ("POSTHASTE_HTTP_LISTEN", "http.listen"),
    ("POSTHASTE_LOG", "log.level"),
    ("POSTHASTE_LOG_LEVEL", "log.level"),
    ("POSTHASTE_LOG_FORMAT", "log.format"),
];

/// What the flags of a command line set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The file named by `--config`.
    pub(crate) file: Option<PathBuf>,
    /// Path of a setting, its value, and the flag that set it, in the order in which they count.
    pub(crate) assignments: Vec<(String, String, String)>,
}

impl Flags {
    /// Flags that put a secret on the command line, where every user of the machine can read it.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = &str> {
        let secret = |value: &str| Address::new(value).holds_secret();
        let exposed = self.assignments.iter().filter(move |(_, value, _)| secret(value));
        exposed.map(|(_, _, flag)| flag.as_str())
    }
}

/// Settings from all layers.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What was asked for.
    pub(crate) settings: Settings,
    /// Where each value came from, by path.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// What could not be read (problems), and what looks wrong (notices).
    pub(crate) findings: Vec<Finding>,
    /// The file that was read, if one was.
    pub(crate) file: Option<PathBuf>,
}

/// Reads the file, the environment and the flags.
pub(crate) fn load(
    flags: &Flags,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Loaded {
    let mut findings = Vec::new();
    let (variables, named) = variables(environment, &mut findings);
    let named = flags.file.clone().or(named);
    let (file, mut tree) = match read_file(named.as_deref(), &mut findings) {
        Some((path, tree)) => (Some(path), tree),
        None => (None, Node::default()),
    };
    tree.overlay(variables);
    for (path, value, flag) in &flags.assignments {
        let path = canonical(path);
        tree.assign(&path, value.clone(), Origin::Flag(flag.clone()));
    }
    let origins = tree.origins();
    let (settings, mistakes) = reading::read(tree);
    findings.extend(mistakes);
    Loaded { settings, origins, findings, file }
}

/// `brokers.default` is another way to write `broker`.
fn canonical(path: &str) -> String {
    match path.strip_prefix("brokers.default") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => format!("broker{rest}"),
        _ => path.to_owned(),
    }
}

fn variables(
    environment: impl Iterator<Item = (OsString, OsString)>,
    findings: &mut Vec<Finding>,
) -> (Node, Option<PathBuf>) {
    let mut tree = Node::default();
    let mut file = None;
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with("POSTHASTE_")) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        if name == FILE_VARIABLE {
            file = Some(PathBuf::from(value));
            continue;
        }
        let known = VARIABLES.iter().find(|(variable, _)| *variable == name);
        let Some((_, path)) = known else {
            findings.extend(looks_misspelt(name));
            continue;
        };
        match value.into_string() {
            Ok(value) => tree.assign(path, value, Origin::Environment(name.to_owned())),
            Err(_) => findings.push(Finding::new(
                Severity::Problem,
                *path,
                format!("the value of {name} is not UTF-8"),
            )),
        }
    }
    (tree, file)
}

/// Only a notice and only when it is close: orchestrators put variables of their own beside ours
/// (`POSTHASTE_SERVICE_HOST`).
fn looks_misspelt(name: &str) -> Option<Finding> {
    let valid: Vec<String> =
        VARIABLES.iter().map(|(variable, _)| variable.to_ascii_lowercase()).collect();
    let meant = nearest(name, valid.iter().map(String::as_str))?;
    if meant.len().abs_diff(name.len()) > 2 {
        return None;
    }
    let what = format!("the environment variable {name} is no setting and is ignored");
    let advice = format!("did you mean {}?", meant.to_ascii_uppercase());
    Some(Finding::new(Severity::Notice, name, what).advise(advice))
}

/// The named file must be there; the default one may be absent.
fn read_file(named: Option<&Path>, findings: &mut Vec<Finding>) -> Option<(PathBuf, Node)> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    let problem = |what: String| Finding::new(Severity::Problem, name.clone(), what);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => return None,
        Err(error) => {
            findings.push(problem(format!("the settings file cannot be read: {error}")));
            return None;
        }
    };
    let Ok(text) = String::from_utf8(bytes) else {
        findings.push(problem("the settings file is not UTF-8 text".to_owned()));
        return None;
    };
    let (mut tree, errors) = Node::from_toml(&name, &text);
    for (line, message) in errors {
        findings.push(problem(format!("line {line}: {message}")));
    }
    if let Some(default) = tree.remove(&["brokers", "default"]) {
        if tree.at(&["broker"]).is_some() {
            let what = "[broker] and [brokers.default] are the same broker";
            let what = reading::located(what, default.origin.as_ref());
            let finding = Finding::new(Severity::Problem, "brokers.default", what);
            findings.push(finding.advise("keep one of them"));
        } else {
            let mut top = std::collections::BTreeMap::new();
            top.insert("broker".to_owned(), default);
            tree.overlay(Node { origin: None, value: super::tree::Value::Table(top) });
        }
    }
    Some((path.to_owned(), tree))
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
