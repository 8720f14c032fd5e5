//! Publishing: the first stage of a group. A message that does not fit is refused while others are
//! kept; when nothing fits the bus is away for publishers, and everything else goes on.

use std::collections::HashSet;

use posthaste_core::{Limits, Message};

use super::Engine;
use super::call::Answer;
use crate::error::{self, Failure};
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
    parcels: Vec<Parcel>,
    answer: Answer,
    words: Vec<Word>,
    /// Why some of it did not fit.
    full: Option<String>,
}

/// A message of a publication: where it is kept, or why it is not.
#[derive(Debug)]
enum Place {
    Open,
    At { address: i64, sequence: i64 },
    Refused(Word),
}

impl Publication {
    pub(super) fn new(parcels: Vec<Parcel>, answer: Answer) -> Self {
        let words = Vec::with_capacity(parcels.len());
        Self { parcels, answer, words, full: None }
    }

    /// Says what became of its messages.
    pub(super) fn tell(self) {
        self.answer.give(Reply::Published(self.words));
    }

    /// Says that none of it was kept or, if that is not known, that nobody knows.
    pub(super) fn fail(self, detail: &str, is_known: bool) {
        if is_known {
            self.answer.give(Reply::Failed(Failure::Unavailable(detail.to_owned())));
            return;
        }
        let unknown = |word| match word {
            Word::Accepted { .. } => Word::Unknown { detail: detail.to_owned() },
            refused => refused,
        };
        self.answer.give(Reply::Published(self.words.into_iter().map(unknown).collect()));
    }
}

impl Engine {
    /// Writes what may be kept of the publications and returns it. Those of which nothing fits,
    /// where nothing fits at all, get their answer here. On an error the transaction is of no use.
    pub(super) fn write_messages(
        &mut self,
        publications: &mut Vec<Publication>,
    ) -> rusqlite::Result<Vec<Kept>> {
        let limits = Limits::with_payload(self.options.max_payload);
        let mut kept = Vec::new();
        for publication in publications.iter_mut() {
            self.write_publication(publication, &limits, &mut kept)?;
        }
        if kept.is_empty() {
            for one in publications.extract_if(.., |one| one.full.is_some()) {
                let detail = one.full.clone().unwrap_or_default();
                tracing::warn!(detail, "messages found no room");
                one.fail(&detail, true);
            }
        }
        Ok(kept)
    }

    fn write_publication(
        &mut self,
        publication: &mut Publication,
        limits: &Limits,
        kept: &mut Vec<Kept>,
    ) -> rusqlite::Result<()> {
        let (parcels, mut places) = check(std::mem::take(&mut publication.parcels), limits);
        self.store.save()?;
        match self.write_whole(&parcels, &mut places) {
            Ok(()) => self.store.keep()?,
            Err(error) if error::is_full(&error) && self.store.is_inside() => {
                self.undo()?;
                let full = self.failure("could not write", &error).detail().to_owned();
                self.write_what_fits(&parcels, &mut places, &full)?;
                publication.full = Some(full);
            }
            Err(error) => return Err(error),
        }
        for (parcel, place) in parcels.into_iter().zip(places) {
            publication.words.push(match place {
                Place::At { address, sequence } => {
                    kept.push(Kept { address, sequence, parcel });
                    Word::Accepted { sequence }
                }
                Place::Refused(word) => word,
                Place::Open => Word::Refused { permanent: false, detail: String::new() },
            });
        }
        Ok(())
    }

    fn write_whole(&mut self, parcels: &[Parcel], places: &mut [Place]) -> rusqlite::Result<()> {
        for (parcel, place) in parcels.iter().zip(places) {
            if !matches!(place, Place::Refused(_)) {
                *place = self.write_message(parcel)?;
            }
        }
        Ok(())
    }

    /// Message by message: refuses those that do not fit and what follows them on their key.
    fn write_what_fits(
        &mut self,
        parcels: &[Parcel],
        places: &mut [Place],
        full: &str,
    ) -> rusqlite::Result<()> {
        let mut failed: HashSet<(&str, &str)> = HashSet::new();
        for (parcel, place) in parcels.iter().zip(places) {
            if matches!(place, Place::Refused(_)) {
                continue;
            }
            let line = parcel.key.as_deref().map(|key| (parcel.address.as_str(), key));
            if line.is_some_and(|line| failed.contains(&line)) {
                *place = Place::Refused(follows());
                continue;
            }
            self.store.save()?;
            match self.write_message(parcel) {
                Ok(at) => {
                    self.store.keep()?;
                    *place = at;
                }
                Err(error) if error::is_full(&error) && self.store.is_inside() => {
                    self.undo()?;
                    let detail = full.to_owned();
                    *place = Place::Refused(Word::Refused { permanent: false, detail });
                    failed.extend(line);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_message(&mut self, parcel: &Parcel) -> rusqlite::Result<Place> {
        let address = self.address_of(&parcel.address)?;
        let sequence = self.store.add_message(address, parcel)?;
        Ok(Place::At { address, sequence })
    }

    /// Undoes what was written since the store was told to save, also in memory: addresses and
    /// subscriptions that are not there after all.
    pub(super) fn undo(&mut self) -> rusqlite::Result<()> {
        self.store.undo()?;
        self.book.forget(&self.store.addresses()?, &self.store.subscription_ids()?);
        Ok(())
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
fn check(parcels: Vec<Parcel>, limits: &Limits) -> (Vec<Parcel>, Vec<Place>) {
    let mut failed: HashSet<(String, String)> = HashSet::new();
    let checked = parcels.into_iter().map(|parcel| {
        let message = Message::from(parcel);
        let line = || message.key.as_ref().map(|key| (message.topic.clone(), key.clone()));
        let place = if !failed.is_empty() && line().is_some_and(|line| failed.contains(&line)) {
            Place::Refused(follows())
        } else if let Err(invalid) = limits.check(&message) {
            failed.extend(line());
            Place::Refused(Word::Refused { permanent: true, detail: invalid.to_string() })
        } else {
            Place::Open
        };
        (Parcel::from(message), place)
    });
    checked.unzip()
}

fn follows() -> Word {
    let detail = "follows a message of its key that was refused".to_owned();
    Word::Refused { permanent: false, detail }
}
