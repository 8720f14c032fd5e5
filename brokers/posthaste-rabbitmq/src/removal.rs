//! Looking at the queues of a subscription, and taking down what was declared. Nothing here happens
//! by itself: a queue that is gone takes its messages with it.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::ShortString;
use posthaste_core::BrokerError;

use crate::connection::Wire;
use crate::envelope::short;
use crate::error::Failure;
use crate::rabbit::RabbitMq;
use crate::topology::{Names, find_queue};

/// How many messages are in the queues of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait for a consumer; those that one has in hand do not count.
    pub waiting: u64,
    /// Messages in the queue of dead letters.
    pub dead: u64,
}

impl RabbitMq {
    /// How many messages are in the queues of a subscription. A queue that is not there is empty.
    ///
    /// # Errors
    /// [`BrokerError`] if the broker is away or does not let this user look.
    pub async fn depth(&self, topic: &str, name: &str) -> Result<Depth, BrokerError> {
        let names = Names::new(&self.options, topic, name)?;
        let wire = self.publishing.link.wire().await?;
        let waiting = messages(&wire, &names.queue).await?;
        Ok(Depth { waiting, dead: messages(&wire, &names.dead).await? })
    }

    /// Removes the queues of a subscription, with the messages in them. Nothing happens if they are
    /// not there.
    ///
    /// # Errors
    /// [`BrokerError`] if the broker is away or does not let this user do it.
    pub async fn remove_subscription(&self, topic: &str, name: &str) -> Result<(), BrokerError> {
        let names = Names::new(&self.options, topic, name)?;
        let wire = self.publishing.link.wire().await?;
        for queue in [names.queue, names.dead] {
            let channel = wire.channel().await?;
            let what = format!("remove queue '{queue}'");
            let removing = channel.queue_delete(queue, QueueDeleteOptions::default());
            or_missing(wire.ask(&what, removing).await.map(drop))?;
        }
        Ok(())
    }

    /// Removes the exchange of a topic. Nothing happens if it is not there.
    ///
    /// # Errors
    /// [`BrokerError`] if the broker is away or does not let this user do it.
    pub async fn remove_topic(&self, topic: &str) -> Result<(), BrokerError> {
        let exchange = short(&self.options.exchange(topic)).map_err(BrokerError::rejected)?;
        let wire = self.publishing.link.wire().await?;
        let channel = wire.channel().await?;
        let what = format!("remove exchange '{exchange}'");
        let removing = channel.exchange_delete(exchange, ExchangeDeleteOptions::default());
        Ok(or_missing(wire.ask(&what, removing).await)?)
    }
}

async fn messages(wire: &Wire, queue: &ShortString) -> Result<u64, Failure> {
    match find_queue(wire, queue).await {
        Ok(queue) => Ok(u64::from(queue.message_count())),
        Err(Failure::Missing(_)) => Ok(0),
        Err(failure) => Err(failure),
    }
}

fn or_missing(removed: Result<(), Failure>) -> Result<(), Failure> {
    match removed {
        Err(Failure::Missing(_)) => Ok(()),
        removed => removed,
    }
}
