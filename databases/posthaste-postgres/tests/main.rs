//! Tests of the PostgreSQL backend on a real server.

mod adoption;
mod conformance;
mod connecting;
mod contract;
mod cost;
mod crash;
mod doctor;
mod examples;
mod failover;
mod fixture;
mod inbox;
mod lines;
mod partitions;
mod pooled;
mod reading;
mod refusal;
mod roles;
mod schema;
mod signal;
mod silence;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;
mod writing;
