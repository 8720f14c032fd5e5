//! What has happened, read from the files alone: the tables of the shop say what was committed,
//! the evidence what was promised and what arrived, the tables of Posthaste what was given up on.

use posthaste::Event;
use posthaste::core::dead_letter::{DeadFilter, DeadLetter, DeadLetters, Origin};
use posthaste_bus::{Bus, BusOptions, SubscriptionStatus};
use posthaste_history as history;
use posthaste_history::{
    Committed, Delivered, Effect, History, Report, Tally, Transaction, Verdict, check,
};

use crate::Failure;
use crate::evidence::Sight;
use crate::shop::{BOOKS, Order, Receipt, TILL};
use crate::world::{self, World};

/// Most dead letters that are read.
const LETTERS: usize = 100_000;

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
    /// How the subscriptions of the bus were left.
    pub bus: Vec<SubscriptionStatus>,
    /// Messages whose commit was answered with success.
    pub acknowledged: usize,
    /// Tokens that settlements were carried out under, in the order of the settlements.
    pub tokens: Vec<i64>,
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
        if !self.tokens.is_sorted() {
            return Err(format!("an old lease has settled: {:?}", self.tokens).into());
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

impl World {
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
        self.read_evidence(&mut history)?;
        let dead = self.read_dead_letters(&mut history).await?;
        let bus = Bus::open(&world::bus_url(self.path()), BusOptions::default())?;
        let subscriptions = bus.status().await?;
        bus.close().await;
        let tokens = sqlx::query_scalar("select token from posthaste_batch order by number")
            .fetch_all(self.database.pool())
            .await?;
        let in_effect = check(&effects_as_arrivals(&history));
        Ok(Truth {
            report: check(&history),
            in_effect,
            dead,
            bus: subscriptions,
            acknowledged: history.acknowledged.len(),
            tokens,
            history,
        })
    }

    /// The outbox and the shop, each of which says what the other must hold. Rows that were found
    /// to be no messages, and that the shop does not know either, are not asked for.
    async fn read_commitments(&self, history: &mut History) -> Result<(), Failure> {
        let pool = self.database.pool();
        let transactions: Vec<(String, i64)> = sqlx::query_as(
            "select id, messages from shop_transaction union all \
             select 'effect ' || number, 1 from shop_effect where receipt is not null",
        )
        .fetch_all(pool)
        .await?;
        for (id, messages) in transactions {
            history.transactions.push(Transaction { id, messages: u64::try_from(messages)? });
        }
        type Row =
            (String, String, Option<String>, i64, Option<i64>, Option<String>, Option<String>);
        let rows: Vec<Row> = sqlx::query_as(
            "select o.id, cast(o.topic as text), cast(o.key as text), o.seq, \
               coalesce(s.number, e.number), coalesce(s.digest, e.receipt_digest), \
               coalesce(s.part_of, 'effect ' || e.number) \
             from posthaste_outbox o left join shop_order s on s.message = o.id \
             left join shop_effect e on e.receipt = o.id \
             where coalesce(s.number, e.number) is not null or not exists \
               (select 1 from posthaste_dead_letter d where d.seq = o.seq and d.reason = 'malformed') \
               and not exists (select 1 from posthaste_audit a where a.seq = o.seq \
               and a.died_of = 'malformed') order by o.seq",
        )
        .fetch_all(pool)
        .await?;
        for (id, topic, key, seq, number, digest, transaction) in rows {
            // The shop's own numbers say the order; those of the outbox are not asked.
            let at = u64::try_from(number.unwrap_or(seq))?;
            let digest = digest.map_or(Ok(0), |digest| u64::from_str_radix(&digest, 16))?;
            let transaction = Some(transaction.unwrap_or_else(|| "of nobody".to_owned()));
            history.committed.push(Committed {
                id,
                topic,
                key,
                stated: at,
                committed: at,
                digest,
                transaction,
            });
        }
        Ok(())
    }

    async fn read_effects(&self, history: &mut History) -> Result<(), Failure> {
        let pool = self.database.pool();
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("select consumer, message, digest from shop_effect order by number")
                .fetch_all(pool)
                .await?;
        for (consumer, id, digest) in rows {
            let digest = u64::from_str_radix(&digest, 16)?;
            history.effects.push(Effect { consumer, id, digest });
        }
        let sums: Vec<(String, i64, i64)> = sqlx::query_as(
            "select b.consumer, b.amount, coalesce((select sum(e.amount) from shop_effect e \
             where e.consumer = b.consumer), 0) from shop_balance b",
        )
        .fetch_all(pool)
        .await?;
        let tally = |(consumer, says, effects)| Tally { consumer, effects, says };
        history.tallies.extend(sums.into_iter().map(tally));
        Ok(())
    }

    fn read_evidence(&self, history: &mut History) -> Result<(), Failure> {
        for line in self.evidence.lines()? {
            match line.sight {
                Sight::Acknowledged { ids } => history.acknowledged.extend(ids),
                Sight::RolledBack { ids } => history.rolled_back.extend(ids),
                Sight::Delivered { consumer, id, digest, .. } => {
                    history.deliveries.push(Delivered { consumer, id, digest });
                }
                Sight::Attempted { .. } => {}
            }
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
            history.dead_letters.push(history::DeadLetter { id: letter.id.clone(), consumer });
        }
        let discarded: Vec<(String, String, String)> = sqlx::query_as(
            "select side, name, cast(id as text) from posthaste_audit where action = 'discard'",
        )
        .fetch_all(self.database.pool())
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
