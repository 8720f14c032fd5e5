//! Processes and their descendants, as `/proc` tells. A process is known by its number and the time
//! of its start, so that a number that is used again is not mistaken for it.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    id: i32,
    parent: i32,
    /// In ticks since the machine was started.
    started: u64,
}

impl Member {
    /// From a line of `/proc/ID/stat`; nothing if the process has ended and only waits to be
    /// reaped. While other threads than the first still end, it has not: they hold its files.
    fn parse(stat: &str) -> Option<Self> {
        // The name is in parentheses and may hold spaces and parentheses itself.
        let (before, after) = (stat.split_once(" (")?.0, stat.rsplit_once(") ")?.1);
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let threads: u32 = fields.nth(15)?.parse().ok()?;
        if matches!(state, "Z" | "X") && threads <= 1 {
            return None;
        }
        Some(Self { id: before.parse().ok()?, parent, started: fields.nth(1)?.parse().ok()? })
    }

    fn read(id: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
    }

    /// Whether it still runs, or is stopped.
    pub(crate) fn lives(self) -> bool {
        Self::read(self.id).is_some_and(|now| now.started == self.started)
    }

    /// Sends a signal; a process that has ended needs none.
    pub(crate) fn signal(self, signal: Signal) {
        if let Some(id) = Pid::from_raw(self.id).filter(|_| self.lives()) {
            let _ = kill_process(id, signal);
        }
    }
}

/// A process and all its descendants that live now.
pub(crate) fn family(root: u32) -> Vec<Member> {
    let Some(root) = i32::try_from(root).ok().and_then(Member::read) else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<Member> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Member::read)
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|member| member.parent == parent.id));
        at += 1;
    }
    found
}

#[test]
fn a_line_of_stat_is_understood() {
    let stat = |state: &str, threads: u32| {
        format!("42 (a) (b c) {state} 7 0 0 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {threads} 0 777 0 0")
    };
    let member = Member { id: 42, parent: 7, started: 777 };
    assert_eq!(Member::parse(&stat("S", 1)), Some(member));
    assert_eq!(Member::parse(&stat("Z", 1)), None);
    assert_eq!(Member::parse(&stat("Z", 2)), Some(member));
    assert_eq!(Member::parse("42 (a"), None);
}
