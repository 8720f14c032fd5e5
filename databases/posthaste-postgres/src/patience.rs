//! How long the server is waited for.
//!
//! A network that drops packets says nothing, and TCP takes minutes to give up. So every call ends
//! within a bound of our own, and the connections that it held are closed: what is still under way
//! on them belongs to nobody. What may rightly take long goes on for as long as the server answers
//! somebody else.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthaste_core::StoreError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use crate::connect::place;
use crate::store::Store;

tokio::task_local! {
    /// Whether the call that runs, or is dropped, has been given up.
    static GIVEN_UP: Arc<AtomicBool>;
}

/// Whether the call that is dropped just now was given up.
pub(crate) fn is_given_up() -> bool {
    GIVEN_UP.try_with(|given_up| given_up.load(Ordering::Relaxed)).unwrap_or(false)
}

/// What is done when the bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GiveUp,
    /// Waits on if the server answers on another connection.
    AskTheServer,
}

/// The bound of one call.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// Nothing if there is none.
    limit: Option<Duration>,
    then: Then,
    connect: Arc<PgConnectOptions>,
}

impl Store {
    /// For what is done in moments.
    pub(crate) fn promptly(&self) -> Patience {
        self.patience(Then::GiveUp)
    }

    /// For what takes as long as there are rows to go through.
    pub(crate) fn at_length(&self) -> Patience {
        self.patience(Then::AskTheServer)
    }

    fn patience(&self, then: Then) -> Patience {
        let limit = Some(self.options.answer_within).filter(|limit| !limit.is_zero());
        Patience { limit, then, connect: self.pool.connect_options() }
    }
}

impl Patience {
    /// Does `work`, or drops it and closes what it held once the bound is reached.
    pub(crate) async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(limit) = self.limit else { return work.await };
        let given_up = Arc::new(AtomicBool::new(false));
        let mut work = pin!(GIVEN_UP.scope(Arc::clone(&given_up), work));
        loop {
            if let Ok(done) = timeout(limit, work.as_mut()).await {
                return done;
            }
            if self.then == Then::GiveUp {
                break;
            }
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                answers = self.server_answers(limit) => if !answers { break },
            }
        }
        // From here on `work` is only dropped, with all that it holds.
        given_up.store(true, Ordering::Relaxed);
        Err(StoreError::unavailable(format!(
            "{} did not answer within {} s; look at the server and at the network in between",
            place(&self.connect),
            limit.as_secs_f64()
        )))
    }

    /// Whether the server says anything on a new connection; a refusal is an answer too.
    async fn server_answers(&self, limit: Duration) -> bool {
        let ask = async {
            let connection = self.connect.connect().await?;
            connection.close().await
        };
        match timeout(limit, ask).await {
            Ok(Err(sqlx::Error::Io(_))) | Err(_) => false,
            Ok(_) => true,
        }
    }
}
