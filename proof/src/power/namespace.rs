//! Mounts and processes that nobody else sees and that end with this process, however it ends.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::Failure;

/// Says to the program that it has been started in a namespace of its own.
const INSIDE: &str = "POSTHASTE_PROVE_NAMESPACE";

/// Starts this program again with the same arguments in namespaces of its own for mounts and
/// processes, and returns how that ended; nothing if this is the one inside already. Needs root.
///
/// # Errors
/// If it cannot be started.
pub fn enter() -> Result<Option<u8>, Failure> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(None);
    }
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]);
    inside.args(["--mount-proc", "--"]).arg(std::env::current_exe()?);
    inside.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    let status = inside.status().map_err(|error| format!("unshare: {error}"))?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(Some(u8::try_from(code).unwrap_or(1))),
        (None, signal) => Err(format!("the campaign ended by signal {signal:?}").into()),
    }
}
