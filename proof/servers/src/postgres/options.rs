//! How a PostgreSQL server is to be started.

/// What a PostgreSQL server is started with. The default is a server that loses nothing in a
/// crash, with room for 200 connections, 16 prepared transactions and logical replication.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    pub(super) settings: Vec<(String, String)>,
    pub(super) tls: bool,
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

    /// Lets clients use TLS as well, with a certificate for `localhost`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }
}
