//! Where the demo takes place, as the parent and the child see it: a folder, and for what is not
//! in it a database and a broker that somebody named.

use std::path::{Path, PathBuf};

use super::world::{CONSUMERS, SHOP, TOPIC};
use crate::settings::address::Address;

/// Where the demo takes place.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The folder with what the demo notes, and with every database that is a file.
    pub(super) folder: PathBuf,
    /// What is the demo's own at a server bears this name.
    pub(super) name: String,
    /// A server with a database, in place of files.
    pub(super) database: Option<Address>,
    /// A broker, in place of the bus.
    pub(super) broker: Option<Address>,
}

impl Site {
    /// The name of a database that is a file.
    pub(super) fn file_url(&self, database: &str) -> String {
        self.url("sqlite", &format!("{database}.db"))
    }

    /// The bus.
    pub(super) fn bus_url(&self) -> String {
        self.url("bus", "bus.db")
    }

    /// What stands before the names of exchanges and queues.
    pub(super) fn prefix(&self) -> String {
        format!("{}.", self.name)
    }

    /// What arrived at a consumer.
    pub(super) fn arrivals(&self, consumer: &str) -> PathBuf {
        self.folder.join(format!("{consumer}.arrivals"))
    }

    /// What the writers know of their transactions, and when the child was killed.
    pub(super) fn journal(&self) -> PathBuf {
        self.folder.join("service.jsonl")
    }

    /// All that happened, as `posthaste verify` reads it.
    pub(super) fn history(&self) -> PathBuf {
        self.folder.join("history.jsonl")
    }

    /// What the child has to say.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    /// Files that change when something happens: what the killer watches. What happens at a server
    /// shows in what arrives.
    pub(super) fn lively(&self) -> Vec<PathBuf> {
        let wal = |name: &str| self.folder.join(format!("{name}.db-wal"));
        let mut files: Vec<PathBuf> = CONSUMERS.iter().map(|name| self.arrivals(name)).collect();
        if self.database.is_none() {
            // A consumer that has committed and not settled yet is the one that the inbox is for,
            // so these are watched most.
            files.extend(CONSUMERS.iter().flat_map(|name| [wal(name), wal(name)]));
            files.push(wal("app"));
        }
        if self.broker.is_none() {
            files.push(wal("bus"));
        }
        files
    }

    /// The kind of the database, for people.
    pub(super) fn database_kind(&self) -> &'static str {
        if self.database.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    /// The kind of the broker, for people.
    pub(super) fn broker_kind(&self) -> &'static str {
        if self.broker.is_some() { "RabbitMQ" } else { "bus" }
    }

    /// Where the evidence is, for people.
    pub(super) fn witness(&self) -> &'static str {
        if self.database.is_some() { "the database and the files" } else { "the files" }
    }

    /// Arguments with which everything can be looked at, if all of it is in the folder.
    pub(super) fn look(&self) -> Option<String> {
        let is_here = self.database.is_none() && self.broker.is_none();
        let (database, broker) = (self.file_url(SHOP), self.bus_url());
        is_here.then(|| format!("status --database '{database}' --broker '{broker}'"))
    }

    /// What is taken away at the end, for people.
    pub(super) fn removed(&self) -> String {
        match self.at_servers() {
            Some(there) => format!("The files and the {there} were"),
            None => "The files were".to_owned(),
        }
    }

    /// What bears the name of the demo at the servers, for people; `None` if there is none.
    pub(super) fn at_servers(&self) -> Option<String> {
        let schema = self.database.as_ref().map(|_| format!("schema {}", self.name));
        let queues = self.broker.as_ref();
        let queues = queues.map(|_| format!("exchange and queues {}{TOPIC}…", self.prefix()));
        let parts: Vec<String> = schema.into_iter().chain(queues).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn url(&self, scheme: &str, name: &str) -> String {
        file_url(scheme, &self.folder.join(name))
    }
}

/// The URL of a file.
fn file_url(scheme: &str, path: &Path) -> String {
    let path = path.display().to_string();
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("{scheme}://{escaped}")
}
