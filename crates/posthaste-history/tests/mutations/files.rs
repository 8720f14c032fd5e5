//! Histories as files: one for each process, torn where one was killed, told apart by line where
//! they are wrong.

use std::fs;
use std::path::PathBuf;

use posthaste_history::event::Format;
use posthaste_history::{Floors, History, Line, Report, check, read};

use crate::edit::{delivered, effect, insert_last};
use crate::sample::{SHIPPING, sample};

/// A folder that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("history-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("there is room");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("there is room");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn text(lines: &[Line]) -> String {
    let texts = lines.iter().map(|line| serde_json::to_string(line).expect("it is plain data"));
    texts.map(|line| line + "\n").collect()
}

fn beginning(node: &str) -> String {
    text(&[Line::new(0, node, Format::default())])
}

#[test]
fn files_of_processes_become_the_history_that_they_saw() {
    let folder = Folder::new("merged");
    let history = sample(1);
    let (one, other): (Vec<Line>, Vec<Line>) =
        history.lines()[1..].iter().cloned().partition(|line| line.node == SHIPPING);
    let one = folder.file("one", &(beginning("one") + &text(&one)));
    let rest = text(&history.lines()[..1]) + &text(&other);
    let other = folder.file("other", &rest);
    let whole = read(&[other, one]).expect("it was written by us");
    assert_eq!(whole.lines().len(), history.lines().len() + 1);
    assert_eq!(&whole.lines()[2..], &history.lines()[1..]);
    let report = check(&whole, &Floors::default());
    assert_eq!(report.invariants, check(&history, &Floors::default()).invariants);
}

#[test]
fn a_line_that_a_killed_process_left_is_counted_and_left_out() {
    let folder = Folder::new("torn");
    let sight = text(&[Line::new(5, "node", delivered(SHIPPING, "m"))]);
    let (whole, torn) = (beginning("node") + &sight, &sight[..sight.len() / 2]);
    for (name, text) in [
        ("last", format!("{whole}{torn}")),
        ("ended", format!("{whole}{torn}\n\n")),
        ("before a new beginning", format!("{whole}{torn}\n{whole}")),
    ] {
        let history = read(&[folder.file("torn", &text)]).expect(name);
        assert_eq!(history.torn(), 1, "{name}");
    }
    let error = read(&[folder.file("torn", &format!("{whole}{torn}\n{sight}"))]);
    let error = error.expect_err("it was not killed then").to_string();
    assert!(error.contains("torn line 3: "), "{error}");
}

#[test]
fn what_is_not_known_is_counted_and_what_is_wrong_is_told_by_line() {
    let folder = Folder::new("wrong");
    let begun = beginning("node");
    let more = r#"{"at":1,"node":"n","saw":"afterglow","colour":"red"}"#;
    let history = read(&[folder.file("more", &format!("{begun}{more}\n{more}\n"))]);
    let history = history.expect("others may know more");
    assert_eq!(history.unknown().get("afterglow"), Some(&2));
    let newer = begun.replace(r#""version":1"#, r#""version":2"#);
    for (name, text, told) in [
        ("empty", "", "empty line 1: the file holds no history"),
        ("headless", more, "headless line 1: a history begins with"),
        ("newer", &newer, "newer line 1: version 2 of the format"),
    ] {
        let error = read(&[folder.file(name, text)]).expect_err(name).to_string();
        assert!(error.contains(told), "{error}");
    }
    let error = read(&[folder.0.join("nowhere")]).expect_err("it is not there").to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_report_survives_json() {
    let mut history: History = sample(4);
    insert_last(&mut history, SHIPPING, effect(SHIPPING, "a3"));
    let report = check(&history, &Floors::default());
    let json = serde_json::to_string(&report).expect("a report is plain data");
    assert!(json.contains(r#""verdict":"broken""#), "{json}");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("it was written by us"), report);
}
