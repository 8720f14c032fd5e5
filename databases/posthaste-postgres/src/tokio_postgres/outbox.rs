//! The writer.

use std::sync::Arc;

use ::tokio_postgres::{Client, GenericClient, Statement};
use futures_util::future::{join, join_all};
use posthaste_core::{Limits, Message, StoreError};

use super::TokioTransaction;
use super::columns::{Parameter, TYPES, parameters};
use super::error::classify;
use crate::Postgres;
use crate::columns::{self, Columns, INSERT};
use crate::namespace::Namespace;
use crate::options::Options;
use crate::store::Store;

const WRITING: &str = "writing to the outbox";

/// Commits, and leaves the driver the open transaction that it believes in; its end rolls that one
/// back without anybody waiting.
const COMMIT: &str = "commit and chain";

/// The same where no insert shows whether an earlier error has ended the transaction, in which case
/// the server answers a commit with a rollback and calls that a success.
const COMMIT_ALONE: &str = "select 1; commit and chain";

/// Writes to the outbox with `tokio-postgres`.
///
/// ```no_run
/// # async fn place(mut client: tokio_postgres::Client, message: posthaste_core::Message)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use posthaste_postgres::{Options, TokioOutbox};
///
/// // Once per connection; without it the statement is parsed and planned each time.
/// let outbox = TokioOutbox::new(&Options::default())?.prepared(&client).await?;
///
/// let tx = outbox.begin(&mut client).await?;
/// tx.execute("insert into orders (total) values ($1)", &[&42_i64]).await?;
/// outbox.commit(tx, &[message]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokioOutbox {
    limits: Limits,
    insert: Arc<str>,
    statement: Option<Statement>,
    /// Whom to tell of a commit.
    beside: Option<Arc<Store>>,
}

impl TokioOutbox {
    /// A writer with the schema and the payload limit of the options; the others are not used.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if the schema has no possible name.
    pub fn new(options: &Options) -> Result<Self, StoreError> {
        let namespace = Namespace::new(&options.schema)?;
        Ok(Self::of(&namespace, Limits::with_payload(options.payload_limit), None))
    }

    /// A writer beside a handle of this process, whose relay hears at once of what it commits.
    pub fn beside(postgres: &Postgres) -> Self {
        let store = &postgres.store;
        Self::of(&store.namespace, store.limits(), Some(Arc::clone(store)))
    }

    fn of(namespace: &Namespace, limits: Limits, beside: Option<Arc<Store>>) -> Self {
        Self { limits, insert: namespace.text(INSERT).into(), statement: None, beside }
    }

    /// The same with its statement prepared on the connection of `client`, to be used with that one
    /// only. Do this once for each connection, when it is made. Behind a pooler that lends
    /// connections of the server for one transaction, leave it.
    ///
    /// # Errors
    /// [`StoreError::Schema`] if there are no tables, [`StoreError::Unavailable`] if the connection
    /// is lost.
    pub async fn prepared(&self, client: &impl GenericClient) -> Result<Self, StoreError> {
        let prepared = client.prepare_typed(&self.insert, &TYPES).await;
        let statement = Some(prepared.map_err(|error| classify(WRITING, error))?);
        Ok(Self { statement, ..self.clone() })
    }

    /// Begins a transaction whose commit can carry messages.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the connection is lost.
    pub async fn begin<'c>(
        &self,
        client: &'c mut Client,
    ) -> Result<TokioTransaction<'c>, StoreError> {
        let begun = client.transaction().await;
        begun
            .map(TokioTransaction::outermost)
            .map_err(|error| classify("beginning a transaction", error))
    }

    /// States messages on an open transaction, in the order given. They exist if and only if it
    /// commits. [`TokioOutbox::commit`] does this without a round trip.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if a message breaks a limit or an id is given twice: then nothing
    /// was written and the transaction is as good as before. After any other error the transaction
    /// can only be rolled back.
    pub async fn enqueue(
        &self,
        transaction: &impl GenericClient,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        let portions = self.columns(messages)?;
        let inserts = portions.iter().map(|columns| self.insert(transaction, columns));
        first_failure(join_all(inserts).await).map_err(|error| classify(WRITING, error))
    }

    /// States messages and commits, in one round trip: the insert and the commit travel together,
    /// and the server rolls back instead if the insert failed.
    ///
    /// # Errors
    /// As [`TokioOutbox::enqueue`]; whatever it is but [`StoreError::Unavailable`], nothing of the
    /// transaction was committed. After that one the outcome is not known.
    pub async fn commit(
        &self,
        transaction: TokioTransaction<'_>,
        messages: &[Message],
    ) -> Result<(), StoreError> {
        let portions = self.columns(messages)?;
        let inserts = portions.iter().map(|columns| self.insert(&*transaction, columns));
        let commit = if portions.is_empty() { COMMIT_ALONE } else { COMMIT };
        // Polled in this order, and each is sent when it is first polled.
        let (written, committed) = join(join_all(inserts), transaction.batch_execute(commit)).await;
        first_failure(written).map_err(|error| classify(WRITING, error))?;
        committed.map_err(|error| classify("committing a transaction", error))?;
        if let Some(store) = &self.beside {
            store.committed();
        }
        Ok(())
    }

    fn columns<'m>(&self, messages: &'m [Message]) -> Result<Vec<Columns<'m>>, StoreError> {
        columns::check(self.limits, messages)?;
        columns::portions(messages).into_iter().map(Columns::of).collect()
    }

    async fn insert(
        &self,
        client: &impl GenericClient,
        columns: &Columns<'_>,
    ) -> Result<(), ::tokio_postgres::Error> {
        let values = parameters(columns);
        let done = match &self.statement {
            Some(statement) => client.execute(statement, &values).await,
            None => {
                let typed: Vec<Parameter<'_>> = values.into_iter().zip(TYPES).collect();
                client.execute_typed(&self.insert, &typed).await
            }
        };
        done.map(|_| ())
    }
}

/// The first failure is the cause of those behind it.
fn first_failure<E>(results: Vec<Result<(), E>>) -> Result<(), E> {
    results.into_iter().collect()
}
