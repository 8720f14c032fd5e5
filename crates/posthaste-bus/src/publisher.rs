//! Publishing: cuts a call into pieces that fit one request, and keeps the promise that of one key
//! only a prefix is accepted over all pieces of a call.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::limits::{Limits, PAYLOAD_BYTES_MOST};
use posthaste_core::{Message, Outcome, Publisher, Receipt, Unavailable};

use crate::link::{Link, Lost};
use crate::parcel::Parcel;
use crate::protocol::{Reply, Request, Word};
use crate::shared::{Shared, unexpected};

/// Messages of one request, at most.
pub(crate) const MOST: usize = 1000;
/// Bytes of one request, at most (one message may be larger).
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct BusPublisher {
    pub(crate) shared: Arc<Shared>,
}

/// A call that is under way.
#[derive(Debug, Default)]
struct Progress<'a> {
    outcomes: Vec<Option<Outcome>>,
    /// Keys of which a message was not accepted.
    failed: HashSet<(&'a str, &'a str)>,
}

#[async_trait]
impl Publisher for BusPublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let link =
            self.shared.link().await.map_err(|failure| Unavailable::new(failure.detail()))?;
        let mut progress = Progress { outcomes: vec![None; messages.len()], ..Progress::default() };
        let mut next = 0;
        let mut broken: Option<String> = None;
        let mut is_first = true;
        let mut limit = std::pin::pin!(self.shared.clock.limit());
        while next < messages.len() {
            let piece = progress.piece(messages, &mut next);
            if piece.is_empty() {
                continue;
            }
            if let Some(why) = &broken {
                // Not sent. A refusal would count as an attempt, and a lost link is nobody's fault.
                progress.set_all(messages, &piece, &Outcome::unknown(why.as_str()));
                continue;
            }
            let sent = tokio::select! {
                biased;
                sent = send(&link, messages, &piece) => sent,
                () = &mut limit => Err(Lost::Unanswered("the bus has not answered in time".into())),
            };
            match sent {
                Ok(outcomes) => {
                    for (index, outcome) in piece.into_iter().zip(outcomes) {
                        progress.set(messages, index, outcome);
                    }
                }
                Err(Lost::NotSent(why)) if is_first => return Err(Unavailable::new(why)),
                Err(Lost::NotSent(why)) => {
                    progress.set_all(messages, &piece, &Outcome::unknown(why.as_str()));
                    broken = Some(why);
                }
                Err(Lost::Unanswered(why)) => {
                    progress.set_all(messages, &piece, &Outcome::unknown(why.as_str()));
                    broken = Some(format!("not sent, because {why}"));
                }
            }
            is_first = false;
        }
        let unsaid = || Outcome::unknown("the bus said nothing of this message");
        Ok(progress.outcomes.into_iter().map(|one| one.unwrap_or_else(unsaid)).collect())
    }
}

impl<'a> Progress<'a> {
    /// The messages of the next request; what cannot be sent gets its outcome here.
    fn piece(&mut self, messages: &'a [Message], next: &mut usize) -> Vec<usize> {
        let limits = Limits::with_payload(PAYLOAD_BYTES_MOST);
        let (mut piece, mut bytes) = (Vec::new(), 0);
        while let Some(message) = messages.get(*next) {
            let size = message.size();
            if !piece.is_empty() && (piece.len() == MOST || bytes + size > MOST_BYTES) {
                break;
            }
            let index = *next;
            *next += 1;
            if line(message).is_some_and(|line| self.failed.contains(&line)) {
                let detail = "follows a message of its key that was not accepted";
                self.set(messages, index, Outcome::refused(detail));
            } else if let Err(invalid) = limits.check(message) {
                self.set(messages, index, Outcome::refused_for_good(invalid.to_string()));
            } else {
                bytes += size;
                piece.push(index);
            }
        }
        piece
    }

    fn set(&mut self, messages: &'a [Message], index: usize, outcome: Outcome) {
        if !matches!(outcome, Outcome::Accepted(_)) {
            self.failed.extend(messages.get(index).and_then(line));
        }
        if let Some(place) = self.outcomes.get_mut(index) {
            *place = Some(outcome);
        }
    }

    fn set_all(&mut self, messages: &'a [Message], indices: &[usize], outcome: &Outcome) {
        for index in indices {
            self.set(messages, *index, outcome.clone());
        }
    }
}

fn line(message: &Message) -> Option<(&str, &str)> {
    message.key.as_deref().map(|key| (message.topic.as_str(), key))
}

async fn send(link: &Link, messages: &[Message], piece: &[usize]) -> Result<Vec<Outcome>, Lost> {
    let chosen = piece.iter().filter_map(|index| messages.get(*index));
    let parcels = chosen.map(|message| Parcel::from(message.clone())).collect();
    match link.ask(Request::Publish { parcels }, None).await? {
        Reply::Published(words) => Ok(words.into_iter().map(outcome).collect()),
        Reply::Failed(failure) => Err(Lost::NotSent(failure.detail().to_owned())),
        other => {
            let detail = unexpected(&other);
            Ok(vec![Outcome::unknown(detail.detail()); piece.len()])
        }
    }
}

fn outcome(word: Word) -> Outcome {
    match word {
        Word::Accepted { sequence } => Outcome::Accepted(Receipt(Some(sequence.to_string()))),
        Word::Refused { permanent: true, detail } => Outcome::refused_for_good(detail),
        Word::Refused { permanent: false, detail } => Outcome::refused(detail),
        Word::Unknown { detail } => Outcome::unknown(detail),
    }
}
