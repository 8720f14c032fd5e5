//! Faults on real processes, files and servers: `proof/src/campaign`. Built as the tests are, with
//! all checks, because what is awaited here is processes and disks.

use super::{Proof, carry_out};
use crate::Outcome;
use crate::command::stream;
use crate::terminal::say;
use crate::workspace::{Workspace, cargo};

/// The program that runs them.
const PROGRAM: &str = "posthaste-prove";

pub(super) fn run(workspace: &Workspace, name: &str, options: &[String]) -> Outcome<Proof> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "posthaste-proof", "--bins"]);
    if !stream(&mut build, |line| Ok(say(line)?))?.success() {
        return Err("posthaste-proof cannot be built; the reason is above".into());
    }
    let proof = carry_out(&workspace.target.join("debug").join(PROGRAM), name, options)?;
    if !options.iter().any(|option| option == "--json") {
        let (worlds, faults) = (&proof.summary["seeds"], &proof.summary["cycles"]);
        let verdict = proof.summary["verdict"].as_str().unwrap_or("unknown");
        say(&format!("{name}: {faults} faults in {worlds} worlds: {verdict}"))?;
    }
    Ok(proof)
}
