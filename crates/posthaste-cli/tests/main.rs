//! The binary as people use it: every command in a folder of its own, judged by its exit status
//! and by what it writes.

mod dead;
mod demo;
mod doctor;
mod init;
mod main_job;
mod outbox;
mod place;
mod publish;
mod relay;
mod schema;
mod secrets;
mod servers;
mod settings;
mod subscribe;
mod verify;
