//! The broker against a real RabbitMQ.

mod conformance;
mod support;
