//! A folder with a database and a bus, and the binary to try on them. Every process is killed by
//! its own number when its handle goes, and every wait has an end.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own.
pub(crate) struct Place {
    folder: TempDir,
}

/// How a process has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Its output as one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What it told on standard error as one JSON value.
    pub(crate) fn told(&self) -> Value {
        serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, if it has ended with this status.
    #[track_caller]
    pub(crate) fn with(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Place {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("posthaste-cli-").tempdir();
        Self { folder: folder.expect("a temporary folder can be made") }
    }

    /// A folder with settings and a database that is ready.
    pub(crate) fn ready() -> Self {
        let place = Self::new();
        place.write("posthaste.toml", &place.settings());
        place.run(["migrate"]).with(0);
        place
    }

    /// Settings that name the two files of this folder.
    pub(crate) fn settings(&self) -> String {
        let (database, bus) = (self.database_url(), self.bus_url());
        format!("[database]\nurl = \"{database}\"\n[broker]\nurl = \"{bus}\"\n")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn database_url(&self) -> String {
        format!("sqlite://{}", self.path("app.db").display())
    }

    pub(crate) fn bus_url(&self) -> String {
        format!("bus://{}", self.path("bus.db").display())
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the folder can be written");
    }

    /// Statements on the database, past the product.
    pub(crate) fn sql(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path("app.db")).expect("it opens");
        connection.busy_timeout(PATIENCE).expect("a timeout can be set");
        connection
    }

    /// The binary with these arguments, with none of our environment, in this folder.
    pub(crate) fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTHASTE_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ended {
        finish(self.command(arguments), b"")
    }

    /// Runs the binary to its end with this on its standard input.
    pub(crate) fn run_with<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
        input: &[u8],
    ) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        finish(command, input)
    }

    /// Starts the binary and leaves it running.
    pub(crate) fn start<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Running {
        Running::start(self.command(arguments))
    }
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A process may end without reading all of it.
    let feeding = thread::spawn(move || drop(stdin.map(|mut stdin| stdin.write_all(&input))));
    let out = read_all(child.stdout.take());
    let err = read_all(child.stderr.take());
    let mut running = Running { child, lines: Lines::default(), errors: Lines::default() };
    let status = running.wait();
    feeding.join().expect("feeding ends");
    Ended { status, out: out.join().expect("it is read"), err: err.join().expect("it is read") }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.expect("it is piped").read_to_end(&mut bytes).expect("it can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The whole lines that a process has written so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Reads lines until the pipe ends. What a killed process has not finished is no line.
    fn read(&self, pipe: impl Read + Send + 'static) {
        let lines = self.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            loop {
                let mut line = Vec::new();
                match reader.read_until(b'\n', &mut line) {
                    Ok(_) if line.pop() == Some(b'\n') => {
                        lines.lock().push(String::from_utf8_lossy(&line).into_owned());
                    }
                    _ => return,
                }
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those there are.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().clone()
    }
}

/// A process that runs until it is stopped, at the latest when this goes.
pub(crate) struct Running {
    child: Child,
    /// What it has written to standard output.
    pub(crate) lines: Lines,
    /// What it has written to standard error.
    pub(crate) errors: Lines,
}

impl Running {
    /// Starts a command, with its output gathered.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_into(command, &Lines::default())
    }

    /// Starts a command, with its output gathered after what is there.
    pub(crate) fn start_into(mut command: Command, lines: &Lines) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        lines.read(child.stdout.take().expect("it is piped"));
        let errors = Lines::default();
        errors.read(child.stderr.take().expect("it is piped"));
        Self { child, lines: lines.clone(), errors }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it has a number"), signal).expect("it can be signalled");
    }

    /// Kills it as a crash would and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// Asks it to end and returns its exit status.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it has ended by itself; its exit status, or -1 if a signal ended it.
    pub(crate) fn wait(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status.code().unwrap_or(-1);
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {:?}", self.errors.all());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has told something on standard error that holds `text`.
    #[track_caller]
    pub(crate) fn tells(&self, text: &str) {
        eventually(&format!("it tells '{text}'"), || {
            self.errors.all().iter().any(|line| line.contains(text)).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Says why a test could not be run here, past the test runner, which keeps what a test prints to
/// itself.
pub(crate) fn skip(reason: &str) {
    let line = format!("posthaste-skip: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a file is there.
pub(crate) fn is_there(path: &Path) -> bool {
    path.exists()
}
