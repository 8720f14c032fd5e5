//! The rules of the tree that no compiler checks. A rule is a function from the tree to its
//! findings; it reads text that is in memory, so that its test can show that it bites.

mod arrows;
mod contract;
mod length;
mod links;
mod lints;
mod paths;
mod purity;
mod rust;
mod sleeps;
mod tree;
mod words;

use crate::Outcome;
use crate::tally::Tally;
use crate::terminal::say;
use crate::workspace::Workspace;
use tree::Tree;

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// File, relative to the root.
    path: String,
    /// Line, counted from 1; 0 if it is about the whole file.
    line: usize,
    /// What is wrong and what to do.
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [(&str, Rule); 9] = [
    ("dependencies point one way", arrows::check),
    ("no file is too long", length::check),
    ("nothing forbidden is written", words::check),
    ("the core decides and does nothing else", purity::check),
    ("links in the documents lead somewhere", links::check),
    ("the contract describes every column", contract::check),
    ("every crate has the lints of the workspace", lints::check),
    ("the engine waits for events", sleeps::check),
    ("no path of one machine", paths::check),
];

/// Checks every rule and prints what breaks it.
pub(crate) fn run(workspace: &Workspace) -> Outcome<Tally> {
    let tree = Tree::read(workspace)?;
    let mut tally = Tally::default();
    for (name, rule) in RULES {
        let findings = rule(&tree);
        if findings.is_empty() {
            tally.passed += 1;
            say(&format!("tidy: {name} ... ok"))?;
            continue;
        }
        tally.failed += 1;
        say(&format!("tidy: {name} ... FAILED"))?;
        for Finding { path, line, what } in findings {
            let place = if line > 0 { format!("{path}:{line}") } else { path };
            say(&format!("  {place}: {what}"))?;
        }
    }
    Ok(tally)
}
