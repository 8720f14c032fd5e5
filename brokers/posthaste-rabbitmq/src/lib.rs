//! Posthaste on RabbitMQ.
