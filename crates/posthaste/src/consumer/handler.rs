//! Handlers: plain async functions, or structs where others would need a container.

use std::future::Future;
use std::marker::PhantomData;

use async_trait::async_trait;
use posthaste_core::Message;
use posthaste_core::consumer::Failing;
use posthaste_core::verdict::DeadReason;
use serde::de::DeserializeOwned;

use crate::error::HandlerError;
use crate::event::Event;

/// Handles events of one type on the connection `C` of the database's driver, inside the
/// transaction that also holds the inbox entry.
///
/// Effects outside that transaction (a call to another service) may happen more than once: the
/// handler runs again after any failure.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle events on `{C}`",
    note = "wrap an `async fn(&mut {C}, event) -> Result<(), HandlerError>` in `handler_fn`"
)]
pub trait Handler<C>: Send + Sync + 'static {
    /// What it handles.
    type Event: Event + DeserializeOwned + Send;

    /// Handles one event; `message` is what it came as.
    fn handle(
        &self,
        connection: &mut C,
        event: Self::Event,
        message: &Message,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Makes a handler of an `async fn(&mut C, E) -> Result<(), HandlerError>`.
pub fn handler_fn<C, E, F>(function: F) -> HandlerFn<E, F>
where
    F: for<'a> Call<'a, C, E>,
{
    HandlerFn { function, event: PhantomData }
}

/// A function as a [`Handler`]; made by [`handler_fn`].
#[derive(Debug)]
pub struct HandlerFn<E, F> {
    function: F,
    event: PhantomData<fn(E)>,
}

/// A function from connection and argument to a future that may borrow the connection. It is
/// implemented for every such function and cannot be named otherwise in a bound.
pub trait Call<'a, C: 'a, A>: Send + Sync + 'static {
    /// What the function returns.
    type Future: Future<Output = Result<(), HandlerError>> + Send + 'a;

    /// Calls it.
    fn call(&self, connection: &'a mut C, argument: A) -> Self::Future;
}

impl<'a, C: 'a, A, F, Fut> Call<'a, C, A> for F
where
    F: Fn(&'a mut C, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'a,
{
    type Future = Fut;

    fn call(&self, connection: &'a mut C, argument: A) -> Fut {
        self(connection, argument)
    }
}

impl<C, E, F> Handler<C> for HandlerFn<E, F>
where
    C: Send,
    E: Event + DeserializeOwned + Send + 'static,
    F: for<'a> Call<'a, C, E>,
{
    type Event = E;

    async fn handle(&self, connection: &mut C, event: E, _: &Message) -> Result<(), HandlerError> {
        self.function.call(connection, event).await
    }
}

/// Makes a handler of raw messages of an `async fn(&mut C, Message) -> Result<(), HandlerError>`.
pub fn raw_handler_fn<C, F>(function: F) -> RawHandlerFn<F>
where
    F: for<'a> Call<'a, C, Message>,
{
    RawHandlerFn { function }
}

/// A function of raw messages as a handler; made by [`raw_handler_fn`].
#[derive(Debug)]
pub struct RawHandlerFn<F> {
    function: F,
}

/// A handler whose event type is out of sight, so that handlers of all kinds fit in one map.
#[async_trait]
pub(super) trait AnyHandler<C>: Send + Sync {
    async fn run(&self, connection: &mut C, message: &Message) -> Result<(), HandlerError>;
}

pub(super) struct Typed<H>(pub(super) H);

#[async_trait]
impl<C: Send, H: Handler<C>> AnyHandler<C> for Typed<H> {
    async fn run(&self, connection: &mut C, message: &Message) -> Result<(), HandlerError> {
        let event = serde_json::from_slice(message.payload.as_bytes()).map_err(|error| {
            let what = format!("the payload is not a {}: {error}", H::Event::KIND);
            HandlerError::new(Failing::ForGood(DeadReason::Undecodable), what)
        })?;
        self.0.handle(connection, event, message).await
    }
}

#[async_trait]
impl<C, F> AnyHandler<C> for RawHandlerFn<F>
where
    C: Send,
    F: for<'a> Call<'a, C, Message>,
{
    async fn run(&self, connection: &mut C, message: &Message) -> Result<(), HandlerError> {
        self.function.call(connection, message.clone()).await
    }
}
