//! The engine: one thread that owns the file and everything known in memory.
//!
//! It takes what has been asked since it last looked, applies all of it in one transaction,
//! commits once, and only then answers: many callers share one sync to the disk, and nothing is
//! said before it is true.

pub(crate) mod book;
pub(crate) mod call;
pub(crate) mod change;
mod dead;
mod echo;
mod group;
pub(crate) mod ledger;
mod publish;
mod requests;
mod wait;

use std::time::{Duration, Instant, SystemTime};

use posthaste_core::{Moment, Timestamp};
use tokio::sync::mpsc;

use self::book::{Book, Now, Place};
use self::call::Call;
use self::ledger::Terms;
use crate::error::{self, Failure};
use crate::options::BusOptions;
use crate::protocol::Reply;
use crate::store::Store;

/// Calls that are applied in one transaction, at most.
const CALLS: usize = 1024;
/// Bytes of published messages in one transaction, at most (one call may be larger).
const BYTES: usize = 8 * 1024 * 1024;
/// Bodies that are looked at for removal in one go: few enough to delay nobody for long, and with
/// [`CLEANING`] often enough to keep up with what can be published.
const BODIES: usize = 1024;
/// Time between two such goes.
const CLEANING: Duration = Duration::from_millis(20);
/// The first and the longest wait before a group that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The engine and all it holds.
#[derive(Debug)]
pub(crate) struct Engine {
    store: Store,
    book: Book,
    options: BusOptions,
    calls: mpsc::UnboundedReceiver<Call>,
    start: Instant,
    /// Number of the last lock that was given.
    serial: u64,
    /// Whether there is more to do at once, without being asked.
    is_behind: bool,
    /// After a group that failed: when what is due is tried again, and how long that waits.
    retry: Option<(Instant, Duration)>,
    /// Whether there may be bodies to remove.
    is_littered: bool,
    /// When bodies were last removed.
    cleaned: Instant,
    /// Of which address.
    cleaned_at: i64,
}

impl Engine {
    /// Takes over an open file.
    pub(crate) fn new(
        store: Store,
        options: BusOptions,
        calls: mpsc::UnboundedReceiver<Call>,
    ) -> Result<Self, Failure> {
        let start = Instant::now();
        let terms = Terms { lock: options.lock, max_deliveries: options.max_deliveries };
        let book = Book::read(&store, terms, now(start))
            .map_err(|error| error::in_store(store.path(), "could not read", &error))?;
        Ok(Self {
            store,
            book,
            options,
            calls,
            start,
            serial: 0,
            is_behind: false,
            retry: None,
            is_littered: true,
            cleaned: start,
            cleaned_at: 0,
        })
    }

    /// Serves until it is stopped, until nobody can ask any more, or until the file fails for
    /// good; then closes the file.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let served = self.serve_all();
        self.calls.close();
        while let Ok(call) = self.calls.try_recv() {
            if let Some(answer) = call.into_answer() {
                let detail = "the bus is closing and has not done this".to_owned();
                answer.give(Reply::Failed(Failure::Unavailable(detail)));
            }
        }
        served?;
        self.store
            .checkpoint()
            .map_err(|error| error::in_store(self.store.path(), "could not close", &error))
    }

    fn serve_all(&mut self) -> Result<(), Failure> {
        loop {
            let calls = match self.wait() {
                Waited::Calls(calls) => calls,
                Waited::Idle => {
                    self.clean();
                    continue;
                }
                Waited::Over => return Ok(()),
            };
            let is_last = calls.iter().any(|call| matches!(call, Call::Stop));
            self.apply(calls)?;
            if is_last {
                return Ok(());
            }
            if self.is_littered && self.cleaned.elapsed() >= CLEANING {
                self.clean();
            }
        }
    }

    /// What is due waits a little, so that a file that goes on failing is not asked all the time.
    fn try_again_later(&mut self) {
        let wait = self.retry.map_or(RETRY.0, |(_, before)| (before * 2).min(RETRY.1));
        self.retry = Some((Instant::now() + wait, wait));
    }

    fn now(&self) -> Now {
        now(self.start)
    }

    fn failure(&self, what: &str, error: &rusqlite::Error) -> Failure {
        error::in_store(self.store.path(), what, error)
    }

    /// Waits for something to do: a call, the end of a lock or of a wait, or bodies to remove.
    fn wait(&mut self) -> Waited {
        let due = self.book.desks.values().filter_map(|desk| desk.ledger.next_deadline()).min();
        let mut deadline = due.map(|due| self.start + due.elapsed());
        if self.is_behind {
            deadline = Some(Instant::now());
        }
        if let Some((at, _)) = self.retry {
            deadline = Some(at);
        }
        let quiet = self.is_littered.then(|| self.cleaned + CLEANING);
        let earlier = deadline.into_iter().chain(quiet).min();
        let first = match wait::receive(&mut self.calls, earlier) {
            wait::Received::Call(call) => call,
            wait::Received::Closed => return Waited::Over,
            wait::Received::Late if deadline.is_some_and(|due| due <= Instant::now()) => {
                return Waited::Calls(Vec::new());
            }
            wait::Received::Late => return Waited::Idle,
        };
        let mut bytes = group::bytes_of(&first);
        let mut calls = vec![first];
        while calls.len() < CALLS && bytes < BYTES {
            let Ok(call) = self.calls.try_recv() else { break };
            bytes += group::bytes_of(&call);
            calls.push(call);
        }
        Waited::Calls(calls)
    }

    /// Removes some bodies that every subscription is past. Failing at it loses nothing: it is
    /// tried again after the next change.
    fn clean(&mut self) {
        self.is_littered = false;
        self.cleaned = Instant::now();
        if let Err(error) = self.clean_some() {
            tracing::warn!(%error, "could not remove settled messages from the bus file");
            if let Err(error) = self.store.roll_back() {
                tracing::warn!(%error, "could not roll back");
            }
        }
    }

    /// Addresses take turns.
    fn clean_some(&mut self) -> rusqlite::Result<()> {
        let book = &mut self.book;
        let behind = |(id, place): (&i64, &Place)| {
            let marks = place.subscriptions.iter().filter_map(|one| book.desks.get(one));
            let low = marks.map(|desk| desk.written.0).min()?;
            (place.cleaned < low).then_some((*id, place.cleaned, low))
        };
        let later = book.places.range(self.cleaned_at + 1..);
        let next = later.chain(&book.places).find_map(behind);
        let Some((id, from, low)) = next else { return Ok(()) };
        self.store.begin()?;
        let end = self.store.remove_bodies(id, from, low, BODIES, BYTES)?;
        self.store.commit()?;
        if let Some(place) = book.places.get_mut(&id) {
            place.cleaned = end;
        }
        self.cleaned_at = id;
        self.is_littered = true;
        Ok(())
    }
}

enum Waited {
    Calls(Vec<Call>),
    Idle,
    Over,
}

fn now(start: Instant) -> Now {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now {
        moment: Moment::after_start(start.elapsed()),
        wall: Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)),
    }
}

#[cfg(all(test, unix))]
mod killed;
#[cfg(test)]
mod tests;
