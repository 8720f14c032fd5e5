//! No server survives the process that started it, and no directory does.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use posthaste_servers::{Postgres, RabbitMq, skip};

const PATIENCE: Duration = Duration::from_secs(20);

/// A process with servers, and their directories.
fn holder(arguments: &[&str]) -> Option<(Child, Vec<PathBuf>)> {
    if let Some(reason) = Postgres::missing().or_else(RabbitMq::missing) {
        skip(&reason);
        return None;
    }
    let mut holder = Command::new(env!("CARGO_BIN_EXE_posthaste-servers-holder"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the holder starts");
    let said = BufReader::new(holder.stdout.take().expect("its output is a pipe")).lines();
    let lines = said.map(|line| line.expect("its output is text"));
    let directories: Vec<PathBuf> =
        lines.take_while(|line| !line.is_empty()).map(Into::into).collect();
    assert_eq!(directories.len(), 2, "{directories:?}");
    for directory in &directories {
        assert!(!inhabitants(directory).is_empty(), "nobody works in {}", directory.display());
    }
    Some((holder, directories))
}

/// The processes that work in a directory.
fn inhabitants(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let works_there = |process: &fs::DirEntry| {
        fs::read_link(process.path().join("cwd"))
            .is_ok_and(|place| place.to_string_lossy().starts_with(&*directory.to_string_lossy()))
    };
    let names = processes.filter(works_there).map(|process| process.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[track_caller]
fn are_gone(directories: &[PathBuf]) {
    let deadline = Instant::now() + PATIENCE;
    for directory in directories {
        while directory.exists() || !inhabitants(directory).is_empty() {
            let left = inhabitants(directory);
            assert!(Instant::now() < deadline, "left in {}: {left:?}", directory.display());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn servers_end_with_a_process_that_ends() {
    let Some((mut holder, directories)) = holder(&[]) else { return };
    drop(holder.stdin.take());
    assert!(holder.wait().expect("it ends").success());
    are_gone(&directories);
}

#[test]
fn servers_end_with_a_process_that_is_killed() {
    let Some((mut holder, directories)) = holder(&[]) else { return };
    holder.kill().expect("it can be killed");
    holder.wait().expect("it ends");
    are_gone(&directories);
}

#[test]
fn even_paused_servers_do() {
    let Some((mut holder, directories)) = holder(&["paused"]) else { return };
    holder.kill().expect("it can be killed");
    holder.wait().expect("it ends");
    are_gone(&directories);
}
