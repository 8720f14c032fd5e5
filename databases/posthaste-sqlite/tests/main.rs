//! Tests of the SQLite backend on real files.

mod bad_input;
mod cancellation;
mod conformance;
mod contract;
mod dead_letters;
mod fixture;
mod inbox;
mod leases;
mod monitor;
mod python;
mod reading;
mod schema;
mod settling;
mod signal;
mod upkeep;
mod writing;
