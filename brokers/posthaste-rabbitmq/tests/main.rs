//! The broker against a real RabbitMQ.

mod away;
mod conformance;
mod connecting;
mod dead;
mod publishing;
mod raw;
mod storm;
mod subscribing;
mod support;
