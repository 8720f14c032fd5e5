//! A server process with all its descendants: started, killed, paused, resumed, asked to end, and
//! always reaped.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::family::{Member, family};

/// How often a process is asked whether it has ended: nobody tells of the end of a grandchild.
const LOOK: Duration = Duration::from_millis(5);
/// How long killed processes may take to vanish.
const VANISH: Duration = Duration::from_secs(20);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command in a process group of its own, which no signal for the tests' group
    /// reaches, with its output appended to a log.
    pub(crate) fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().append(true).create(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(Self { child: command.spawn()? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it and all its descendants at once, as a crash of their machine would, and returns
    /// when they are gone.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // A stopped process starts no more children.
        self.signal(Signal::STOP);
        let mut members = family(self.id());
        for member in &members {
            member.signal(Signal::STOP);
        }
        members.extend(family(self.id()));
        self.finish(&members);
    }

    /// Kills and reaps it, kills all of these, and returns when they are gone.
    fn finish(&mut self, members: &[Member]) {
        for member in members {
            member.signal(Signal::KILL);
        }
        // It has been reaped already if it ended before.
        drop(self.child.wait());
        let deadline = Instant::now() + VANISH;
        while members.iter().any(|member| member.lives()) {
            assert!(Instant::now() < deadline, "killed processes are still there: {members:?}");
            thread::sleep(LOOK);
        }
    }

    /// Stops the clock of it and all its descendants.
    pub(crate) fn pause(&self) {
        // Twice, for children that were started while the first list was made.
        for _ in 0..2 {
            for member in family(self.id()) {
                member.signal(Signal::STOP);
            }
        }
    }

    /// Lets it and all its descendants go on.
    pub(crate) fn resume(&self) {
        for member in family(self.id()) {
            member.signal(Signal::CONT);
        }
    }

    /// Sends a signal to the process itself.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // It may have ended, and is reaped by this process only: the number is still its own.
            let _ = kill_process(id, signal);
        }
    }

    /// Asks it to end with a signal and waits for it and all its descendants; kills what is left
    /// after the time.
    pub(crate) fn end(&mut self, signal: Signal, within: Duration) {
        let members = family(self.id());
        self.resume();
        self.signal(signal);
        let deadline = Instant::now() + within;
        while self.ended().is_none() || members.iter().any(|member| member.lives()) {
            if Instant::now() > deadline {
                self.kill();
                return self.finish(&members);
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
