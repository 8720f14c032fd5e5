//! A database and a broker that live in memory: for tests, and as the reference for what the seams
//! mean.
//!
//! Both are cheap to clone, and every clone is another handle to the same thing. Both run on
//! tokio's clock, so that `tokio::time::pause` and `tokio::time::advance` decide when something
//! is due, a lease runs out or a lock is lost. Nothing is written to a disk: what they hold ends
//! with the last handle.
//!
//! Invariant: no lock is held over an await, so a future that is dropped leaves nothing half done.

mod broker;
mod clock;
mod database;
#[cfg(test)]
mod tests;

pub use broker::{BrokerDeadLetter, MemoryBroker};
pub use database::{AuditAct, AuditRecord, MemoryConnection, MemoryDatabase, MemoryTransaction};
