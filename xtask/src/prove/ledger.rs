//! The ledger: a row for each campaign that was run, so that convincing totals are sums that
//! anybody can run again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::Proof;
use crate::Outcome;

const FILE: &str = "evidence/ledger.csv";
const HEADER: &str = "commit,campaign,seeds,cycles,verdict,wall_seconds";

/// Adds a row; the file begins with its header.
pub(super) fn append(root: &Path, commit: &str, campaign: &str, proof: &Proof) -> Outcome<()> {
    let path = root.join(FILE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if is_new {
        writeln!(file, "{HEADER}")?;
    }
    writeln!(file, "{}", row(commit, campaign, proof))?;
    Ok(())
}

/// Counts that a campaign does not have are 0.
fn row(commit: &str, campaign: &str, proof: &Proof) -> String {
    let count = |name: &str| proof.summary[name].as_u64().unwrap_or(0);
    let verdict = if proof.kept { "kept" } else { "broken" };
    let (seeds, cycles, seconds) = (count("seeds"), count("cycles"), proof.seconds);
    format!("{commit},{campaign},{seeds},{cycles},{verdict},{seconds:.1}")
}

/// The commit that was run; with a `+` if the tree had changes that are not in it.
pub(super) fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!evidence"]);
    let mark = if changed.is_some_and(|changed| !changed.is_empty()) { "+" } else { "" };
    format!("{hash}{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_added_below_the_header_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let summary = serde_json::json!({ "seeds": 7, "verdict": "kept" });
        let proof = Proof { summary, kept: true, seconds: 1.25 };
        append(folder.path(), "abc", "simulate", &proof).expect("written");
        append(folder.path(), "abc", "simulate", &Proof { kept: false, ..proof }).expect("written");
        let text = fs::read_to_string(folder.path().join(FILE)).expect("there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], HEADER);
        assert!(lines[1].ends_with("abc,simulate,7,0,kept,1.2"), "{text}");
        assert!(lines[2].ends_with("abc,simulate,7,0,broken,1.2") && lines.len() == 3, "{text}");
    }
}
