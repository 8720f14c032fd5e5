//! The proofs. One binary, so that they share what is built; each is a module.
//!
//! `POSTHASTE_SEED` sets what is left to chance; a proof that fails tells its seed and keeps its
//! folder.

mod bad_handlers;
mod bus_away;
mod cancellation;
mod ended_transactions;
mod full_disk;
mod graceful_stop;
mod inside;
mod kills_at_steps;
mod poison;
mod power;
mod python_writer;
mod random_kills;
mod sabotage;
mod servers;
mod two_relays;
