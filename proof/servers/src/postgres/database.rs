//! A database for one test.

use std::thread;

use super::Postgres;

/// An empty database of its own. It is dropped, with all connections to it, soon after this is.
#[derive(Debug)]
pub struct TestDatabase {
    postgres: Postgres,
    /// Its name.
    pub name: String,
}

impl TestDatabase {
    pub(super) fn new(postgres: Postgres, name: String) -> Self {
        Self { postgres, name }
    }

    /// Its address, as the superuser `postgres`.
    pub fn url(&self) -> String {
        self.postgres.url(&self.name)
    }

    /// Its address as another role. The server trusts whoever comes and asks for no password.
    pub fn url_as(&self, role: &str) -> String {
        self.postgres.url_as(role, &self.name)
    }

    /// The address of the server's own database `postgres`, as the superuser.
    pub fn admin_url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// The server it is on.
    pub fn server(&self) -> &Postgres {
        &self.postgres
    }

    /// Runs statements in it with `psql`, as the superuser; see [`Postgres::psql`].
    ///
    /// # Errors
    /// What `psql` complained about.
    pub async fn psql(&self, sql: &str) -> Result<String, String> {
        self.postgres.psql(&self.name, sql).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (postgres, name) = (self.postgres.clone(), self.name.clone());
        // Nobody waits for it and nobody misses it if it fails: the server's end removes all.
        thread::spawn(move || {
            let drop_it = format!("drop database if exists {name} with (force);");
            drop(postgres.run_psql("postgres", &drop_it));
        });
    }
}
