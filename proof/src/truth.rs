//! What has happened, read from files and tables alone: the tables of the shop say what was
//! committed, the evidence what was promised and what arrived, the tables of Posthaste what was
//! given up on.

use std::collections::{BTreeMap, BTreeSet};

use posthaste::Event;
use posthaste::core::dead_letter::{DeadFilter, DeadLetter, Origin};
use posthaste_bus::{Bus, BusOptions, SubscriptionStatus};
use posthaste_history::event::{
    Act, Audit, ConsumerStarted, DeadLetter as Standing, Delivered, Effect, Rest, Row as Stored,
    Settlement, Sum, Transaction,
};
use posthaste_history::{Event as Seen, Floors, History, Line, Report, Verdict, check, moment};

use crate::Failure;
use crate::ground::Ground;
use crate::shop::{BOOKS, Order, Receipt, TILL};
use crate::world::World;

/// Most dead letters that are read.
const LETTERS: usize = 100_000;

/// A message of the outbox with what the shop says of it: id, topic, key, seq, number, digest,
/// transaction, and the moment before it was stated.
type Row =
    (String, String, Option<String>, i64, Option<i64>, Option<String>, Option<String>, Option<i64>);

const COMMITTED: &str = "select cast(o.id as text), cast(o.topic as text), cast(o.key as text), \
     o.seq, coalesce(s.number, e.number), coalesce(s.digest, e.receipt_digest), \
     coalesce(s.part_of, 'effect ' || e.number), s.stated \
     from posthaste_outbox o left join shop_order s on s.message = cast(o.id as text) \
     left join shop_effect e on e.receipt = cast(o.id as text) \
     where coalesce(s.number, e.number) is not null or not exists \
       (select 1 from posthaste_dead_letter d where d.seq = o.seq and d.reason = 'malformed') \
       and not exists (select 1 from posthaste_audit a where a.seq = o.seq \
       and a.died_of = 'malformed') order by o.seq";

/// Everything that is known of a world that has come to rest, and the judgement on it.
#[derive(Debug)]
pub struct Truth {
    /// The history with the arrivals at the consumers.
    pub history: History,
    /// Judged by what arrived and in what order.
    pub report: Report,
    /// Judged by what took effect and in what order.
    pub in_effect: Report,
    /// Dead letters of the database, relay and consumers.
    pub dead: Vec<DeadLetter>,
    /// How the subscriptions of the bus were left; nothing is known here of a server's queues.
    pub bus: Vec<SubscriptionStatus>,
    /// Messages whose commit was answered with success.
    pub acknowledged: usize,
    /// Tokens that settlements were carried out under, by lane and in the order of the settlements.
    pub tokens: BTreeMap<i64, Vec<i64>>,
    /// Messages that arrived after a later one of their own transaction and key.
    pub overtaken: Vec<String>,
    /// Arrivals of a message at a consumer that the broker itself does not call a repetition,
    /// after the first: it was sent more than once.
    pub copies: u64,
}

impl Truth {
    /// Whether the promise was kept.
    ///
    /// # Errors
    /// What was broken.
    pub fn kept(&self) -> Result<(), Failure> {
        for report in [&self.report, &self.in_effect] {
            if report.verdict != Verdict::Kept {
                return Err(told(report).into());
            }
        }
        if !self.overtaken.is_empty() {
            let some: Vec<_> = self.overtaken.iter().take(3).collect();
            return Err(format!("out of order within a transaction: {some:?}").into());
        }
        let left = |one: &&SubscriptionStatus| one.active + one.locked + one.dead > 0;
        match self.bus.iter().find(left) {
            Some(left) => Err(format!("the bus is not at rest: {left:?}").into()),
            None => Ok(()),
        }
    }

    /// The state changes that are there.
    pub fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.history.lines().iter().filter_map(|line| match &line.event {
            Seen::Transaction(transaction) => Some(transaction),
            _ => None,
        })
    }

    /// Whether enough happened for the verdict to mean something.
    ///
    /// # Errors
    /// What there was too little of.
    pub fn is_worth(&self, acknowledged: usize, duplicates: u64) -> Result<(), Failure> {
        let absorbed = self.report.counts.duplicates_absorbed;
        if self.acknowledged < acknowledged || absorbed < duplicates {
            return Err(format!(
                "invalid run: {} acknowledged (at least {acknowledged}), {absorbed} duplicates (at \
                 least {duplicates})",
                self.acknowledged
            )
            .into());
        }
        Ok(())
    }
}

/// A report for people.
pub fn told(report: &Report) -> String {
    let witnesses: Vec<String> =
        report.witnesses().map(|one| format!("{}: {one}", one.invariant)).collect();
    let counts = &report.counts;
    format!(
        "{}: {} committed, {} delivered, {} in effect, {} dead; lost {}, phantom {}, order {}, \
         double {}\n{}",
        report.verdict,
        counts.committed,
        counts.delivered,
        counts.effects,
        counts.dead_letters,
        counts.lost,
        counts.phantom,
        counts.order_violations,
        counts.double_effects,
        witnesses.join("\n")
    )
}

impl<D: Ground> World<D> {
    /// Reads and judges what has happened here. Nothing may run any more.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub async fn truth(&self) -> Result<Truth, Failure> {
        let mut history = self.evidence.history()?;
        let copies = copies(&history);
        for (consumer, topic) in [(TILL, Order::TOPIC), (BOOKS, Receipt::TOPIC)] {
            let (consumer, topics) = (consumer.to_owned(), vec![topic.to_owned()]);
            tell(&mut history, ConsumerStarted { consumer, topics, ..ConsumerStarted::default() });
        }
        self.read_commitments(&mut history).await?;
        self.read_effects(&mut history).await?;
        let dead = self.read_dead_letters(&mut history).await?;
        let tokens = self.read_tokens(&mut history).await?;
        tell(&mut history, Rest {});
        let report = check(&history, &Floors::default());
        let in_effect = check(&effects_as_arrivals(&history), &Floors::default());
        Ok(Truth {
            in_effect,
            dead,
            bus: self.read_bus().await?,
            acknowledged: usize::try_from(report.counts.acknowledged)?,
            tokens,
            overtaken: overtaken_within(&history),
            copies,
            report,
            history,
        })
    }

    async fn read_bus(&self) -> Result<Vec<SubscriptionStatus>, Failure> {
        if !self.broker_url.starts_with("bus:") {
            return Ok(Vec::new());
        }
        let bus = Bus::open(&self.broker_url, BusOptions::default())?;
        let subscriptions = bus.status().await?;
        bus.close().await;
        Ok(subscriptions)
    }

    async fn read_tokens(&self, history: &mut History) -> Result<BTreeMap<i64, Vec<i64>>, Failure> {
        let lane = if self.eye.has_one_writer() { "0" } else { "lane" };
        let question =
            format!("select cast({lane} as bigint), token from posthaste_batch order by number");
        let mut tokens: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (lane, token) in self.eye.rows(&question).await? {
            tokens.entry(lane).or_default().push(token);
            let settlement = Settlement {
                lane: lane.to_string(),
                token: u64::try_from(token)?,
                number: None,
                applied: true,
                database_time: None,
                checkpoint: None,
                verdicts: Vec::new(),
            };
            tell(history, settlement);
        }
        Ok(tokens)
    }

    /// The outbox and the shop, each of which says what the other must hold. Rows that were found
    /// to be no messages, and that the shop does not know either, are not asked for.
    async fn read_commitments(&self, history: &mut History) -> Result<(), Failure> {
        let transactions: Vec<(String, i64)> = self
            .eye
            .rows(
                "select id, messages from shop_transaction union all select \
                 'effect ' || number, cast(1 as bigint) from shop_effect where receipt is not null",
            )
            .await?;
        for (id, messages) in transactions {
            tell(history, Transaction { id, messages: u64::try_from(messages)? });
        }
        for row in self.eye.rows::<Row>(COMMITTED).await? {
            let (id, topic, key, seq, number, digest, transaction, stated) = row;
            // The shop's own numbers say the order; those of the outbox are not asked. Where
            // writers work side by side, only what was answered before another one was stated
            // has an order. Receipts of one customer follow one another on any database.
            let number = number.unwrap_or(seq);
            let (stated, committed) = match stated {
                Some(stated) if !self.eye.has_one_writer() => (stated, None),
                _ => (number, Some(u64::try_from(number)?)),
            };
            let digest = digest.map_or(Ok(0), |digest| u64::from_str_radix(&digest, 16))?;
            let transaction = Some(transaction.unwrap_or_else(|| "of nobody".to_owned()));
            let row = Stored {
                id,
                topic,
                key,
                digest,
                position: None,
                transaction,
                stated: Some(u64::try_from(stated)?),
                // Without it the moment counts at which the commit was answered.
                committed,
                due: None,
                request: None,
            };
            tell(history, row);
        }
        Ok(())
    }

    async fn read_effects(&self, history: &mut History) -> Result<(), Failure> {
        let effects: Vec<(String, String, String)> = self
            .eye
            .rows("select consumer, message, digest from shop_effect order by number")
            .await?;
        for (consumer, id, digest) in effects {
            let digest = u64::from_str_radix(&digest, 16)?;
            tell(history, Effect { consumer, id, digest });
        }
        let sums: Vec<(String, i64, i64)> = self
            .eye
            .rows(
                "select b.consumer, b.amount, cast(coalesce((select sum(e.amount) \
                 from shop_effect e where e.consumer = b.consumer), 0) as bigint) \
                 from shop_balance b",
            )
            .await?;
        for (consumer, says, effects) in sums {
            tell(history, Sum { consumer, effects, says });
        }
        Ok(())
    }

    /// Dead letters, and what operators have discarded of them: that was their recorded will.
    async fn read_dead_letters(&self, history: &mut History) -> Result<Vec<DeadLetter>, Failure> {
        let filter = DeadFilter { limit: LETTERS, ..DeadFilter::default() };
        let dead = self.database.list(&filter).await?;
        for letter in &dead {
            let consumer = match &letter.origin {
                Origin::Relay(_) => None,
                Origin::Consumer(name) | Origin::Broker(name) => Some(name.clone()),
            };
            tell(history, Standing { id: letter.id.clone(), consumer });
        }
        let discarded: Vec<(String, String, String)> = self
            .eye
            .rows(
                "select side, name, cast(id as text) from posthaste_audit \
                 where action = 'discard'",
            )
            .await?;
        for (side, name, id) in discarded {
            let consumer = (side == "consumer").then_some(name);
            let (act, new_id, before, after) = (Act::Discarded, None, None, None);
            tell(history, Audit { id, consumer, act, new_id, before, after });
        }
        Ok(dead)
    }
}

/// Adds what is there at the end.
fn tell(history: &mut History, event: impl Into<Seen>) {
    history.note(moment(), "truth", event);
}

/// How often something arrived once more that the broker did not call a repetition.
fn copies(history: &History) -> u64 {
    let mut first = BTreeSet::new();
    let mut copies = 0;
    for delivered in deliveries(history) {
        let is_new = first.insert((&delivered.consumer, &delivered.id));
        copies += u64::from(!is_new && delivered.attempt.is_none_or(|attempt| attempt <= 1));
    }
    copies
}

fn deliveries(history: &History) -> impl Iterator<Item = &Delivered> {
    history.lines().iter().filter_map(|line| match &line.event {
        Seen::Delivered(delivered) => Some(delivered),
        _ => None,
    })
}

/// The same history with what took effect in place of what arrived, so that the order of effects
/// is judged by the same rule.
fn effects_as_arrivals(history: &History) -> History {
    let lines = history.lines().iter().filter(|line| !matches!(line.event, Seen::Delivered(_)));
    let with_arrival = |line: &Line| {
        let arrival = match &line.event {
            Seen::Effect(effect) => Some(Delivered {
                consumer: effect.consumer.clone(),
                id: effect.id.clone(),
                digest: effect.digest,
                attempt: None,
                database_time: None,
            }),
            _ => None,
        };
        let arrival = arrival.map(|arrival| Line::new(line.at, line.node.as_str(), arrival));
        arrival.into_iter().chain([line.clone()]).collect::<Vec<_>>()
    };
    lines.flat_map(with_arrival).collect()
}

/// Messages that arrived for the first time after a later one of their own transaction and key.
/// Times say nothing of these: they were committed at once. Rows of a transaction stand in the
/// history in the order in which they were stated.
fn overtaken_within(history: &History) -> Vec<String> {
    let rows = history.lines().iter().filter_map(|line| match &line.event {
        Seen::Row(row) => Some(row),
        _ => None,
    });
    let places: BTreeMap<&str, (usize, &Stored)> =
        rows.enumerate().map(|(at, row)| (row.id.as_str(), (at, row))).collect();
    let mut seen = BTreeSet::new();
    let mut latest = BTreeMap::new();
    let mut overtaken = Vec::new();
    for delivered in deliveries(history) {
        let Some((at, message)) = places.get(delivered.id.as_str()) else { continue };
        let (Some(key), Some(transaction)) = (&message.key, &message.transaction) else { continue };
        if !seen.insert((delivered.consumer.as_str(), message.id.as_str())) {
            continue;
        }
        let line = (delivered.consumer.as_str(), &message.topic, transaction, key);
        let latest = latest.entry(line).or_insert(*at);
        if *at < *latest {
            overtaken.push(message.id.clone());
        }
        *latest = (*latest).max(*at);
    }
    overtaken
}
