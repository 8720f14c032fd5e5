//! A transaction that is known to be the outermost one of its connection.

use std::ops::{Deref, DerefMut};

use ::tokio_postgres::Transaction;

/// A transaction of [`TokioOutbox::begin`](super::TokioOutbox::begin). Dropping it rolls it back.
///
/// It is a transaction of the driver in everything but its end: a commit that carries messages ends
/// the outermost transaction, and the driver does not tell whether one of its own is that.
pub struct TokioTransaction<'c> {
    transaction: Transaction<'c>,
}

impl<'c> TokioTransaction<'c> {
    pub(super) fn outermost(transaction: Transaction<'c>) -> Self {
        Self { transaction }
    }
}

impl<'c> Deref for TokioTransaction<'c> {
    type Target = Transaction<'c>;

    fn deref(&self) -> &Transaction<'c> {
        &self.transaction
    }
}

impl DerefMut for TokioTransaction<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

/// Shows that there is one: the driver's shows nothing.
impl std::fmt::Debug for TokioTransaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokioTransaction").finish_non_exhaustive()
    }
}
