//! The state machines that ship, driven by a seed through a world of models and faults.
//!
//! A seed chooses a [`scenario`](Scenario): writers, relays, consumers, what the broker is like and
//! what goes wrong. The world then lets one thing happen after the other in a time of its own. The
//! machines of relay and consumer, the rule for reading an outbox, the judgement of outcomes and
//! the shares of lanes are those of `posthaste-core`; database, broker, inbox and network are
//! models, and the shells around the machines do what those of `posthaste` do.
//!
//! What always holds:
//! - The same seed does the same: no clock, no thread and no order of a map has a say.
//! - Every step is judged as it is taken, by what truly happened to each message.
//! - A world that is well again comes to rest, or the seed fails.
//! - Deliberate mistakes ([`Sabotage`]) are noticed within a stated number of seeds.

mod account;
mod asking;
mod broker;
mod campaign;
mod chance;
mod clock;
mod consumer;
pub mod database;
mod evidence;
mod fault;
mod inbox;
mod incident;
mod marker;
mod message;
mod note;
mod publishing;
mod relay;
mod run;
mod sabotage;
mod scenario;
mod schedule;
mod script;
mod settlement;
mod shrink;
mod team;
mod verdict;
mod witness;
mod world;
mod writer;

pub use campaign::{Campaign, Sum};
pub use chance::Chance;
pub use inbox::Inbox;
pub use marker::{Marker, Markers};
pub use note::{Actor, Note};
pub use sabotage::{NoSuchSabotage, Sabotage};
pub use scenario::{Mode, Scenario};
pub use shrink::shrink;
pub use verdict::{Verdict, Violation, Wrong};

/// Runs a scenario to its end and says what came of it.
pub fn run(scenario: Scenario, sabotage: Option<Sabotage>) -> Verdict {
    world::World::run(scenario, sabotage, false)
}
