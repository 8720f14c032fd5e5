//! Every package takes its lints from the workspace.

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let path = match package.folder.as_str() {
            "" => "Cargo.toml".to_owned(),
            folder => format!("{folder}/Cargo.toml"),
        };
        let manifest = tree.file(&path).map_or("", |file| file.text.as_str());
        let mut section = "";
        let inherits = manifest.lines().map(str::trim).any(|line| {
            if line.starts_with('[') {
                section = line;
            }
            section == "[lints]" && line.replace(' ', "") == "workspace=true"
        });
        if !inherits {
            findings.push(Finding::new(&path, 0, "say `[lints]` and `workspace = true`"));
        }
    }
    findings
}

#[test]
fn a_package_without_the_lints_is_found() {
    use crate::workspace::Package;

    let mut tree = Tree::of(&[
        ("good/Cargo.toml", "[package]\n[lints]\nworkspace = true\n"),
        ("bad/Cargo.toml", "[lints]\n[dependencies]\nworkspace = true\n"),
    ]);
    for folder in ["good", "bad", "absent"] {
        tree.packages.push(Package { folder: folder.into(), ..Package::default() });
    }
    let paths: Vec<_> = check(&tree).into_iter().map(|found| found.path).collect();
    assert_eq!(paths, ["bad/Cargo.toml", "absent/Cargo.toml"]);
}
