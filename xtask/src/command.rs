//! Runs a program and hands over every line it prints, as it prints it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Runs a command to its end; `each` gets the lines of both streams in the order of arrival.
/// Bytes that are not UTF-8 are replaced.
pub(crate) fn stream(
    command: &mut Command,
    mut each: impl FnMut(&str) -> Outcome<()>,
) -> Outcome<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name} cannot be started: {error}"))?;
    let (sender, lines) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in readers.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || forward(pipe, &sender));
    }
    drop(sender);
    for line in lines {
        each(&line?)?;
    }
    Ok(child.wait()?)
}

fn forward(pipe: Box<dyn Read + Send>, sender: &mpsc::Sender<std::io::Result<String>>) {
    for line in BufReader::new(pipe).split(b'\n') {
        let line = line.map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned());
        if sender.send(line).is_err() {
            return;
        }
    }
}

/// Runs a command without input and with its output going where ours goes, for at most `longest`;
/// then it is killed. `None` if it was.
pub(crate) fn within(longest: Duration, command: &mut Command) -> Outcome<Option<ExitStatus>> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let deadline = Instant::now() + longest;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::cargo;

    #[test]
    fn lines_and_status_come_through() {
        let mut lines = Vec::new();
        let status = stream(cargo().arg("--version"), |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        assert!(status.expect("cargo runs").success());
        assert!(lines.len() == 1 && lines[0].starts_with("cargo "), "{lines:?}");
        let status = stream(cargo().arg("no-such-command"), |_| Ok(()));
        assert!(!status.expect("cargo runs").success());
    }

    #[test]
    fn what_takes_too_long_is_killed() {
        let outcome = within(Duration::ZERO, cargo().args(["metadata", "--format-version", "1"]));
        assert_eq!(outcome.expect("cargo runs"), None);
    }
}
