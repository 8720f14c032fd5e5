//! `posthaste init`: writes a settings file that explains itself, and never over another one.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::settings::layers::DEFAULT_FILE;

/// Write a commented posthaste.toml to start from
#[derive(Debug, clap::Args)]
#[command(after_help = "Never overwrites a file.\n\nExamples:\n  posthaste init\n  \
    posthaste init --database sqlite:///var/lib/shop/app.db --broker bus:///var/lib/shop/bus.db\n  \
    posthaste init --config /etc/posthaste.toml")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, context: &Context) -> Result<(), Failure> {
    context.warn_of_exposed_secrets();
    let path = context.flags().file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let given = |wanted: &str| {
        let assignments = context.flags().assignments.iter().rev();
        assignments.filter(|(path, _, _)| path == wanted).map(|(_, url, _)| url.clone()).next()
    };
    let folder = std::env::current_dir()
        .map_err(|error| Failure::failed(format!("cannot tell the current folder: {error}")))?;
    let folder = in_url(&folder.to_string_lossy());
    let database = given("database.url").unwrap_or_else(|| format!("sqlite://{folder}/app.db"));
    let broker = given("broker.url").unwrap_or_else(|| format!("bus://{folder}/bus.db"));
    write_new(&path, &template(&database, &broker))?;
    let shown = path.display().to_string();
    if context.output.is_json() {
        return context.output.object(&json!({ "created": shown }));
    }
    context.output.line(&shown)?;
    context.output.say(&next_steps(&path));
    Ok(())
}

fn next_steps(path: &Path) -> String {
    let flag = match path == Path::new(DEFAULT_FILE) {
        true => String::new(),
        false => format!(" --config {}", path.display()),
    };
    format!(
        "Look at the two URLs in it, then:\n  \
         posthaste check{flag}      # are the settings right?\n  \
         posthaste migrate{flag}    # make the tables in your database\n  \
         posthaste run{flag}        # relay until stopped"
    )
}

/// Only its owner may read it, because it is where passwords belong.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let shown = path.display();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::failed(format!(
            "{shown} is there already and was left as it is; name another one with --config"
        )),
        _ => Failure::failed(format!("cannot write {shown}: {error}")),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::failed(format!("cannot write {shown}: {error}")))
}

/// A path as it stands in a URL.
fn in_url(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes().fold(String::with_capacity(path.len()), |mut url, byte| {
        match plain(byte) {
            true => url.push(char::from(byte)),
            false => url.push_str(&format!("%{byte:02X}")),
        }
        url
    })
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn template(database: &str, broker: &str) -> String {
    let (database, broker) = (quoted(database), quoted(broker));
    format!(
        r#"# Settings of posthaste. 'posthaste check' says whether they are right.
# A flag counts more than an environment variable, and that more than this file.
# What is commented out shows the default.

[database]
# The database of your service; 'posthaste migrate' makes the tables in it.
# Environment: POSTHASTE_DATABASE_URL
url = {database}
# payload_limit = "1MiB"            # largest payload, up to 64MiB
#   PostgreSQL only:
# schema = "posthaste"              # two services in one database take two
# connections = 8                   # most at once
# lock_timeout = "10s"              # try again later what waits longer for a lock
# listen = true                     # hint commits to the relay by NOTIFY

[broker]                            # short for [brokers.default]
# Where messages go. Environment: POSTHASTE_BROKER_URL
url = {broker}
#   RabbitMQ only:
# prefix = ""                       # before the names of exchanges and queues
# declare = true                    # false: what is missing is named, not made
# ca_file = "/etc/posthaste/ca.pem" # trusted in place of the system's certificates
# window = 1024                     # most messages that are sent and not confirmed
# publish_timeout = "30s"           # what is not confirmed by then is sent again
# delivery_limit = 100              # of the queue itself, above that of consumers
# subscriptions = ["orders.shipping"]   # whose own dead letters 'dead list' shows; []: none

[relay]
# broker = "default"                # which broker 'run' relays to
# lanes = 1                         # shares of the keys for several relays; PostgreSQL only
# window = 2048                     # most messages in flight
# window_bytes = "16MiB"            # most bytes in flight
# lease_ttl = "5s"                  # a relay that is gone this long is replaced
# poll = "5s"                       # look at the outbox at least this often
# grace = "10s"                     # an orderly stop takes no longer
# keep_sent = "7d"                  # keep what was sent this long
# on_dead = "park"                  # a dead letter holds back its key; "skip": it does not
# unroutable = "hold"               # what nobody is bound to waits; "accept": it counts as sent;
                                    # "dead": it becomes a dead letter
# unroutable_probe = "2s"           # try again this often whether somebody is bound now

[relay.retry]                       # of messages that the broker refuses
# limit = 10                        # attempts before a message becomes a dead letter
# first = "1s"                      # wait after the first failure, then doubled
# longest = "5m"                    # longest wait

# [topics."orders"]                 # what is different for one topic
# on_dead = "skip"
# unroutable = "accept"
# unroutable_probe = "30s"
# retry.limit = 3

[http]
# listen = "127.0.0.1:8025"         # /health/live, /health/ready and /metrics

[log]
# level = "info"                    # off, error, warn, info, debug, trace
# format = "text"                   # or "json"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::reading;
    use crate::settings::tree::Node;

    #[test]
    fn the_file_can_be_read_and_so_can_what_it_has_commented_out() {
        let plain = template("sqlite:///a \"b\".db", "bus:///b.db");
        let (tree, errors) = Node::from_toml("x", &plain);
        let (settings, findings) = reading::read(tree);
        assert!(errors.is_empty() && findings.is_empty(), "{errors:?} {findings:?}");
        assert_eq!(settings.database.url.unwrap().expose(), "sqlite:///a \"b\".db");
        let uncommented: String = plain
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") || rest.starts_with('[') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let (tree, errors) = Node::from_toml("x", &uncommented);
        let (settings, findings) = reading::read(tree);
        assert!(errors.is_empty() && findings.is_empty(), "{errors:?} {findings:?}");
        assert_eq!(settings.relay.window, Some(2048));
        assert_eq!(settings.broker.unwrap().window, Some(1024));
        assert_eq!(settings.topics["orders"].retry.limit, Some(3));
    }
}
