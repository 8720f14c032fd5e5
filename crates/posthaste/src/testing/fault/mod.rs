//! Faults: what goes wrong around a seam without anybody breaking a rule.
//!
//! [`FaultyDatabase`] and [`FaultyBroker`] pass every call on and ask a [`Fault`] before and after
//! it whether to let it through. "Before" means that the call had no effect, "after" that it had
//! and its reply is lost. A fault is a closure, a [`CrashPoint`], or chance with a seed
//! ([`Flaky`]). What is particular to brokers has wrappers of its own: [`FlakyBroker`] (answers to
//! single messages), [`SlowBroker`], [`DuplicatingBroker`], [`OutageBroker`] and [`UnboundBroker`]
//! (messages that nobody is bound to).

mod crash_point;
pub(crate) mod delegate;
mod duplicating;
mod faulty_broker;
mod faulty_database;
mod flaky;
mod flaky_broker;
mod outage;
mod rewired;
mod slow;
#[cfg(test)]
mod tests;
mod unbound;

use std::time::Duration;

pub use crash_point::CrashPoint;
pub(crate) use delegate::delegate_seams;
pub use duplicating::DuplicatingBroker;
pub use faulty_broker::FaultyBroker;
pub use faulty_database::FaultyDatabase;
pub use flaky::Flaky;
pub use flaky_broker::{FlakyBroker, PublishFault};
pub use outage::{OutageBroker, OutageSwitch};
pub use rewired::RewiredBroker;
pub(crate) use rewired::{Settled, rewrap, settle};
pub use slow::SlowBroker;
pub use unbound::{Bindings, UnboundBroker};

/// A call of a seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Call {
    Begin,
    Commit,
    Enqueue,
    Accept,
    BeginAttempt,
    RecordFailure,
    Bury,
    Reposted,
    PruneInbox,
    Checkpoint,
    Read,
    Ready,
    Settle,
    Changed,
    Acquire,
    Renew,
    Release,
    Leases,
    Division,
    WantLanes,
    Divide,
    ListDeadLetters,
    GetDeadLetter,
    Repost,
    Discard,
    Version,
    Migrate,
    Adopt,
    Status,
    Entries,
    EnqueueAlone,
    PruneSent,
    Publish,
    Subscribe,
    Receive,
    /// [`Delivery`](crate::core::Delivery): complete, retry, dead-letter or defer.
    SettleDelivery,
    RenewDelivery,
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// It has had no effect yet.
    Before,
    /// It has had its effect, if it has any, and the caller does not know yet.
    After,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It goes on.
    Pass,
    /// It goes on later.
    Delay(Duration),
    /// It fails as unavailable; where it is unknown whether it had an effect, with just that.
    Fail,
    /// It never returns, as if the process had been paused for good.
    Hang,
}

/// Decides over calls. Asked twice for each: before it and after it.
pub trait Fault: Send + Sync {
    /// What becomes of this call.
    fn strike(&self, call: Call, when: When) -> Strike;
}

impl<F: Fn(Call, When) -> Strike + Send + Sync> Fault for F {
    fn strike(&self, call: Call, when: When) -> Strike {
        self(call, when)
    }
}

/// The call was made to fail.
struct Struck;

/// Carries out what a fault has decided.
async fn suffer(fault: &dyn Fault, call: Call, when: When) -> Result<(), Struck> {
    match fault.strike(call, when) {
        Strike::Pass => Ok(()),
        Strike::Delay(delay) => {
            tokio::time::sleep(delay).await;
            Ok(())
        }
        Strike::Fail => Err(Struck),
        Strike::Hang => std::future::pending().await,
    }
}
