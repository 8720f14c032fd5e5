//! Rules that can be broken on purpose, each by a wrapper around one seam.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use posthaste::testing::sabotage::{
    AckBeforeCommit, CommitBeforeInbox, CursorThatSkips, IgnoreOrder, InventMessage, NewIdentity,
    SettleBeforeConfirm,
};
use posthaste::{Consumer, raw_handler_fn};
use posthaste_core::inbox::{Inbox, InboxUpkeep};
use posthaste_core::outbox::Signal;
use posthaste_core::{Broker, BrokerError, Database, Subscriber};

use super::ledger::booking;
use super::stage::Stage;

/// How late a message is handed over that is held back.
const LATE: Duration = Duration::from_millis(60);
/// Of how many messages one is left out or invented: few enough that it happens in every life of
/// the process.
const SOME: u64 = 20;

/// A rule to break. The promise must then be broken too, or the checks are worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// The relay is told that the broker has a message before it is handed over
    SettleBeforeConfirm,
    /// A consumer's effects are committed without their inbox entries
    CommitBeforeInbox,
    /// The relay's reader leaves out messages and moves on
    CursorThatSkips,
    /// A delivery is settled on receipt, before anything is committed
    AckBeforeCommit,
    /// A later message of a key is handed over before an earlier one
    Reorder,
    /// Messages are handed over that nobody committed
    Invent,
    /// A message that is delivered again comes under another id
    NewIdentity,
}

impl Sabotage {
    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does, as a sentence without its full stop.
    pub(super) fn description(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().cloned());
        help.map(|help| help.to_string()).unwrap_or_default()
    }

    /// The broker as the relay and the consumers see it.
    pub(super) fn broker(self, inner: Arc<dyn Broker>) -> Arc<dyn Broker> {
        match self {
            Self::SettleBeforeConfirm => Arc::new(SettleBeforeConfirm::broker(inner, LATE)),
            Self::AckBeforeCommit => Arc::new(AckBeforeCommit::broker(inner)),
            Self::Reorder => Arc::new(IgnoreOrder::broker(inner, SOME, LATE)),
            Self::Invent => Arc::new(InventMessage::broker(inner, SOME)),
            Self::NewIdentity => Arc::new(NewIdentity::broker(inner)),
            Self::CommitBeforeInbox | Self::CursorThatSkips => inner,
        }
    }

    /// The outbox as the relay sees it.
    pub(super) fn database(self, inner: Arc<dyn Database>) -> Arc<dyn Database> {
        match self {
            Self::CursorThatSkips => Arc::new(CursorThatSkips::new(inner, SOME)),
            _ => inner,
        }
    }
}

/// A consumer at work, on an inbox as its sabotage leaves it.
pub(super) fn consumer<S: Stage>(
    sabotage: Option<Sabotage>,
    name: &'static str,
    database: S,
    subscriber: Box<dyn Subscriber>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Result<(), BrokerError>> + Send>> {
    let stage = database.clone();
    match sabotage {
        Some(Sabotage::CommitBeforeInbox) => {
            let forgetful = CommitBeforeInbox::new(Arc::new(database));
            Box::pin(consume(name, forgetful, stage, subscriber, stop))
        }
        _ => Box::pin(consume(name, database, stage, subscriber, stop)),
    }
}

async fn consume<S, D>(
    name: &'static str,
    database: D,
    stage: S,
    subscriber: Box<dyn Subscriber>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), BrokerError>
where
    S: Stage,
    D: Inbox<Connection = S::Connection> + InboxUpkeep + Signal + Clone,
{
    let handler = raw_handler_fn::<S::Connection, _>(booking(stage, name));
    let consumer = Consumer::new(name, database).on_any(handler);
    consumer.run_until(subscriber, stop).await
}
