//! Seeds of the simulator: `proof/simulator`.

use super::{Proof, build, carry_out};
use crate::Outcome;
use crate::terminal::say;
use crate::workspace::Workspace;

pub(super) fn run(workspace: &Workspace, _name: &str, options: &[String]) -> Outcome<Proof> {
    let program = build(workspace, "posthaste-simulator")?;
    let proof = carry_out(&program, "simulate", options)?;
    if !options.iter().any(|option| option == "--json") {
        let (seeds, seconds) = (&proof.summary["seeds"], &proof.summary["seconds"]);
        let verdict = proof.summary["verdict"].as_str().unwrap_or("unknown");
        say(&format!("simulate: {seeds} seeds in {seconds} s: {verdict}"))?;
    }
    Ok(proof)
}
