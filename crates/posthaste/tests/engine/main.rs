//! The engine over the memory database and broker, under paused time.

mod consuming;
mod order;
mod publishing;
mod relaying;
mod service;
