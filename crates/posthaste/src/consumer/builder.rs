//! The consumer as its user puts it together.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use posthaste_core::inbox::{Inbox, InboxUpkeep};
use posthaste_core::outbox::Signal;
use posthaste_core::{BrokerError, Subscriber};

use super::handler::{AnyHandler, Call, Handler, RawHandlerFn, Typed};
use super::options::ConsumerOptions;
use super::run::Runner;
use super::shell::Shell;
use crate::event::Event;

/// What happens to messages of a kind that no handler was given for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They become dead letters, where an operator sees them.
    #[default]
    DeadLetter,
    /// They are done with: right for a consumer that only wants some kinds of a topic.
    Ignore,
}

/// Handles the messages of one subscription, each exactly once in effect.
///
/// The name is the consumer's identity in the inbox: two processes with the same name and database
/// share the work, a new name handles everything anew.
pub struct Consumer<D: Inbox> {
    name: String,
    database: D,
    handlers: BTreeMap<String, Arc<dyn AnyHandler<D::Connection>>>,
    rest: Option<Arc<dyn AnyHandler<D::Connection>>>,
    others: Others,
    options: ConsumerOptions,
}

impl<D> Consumer<D>
where
    D: Inbox + InboxUpkeep + Signal + Clone,
{
    /// A consumer without handlers yet.
    pub fn new(name: impl Into<String>, database: D) -> Self {
        Self {
            name: name.into(),
            database,
            handlers: BTreeMap::new(),
            rest: None,
            others: Others::default(),
            options: ConsumerOptions::default(),
        }
    }

    /// Handles events of the handler's type. A second handler of one kind replaces the first.
    #[must_use]
    pub fn on<H: Handler<D::Connection>>(mut self, handler: H) -> Self {
        self.handlers.insert(H::Event::KIND.to_owned(), Arc::new(Typed(handler)));
        self
    }

    /// Handles messages of this kind as they are, without decoding.
    #[must_use]
    pub fn on_kind<F>(mut self, kind: impl Into<String>, handler: RawHandlerFn<F>) -> Self
    where
        F: for<'a> Call<'a, D::Connection, posthaste_core::Message>,
    {
        self.handlers.insert(kind.into(), Arc::new(handler));
        self
    }

    /// Handles messages of all kinds that have no handler of their own, without decoding.
    #[must_use]
    pub fn on_any<F>(mut self, handler: RawHandlerFn<F>) -> Self
    where
        F: for<'a> Call<'a, D::Connection, posthaste_core::Message>,
    {
        self.rest = Some(Arc::new(handler));
        self
    }

    /// What happens to kinds without a handler.
    #[must_use]
    pub fn others(mut self, others: Others) -> Self {
        self.others = others;
        self
    }

    /// The same with these options.
    #[must_use]
    pub fn options(mut self, options: ConsumerOptions) -> Self {
        self.options = options;
        self
    }

    /// Handles what `subscriber` delivers until `stop` is ready; then the batch under way is
    /// finished and settled, and the rest is left to be delivered again.
    ///
    /// Dropping the returned future stops at once, as a crash would: nothing is lost.
    ///
    /// # Errors
    /// If the subscription is refused or fails for good. A broker or database that is away is
    /// waited for.
    pub async fn run_until(
        self,
        subscriber: Box<dyn Subscriber>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), BrokerError> {
        let seed = getrandom::u64().expect("the operating system gives random bytes");
        let runner = Runner {
            name: Arc::from(self.name),
            database: self.database,
            handlers: Arc::new(self.handlers),
            rest: self.rest,
            others: self.others,
            options: self.options,
        };
        Shell::new(runner, self.options, seed).run(subscriber, stop).await
    }
}
