//! Real servers as private child processes, and a TCP fault proxy, for tests.
//!
//! Every server listens on loopback only, on a free port below the kernel's ephemeral range, keeps
//! all its files in one private directory and ends, with its directory, when the test process does,
//! however that ends: a small guardian process sees to it.
//!
//! This is a crate for tests: what goes wrong while a server starts or is used is a panic that
//! shows the server's log, every wait has a deadline, and nothing is left to be cleaned up.
//! No server is bound to the tokio runtime of one test: all tests of a process can share it.

mod account;
mod command;
mod family;
mod guardian;
mod http;
mod log;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod proxy;
mod rabbitmq;
mod skip;
mod tls;

pub use pgbouncer::PgBouncer;
pub use port::free_port;
pub use postgres::{Postgres, PostgresOptions, TestDatabase};
pub use proxy::{Counts, Direction, Proxy};
pub use rabbitmq::{RabbitMq, RabbitMqOptions, TestVhost};
pub use skip::{postgres_or_skip, rabbitmq_or_skip, skip};
pub use tls::Tls;

/// Runs what blocks beside the runtime, to its end even if the caller is dropped.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
