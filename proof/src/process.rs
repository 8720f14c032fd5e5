//! A node from the outside: started, killed, paused, resumed, asked to end, and always reaped.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::{Failure, Node};

/// The name of the program that nodes run.
const NODE: &str = "posthaste-proof-node";
/// How long a node may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// How often a process is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(3);

/// A running node. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    node: Node,
    child: Child,
    reaped: bool,
}

impl Process {
    /// Starts the program with a node's instructions and returns when its jobs have begun, or when
    /// it has ended before that: some nodes are told to die early.
    ///
    /// # Errors
    /// If it cannot be started or says nothing in time.
    pub async fn start(program: &Path, node: Node) -> Result<Self, Failure> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(node.folder.join(format!("{}.log", node.name)))?;
        let mut child = Command::new(program)
            .arg(serde_json::to_string(&node)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let output = child.stdout.take().ok_or("a node without an output")?;
        let process = Self { node, child, reaped: false };
        let heard = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        tokio::time::timeout(BEGIN, heard).await.map_err(|_| "a node does not begin")???;
        Ok(process)
    }

    /// What it was told.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without warning, as kill -9 does, and waits for its end.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus, Failure> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }

    /// Stops its clock.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn resume(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn ask_to_end(&self) -> Result<(), Failure> {
        self.signal(Signal::TERM)
    }

    /// Its exit status, if it has ended by itself.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let ended = self.child.try_wait()?;
        self.reaped |= ended.is_some();
        Ok(ended)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn end(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("{} has not ended within {within:?}", self.node.name).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks it to end and expects that it ends well.
    ///
    /// # Errors
    /// If it does not.
    pub async fn finish(mut self, within: Duration) -> Result<(), Failure> {
        self.ask_to_end()?;
        let status = self.end(within).await?;
        if status.success() {
            return Ok(());
        }
        Err(format!("{} ended with {status}: look at its log", self.node.name).into())
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or("a process without a number")?, signal)?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            // It may have ended by itself; waiting for it is right either way.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The program that nodes run: it is built beside whoever asks, or, for tests, one folder above.
///
/// # Errors
/// If it is not there.
pub fn program() -> Result<PathBuf, Failure> {
    let here = std::env::current_exe()?;
    let places = here.ancestors().skip(1).take(2).map(|folder| folder.join(NODE));
    let found = places.into_iter().find(|place| place.is_file());
    let missing = || format!("there is no {NODE} beside {}: build it first", here.display());
    found.ok_or_else(|| missing().into())
}

/// Whether a process ended because it aborted itself.
pub fn aborted(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::ABORT.as_raw())
}
