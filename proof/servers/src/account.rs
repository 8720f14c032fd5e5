//! The user a server runs as. Some servers refuse to run as root; they get their own user then.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user and its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Nothing if the user of this process will do; the user of this name if this process is root.
    pub(crate) fn instead_of_root(name: &str) -> Result<Option<Self>, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let ask = |option| {
            let answer = Command::new("id").args([option, name]).output().ok()?;
            String::from_utf8(answer.stdout).ok()?.trim().parse().ok()
        };
        match (ask("-u"), ask("-g")) {
            (Some(uid), Some(gid)) => Ok(Some(Self { uid, gid })),
            _ => Err(format!("there is no user {name}, and the server refuses to run as root")),
        }
    }

    /// Gives a file or folder to the user.
    pub(crate) fn give(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    /// Lets a command run as the user, without the groups of this process.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}
