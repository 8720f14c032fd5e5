//! A PgBouncer in front of a PostgreSQL server of a test.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::guardian::Guardian;
use crate::process::Process;
use crate::{Postgres, blocking, command, log, port};

/// How long it may take to accept connections.
const START: Duration = Duration::from_secs(20);
/// How often it is tried.
const LOOK: Duration = Duration::from_millis(5);
/// How many ports are tried.
const PORTS: u32 = 10;

/// A running PgBouncer that gives each transaction a connection of its own (`pool_mode =
/// transaction`) and lets every role of the server in. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    // It is dropped before its directory.
    _process: Mutex<Process>,
    _guardian: Guardian,
}

impl PgBouncer {
    /// Why none can be started here, if so.
    pub fn missing() -> Option<String> {
        place().err()
    }

    /// Starts one in front of a server.
    ///
    /// # Panics
    /// If it does not start; the message holds its log.
    pub async fn start(postgres: &Postgres) -> Self {
        Self::start_with(postgres, &[]).await
    }

    /// Starts one in front of a server with settings of its own, as in `pgbouncer.ini`; they
    /// replace those that it would have.
    ///
    /// # Panics
    /// If it does not start; the message holds its log.
    pub async fn start_with(postgres: &Postgres, settings: &[(&str, &str)]) -> Self {
        let upstream = postgres.port();
        let lines = settings.iter().map(|(name, value)| format!("{name} = {value}\n"));
        let lines: String = lines.collect();
        blocking(move || Self::start_now(upstream, &lines)).await
    }

    fn start_now(upstream: u16, settings: &str) -> Self {
        let (program, account) = place().unwrap_or_else(|reason| panic!("{reason}"));
        let guardian = Guardian::start(account).expect("a private directory can be made");
        let (configuration, file) =
            (guardian.directory().join("pgbouncer.ini"), guardian.directory().join("log"));
        for _ in 0..PORTS {
            let port = port::free_port();
            let text = text(upstream, port) + settings;
            fs::write(&configuration, text).expect("the directory is writable");
            fs::write(&file, "").expect("the directory is writable");
            let mut command = command::clean(&program);
            command.arg(&configuration).current_dir(guardian.directory());
            if let Some(account) = account {
                account.give(&configuration).expect("the file is there");
                account.run(&mut command);
            }
            let mut process = Process::start(&mut command, &file).expect("it is installed");
            if is_ready(&mut process, port, &file) {
                return Self { port, _process: Mutex::new(process), _guardian: guardian };
            }
        }
        panic!("PgBouncer: {PORTS} ports in a row were taken\n{}", log::tail(&file));
    }

    /// The port of 127.0.0.1 that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database through it, as the superuser `postgres`.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The address of a database through it, as a role that exists.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }
}

/// Whether it accepts connections; not so if its port was taken meanwhile.
fn is_ready(process: &mut Process, port: u16, file: &Path) -> bool {
    let deadline = Instant::now() + START;
    loop {
        if let Some(status) = process.ended() {
            let log = log::tail(file);
            assert!(log.contains("ddress already in use"), "PgBouncer: {status}\n{log}");
            return false;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        assert!(Instant::now() < deadline, "PgBouncer: not ready\n{}", log::tail(file));
        thread::sleep(LOOK);
    }
}

/// Roles come and go with the tests: whoever the server knows is let in.
fn text(upstream: u16, port: u16) -> String {
    format!(
        "[databases]\n* = host=127.0.0.1 port={upstream} auth_user=postgres\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = trust\n\
         auth_query = select usename, coalesce(passwd, '') from pg_shadow where usename = $1\n\
         pool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 20\n\
         server_tls_sslmode = disable\n"
    )
}

fn place() -> Result<(PathBuf, Option<Account>), String> {
    let packaged = Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|file| file.is_file());
    let program = packaged.or_else(|| command::find("pgbouncer"));
    let program = program.ok_or("PgBouncer is not installed")?;
    Ok((program, Account::instead_of_root("postgres")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip;

    #[tokio::test]
    async fn it_shares_a_connection_among_clients() {
        if let Some(reason) = Postgres::missing().or_else(PgBouncer::missing) {
            return skip(&reason);
        }
        let postgres = Postgres::shared().await;
        let database = postgres.database().await;
        database.psql("create role clerk login").await.expect("made");
        let bouncer = PgBouncer::start(postgres).await;
        let ask = |role: &str| {
            let mut psql = command::clean(postgres.binaries().join("psql"));
            psql.args(["-X", "-A", "-t", "-c", "select current_user, pg_backend_pid()"]);
            psql.arg(bouncer.url_as(role, &database.name));
            command::run(&mut psql, "", START)
        };
        let (first, second) = (ask("postgres").expect("let in"), ask("postgres").expect("let in"));
        assert!(first.starts_with("postgres|") && first == second, "{first} {second}");
        assert!(
            ask("clerk").is_ok_and(|answer| answer.starts_with("clerk|")),
            "{:?}",
            ask("clerk")
        );
        assert!(ask("nobody").is_err());
    }

    #[tokio::test]
    async fn it_takes_other_settings() {
        if let Some(reason) = Postgres::missing().or_else(PgBouncer::missing) {
            return skip(&reason);
        }
        let postgres = Postgres::shared().await;
        let ask = |bouncer: &PgBouncer| {
            let mut psql = command::clean(postgres.binaries().join("psql"));
            psql.env("PGOPTIONS", "-c work_mem=5MB").args(["-X", "-A", "-t", "-c", "select 1"]);
            command::run(psql.arg(bouncer.url("postgres")), "", START)
        };
        let strict = PgBouncer::start(postgres).await;
        assert!(ask(&strict).is_err_and(|reason| reason.contains("unsupported startup parameter")));
        let settings = [("ignore_startup_parameters", "options")];
        let lenient = PgBouncer::start_with(postgres, &settings).await;
        assert_eq!(ask(&lenient).as_deref(), Ok("1"));
    }
}
