//! The `posthaste` binary with the backends of this repository.

use std::process::ExitCode;

use posthaste_cli::Registry;

fn main() -> ExitCode {
    posthaste_cli::main(Registry::default())
}
