//! No source file is longer than a person reads in one go.

use super::Finding;
use super::tree::Tree;

const LONGEST: usize = 600;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let lengths = tree.ending(".rs").map(|file| (file, file.text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LONGEST);
    long.map(|(file, lines)| {
        Finding::new(
            &file.path,
            0,
            format!("{lines} lines; split it by noun, {LONGEST} is the most"),
        )
    })
    .collect()
}

#[test]
fn a_long_file_is_found() {
    let long = "//\n".repeat(601);
    let tree = Tree::of(&[("a.rs", &long), ("b.rs", &long[3..]), ("c.sql", &long)]);
    let findings = check(&tree);
    assert!(findings.len() == 1 && findings[0].path == "a.rs", "{findings:?}");
}
