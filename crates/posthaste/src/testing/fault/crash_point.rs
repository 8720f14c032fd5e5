//! A crash at one exact place: before or after the n-th call of one seam method.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Call, Fault, Strike, When};

type Action = Box<dyn Fn() -> Strike + Send + Sync>;

/// Runs an action before or after the n-th call of one kind, counted from 1, and only then.
///
/// The action may abort the process (a crash), panic, or say what becomes of the call. Must be
/// survived without loss, phantom, wrong order or double effect, wherever it is placed.
pub struct CrashPoint {
    call: Call,
    when: When,
    number: u64,
    seen: AtomicU64,
    action: Action,
}

impl CrashPoint {
    /// Runs `action` at this side of call number `number` of this kind.
    pub fn new(
        call: Call,
        when: When,
        number: u64,
        action: impl Fn() -> Strike + Send + Sync + 'static,
    ) -> Self {
        Self { call, when, number, seen: AtomicU64::new(0), action: Box::new(action) }
    }

    /// Ends the process there, without any cleaning up.
    pub fn abort(call: Call, when: When, number: u64) -> Self {
        Self::new(call, when, number, || std::process::abort())
    }

    /// The call, and with it the task that made it, never goes on from there.
    pub fn hang(call: Call, when: When, number: u64) -> Self {
        Self::new(call, when, number, || Strike::Hang)
    }

    /// The call fails there: without effect before, with its reply lost after.
    pub fn fail(call: Call, when: When, number: u64) -> Self {
        Self::new(call, when, number, || Strike::Fail)
    }
}

impl Fault for CrashPoint {
    fn strike(&self, call: Call, when: When) -> Strike {
        if (call, when) != (self.call, self.when) {
            return Strike::Pass;
        }
        let number = self.seen.fetch_add(1, Ordering::AcqRel) + 1;
        if number == self.number { (self.action)() } else { Strike::Pass }
    }
}
