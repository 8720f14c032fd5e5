//! Health and metrics of a relay as an axum router, and a small server for it on loopback.
//!
//! - `GET /health/live`: 200 while the process answers at all.
//! - `GET /health/ready`: 200 if the relay can do its work: the database answers with the right
//!   schema, this relay leads or another one does, and the broker is not away. Else 503. Either way
//!   a JSON object says why.
//! - `GET /metrics`: figures for Prometheus.
//!
//! [`router`] can be mounted in an application of one's own; [`serve`] serves it on a loopback
//! address and, against DNS rebinding, only to requests that name one.

mod health;
mod host;
mod metrics;
mod routes;
mod serve;

pub use health::Health;
pub use host::loopback_only;
pub use routes::router;
pub use serve::serve;
