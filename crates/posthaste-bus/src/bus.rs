//! The bus as its users hold it.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use posthaste_core::finding::{Finding, Severity};
use posthaste_core::{
    Broker, BrokerError, Delivery, Promises, Publisher, Subscriber, Subscription,
};
use tokio::runtime;
use tokio::sync::watch;

use crate::error::{self, Failure};
use crate::keeper::Keeper;
use crate::link::{Clock, Link};
use crate::options::{self, BusOptions};
use crate::owned::Owned;
use crate::protocol::{Deferred, Reply, Request};
use crate::publisher::{BusPublisher, MOST};
use crate::settlement::delivery;
use crate::shared::{Shared, State, unexpected};
use crate::status::{Address, SubscriptionStatus};
use crate::subscriber::BusSubscriber;

/// An open bus; clones are handles of the same. When the last handle (publishers and subscribers
/// included) is dropped, the bus closes in the background; [`Bus::close`] waits for it.
#[derive(Clone, Debug)]
pub struct Bus {
    shared: Arc<Shared>,
}

impl Bus {
    /// Opens the bus file of a URL: `bus:///absolute/path.db` or `bus://relative/path.db`. The
    /// first process to open it creates and owns it; to the others it is the same, over a socket.
    /// Does not wait for another owner: calls do.
    ///
    /// # Errors
    /// [`BrokerError::Rejected`] for a URL that names no file; [`BrokerError::Failed`] for a file
    /// that is not a bus file, or that this program or this user cannot use.
    pub fn open(url: &str, options: BusOptions) -> Result<Self, BrokerError> {
        Self::open_path(&options::path_in(url)?, options.bounded()).map_err(BrokerError::from)
    }

    fn open_path(path: &Path, options: BusOptions) -> Result<Self, Failure> {
        let path = options::resolve(path)?;
        let owned = Owned::claim(&path, &options)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error::in_file(&path, "could not start a runtime for", &error))?;
        let (state, states) = watch::channel(State::Seeking);
        let (stop, stops) = watch::channel(false);
        let (clock, clocks) = Clock::new(runtime.handle().clone(), options.answer_within);
        let shared = Shared::new(path.clone(), options.clone(), clock.clone(), states, stop);
        let keeper = Keeper { path: path.clone(), options, clock, state, stop: stops };
        thread::Builder::new()
            .name("posthaste-bus-io".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    keeper.run(owned).await;
                    clocks.all_gone().await;
                });
            })
            .map_err(|error| error::in_file(&path, "could not start a thread for", &error))?;
        Ok(Self { shared })
    }

    /// Makes an address a queue: its consumers compete, whatever name they give. Doing it again
    /// changes nothing; messages that were held for the address are in the queue.
    ///
    /// # Errors
    /// [`BrokerError::Rejected`] if the address has subscriptions already.
    pub async fn declare_queue(&self, name: &str) -> Result<(), BrokerError> {
        let request = Request::DeclareQueue { address: name.to_owned() };
        match self.shared.ask_anyone(request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Deferred messages of a subscription with numbers above `after`, up to `limit` of them.
    ///
    /// # Errors
    /// [`BrokerError::Rejected`] if there is no such subscription.
    pub async fn deferred(
        &self,
        topic: &str,
        name: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Deferred>, BrokerError> {
        let (address, name) = (topic.to_owned(), name.to_owned());
        let request = Request::ListDeferred { address, name, after, most: limit };
        match self.shared.ask_anyone(request).await? {
            Reply::Deferred(deferred) => Ok(deferred),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Receives deferred messages by their numbers, all or none. One that is not completed stays
    /// deferred.
    ///
    /// # Errors
    /// [`BrokerError::Rejected`] if one of them is not deferred or somebody has it in hand.
    pub async fn receive_deferred(
        &self,
        topic: &str,
        name: &str,
        sequences: &[i64],
    ) -> Result<Vec<Delivery>, BrokerError> {
        let (address, name) = (topic.to_owned(), name.to_owned());
        let (consumer, sequences) = (self.shared.consumer(), sequences.to_vec());
        let request = Request::TakeDeferred { consumer, address, name, sequences };
        let link = self.shared.link().await?;
        let mut taking = Taking { link: link.clone(), consumer, is_over: false };
        match link.ask(request, None).await.map_err(Failure::from)? {
            Reply::Taken(taken) => {
                taking.is_over = true;
                let in_hand = Arc::default();
                Ok(taken.into_iter().map(|one| delivery(one, &link, &in_hand)).collect())
            }
            Reply::Failed(failure) => Err(failure.into()),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Figures of every subscription and queue.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] while the bus is away.
    pub async fn status(&self) -> Result<Vec<SubscriptionStatus>, BrokerError> {
        match self.shared.ask_anyone(Request::Status).await? {
            Reply::Status(figures) => Ok(figures),
            other => Err(unexpected(&other).into()),
        }
    }

    /// Every topic and queue.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] while the bus is away.
    pub async fn addresses(&self) -> Result<Vec<Address>, BrokerError> {
        match self.shared.ask_anyone(Request::Addresses).await? {
            Reply::Addresses(addresses) => Ok(addresses),
            other => Err(unexpected(&other).into()),
        }
    }

    pub(crate) async fn ask_anyone(&self, request: Request) -> Result<Reply, Failure> {
        self.shared.ask_anyone(request).await
    }

    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.shared.ask(request).await
    }

    /// Closes the bus for all handles of this process: what was asked is finished, the file is
    /// closed, and another process takes it over if there is one.
    pub async fn close(&self) {
        self.shared.close().await;
    }
}

/// A call for deferred messages: dropped before it has them, it gives them back.
struct Taking {
    link: Link,
    consumer: u64,
    is_over: bool,
}

impl Drop for Taking {
    fn drop(&mut self) {
        if !self.is_over {
            self.link.tell(Request::Detach { consumer: self.consumer, taken: 0 });
        }
    }
}

#[async_trait]
impl Broker for Bus {
    fn publisher(&self) -> Arc<dyn Publisher> {
        Arc::new(BusPublisher { shared: Arc::clone(&self.shared) })
    }

    async fn subscriber(
        &self,
        subscription: &Subscription,
    ) -> Result<Box<dyn Subscriber>, BrokerError> {
        let subscriber = BusSubscriber::open(Arc::clone(&self.shared), subscription).await?;
        Ok(Box::new(subscriber))
    }

    fn promises(&self) -> Promises {
        Promises {
            prefix_per_key: true,
            durable: true,
            ordered: true,
            dedupe_window: None,
            max_batch: MOST,
            max_payload: self.shared.options.max_payload,
            counts_deliveries: true,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        let subject = format!("bus file {}", self.shared.path.display());
        match self.shared.ask_anyone(Request::Status).await {
            Ok(Reply::Status(figures)) => {
                let what = format!("reachable, with {} subscriptions and queues", figures.len());
                let mut findings = vec![Finding::new(Severity::Good, &subject, what)];
                let dead: u64 = figures.iter().map(|one| one.dead).sum();
                if dead > 0 {
                    let what = format!("holds {dead} dead letters");
                    let advice = "look at them, then repost or discard them";
                    findings.push(Finding::new(Severity::Notice, subject, what).advise(advice));
                }
                findings
            }
            Ok(other) => {
                vec![Finding::new(Severity::Problem, subject, unexpected(&other).detail())]
            }
            Err(failure) => vec![Finding::new(Severity::Problem, subject, failure.detail())],
        }
    }
}
