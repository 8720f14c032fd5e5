//! Publishing: the first stage of a group. It touches only the file, so that when there is no room
//! for new messages they are refused and everything else of the group goes on.

use std::collections::HashSet;

use posthaste_core::{Limits, Message};

use super::Engine;
use super::call::Answer;
use crate::parcel::Parcel;
use crate::protocol::{Reply, Word};
use crate::store::AddressRow;

/// A message that is in the file when the group commits.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) address: i64,
    pub(super) sequence: i64,
    pub(super) parcel: Parcel,
}

/// A call to publish, with the words on its messages once they are known.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) parcels: Vec<Parcel>,
    pub(super) answer: Answer,
    pub(super) words: Vec<Word>,
    count: usize,
}

impl Publication {
    pub(super) fn new(parcels: Vec<Parcel>, answer: Answer) -> Self {
        let count = parcels.len();
        Self { parcels, answer, words: Vec::with_capacity(count), count }
    }

    /// Says the same of all its messages.
    pub(super) fn fail(self, word: &Word) {
        self.answer.give(Reply::Published(vec![word.clone(); self.count]));
    }
}

impl Engine {
    /// Writes what may be kept of the publications and returns it. On an error the transaction is
    /// of no use any more.
    pub(super) fn write_messages(
        &mut self,
        publications: &mut [Publication],
    ) -> rusqlite::Result<Vec<Kept>> {
        let limits = Limits::with_payload(self.options.max_payload);
        let mut kept = Vec::new();
        for publication in publications {
            let mut failed: HashSet<(String, String)> = HashSet::new();
            for parcel in std::mem::take(&mut publication.parcels) {
                let message = Message::from(parcel);
                let word = match refuse(&message, &limits, &mut failed) {
                    Some(word) => word,
                    None => {
                        let parcel = Parcel::from(message);
                        let address = self.address_of(&parcel.address)?;
                        let sequence = self.store.add_message(address, &parcel)?;
                        kept.push(Kept { address, sequence, parcel });
                        Word::Accepted { sequence }
                    }
                };
                publication.words.push(word);
            }
        }
        Ok(kept)
    }

    /// The address of this name, created by its first use.
    pub(super) fn address_of(&mut self, name: &str) -> rusqlite::Result<i64> {
        if let Some(address) = self.book.names.get(name) {
            return Ok(*address);
        }
        let id = self.store.add_address(name)?;
        let name = name.to_owned();
        self.book.add_place(AddressRow { id, name, is_queue: false, last: 0 });
        Ok(id)
    }
}

/// Says no to what the contract does not allow and to what follows it on its key.
fn refuse(
    message: &Message,
    limits: &Limits,
    failed: &mut HashSet<(String, String)>,
) -> Option<Word> {
    let line = || message.key.as_ref().map(|key| (message.topic.clone(), key.clone()));
    if !failed.is_empty() && line().is_some_and(|line| failed.contains(&line)) {
        let detail = "follows a message of its key that was refused".to_owned();
        return Some(Word::Refused { permanent: false, detail });
    }
    let invalid = limits.check(message).err()?;
    failed.extend(line());
    Some(Word::Refused { permanent: true, detail: invalid.to_string() })
}
