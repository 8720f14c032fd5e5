//! A thread that looks at the files of a database and says when it is worth asking SQLite.
//!
//! It is a thread because a sleeping thread is the cheapest thing that can look often: waking an
//! asynchronous runtime each time costs several times as much. It sleeps for good while nobody
//! waits for a change, and ends with its handle.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

use crate::trace::Trace;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(15);

/// The most that a commit of another process may take to be seen, and what of it is left for
/// waking up and asking SQLite. A commit just after a look waits for the whole interval, so the two
/// bound the worst case on a machine that has time; on a busy one no test can.
const SEEN_WITHIN: Duration = Duration::from_millis(20);
const ASKING: Duration = Duration::from_millis(5);
const _: () = assert!(INTERVAL.as_millis() + ASKING.as_millis() <= SEEN_WITHIN.as_millis());

/// The handle on the thread.
#[derive(Debug)]
pub(crate) struct Watch {
    desk: Arc<Desk>,
}

/// What the thread and its handle share.
#[derive(Debug, Default)]
struct Desk {
    demand: Mutex<Demand>,
    demanded: Condvar,
    touched: Notify,
}

#[derive(Debug, Default)]
struct Demand {
    waiting: bool,
    ended: bool,
}

impl Watch {
    /// Starts looking at the files of the database in `file`.
    pub(crate) fn start(file: &Path) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let (shared, trace) = (Arc::clone(&desk), Trace::of(file));
        thread::Builder::new()
            .name("posthaste-watch".to_owned())
            .spawn(move || look(&shared, trace))?;
        Ok(Self { desk })
    }

    /// Returns when the files look touched since the last call, and now and then regardless.
    pub(crate) async fn touched(&self) {
        let _demand = Waiting::new(&self.desk);
        self.desk.touched.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.desk.demand().ended = true;
        self.desk.demanded.notify_one();
    }
}

impl Desk {
    /// The demand; it is plain data, so a thread that panicked cannot have left it half changed.
    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until somebody waits; false when there will be nobody any more.
    fn is_wanted(&self) -> bool {
        let idle = |demand: &mut Demand| !demand.waiting && !demand.ended;
        let demand = self.demanded.wait_while(self.demand(), idle);
        !demand.unwrap_or_else(PoisonError::into_inner).ended
    }
}

/// That somebody waits.
struct Waiting<'a>(&'a Desk);

impl<'a> Waiting<'a> {
    fn new(desk: &'a Desk) -> Self {
        desk.demand().waiting = true;
        desk.demanded.notify_one();
        Self(desk)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.demand().waiting = false;
    }
}

fn look(desk: &Desk, mut trace: Trace) {
    while desk.is_wanted() {
        if trace.is_warm() {
            desk.touched.notify_one();
        }
        thread::sleep(INTERVAL);
    }
}
