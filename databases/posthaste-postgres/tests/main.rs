//! Tests of the PostgreSQL backend on a real server.

mod conformance;
mod contract;
mod examples;
mod fixture;
mod inbox;
mod schema;
mod writing;
