//! What has happened, read from files and tables alone: the tables of the shop say what was
//! committed, the evidence what was promised and what arrived, the tables of Posthaste what was
//! given up on.

use std::collections::{BTreeMap, BTreeSet};

use posthaste::Event;
use posthaste::core::dead_letter::{DeadFilter, DeadLetter, Origin};
use posthaste_bus::{Bus, BusOptions, SubscriptionStatus};
use posthaste_history as history;
use posthaste_history::{
    Committed, Delivered, Effect, History, Report, Tally, Transaction, Verdict, check,
};

use crate::Failure;
use crate::evidence::Sight;
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
        if let Some(unsorted) = self.tokens.iter().find(|(_, tokens)| !tokens.is_sorted()) {
            return Err(format!("an old lease has settled: {unsorted:?}").into());
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

    /// Whether enough happened for the verdict to mean something.
    ///
    /// # Errors
    /// What there was too little of.
    pub fn is_worth(&self, acknowledged: usize, duplicates: u64) -> Result<(), Failure> {
        let absorbed = self.report.duplicates_absorbed;
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
    let witnesses: Vec<String> = report.witnesses.iter().map(ToString::to_string).collect();
    let Report { committed, delivered, effects, dead_letters, .. } = report;
    format!(
        "{}: {committed} committed, {delivered} delivered, {effects} in effect, {dead_letters} \
         dead; lost {}, phantom {}, order {}, double {}\n{}",
        report.verdict,
        report.lost,
        report.phantom,
        report.order_violations,
        report.double_effects,
        witnesses.join("\n")
    )
}

impl<D: Ground> World<D> {
    /// Reads and judges what has happened here. Nothing may run any more.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub async fn truth(&self) -> Result<Truth, Failure> {
        let mut history = History {
            consumers: vec![audience(TILL, Order::TOPIC), audience(BOOKS, Receipt::TOPIC)],
            ..History::default()
        };
        self.read_commitments(&mut history).await?;
        self.read_effects(&mut history).await?;
        let copies = self.read_evidence(&mut history)?;
        let dead = self.read_dead_letters(&mut history).await?;
        let in_effect = check(&effects_as_arrivals(&history));
        Ok(Truth {
            report: check(&history),
            in_effect,
            dead,
            bus: self.read_bus().await?,
            acknowledged: history.acknowledged.len(),
            tokens: self.read_tokens().await?,
            overtaken: overtaken_within(&history),
            copies,
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

    async fn read_tokens(&self) -> Result<BTreeMap<i64, Vec<i64>>, Failure> {
        let lane = if self.eye.has_one_writer() { "0" } else { "lane" };
        let question =
            format!("select cast({lane} as bigint), token from posthaste_batch order by number");
        let mut tokens: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (lane, token) in self.eye.rows(&question).await? {
            tokens.entry(lane).or_default().push(token);
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
            history.transactions.push(Transaction { id, messages: u64::try_from(messages)? });
        }
        let acknowledged = self.acknowledgements()?;
        for row in self.eye.rows::<Row>(COMMITTED).await? {
            let (id, topic, key, seq, number, digest, transaction, stated) = row;
            // The shop's own numbers say the order; those of the outbox are not asked. Where
            // writers work side by side, only what was answered before another one was stated
            // has an order. Receipts of one customer follow one another on any database.
            let number = number.unwrap_or(seq);
            let (stated, committed) = match stated {
                Some(stated) if !self.eye.has_one_writer() => {
                    (stated, acknowledged.get(&id).copied().unwrap_or(i64::MAX))
                }
                _ => (number, number),
            };
            let digest = digest.map_or(Ok(0), |digest| u64::from_str_radix(&digest, 16))?;
            let transaction = Some(transaction.unwrap_or_else(|| "of nobody".to_owned()));
            let (stated, committed) = (u64::try_from(stated)?, u64::try_from(committed)?);
            history.committed.push(Committed {
                id,
                topic,
                key,
                stated,
                committed,
                digest,
                transaction,
            });
        }
        Ok(())
    }

    /// When each commit was answered.
    fn acknowledgements(&self) -> Result<BTreeMap<String, i64>, Failure> {
        let mut answered = BTreeMap::new();
        for line in self.evidence.lines()? {
            if let Sight::Acknowledged { ids } = line.sight {
                answered.extend(ids.into_iter().map(|id| (id, line.at)));
            }
        }
        Ok(answered)
    }

    async fn read_effects(&self, history: &mut History) -> Result<(), Failure> {
        let effects: Vec<(String, String, String)> = self
            .eye
            .rows("select consumer, message, digest from shop_effect order by number")
            .await?;
        for (consumer, id, digest) in effects {
            let digest = u64::from_str_radix(&digest, 16)?;
            history.effects.push(Effect { consumer, id, digest });
        }
        let sums: Vec<(String, i64, i64)> = self
            .eye
            .rows(
                "select b.consumer, b.amount, cast(coalesce((select sum(e.amount) \
                 from shop_effect e where e.consumer = b.consumer), 0) as bigint) \
                 from shop_balance b",
            )
            .await?;
        let tally = |(consumer, says, effects)| Tally { consumer, effects, says };
        history.tallies.extend(sums.into_iter().map(tally));
        Ok(())
    }

    /// Returns how often something arrived once more that the broker did not call a repetition.
    fn read_evidence(&self, history: &mut History) -> Result<u64, Failure> {
        let mut first = BTreeSet::new();
        let mut copies = 0;
        for line in self.evidence.lines()? {
            match line.sight {
                Sight::Acknowledged { ids } => history.acknowledged.extend(ids),
                Sight::RolledBack { ids } => history.rolled_back.extend(ids),
                Sight::Delivered { consumer, id, digest, attempt } => {
                    if !first.insert((consumer.clone(), id.clone())) && attempt <= 1 {
                        copies += 1;
                    }
                    history.deliveries.push(Delivered { consumer, id, digest });
                }
                Sight::Attempted { .. } => {}
            }
        }
        Ok(copies)
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
            history.dead_letters.push(history::DeadLetter { id: letter.id.clone(), consumer });
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
            history.dead_letters.push(history::DeadLetter { id, consumer });
        }
        Ok(dead)
    }
}

fn audience(name: &str, topic: &str) -> history::Consumer {
    history::Consumer { name: name.to_owned(), topics: vec![topic.to_owned()] }
}

/// The same history with what took effect in place of what arrived, so that the order of effects
/// is judged by the same rule.
fn effects_as_arrivals(history: &History) -> History {
    let arrival = |effect: &Effect| Delivered {
        consumer: effect.consumer.clone(),
        id: effect.id.clone(),
        digest: effect.digest,
    };
    History { deliveries: history.effects.iter().map(arrival).collect(), ..history.clone() }
}

/// Messages that arrived for the first time after a later one of their own transaction and key.
/// Times say nothing of these: they were committed at once. Those of a transaction stand in the
/// history in the order in which they were stated.
fn overtaken_within(history: &History) -> Vec<String> {
    let places: BTreeMap<&str, (usize, &Committed)> = history
        .committed
        .iter()
        .enumerate()
        .map(|(at, one)| (one.id.as_str(), (at, one)))
        .collect();
    let mut seen = BTreeSet::new();
    let mut latest = BTreeMap::new();
    let mut overtaken = Vec::new();
    for delivered in &history.deliveries {
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
