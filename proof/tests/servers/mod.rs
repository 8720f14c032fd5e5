//! The proofs on real servers: PostgreSQL and RabbitMQ as private child processes, each campaign in
//! a database and a virtual host of its own, or on servers of its own where it kills them.

mod backlog;
mod broker_away;
mod database_away;
mod everything;
mod lanes;
mod late_commits;
mod lines_cut;
mod promotion;
mod rolling;
mod sabotage;
mod unroutable;
