//! A PostgreSQL server of its own: cluster, port and socket are private, and it can be killed,
//! paused and started again.

mod database;
mod options;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::process::Signal;

pub use self::database::TestDatabase;
pub use self::options::PostgresOptions;
use crate::account::Account;
use crate::guardian::Guardian;
use crate::process::Process;
use crate::{Tls, blocking, command, log, port};

/// How long a server may take to accept connections; recovery after a crash is part of it.
const START: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take.
const STOP: Duration = Duration::from_secs(30);
/// How long statements given to `psql` may take.
const STATEMENTS: Duration = Duration::from_secs(120);
/// How often the server's files are looked at while it starts.
const LOOK: Duration = Duration::from_millis(5);
/// How many ports are tried for a new server.
const PORTS: u32 = 10;

const SETTINGS: [(&str, &str); 9] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("max_prepared_transactions", "16"),
    ("wal_level", "logical"),
    ("max_wal_senders", "8"),
    ("max_replication_slots", "8"),
    // In files of the cluster, which go with it, where shared memory would stay after a kill.
    ("dynamic_shared_memory_type", "mmap"),
    ("log_line_prefix", "%m [%p] %u@%d "),
    ("logging_collector", "off"),
];

/// A running PostgreSQL server. Clones are the same server; with the last one it ends and its
/// files are removed.
#[derive(Clone, Debug)]
pub struct Postgres {
    server: Arc<Server>,
}

#[derive(Debug)]
struct Server {
    binaries: PathBuf,
    account: Option<Account>,
    options: PostgresOptions,
    port: u16,
    tls: Option<Tls>,
    process: Mutex<Option<Process>>,
    guardian: Guardian,
}

impl Postgres {
    /// Why no server can be started here, if so.
    pub fn missing() -> Option<String> {
        static FOUND: OnceLock<Option<String>> = OnceLock::new();
        FOUND.get_or_init(|| place().err()).clone()
    }

    /// Starts a server with an empty cluster.
    ///
    /// # Panics
    /// If it does not start; the message holds the server's log.
    pub async fn start(options: PostgresOptions) -> Self {
        blocking(move || Self::start_now(options)).await
    }

    /// The server that all tests of this process share, with the default options.
    ///
    /// # Panics
    /// If it does not start; the message holds the server's log.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        blocking(|| SHARED.get_or_init(|| Self::start_now(PostgresOptions::new()))).await
    }

    fn start_now(options: PostgresOptions) -> Self {
        Self::start_with(options, Server::make_cluster)
    }

    fn start_with(options: PostgresOptions, make_cluster: impl FnOnce(&Server)) -> Self {
        let (binaries, account) = place().unwrap_or_else(|reason| panic!("{reason}"));
        let guardian = Guardian::start(account).expect("a private directory can be made");
        let tls = options
            .tls
            .then(|| Tls::make(guardian.directory(), account).expect("the directory is writable"));
        let process = Mutex::new(None);
        let mut server = Server { binaries, account, options, port: 0, tls, process, guardian };
        make_cluster(&server);
        for _ in 0..PORTS {
            server.port = port::free_port();
            match server.launch(START) {
                Ok(()) => return Self { server: Arc::new(server) },
                Err(_) if server.port_was_taken() => {}
                Err(reason) => panic!("PostgreSQL: {reason}\n{}", server.log()),
            }
        }
        panic!("PostgreSQL: {PORTS} ports in a row were taken\n{}", server.log());
    }

    /// Starts a standby that follows this server and answers questions that change nothing.
    ///
    /// # Panics
    /// If it does not start; the message holds its log.
    pub async fn standby(&self) -> Self {
        let postgres = self.clone();
        blocking(move || {
            let options = PostgresOptions { data_below: None, ..postgres.server.options.clone() };
            Self::start_with(options, |server| server.copy_cluster(postgres.port()))
        })
        .await
    }

    /// Makes a standby a server of its own, and returns when it accepts changes.
    ///
    /// # Panics
    /// If it is no standby, or does not become one.
    pub async fn promote(&self) {
        let promoted = self.psql("postgres", "select pg_promote(true, 60)").await;
        assert_eq!(promoted.as_deref(), Ok("t"), "PostgreSQL:\n{}", self.log());
    }

    /// Makes an empty database for one test.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn database(&self) -> TestDatabase {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = self.psql("postgres", &format!("create database {name};")).await;
        if let Err(reason) = made {
            panic!("no database for the test: {reason}\n{}", self.log());
        }
        TestDatabase::new(self.clone(), name)
    }

    /// The port of 127.0.0.1 that it listens on; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The address of a database, as the superuser `postgres`.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The address of a database, as a role that exists. The server asks for no password.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port())
    }

    /// The address of a database with TLS, as the superuser `postgres`; to be completed with the
    /// authority that is trusted, for example with `&sslrootcert=FILE`.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn tls_url(&self, database: &str) -> String {
        assert!(self.server.tls.is_some(), "the server has no TLS: see PostgresOptions::tls");
        format!("postgres://postgres@localhost:{}/{database}?sslmode=verify-full", self.port())
    }

    /// The certificates.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn tls(&self) -> &Tls {
        self.server.tls.as_ref().expect("the server has no TLS: see PostgresOptions::tls")
    }

    /// The private folder of the server, with its socket.
    pub fn directory(&self) -> &Path {
        self.server.guardian.directory()
    }

    /// The folder with the server's programs, such as `pg_dump`.
    pub fn binaries(&self) -> &Path {
        &self.server.binaries
    }

    /// Runs statements with `psql` as the superuser, each in a transaction of its own unless they
    /// say otherwise, and returns the rows: one a line, columns divided by `|`, no headings.
    ///
    /// # Errors
    /// What `psql` complained about; the first failure ends it.
    pub async fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let (postgres, database, sql) = (self.clone(), database.to_owned(), sql.to_owned());
        blocking(move || postgres.run_psql(&database, &sql)).await
    }

    fn run_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = command::clean(self.server.binaries.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
        psql.args(["-h", "127.0.0.1", "-p", &self.port().to_string(), "-d", database]);
        psql.args(["-f", "-"]);
        psql.env("PGCONNECT_TIMEOUT", "20").env("PGSSLMODE", "disable");
        psql.current_dir("/");
        command::run(&mut psql, sql, STATEMENTS)
    }

    /// Kills all its processes at once, as a crash of its machine would, and returns when they are
    /// gone. What the server had told the disk to keep is kept.
    pub async fn kill(&self) {
        self.with_process(|process| drop(process.take())).await;
    }

    /// Starts it again, on the same port with the same data; kills it before if it runs. Returns
    /// when it accepts connections.
    ///
    /// # Panics
    /// If it does not start; the message holds the server's log.
    pub async fn restart(&self) {
        let postgres = self.clone();
        blocking(move || {
            drop(postgres.server.process().take());
            let deadline = Instant::now() + START;
            while let Err(reason) = postgres.server.launch(START) {
                let late = Instant::now() > deadline;
                let log = postgres.server.log();
                assert!(!late && postgres.server.port_was_taken(), "PostgreSQL: {reason}\n{log}");
                thread::sleep(LOOK);
            }
        })
        .await;
    }

    /// Ends it in order, without waiting for its clients: a fast shutdown.
    pub async fn stop(&self) {
        self.with_process(|process| {
            if let Some(mut process) = process.take() {
                process.end(Signal::INT, STOP);
            }
        })
        .await;
    }

    /// Stops the clock of all its processes. Its clients notice nothing but silence.
    pub async fn pause(&self) {
        self.with_process(|process| {
            if let Some(process) = process {
                process.pause();
            }
        })
        .await;
    }

    /// Lets its processes go on.
    pub async fn resume(&self) {
        self.with_process(|process| {
            if let Some(process) = process {
                process.resume();
            }
        })
        .await;
    }

    async fn with_process(&self, act: impl FnOnce(&mut Option<Process>) + Send + 'static) {
        let postgres = self.clone();
        blocking(move || act(&mut postgres.server.process())).await;
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

impl Server {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        let below = self.options.data_below.as_deref();
        below.unwrap_or(self.guardian.directory()).join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.guardian.directory().join("log")
    }

    /// A program of the server, as the server's user.
    fn program(&self, name: &str) -> Command {
        let mut program = command::clean(self.binaries.join(name));
        program.current_dir(self.guardian.directory());
        if let Some(account) = self.account {
            account.run(&mut program);
        }
        program
    }

    fn make_cluster(&self) {
        let mut initdb = self.program("initdb");
        if self.options.data_below.is_some() {
            let made = fs::create_dir(self.data());
            let given = made.and_then(|()| self.account.map_or(Ok(()), |it| it.give(&self.data())));
            given.expect("the folder for the cluster can be written to");
        } else {
            initdb.arg("--no-sync");
        }
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8"]);
        initdb.args(["--locale=C", "--no-instructions", "--pgdata"]).arg(self.data());
        if let Err(reason) = command::run(&mut initdb, "", START) {
            panic!("PostgreSQL: no cluster: {reason}");
        }
    }

    fn copy_cluster(&self, port: u16) {
        let mut copy = self.program("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-R"]);
        copy.args(["-X", "stream", "--checkpoint=fast", "--no-sync", "-D"]).arg(self.data());
        if let Err(reason) = command::run(&mut copy, "", START) {
            panic!("PostgreSQL: no copy of the cluster: {reason}");
        }
    }

    /// Starts the server on its port and returns when it accepts connections.
    fn launch(&self, within: Duration) -> Result<(), String> {
        fs::write(self.log_file(), "").map_err(|error| error.to_string())?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k"]);
        command.arg(self.guardian.directory());
        let chosen = self.options.settings.iter().map(|(name, value)| (&**name, &**value));
        for (name, value) in SETTINGS.into_iter().chain(chosen) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        if let Some(Tls { certificate, key, .. }) = &self.tls {
            command.args(["-c", "ssl=on", "-c"]);
            command.arg(format!("ssl_cert_file={}", certificate.display())).arg("-c");
            command.arg(format!("ssl_key_file={}", key.display()));
        }
        let mut process = Process::start(&mut command, &self.log_file()).map_err(reason)?;
        let deadline = Instant::now() + within;
        while !self.is_ready(process.id()) {
            if let Some(status) = process.ended() {
                return Err(format!("it ended while it started, with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("it was not ready within {within:?}"));
            }
            thread::sleep(LOOK);
        }
        *self.process() = Some(process);
        Ok(())
    }

    /// Whether the lock file says that the server with this number accepts connections.
    fn is_ready(&self, id: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        lines.first() == Some(&id.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    fn port_was_taken(&self) -> bool {
        self.log().contains("Address already in use")
    }

    fn log(&self) -> String {
        log::tail(&self.log_file())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
fn reason(error: io::Error) -> String {
    error.to_string()
}

/// Where the newest PostgreSQL is, and which user runs it.
fn place() -> Result<(PathBuf, Option<Account>), String> {
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = packaged
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(version, folder)| (version, folder.join("bin")))
        .filter(|(version, folder)| *version >= 14 && folder.join("initdb").is_file())
        .max();
    let on_path = || command::find("initdb").and_then(|file| Some(file.parent()?.to_owned()));
    let binaries = newest.map(|(_, folder)| folder).or_else(on_path);
    let binaries = binaries.ok_or("PostgreSQL 14 or newer is not installed")?;
    Ok((binaries, Account::instead_of_root("postgres")?))
}
