//! What this process notes of the run: who is to receive what, and when the child was killed.

use posthaste_history::event::{ConsumerStarted, Fault, FaultTarget, Format};
use posthaste_history::{Journal, moment};

use crate::failure::Failure;

use super::site::Site;
use super::world::{CONSUMERS, TOPIC};

/// Begins the journal of the service.
///
/// # Errors
/// If it cannot be written.
pub(super) fn open(site: &Site) -> Result<Journal, Failure> {
    let journal = Journal::open(&site.journal(), "service", Format::default());
    let journal = journal.map_err(|error| unwritten(&error))?;
    for name in CONSUMERS {
        let (consumer, topics) = (name.to_owned(), vec![TOPIC.to_owned()]);
        let started = ConsumerStarted { consumer, topics, ..ConsumerStarted::default() };
        journal.note(started).map_err(|error| unwritten(&error))?;
    }
    Ok(journal)
}

/// Notes that the child, with all that is in it, was killed at a moment and started again now.
///
/// # Errors
/// If it cannot be written.
pub(super) fn killed(journal: &Journal, number: u64, from: u64) -> Result<(), Failure> {
    let (id, kind) = (format!("kill-{number}"), "kill".to_owned());
    let (target, name, key) = (FaultTarget::Several, None, None);
    let fault = Fault { id, kind, target, name, key, from, until: moment() };
    journal.note(fault).map_err(|error| unwritten(&error))
}

fn unwritten(error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot note what happens: {error}"))
}
