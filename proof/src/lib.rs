//! How the promise of Posthaste is proved: real processes over real files, killed without mercy.
//!
//! A [`World`] is a folder with the [`evidence`], the database of a small [`shop`] and a broker: a
//! file each, or [real servers](ground). [`Node`]s are processes that write, relay, consume or own
//! the bus; the tests start them through [`Process`], kill, pause and restart them, let everything
//! come to rest, and then read what has happened from files and tables alone: the [`truth`] goes to
//! `posthaste-history`, which judges.
//!
//! Nothing of this is part of the product; it uses the product as any other program would.

pub mod campaign;
pub mod carrier;
pub mod chance;
pub mod crew;
pub mod evidence;
pub mod eye;
pub mod ground;
pub mod ledger;
pub mod node;
pub mod power;
pub mod process;
pub mod rest;
pub mod rig;
pub mod shop;
pub mod site;
pub mod truth;
pub mod world;

pub use node::{Job, Node};
pub use process::Process;
pub use world::World;

/// Why a proof could not be carried out, or failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
