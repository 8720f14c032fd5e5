//! Histories as files: one for each process, torn where one was killed, told apart by line where
//! they are wrong.

use std::fs;
use std::path::PathBuf;

use posthaste_history::event::Format;
use posthaste_history::{Floors, History, Journal, Line, Report, check, read};

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
fn what_a_process_notes_is_read_again_though_it_was_killed_in_a_line() {
    let folder = Folder::new("journal");
    let path = folder.0.join("journal");
    for _ in 0..2 {
        let journal = Journal::open(&path, "node", Format::default()).expect("there is room");
        journal.note(delivered(SHIPPING, "m")).expect("there is room");
        journal.note_all([effect(SHIPPING, "m"), effect(SHIPPING, "n")]).expect("there is room");
        let length = fs::metadata(&path).expect("it is there").len();
        let file = fs::OpenOptions::new().write(true).open(&path).expect("it is there");
        file.set_len(length - 5).expect("it can be cut");
    }
    let history = read(&[path]).expect("it was written by us");
    assert_eq!((history.lines().len(), history.torn()), (6, 2));
    assert!(history.lines().is_sorted_by_key(|line| line.at));
    let mut bytes = Vec::new();
    history.write(&mut bytes).expect("there is room");
    let text = String::from_utf8(bytes).expect("it is text");
    let again = read(&[folder.file("again", &text)]).expect("it was written by us");
    assert_eq!(again.lines(), history.lines());
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
