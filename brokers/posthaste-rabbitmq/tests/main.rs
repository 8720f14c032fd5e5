//! The broker against a real RabbitMQ.

mod away;
mod conformance;
mod connecting;
mod publishing;
mod subscribing;
mod support;
