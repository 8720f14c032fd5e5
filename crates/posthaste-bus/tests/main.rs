//! The bus as its users see it.

mod dead;
mod delivering;
mod publishing;
mod support;
