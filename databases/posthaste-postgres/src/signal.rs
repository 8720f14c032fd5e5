//! The hint that something was committed: at once for commits through this handle; for those of
//! other processes by LISTEN, where that works.
//!
//! NOTIFY inside the transaction of a message would make all commits of the database wait for each
//! other, so it is sent afterwards, in a transaction of its own, and at most once in some
//! milliseconds by one process. It may be lost: a reader looks now and then regardless.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::outbox::{Pace, Signal};
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::Postgres;
use crate::connect::Session;
use crate::error::classify;
use crate::lent::Lent;
use crate::store::Store;

/// Least time between two notifications of one process.
const PAUSE: Duration = Duration::from_millis(10);

/// Time before a lost connection is looked for again; it doubles up to the second.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// How long the connection that listens may be silent before it is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(60);

/// How long closing it is waited for. What a silent one still has to say is nobody's concern.
const CLOSING: Duration = Duration::from_secs(5);

/// How far one handle has taken note of the changes.
#[derive(Debug, Default)]
pub(crate) struct Seen(pub(crate) AtomicU64);

impl Clone for Seen {
    /// The copy starts where the original is.
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

/// The changes of one database, counted.
#[derive(Debug)]
pub(crate) struct Changes {
    count: watch::Sender<u64>,
    /// Tells notifications of this process from those of others.
    mark: String,
    listener: Mutex<Option<JoinHandle<()>>>,
    notifier: std::sync::Arc<Mutex<Notifier>>,
}

/// When this process last notified the others, and whether it is about to.
#[derive(Debug, Default)]
struct Notifier {
    last: Option<Instant>,
    scheduled: bool,
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Some(task) = self.listener().take() {
            task.abort();
        }
    }
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            count: watch::Sender::new(1),
            mark: uuid::Uuid::from_bytes(random()).to_string(),
            listener: Mutex::new(None),
            notifier: std::sync::Arc::default(),
        }
    }

    fn listener(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a change.
    fn count(&self) {
        count(&self.count);
    }

    /// Waits until there is a change that `seen` has not noted, and notes it.
    async fn next(&self, seen: &Seen) {
        let mut count = self.count.subscribe();
        loop {
            let now = *count.borrow_and_update();
            if seen.0.swap(now, Ordering::AcqRel) != now {
                return;
            }
            if count.changed().await.is_err() {
                // The sender lives as long as this handle, so that cannot happen.
                return;
            }
        }
    }
}

fn count(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}

/// Sixteen bytes that no other process has: addresses and times are enough to tell hints apart.
fn random() -> [u8; 16] {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || RandomState::new().hash_one(std::process::id()).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    bytes
}

impl Store {
    /// What others are notified on.
    fn channel(&self) -> String {
        format!("{}_outbox", self.namespace.name())
    }

    /// A transaction that may have stated messages was committed: says so in this process and,
    /// soon, to others.
    pub(crate) fn committed(&self) {
        self.signal.count();
        if !self.options.listen || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let state = std::sync::Arc::clone(&self.signal.notifier);
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notifier = lock();
        if std::mem::replace(&mut notifier.scheduled, true) {
            return;
        }
        let at = notifier.last.map_or_else(Instant::now, |last| last + PAUSE);
        drop(notifier);
        // The pool belongs to whoever made it; a hint must not keep it open.
        let (pool, channel, mark) = (self.pool.clone(), self.channel(), self.signal.mark.clone());
        let state = std::sync::Arc::clone(&self.signal.notifier);
        let patience = self.promptly();
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            {
                let mut notifier = state.lock().unwrap_or_else(PoisonError::into_inner);
                *notifier = Notifier { last: Some(Instant::now()), scheduled: false };
            }
            let notify = async {
                let failed = |error| classify("notifying", "the database", error);
                notify(&pool, &channel, &mark).await.map_err(failed)
            };
            if let Err(error) = patience.during(notify).await {
                tracing::debug!(%error, "other processes could not be notified");
            }
        });
    }

    /// Starts to listen, unless that goes on already or is not wanted.
    fn listen(&self) {
        // A pooler lends a connection for one transaction, and nothing can be heard after it.
        if !self.options.listen || self.session == Session::Pooled {
            return;
        }
        let mut listener = self.signal.listener();
        if listener.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let connect = (*self.pool.connect_options()).clone().application_name("posthaste listen");
        let (channel, mark) = (self.channel(), self.signal.mark.clone());
        let changes = self.signal.count.clone();
        let within = match self.options.answer_within {
            Duration::ZERO => Duration::MAX,
            within => within,
        };
        let acquire_timeout = self.options.acquire_timeout;
        *listener = Some(tokio::spawn(async move {
            let (mut pause, longest) = RECONNECT;
            loop {
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(acquire_timeout)
                    .connect_lazy_with(connect.clone());
                let heard = hear(&pool, &channel, &mark, &changes, within).await;
                // One that is silent closes when TCP gives it up.
                let _closed = timeout(CLOSING, pool.close()).await;
                if let Heard::Lost(error) = heard {
                    tracing::debug!(%error, "the connection that listens was lost");
                    pause = RECONNECT.0;
                } else if let Heard::Never(error) = heard {
                    tracing::debug!(%error, "no connection to listen on");
                    pause = (pause * 2).min(longest);
                }
                tokio::time::sleep(pause).await;
            }
        }));
    }
}

/// How listening came to its end.
enum Heard {
    /// It did not begin.
    Never(sqlx::Error),
    /// It worked until now.
    Lost(sqlx::Error),
}

/// Listens until the connection is lost, or does not answer `within` a time when it is asked.
async fn hear(
    pool: &PgPool,
    channel: &str,
    mark: &str,
    changes: &watch::Sender<u64>,
    within: Duration,
) -> Heard {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let mut listener = match PgListener::connect_with(pool).await {
        Ok(listener) => listener,
        Err(error) => return Heard::Never(error),
    };
    listener.eager_reconnect(false);
    match timeout(within, listener.listen(channel)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Heard::Never(error),
        Err(_) => return Heard::Never(silent()),
    }
    // What was committed before is not known.
    count(changes);
    loop {
        match timeout(SILENCE.min(within.saturating_mul(2)), listener.try_recv()).await {
            Ok(Ok(Some(notification))) if notification.payload() == mark => {}
            Ok(Ok(Some(_))) => count(changes),
            Ok(Ok(None)) => return Heard::Lost(sqlx::Error::PoolClosed),
            Ok(Err(error)) => return Heard::Lost(error),
            Err(_) => match timeout(within, listener.execute("select 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Heard::Lost(error),
                Err(_) => return Heard::Lost(silent()),
            },
        }
    }
}

/// One round trip. Nobody has to wait for a hint to be durable.
async fn notify(pool: &PgPool, channel: &str, mark: &str) -> Result<(), sqlx::Error> {
    let mut connection = Lent::new(pool.acquire().await?);
    // Both are made of letters, digits, underscores and hyphens.
    let statements = format!(
        "begin; set local synchronous_commit = off; notify \"{channel}\", '{mark}'; commit"
    );
    connection.inside = true;
    let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *connection).await;
    connection.inside = done.is_err();
    done.map(|_| ())
}

#[async_trait]
impl Signal for Postgres {
    async fn changed(&self) {
        self.store.listen();
        self.store.signal.next(&self.seen).await;
    }

    fn wake(&self) {
        self.store.committed();
    }

    fn pace(&self) -> Pace {
        Pace { shortest: Duration::from_millis(1), longest: Duration::from_secs(1) }
    }
}
