//! The core holds nouns and decisions: no clock, no randomness, no threads, no I/O, no runtime, no
//! map whose order is drawn. clippy checks the same with types; this one cannot be switched off by
//! an attribute.

use super::tree::Tree;
use super::{Finding, rust};

const SOURCE: &str = "crates/posthaste-core/src/";

const FORBIDDEN: [&str; 17] = [
    "tokio",
    "futures",
    "rand",
    "getrandom",
    "Instant",
    "SystemTime",
    "now_v7",
    "new_v4",
    "HashMap",
    "HashSet",
    "RandomState",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
];

/// What the core may depend on; a longer list needs a good reason.
const DEPENDENCIES: [&str; 5] = ["async-trait", "bytes", "serde", "thiserror", "uuid"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".rs").filter(|file| file.path.starts_with(SOURCE)) {
        let code = rust::code(&file.text);
        for word in FORBIDDEN {
            for line in rust::lines_with(&code, word) {
                let what = format!("`{word}` in the core: hand it in as a value");
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    let core = tree.packages.iter().filter(|package| package.name == "posthaste-core");
    for dependency in core.flat_map(|package| &package.dependencies) {
        if !dependency.dev && !DEPENDENCIES.contains(&dependency.name.as_str()) {
            let what =
                format!("the core depends on `{}`, which its list leaves out", dependency.name);
            findings.push(Finding::new("crates/posthaste-core/Cargo.toml", 0, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    #[test]
    fn each_word_is_found_in_the_core_and_only_there() {
        for word in FORBIDDEN {
            let text = format!("use a::b;\nuse {word}::c;");
            let path = "crates/posthaste-core/src/deep/a.rs";
            let findings = check(&Tree::of(&[(path, &text), ("crates/posthaste/src/a.rs", &text)]));
            assert!(!findings.is_empty(), "{word}");
            assert!(findings.iter().all(|found| found.path == path && found.line == 2));
        }
        let prose = "//! No tokio, no HashMap.\nuse std::time::Duration;";
        assert_eq!(check(&Tree::of(&[("crates/posthaste-core/src/lib.rs", prose)])), []);
    }

    #[test]
    fn a_new_dependency_is_found() {
        let mut tree = Tree::of(&[]);
        let dependency = |name: &str, dev| Dependency { name: name.into(), dev };
        tree.packages.push(Package {
            name: "posthaste-core".into(),
            dependencies: vec![
                dependency("uuid", false),
                dependency("proptest", true),
                dependency("tokio", false),
            ],
            ..Package::default()
        });
        let findings = check(&tree);
        assert!(findings.len() == 1 && findings[0].what.contains("`tokio`"), "{findings:?}");
    }
}
