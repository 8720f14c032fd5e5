//! What the engine knows in memory: addresses, subscriptions with their ledgers, and consumers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use posthaste_core::{Moment, Timestamp};

use super::call::Sink;
use super::ledger::{Carried, Consumer, Found, Ledger, Terms};
use crate::store::{AddressRow, PageRow, Store, SubscriptionRow};

/// Messages that are looked at in one go.
const PAGE: usize = 512;
/// Pages that are read for one subscription before others get their turn.
const PAGES: usize = 16;
/// Ready messages above which no more are read.
const WINDOW: usize = 1024;
/// Most messages of one subscription that are known at once, at some tens of bytes each.
const KNOWN: usize = 1_000_000;

/// One time, on the clock that only goes forward and on the calendar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) moment: Moment,
    pub(crate) wall: Timestamp,
}

/// A topic or queue.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) is_queue: bool,
    /// The last message that was published to it.
    pub(crate) last: i64,
    pub(crate) subscriptions: Vec<i64>,
    /// How far bodies were looked at for removal.
    pub(crate) cleaned: i64,
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) address: i64,
    pub(crate) name: String,
    pub(crate) is_ordered: Option<bool>,
    pub(crate) ledger: Ledger,
    /// The watermarks as they are in the file.
    pub(crate) written: (i64, i64),
    /// Rows that the watermark will pass.
    pub(crate) rows: Option<(i64, i64)>,
}

/// A consumer.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) subscription: i64,
    pub(crate) sink: Sink,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Book {
    terms: Terms,
    pub(crate) names: HashMap<String, i64>,
    pub(crate) places: BTreeMap<i64, Place>,
    pub(crate) desks: BTreeMap<i64, Desk>,
    pub(crate) consumers: HashMap<Consumer, Attachment>,
}

impl Book {
    /// Reads what the file says.
    pub(crate) fn read(store: &Store, terms: Terms, now: Now) -> rusqlite::Result<Self> {
        Self::read_with(store, terms, now, HashMap::new())
    }

    /// The same with locks that still hold.
    fn read_with(
        store: &Store,
        terms: Terms,
        now: Now,
        mut carried: HashMap<i64, Vec<Carried>>,
    ) -> rusqlite::Result<Self> {
        let mut book = Self {
            terms,
            names: HashMap::new(),
            places: BTreeMap::new(),
            desks: BTreeMap::new(),
            consumers: HashMap::new(),
        };
        for row in store.addresses()? {
            book.add_place(row);
        }
        for row in store.subscriptions()? {
            let aside = store.aside(row.id)?;
            let id = row.id;
            book.add_desk(row);
            if let Some(desk) = book.desks.get_mut(&id) {
                // Who has a lock is the first of its key, so that these come first.
                for one in carried.remove(&id).unwrap_or_default() {
                    desk.ledger.carry(one);
                }
                for row in aside {
                    desk.ledger.admit(found(row, now, true));
                }
            }
        }
        Ok(book)
    }

    /// Reads the file again after a failure: locks up to number `mark`, which were there before
    /// the group that failed, consumers and what they ask for stay.
    pub(crate) fn read_again(
        &mut self,
        store: &Store,
        now: Now,
        mark: u64,
    ) -> rusqlite::Result<()> {
        let held = self.desks.iter().map(|(id, desk)| (*id, desk.ledger.held_before(mark)));
        let mut book = Self::read_with(store, self.terms, now, held.collect())?;
        for (id, desk) in &mut book.desks {
            let Some(before) = self.desks.get(id) else { continue };
            for (consumer, most) in before.ledger.demands() {
                desk.ledger.demand(consumer, most);
            }
        }
        book.consumers = std::mem::take(&mut self.consumers);
        book.consumers.retain(|_, attachment| book.desks.contains_key(&attachment.subscription));
        *self = book;
        Ok(())
    }

    /// Forgets addresses and subscriptions that are not in the file after all.
    pub(crate) fn forget(&mut self, addresses: &[AddressRow], subscriptions: &[i64]) {
        self.places.retain(|id, _| addresses.iter().any(|row| row.id == *id));
        self.names.retain(|_, id| self.places.contains_key(id));
        self.desks.retain(|id, _| subscriptions.contains(id));
        for place in self.places.values_mut() {
            place.subscriptions.retain(|id| subscriptions.contains(id));
        }
    }

    /// The subscription of this name; a queue has one, whatever the name.
    pub(crate) fn subscription(&self, address: &str, name: &str) -> Option<i64> {
        let place = self.places.get(self.names.get(address)?)?;
        let name = if place.is_queue { "" } else { name };
        let mut there = place.subscriptions.iter().copied();
        there.find(|id| self.desks.get(id).is_some_and(|desk| desk.name == name))
    }

    pub(crate) fn add_place(&mut self, row: AddressRow) {
        let AddressRow { id, name, is_queue, last } = row;
        self.names.insert(name.clone(), id);
        let place = Place { name, is_queue, last, subscriptions: Vec::new(), cleaned: 0 };
        self.places.insert(id, place);
    }

    pub(crate) fn add_desk(&mut self, row: SubscriptionRow) {
        let SubscriptionRow { id, address, name, is_ordered, low, delivered_to, rows } = row;
        let ledger = Ledger::new(self.terms, is_ordered.unwrap_or(true), low, delivered_to);
        let written = (low, delivered_to);
        self.desks.insert(id, Desk { address, name, is_ordered, ledger, written, rows });
        if let Some(place) = self.places.get_mut(&address) {
            place.subscriptions.push(id);
        }
    }

    /// The name of a subscription for people: `ADDRESS/NAME`, or the queue.
    pub(crate) fn path(&self, subscription: i64) -> String {
        let Some(desk) = self.desks.get(&subscription) else { return String::new() };
        let address = self.places.get(&desk.address).map_or("", |place| place.name.as_str());
        if desk.name.is_empty() { address.to_owned() } else { format!("{address}/{}", desk.name) }
    }

    /// A message was published to an address: subscriptions that have read all before it and have
    /// room take it in; the others find it in the file later.
    pub(crate) fn published(&mut self, address: i64, sequence: i64, key: Option<&str>) {
        let Some(place) = self.places.get_mut(&address) else { return };
        let before = std::mem::replace(&mut place.last, sequence);
        let mut shared: Option<Arc<str>> = None;
        for subscription in &place.subscriptions {
            let Some(desk) = self.desks.get_mut(subscription) else { continue };
            let ledger = &mut desk.ledger;
            if ledger.read_to() < before || !ledger.is_hungry(WINDOW, KNOWN) {
                continue;
            }
            let key = key.map(|key| Arc::clone(shared.get_or_insert_with(|| key.into())));
            let found = Found { sequence, key, deliveries: None, due: None, aside: false };
            ledger.load([found], sequence);
        }
    }

    /// Reads more of the file for a subscription that is asked for it; true if there is still more
    /// to read at once.
    pub(crate) fn feed(
        &mut self,
        subscription: i64,
        store: &Store,
        now: Now,
    ) -> rusqlite::Result<bool> {
        let Some(desk) = self.desks.get_mut(&subscription) else { return Ok(false) };
        let last = self.places.get(&desk.address).map_or(0, |place| place.last);
        for _ in 0..PAGES {
            let from = desk.ledger.read_to();
            if from >= last || !desk.ledger.is_hungry(WINDOW, KNOWN) {
                return Ok(false);
            }
            let page = store.page(subscription, desk.address, from, PAGE)?;
            let read_to =
                if page.len() < PAGE { last } else { page.last().map_or(last, |row| row.sequence) };
            let open = page.into_iter().filter(|row| match &row.exception {
                None => true,
                Some((state, ..)) => state == "retry",
            });
            desk.ledger.load(open.map(|row| found(row, now, false)), read_to);
        }
        Ok(desk.ledger.is_hungry(WINDOW, KNOWN) && desk.ledger.read_to() < last)
    }
}

/// What a row says of a message that is not settled.
pub(crate) fn found(row: PageRow, now: Now, aside: bool) -> Found {
    let due = row
        .exception
        .as_ref()
        .and_then(|(_, _, due)| *due)
        .map(|due| now.moment.plus(Timestamp::from_millis(due).since(now.wall)));
    Found {
        sequence: row.sequence,
        key: row.key.map(Arc::from),
        deliveries: row.exception.map(|(_, deliveries, _)| deliveries),
        due,
        aside,
    }
}
