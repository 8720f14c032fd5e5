//! No file names a folder that only one machine has.

use super::Finding;
use super::tree::Tree;

/// Folders below the root of a file system in which people and machines work.
const HOMES: [&str; 5] = ["root", "home", "Users", "work", "farm"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(home) = HOMES.into_iter().find(|home| names(line, home)) {
                let what =
                    format!("a path below `/{home}`: make it relative, or take a neutral one");
                findings.push(Finding::new(&file.path, at + 1, what));
            }
        }
    }
    findings
}

/// Whether a path in a line begins with this folder; inside of an address on the web, or in the
/// middle of a path, it is none.
fn names(line: &str, home: &str) -> bool {
    let folder = format!("/{home}/");
    line.match_indices(&folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_.-/}*)>$".contains(c))
            || line[..at].ends_with("://")
    })
}

#[test]
fn a_path_of_one_machine_is_found() {
    let path = |home: &str| format!("cd /{home}/somebody");
    for home in HOMES {
        assert_eq!(check(&Tree::of(&[("a", &path(home))])).len(), 1, "{home}");
        let url = format!("sqlite:///{home}/a.db");
        assert_eq!(check(&Tree::of(&[("a", &url)])).len(), 1, "{home}");
        let harmless = format!("https://example.com/{home}/a ./{home}/a $A/{home}/a /{home}y/");
        assert_eq!(check(&Tree::of(&[("a", &harmless)])), [], "{home}");
    }
}
