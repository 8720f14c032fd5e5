//! Tests of the PostgreSQL backend on a real server.

mod contract;
mod fixture;
mod inbox;
mod schema;
mod writing;
