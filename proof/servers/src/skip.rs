//! Tests that cannot run here say so and pass; the runner counts them.

use std::io::Write;

use crate::{Postgres, RabbitMq};

/// Says why a test is skipped, past the test harness, which keeps what a test prints to itself.
///
/// # Panics
/// If standard error cannot be written.
pub fn skip(reason: &str) {
    let line = format!("posthaste-skip: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

/// The PostgreSQL server of this process. Nothing, after saying so, if none is installed: the test
/// returns then.
pub async fn postgres_or_skip() -> Option<&'static Postgres> {
    match Postgres::missing() {
        None => Some(Postgres::shared().await),
        Some(reason) => {
            skip(&reason);
            None
        }
    }
}
/// The RabbitMQ server of this process. Nothing, after saying so, if none is installed: the test
/// returns then.
pub async fn rabbitmq_or_skip() -> Option<&'static RabbitMq> {
    match RabbitMq::missing() {
        None => Some(RabbitMq::shared().await),
        Some(reason) => {
            skip(&reason);
            None
        }
    }
}
