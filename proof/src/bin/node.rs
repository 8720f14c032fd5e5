//! A process of a world. It is started by the tests, with its instructions as JSON in its only
//! argument.

use posthaste_proof::{Failure, Node, node};

fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let text = std::env::args().nth(1).ok_or("give the instructions as JSON in one argument")?;
    let told: Node = serde_json::from_str(&text)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(node::run(told))
}
