//! A history by kind and by message: what all checks look at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use crate::event::{
    Act, Answered, Audit, Buried, Commit, CommitAnswer, Confirmed, ConsumerStarted, DeadLetter,
    Delivered, Effect, Event, Fault, Format, Handling, Lease, Leftover, Line, LogHeld, Outcome,
    Pending, Pruned, Publishing, Read, RelayStarted, Replay, Request, Response, Rest, Row,
    Settlement, Stating, Stopped, Stopping, Sum, Transaction,
};
use crate::history::History;

/// An event of one kind with its line and its place in the history.
#[derive(Debug)]
pub(crate) struct Seen<'h, T> {
    pub(crate) place: usize,
    pub(crate) line: &'h Line,
    pub(crate) event: &'h T,
}

impl<T> Clone for Seen<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Seen<'_, T> {}

impl<'h, T> Deref for Seen<'h, T> {
    type Target = &'h T;

    fn deref(&self) -> &Self::Target {
        &self.event
    }
}

/// Makes the lists, one for each kind.
macro_rules! kinds {
    ($($list:ident: $kind:ident,)*) => {
        /// The events of each kind, in order.
        #[derive(Default)]
        pub(crate) struct Kinds<'h> {
            $(pub(crate) $list: Vec<Seen<'h, $kind>>,)*
        }

        impl<'h> Kinds<'h> {
            fn of(history: &'h History) -> Self {
                let mut kinds = Self::default();
                for (place, line) in history.lines().iter().enumerate() {
                    match &line.event {
                        $(Event::$kind(event) => kinds.$list.push(Seen { place, line, event }),)*
                        Event::Unknown => {}
                    }
                }
                kinds
            }
        }
    };
}

kinds! {
    formats: Format,
    relays: RelayStarted,
    consumers: ConsumerStarted,
    stating: Stating,
    commits: Commit,
    leases: Lease,
    reads: Read,
    publishing: Publishing,
    outcomes: Outcome,
    settlements: Settlement,
    confirmed: Confirmed,
    pruned: Pruned,
    log_held: LogHeld,
    deliveries: Delivered,
    handling: Handling,
    effects: Effect,
    answers: Answered,
    buried: Buried,
    audits: Audit,
    requests: Request,
    responses: Response,
    replays: Replay,
    stopping: Stopping,
    stopped: Stopped,
    faults: Fault,
    transactions: Transaction,
    rows: Row,
    sums: Sum,
    dead_letters: DeadLetter,
    pending: Pending,
    leftovers: Leftover,
    rests: Rest,
}

/// What is known of a message.
#[derive(Clone, Debug)]
pub(crate) struct Message<'h> {
    pub(crate) id: &'h str,
    pub(crate) topic: &'h str,
    pub(crate) key: Option<&'h str>,
    pub(crate) digest: u64,
    pub(crate) due: Option<u64>,
    /// Where it is found among the rows.
    pub(crate) row: Option<Seen<'h, Row>>,
    /// When stating it began; any clock.
    pub(crate) stated: Option<u64>,
    /// When its commit had returned, on the same clock.
    pub(crate) committed: Option<u64>,
    /// When it was committed, as the writer noted.
    pub(crate) acknowledged: Option<&'h Line>,
    /// The writer's note before it stated it.
    pub(crate) stating: Option<&'h Line>,
}

impl Message<'_> {
    /// Whether it was committed: a row is there, or was promised.
    pub(crate) fn is_committed(&self) -> bool {
        self.row.is_some() || self.acknowledged.is_some()
    }

    /// Whether it has to come before the other one: it was committed when that was stated.
    pub(crate) fn precedes(&self, other: &Message<'_>) -> bool {
        match (self.committed, other.stated) {
            (Some(committed), Some(stated)) => committed < stated,
            _ => false,
        }
    }
}

/// A message at a consumer.
pub(crate) type At<'h> = (&'h str, &'h str);
/// A message given up by a consumer, or before it was sent.
pub(crate) type By<'h> = (Option<&'h str>, &'h str);

/// The history as the checks see it.
pub(crate) struct Index<'h> {
    /// All events, in order.
    pub(crate) lines: &'h [Line],
    pub(crate) kinds: Kinds<'h>,
    pub(crate) format: Format,
    /// Whether all that is there at the end has been told.
    pub(crate) is_at_rest: bool,
    /// Every message that was stated or is there, by id.
    pub(crate) messages: BTreeMap<&'h str, Message<'h>>,
    pub(crate) rolled_back: BTreeMap<&'h str, &'h Line>,
    /// Who receives a topic.
    pub(crate) audience: BTreeMap<&'h str, BTreeSet<&'h str>>,
    pub(crate) arrivals: BTreeMap<At<'h>, Vec<Seen<'h, Delivered>>>,
    pub(crate) effects: BTreeMap<At<'h>, Vec<Seen<'h, Effect>>>,
    pub(crate) answers: BTreeMap<At<'h>, Vec<Seen<'h, Answered>>>,
    pub(crate) burials: BTreeMap<By<'h>, Vec<Seen<'h, Buried>>>,
    pub(crate) standing: BTreeMap<By<'h>, Seen<'h, DeadLetter>>,
    pub(crate) audits: BTreeMap<By<'h>, Vec<Seen<'h, Audit>>>,
    /// Under which id a message was reposted, with the record of it.
    pub(crate) reposted_as: BTreeMap<&'h str, Seen<'h, Audit>>,
}

impl<'h> Index<'h> {
    pub(crate) fn of(history: &'h History) -> Self {
        let kinds = Kinds::of(history);
        let mut format = Format::default();
        for one in &kinds.formats {
            format.faults_known |= one.faults_known;
            format.log_order |= one.log_order;
            format.fenced |= one.fenced;
        }
        let mut index = Self {
            lines: history.lines(),
            format,
            is_at_rest: !kinds.rests.is_empty(),
            messages: BTreeMap::new(),
            rolled_back: BTreeMap::new(),
            audience: audience(&kinds),
            arrivals: grouped(&kinds.deliveries, |one| (&*one.consumer, &*one.id)),
            effects: grouped(&kinds.effects, |one| (&*one.consumer, &*one.id)),
            answers: grouped(&kinds.answers, |one| (&*one.consumer, &*one.id)),
            burials: grouped(&kinds.buried, |one| (one.consumer.as_deref(), &*one.id)),
            audits: grouped(&kinds.audits, |one| (one.consumer.as_deref(), &*one.id)),
            standing: BTreeMap::new(),
            reposted_as: BTreeMap::new(),
            kinds,
        };
        for letter in &index.kinds.dead_letters {
            index.standing.insert((letter.consumer.as_deref(), &letter.id), *letter);
        }
        for audit in &index.kinds.audits {
            index.reposted_as.extend(audit.new_id.as_deref().map(|id| (id, *audit)));
        }
        index.take_messages();
        index
    }

    fn take_messages(&mut self) {
        for stating in &self.kinds.stating {
            for stated in &stating.messages {
                let message = Message {
                    id: &stated.id,
                    topic: &stated.topic,
                    key: stated.key.as_deref(),
                    digest: stated.digest,
                    due: stated.due,
                    row: None,
                    stated: Some(stating.line.at),
                    committed: None,
                    acknowledged: None,
                    stating: Some(stating.line),
                };
                self.messages.insert(&stated.id, message);
            }
        }
        for row in &self.kinds.rows {
            let message = self.messages.entry(&row.id).or_insert_with(|| bare(&row.id));
            if message.row.is_some() {
                continue;
            }
            (message.topic, message.key) = (&row.topic, row.key.as_deref());
            (message.digest, message.due) = (row.digest, row.due.or(message.due));
            message.stated = row.stated.or(message.stated);
            message.committed = row.committed;
            message.row = Some(*row);
        }
        for commit in &self.kinds.commits {
            for id in &commit.ids {
                match commit.answer {
                    CommitAnswer::Committed => {
                        let message = self.messages.entry(id).or_insert_with(|| bare(id));
                        message.acknowledged = Some(commit.line);
                        message.committed = message.committed.or(Some(commit.line.at));
                    }
                    CommitAnswer::RolledBack => {
                        self.rolled_back.insert(id, commit.line);
                    }
                    CommitAnswer::Unknown => {}
                }
            }
        }
    }

    /// A message that was committed.
    pub(crate) fn committed(&self, id: &str) -> Option<&Message<'h>> {
        self.messages.get(id).filter(|message| message.is_committed())
    }

    /// Who is to receive a message.
    pub(crate) fn audience(&self, message: &Message<'_>) -> impl Iterator<Item = &'h str> + '_ {
        self.audience.get(message.topic).into_iter().flatten().copied()
    }

    pub(crate) fn is_for(&self, message: &Message<'_>, consumer: &str) -> bool {
        self.audience.get(message.topic).is_some_and(|names| names.contains(consumer))
    }

    /// Whether a message was ever given up there, or before it was sent, or taken back or away by
    /// an operator.
    pub(crate) fn is_given_up(&self, consumer: Option<&'h str>, id: &'h str) -> bool {
        [None, consumer].into_iter().any(|by| {
            let by = (by, id);
            let removed = |act| matches!(act, Act::Discarded | Act::Cancelled);
            self.burials.contains_key(&by)
                || self.standing.contains_key(&by)
                || self.audits.get(&by).is_some_and(|all| all.iter().any(|one| removed(one.act)))
        })
    }

    /// Whether a message left its place in the line of its key: given up, put off, or touched by
    /// an operator.
    pub(crate) fn is_out_of_line(&self, consumer: &'h str, message: &Message<'h>) -> bool {
        message.due.is_some()
            || self.is_given_up(Some(consumer), message.id)
            || [None, Some(consumer)].iter().any(|by| self.audits.contains_key(&(*by, message.id)))
    }

    /// The faults of which some part lies in this time.
    pub(crate) fn faults_within(&self, from: u64, to: u64) -> impl Iterator<Item = &Fault> {
        let faults = self.kinds.faults.iter().map(|fault| fault.event);
        faults.filter(move |fault| fault.from <= to && fault.until >= from)
    }
}

/// Times, each with its two ends, to be counted in `O(log n)`.
#[derive(Default)]
pub(crate) struct Spans {
    starts: Vec<u64>,
    ends: Vec<u64>,
}

impl Spans {
    pub(crate) fn of(spans: impl Iterator<Item = (u64, u64)>) -> Self {
        let (mut starts, mut ends): (Vec<u64>, Vec<u64>) = spans.unzip();
        starts.sort_unstable();
        ends.sort_unstable();
        Self { starts, ends }
    }

    /// How many have some part in this time.
    pub(crate) fn within(&self, from: u64, to: u64) -> u64 {
        let begun = self.starts.partition_point(|start| *start <= to);
        let over = self.ends.partition_point(|end| *end < from);
        begun.saturating_sub(over) as u64
    }
}

fn bare(id: &str) -> Message<'_> {
    Message {
        id,
        topic: "",
        key: None,
        digest: 0,
        due: None,
        row: None,
        stated: None,
        committed: None,
        acknowledged: None,
        stating: None,
    }
}

fn audience<'h>(kinds: &Kinds<'h>) -> BTreeMap<&'h str, BTreeSet<&'h str>> {
    let mut audience: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for consumer in &kinds.consumers {
        for topic in &consumer.topics {
            audience.entry(topic).or_default().insert(&consumer.consumer);
        }
    }
    audience
}

/// The events of one kind under what they are about, in order.
pub(crate) fn grouped<'h, T, K: Ord>(
    events: &[Seen<'h, T>],
    key: impl Fn(&'h T) -> K,
) -> BTreeMap<K, Vec<Seen<'h, T>>> {
    let mut groups: BTreeMap<K, Vec<Seen<'h, T>>> = BTreeMap::new();
    for seen in events {
        groups.entry(key(seen.event)).or_default().push(*seen);
    }
    groups
}
