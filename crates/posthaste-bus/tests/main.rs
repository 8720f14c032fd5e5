//! The bus as its users see it.

mod dead;
mod delivering;
mod processes;
mod publishing;
mod sharing;
mod support;
