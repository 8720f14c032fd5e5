//! Where this program speaks: results on stdout, complaints on stderr.

use std::io::{self, Write};

/// Prints one line of results.
pub(crate) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Prints one line of complaint. A stderr that is gone has nobody left to complain to.
#[expect(clippy::print_stderr, reason = "the one place that does")]
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}
