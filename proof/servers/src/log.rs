//! What a server has written about itself.

use std::fs;
use std::path::Path;

/// As many lines as a person reads in a failure.
const LINES: usize = 60;

/// The last part of a log; nothing if there is none.
pub(crate) fn tail(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
