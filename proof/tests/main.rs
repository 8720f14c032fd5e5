//! The proofs. One binary, so that they share what is built; each is a module.

mod random_kills;
mod rig;
