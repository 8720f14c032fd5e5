//! The relay's machine driven by a model database and a model broker, with faults chosen by seed.

mod model;
mod scenarios;
mod seeds;
