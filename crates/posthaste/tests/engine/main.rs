//! The engine over the memory database and broker, under paused time.

mod consuming;
mod lanes;
mod order;
mod publishing;
mod relaying;
mod service;
mod unbound;
