//! The broker against a real RabbitMQ.

mod away;
mod conformance;
mod connecting;
mod dead;
mod publishing;
mod subscribing;
mod support;
