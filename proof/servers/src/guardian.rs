//! The private directory of a server, and the small process that outlives this one for a moment to
//! clear up: it waits for the end of a pipe that only this process holds, kills every process that
//! works in the directory and removes it. So no server survives its test process, not even one that
//! is killed.
//!
//! It finds the processes by their working directory. It runs as the server's own user, which may
//! look at them and kill them wherever it may not look at others', and in a process group of its
//! own, so that who kills the group of the tests does not kill it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::account::Account;
use crate::command;

/// Waits for the end of the input, then clears up. It looks again until it has found nothing three
/// times in a row, for a process that was being born. A PostgreSQL server that is killed leaves a
/// segment of shared memory whose number is in its lock file.
const SCRIPT: &str = r#"
read -r _
quiet=0 rounds=0
while [ $quiet -lt 3 ] && [ $rounds -lt 500 ]; do
    rounds=$((rounds + 1))
    found=$(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1*" 2>/dev/null)
    quiet=$((quiet + 1))
    for link in $found; do
        quiet=0 id=${link#/proc/}
        kill -KILL "${id%/cwd}" 2>/dev/null
    done
    sleep 0.02
done
if [ -f "$1/data/postmaster.pid" ]; then
    segment=$(sed -n '7s/.* //p' "$1/data/postmaster.pid")
    [ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null
fi
rm -rf "$1"
"#;

/// Above this length, a socket in the directory could have a name that is too long for sockets.
const LONGEST: usize = 60;

/// A private directory that is removed, and whose processes are killed, when this is dropped or
/// this process ends.
#[derive(Debug)]
pub(crate) struct Guardian {
    directory: PathBuf,
    child: Child,
}

impl Guardian {
    /// Makes a directory that only the user may enter.
    pub(crate) fn start(account: Option<Account>) -> io::Result<Self> {
        let mut parent = std::env::temp_dir();
        if parent.as_os_str().len() > LONGEST {
            parent = PathBuf::from("/tmp");
        }
        let directory = tempfile::Builder::new().prefix("posthaste-").tempdir_in(parent)?;
        let path = directory.path().canonicalize()?;
        let mut keeper = command::clean("/bin/sh");
        keeper.args(["-c", SCRIPT, "posthaste-guardian"]).arg(&path).current_dir("/");
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        if let Some(account) = account {
            account.give(&path)?;
            account.run(&mut keeper);
        }
        let child = keeper.spawn()?;
        Ok(Self { directory: directory.keep().canonicalize()?, child })
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It bounds its own rounds.
        drop(self.child.wait());
    }
}
