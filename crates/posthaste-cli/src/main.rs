//! The `posthaste` binary with the backends of this repository.

use std::process::ExitCode;

use posthaste_cli::Registry;

fn main() -> ExitCode {
    // Whoever has installed another one before has chosen it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    posthaste_cli::main(Registry::default())
}
