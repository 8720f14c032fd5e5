//! Deliberate mistakes: how many seeds it takes to notice each.

use super::{Proof, build, carry_out};
use crate::Outcome;
use crate::workspace::Workspace;

pub(super) fn run(workspace: &Workspace, _name: &str, options: &[String]) -> Outcome<Proof> {
    let program = build(workspace, "posthaste-simulator")?;
    carry_out(&program, "sabotage", options)
}
