//! How a PostgreSQL server is to be started.

use std::path::PathBuf;

/// What a PostgreSQL server is started with. The default is a server that loses nothing in a
/// crash, with room for 200 connections, 16 prepared transactions and logical replication.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    pub(super) settings: Vec<(String, String)>,
    pub(super) tls: bool,
    pub(super) data_below: Option<PathBuf>,
}

impl PostgresOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// A setting of the server, as in `postgresql.conf`; the last one of a name counts.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps the cluster in a folder of this one, which is there and stays, instead of the server's
    /// private one. The cluster is on the disk for sure when the server has started.
    #[must_use]
    pub fn data_below(mut self, folder: PathBuf) -> Self {
        self.data_below = Some(folder);
        self
    }

    /// Lets clients use TLS as well, with a certificate for `localhost`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }
}
