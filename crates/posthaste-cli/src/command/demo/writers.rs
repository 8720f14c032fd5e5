//! The service: writers that change the state of a shop and state messages in the same
//! transactions.

use std::sync::Arc;
use std::time::Duration;

use posthaste::{Draft, MessageId, Outbox};
use posthaste_history::Journal;
use posthaste_history::event::{Commit, CommitAnswer};
use tokio::task::JoinSet;

use crate::failure::Failure;

use super::dice::Dice;
use super::gate::Gate;
use super::progress::Board;
use super::stage::{Order, Stage, Trouble};
use super::world::{TOPIC, World};

const WRITERS: u64 = 4;
const CUSTOMERS: u64 = 12;
/// Most messages of one transaction.
const MESSAGES: u32 = 4;
/// Of a hundred transactions, how many are rolled back, and how many are held open.
const ROLLED_BACK: u64 = 18;
const HELD_OPEN: u64 = 10;
/// How often a transaction that others got in the way of is tried again.
const TRIES: u32 = 100;
/// After so many tries a transaction takes the write lock first, or busy others could keep it
/// from ever getting one.
const OPTIMISM: u32 = 3;

/// How long a writer rests between transactions at most: long enough that a small demo is not
/// over before the first kill.
pub(super) fn pace(messages: u64) -> Duration {
    let whole = Duration::from_secs(12) * u32::try_from(WRITERS).unwrap_or(1);
    let longest = whole / u32::try_from(messages).unwrap_or(u32::MAX).max(1);
    longest.min(Duration::from_millis(16))
}

/// The writers at work.
pub(super) struct Writers(JoinSet<Result<(), Failure>>);

impl Writers {
    /// Starts them; they end when the gate has let all messages pass.
    pub(super) fn start<S: Stage>(
        world: &World<S>,
        journal: &Arc<Journal>,
        gate: &Arc<Gate>,
        board: &Arc<Board>,
        dice: &mut Dice,
        pace: Duration,
    ) -> Self {
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer {
                number,
                stage: world.shop().clone(),
                outbox: Outbox::new(world.shop().clone()),
                journal: Arc::clone(journal),
                board: Arc::clone(board),
                dice: dice.split(),
                pace,
            };
            let gate = Arc::clone(gate);
            writers.spawn(async move { writer.work(&gate).await });
        }
        Self(writers)
    }

    /// Waits until all messages are committed.
    ///
    /// # Errors
    /// If one of the writers cannot write.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        while let Some(ended) = self.0.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => return Err(Failure::failed(format!("a writer ended: {error}"))),
            }
        }
        Ok(())
    }
}

/// One writer.
struct Writer<S> {
    number: u64,
    stage: S,
    outbox: Outbox<S>,
    journal: Arc<Journal>,
    board: Arc<Board>,
    dice: Dice,
    pace: Duration,
}

/// What a transaction will do.
struct Plan {
    order: String,
    customer: String,
    parts: Vec<Part>,
    /// Begins by reading, like many a service, and takes the write lock late.
    reads_first: bool,
    /// How long it stays open once everything is written.
    held: Duration,
    rolls_back: bool,
    /// Commits without telling anybody, as a service does that has its own way to commit.
    commits_plainly: bool,
}

/// A message that will be stated.
struct Part {
    has_key: bool,
    due_in: Option<Duration>,
    amount: u64,
}

/// How a transaction ended.
enum Ended {
    Committed,
    RolledBack,
    /// Others got in its way: nothing was written.
    Busy,
}

impl<S: Stage> Writer<S> {
    async fn work(mut self, gate: &Gate) -> Result<(), Failure> {
        let mut number = 0_u64;
        loop {
            let most = 1 + u32::try_from(self.dice.below(u64::from(MESSAGES))).unwrap_or(0);
            let Some(leave) = gate.pass(most).await else { return Ok(()) };
            number += 1;
            let plan = self.plan(number, leave.messages());
            let messages = u64::try_from(plan.parts.len()).unwrap_or(0);
            if self.carry_out(&plan).await? {
                self.board.committed(messages);
                leave.used();
            } else {
                self.board.rolled_back(messages);
                drop(leave);
            }
            tokio::time::sleep(self.dice.up_to(self.pace)).await;
        }
    }

    fn plan(&mut self, number: u64, messages: usize) -> Plan {
        let dice = &mut self.dice;
        let parts = (0..messages).map(|_| {
            let has_key = dice.chance(85);
            // A message that is not due yet does not hold its key back, so only messages
            // without order are put off.
            let is_late = !has_key && dice.chance(40);
            let late = Duration::from_millis(50) + dice.up_to(Duration::from_millis(450));
            Part { has_key, due_in: is_late.then_some(late), amount: 1 + dice.below(1000) }
        });
        let parts = parts.collect();
        let is_held = dice.chance(HELD_OPEN);
        let held = dice.up_to(Duration::from_millis(S::LONGEST_HOLD));
        Plan {
            order: format!("{}-{number}", self.number),
            customer: format!("customer-{}", dice.below(CUSTOMERS)),
            parts,
            reads_first: dice.chance(25),
            held: if is_held { held } else { Duration::ZERO },
            rolls_back: dice.chance(ROLLED_BACK),
            commits_plainly: dice.chance(50),
        }
    }

    /// Whether it was committed.
    async fn carry_out(&mut self, plan: &Plan) -> Result<bool, Failure> {
        for tries in 0..TRIES {
            let reads_first = plan.reads_first && tries < OPTIMISM;
            match Box::pin(self.attempt(plan, reads_first)).await? {
                Ended::Committed => return Ok(true),
                Ended::RolledBack => return Ok(false),
                Ended::Busy => {
                    let wait = self.dice.up_to(Duration::from_millis(20));
                    tokio::time::sleep(wait).await;
                }
            }
        }
        Err(Failure::failed("the database stays busy; is something else using it?"))
    }

    async fn attempt(&self, plan: &Plan, reads_first: bool) -> Result<Ended, Failure> {
        let begun = match reads_first {
            true => self.begin_reading(plan).await,
            false => self.outbox.begin().await.map_err(Trouble::from),
        };
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(trouble) => return trouble.ended(),
        };
        let written = self.write(S::connection(&mut transaction), plan).await;
        let ids = match written {
            Ok(ids) => ids,
            Err(trouble) => return trouble.ended(),
        };
        if !plan.held.is_zero() {
            self.board.hold_open();
            tokio::time::sleep(plan.held).await;
        }
        if plan.rolls_back {
            self.note(plan, &ids, CommitAnswer::RolledBack)?;
            S::roll_back(transaction).await?;
            return Ok(Ended::RolledBack);
        }
        if plan.commits_plainly {
            S::commit_plainly(transaction).await?;
        } else {
            self.outbox.commit(transaction).await?;
        }
        self.note(plan, &ids, CommitAnswer::Committed)?;
        Ok(Ended::Committed)
    }

    /// Writes down what is known for sure of a transaction, where the checks find it.
    fn note(&self, plan: &Plan, ids: &[MessageId], answer: CommitAnswer) -> Result<(), Failure> {
        let ids = ids.iter().map(ToString::to_string).collect();
        let commit = Commit { transaction: Some(plan.order.clone()), ids, answer };
        let noted = self.journal.note(commit);
        noted.map_err(|error| Failure::failed(format!("cannot note what was committed: {error}")))
    }

    /// A transaction that has looked at the shop for a while before it writes.
    async fn begin_reading(&self, plan: &Plan) -> Result<S::Transaction, Trouble> {
        let mut transaction = self.stage.begin_reading().await?;
        self.stage.look(S::connection(&mut transaction), &plan.customer).await?;
        tokio::time::sleep(plan.held / 4).await;
        Ok(transaction)
    }

    /// Changes the shop and states the messages: the point of it all.
    async fn write(
        &self,
        connection: &mut S::Connection,
        plan: &Plan,
    ) -> Result<Vec<MessageId>, Trouble> {
        let keyed = plan.parts.iter().filter(|part| part.has_key).count();
        let keyed = i64::try_from(keyed).unwrap_or(0);
        let version = self.stage.raise(connection, &plan.customer, keyed).await?;
        let amount: u64 = plan.parts.iter().map(|part| part.amount).sum();
        let order = Order {
            id: &plan.order,
            customer: &plan.customer,
            amount: i64::try_from(amount).unwrap_or(i64::MAX),
            messages: i64::try_from(plan.parts.len()).unwrap_or(i64::MAX),
        };
        self.stage.place(connection, &order).await?;
        let drafts = drafts(plan, version - keyed);
        Ok(self.outbox.publish_drafts(connection, drafts).await?)
    }
}

/// The messages of a plan; `version` is that of the customer before.
fn drafts(plan: &Plan, mut version: i64) -> Vec<Draft> {
    let drafts = plan.parts.iter().map(|part| {
        let (kind, stated) = match part.has_key {
            true => {
                version += 1;
                ("order.placed", Some(version))
            }
            false => ("order.remembered", None),
        };
        let payload = serde_json::json!({
            "order": plan.order,
            "customer": plan.customer,
            "version": stated,
            "amount": part.amount,
        });
        let draft = Draft::new(TOPIC, kind, payload.to_string())
            .content_type("application/json")
            .header("shop", "corner shop, \u{dc}berlingen");
        let draft = if part.has_key { draft.key(&plan.customer) } else { draft };
        match part.due_in {
            Some(wait) => draft.due_in(wait),
            None => draft,
        }
    });
    drafts.collect()
}

impl Trouble {
    fn ended(self) -> Result<Ended, Failure> {
        match self {
            Self::Busy => Ok(Ended::Busy),
            Self::Failed(failure) => Err(failure),
        }
    }
}
