//! The bus as its users see it.

mod conformance;
mod dead;
mod delivering;
mod dropping;
mod opening;
#[cfg(unix)]
mod owning;
mod processes;
mod publishing;
mod sharing;
mod support;
