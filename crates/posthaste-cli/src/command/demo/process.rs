//! The child process as its parent sees it.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};

use crate::failure::Failure;

use super::node;
use super::sabotage::Sabotage;
use super::site::Site;

/// A process with the relay and the consumers, started as often as it is killed. It ends when
/// this process does, because it watches the pipe that is its standard input.
#[derive(Debug)]
pub(super) struct Process {
    program: PathBuf,
    site: Site,
    sabotage: Option<Sabotage>,
    running: Option<(Child, Option<ChildStdin>)>,
    kills: u64,
}

impl Process {
    /// A process that is not started yet.
    ///
    /// # Errors
    /// If this program cannot tell where it is.
    pub(super) fn new(site: &Site, sabotage: Option<Sabotage>) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("cannot tell where this program is: {error}"))
        })?;
        Ok(Self { program, site: site.clone(), sabotage, running: None, kills: 0 })
    }

    /// How often it was killed.
    pub(super) fn kills(&self) -> u64 {
        self.kills
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let refused =
            |error| Failure::failed(format!("cannot start {}: {error}", self.program.display()));
        let log = OpenOptions::new().append(true).create(true).open(self.site.log());
        let mut command = Command::new(&self.program);
        command.arg("demo-node").arg(&self.site.folder).arg(&self.site.name);
        // What is in the environment of a process only its own user can read.
        for (name, address) in
            [(node::DATABASE, &self.site.database), (node::BROKER, &self.site.broker)]
        {
            command.env_remove(name);
            command.envs(address.as_ref().map(|address| (name, address.expose())));
        }
        if let Some(sabotage) = self.sabotage {
            command.arg("--sabotage").arg(sabotage.name());
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.map_err(refused)?)
            .kill_on_drop(true);
        // A group of its own, so that Ctrl-C reaches only the parent, which then ends it.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(refused)?;
        let stdin = child.stdin.take();
        self.running = Some((child, stdin));
        Ok(())
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If it had ended by itself, which it never should.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.look()?;
        if let Some((mut child, _stdin)) = self.running.take() {
            child.kill().await.map_err(|error| {
                Failure::failed(format!("cannot kill the relay's process: {error}"))
            })?;
            self.kills += 1;
        }
        Ok(())
    }

    /// Looks whether it still runs.
    ///
    /// # Errors
    /// If it has ended by itself, with its last words.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        let Some((child, _)) = &mut self.running else { return Ok(()) };
        match child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::failed(format!(
                "the relay's process ended by itself ({status}){}",
                self.last_words()
            ))),
            Err(error) => {
                Err(Failure::failed(format!("cannot look at the relay's process: {error}")))
            }
        }
    }

    /// Asks it to finish what it has in hand, and waits until it is gone.
    ///
    /// # Errors
    /// If it takes longer than `patience` or ends badly.
    pub(super) async fn stop(&mut self, patience: Duration) -> Result<(), Failure> {
        self.look()?;
        let Some((mut child, stdin)) = self.running.take() else { return Ok(()) };
        drop(stdin);
        match tokio::time::timeout(patience, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::failed(format!(
                "the relay's process ended badly ({status}){}",
                self.last_words()
            ))),
            Ok(Err(error)) => {
                Err(Failure::failed(format!("cannot wait for the relay's process: {error}")))
            }
            Err(_) => {
                drop(child.kill().await);
                Err(Failure::failed(format!(
                    "the relay's process did not stop within {patience:?} when it was asked to"
                )))
            }
        }
    }

    /// Makes sure that it is gone, however things went.
    pub(super) async fn end(&mut self) {
        if let Some((mut child, _stdin)) = self.running.take() {
            // It may be gone already; either way nothing is left of it.
            drop(child.kill().await);
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.site.log()).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        match last {
            Some(line) => format!(": {line}"),
            None => format!(" without a word; has {} run full?", std::env::temp_dir().display()),
        }
    }
}
