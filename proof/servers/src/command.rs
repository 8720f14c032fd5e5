//! Short commands with an input, an output and a deadline.

use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a command is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(3);

/// Runs a command and returns what it says.
///
/// # Errors
/// What it says about its failure, if it fails, cannot be started or takes longer than the limit.
pub(crate) fn run(command: &mut Command, input: &str, limit: Duration) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let tell = |error: std::io::Error| format!("{name}: {error}");
    // Files, which unlike pipes are never full.
    let mut given = tempfile::tempfile().map_err(tell)?;
    given.write_all(input.as_bytes()).and_then(|()| given.rewind()).map_err(tell)?;
    let (mut said, mut complained) =
        (tempfile::tempfile().map_err(tell)?, tempfile::tempfile().map_err(tell)?);
    command.stdin(Stdio::from(given)).stdout(said.try_clone().map_err(tell)?);
    command.stderr(complained.try_clone().map_err(tell)?);
    let mut child = command.spawn().map_err(tell)?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(tell)? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().map_err(tell)?;
            child.wait().map_err(tell)?;
            return Err(format!("{name} did not end within {limit:?}"));
        }
        thread::sleep(LOOK);
    };
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    said.rewind().and_then(|()| said.read_to_end(&mut output)).map_err(tell)?;
    complained.rewind().and_then(|()| complained.read_to_end(&mut complaint)).map_err(tell)?;
    let output = String::from_utf8_lossy(&output).trim_end().to_owned();
    if status.success() {
        return Ok(output);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    Err(format!("{} {output}", complaint.trim_end()).trim().to_owned())
}

/// The command with nothing of this process's environment but the search path.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    command.env_clear().env("PATH", path).env("LC_ALL", "C");
    command
}

/// A program in the folders of the search path.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Command {
        let mut command = clean("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_hears_and_says_more_than_a_pipe_holds() {
        let text = "x".repeat(300_000);
        assert_eq!(run(&mut shell("cat"), &text, LIMIT), Ok(text));
    }

    #[test]
    fn a_failure_tells_what_was_said() {
        let failure = run(&mut shell("echo sad >&2; exit 3"), "", LIMIT);
        assert_eq!(failure, Err("sad".to_owned()));
        assert!(run(&mut clean("/nowhere/posthaste"), "", LIMIT).is_err());
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let failure = run(&mut shell("exec sleep 60"), "", Duration::from_millis(50));
        assert!(failure.is_err_and(|reason| reason.contains("did not end")));
    }
}
