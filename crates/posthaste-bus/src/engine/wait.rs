//! Waiting for a call on a plain thread, with a deadline: woken by the call, not by looking again.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::sync::mpsc;

use super::call::Call;

/// What the waiting came to.
#[derive(Debug)]
pub(super) enum Received {
    /// A call.
    Call(Call),
    /// Nobody can call any more.
    Closed,
    /// The deadline came first.
    Late,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for the next call until `deadline`, or for ever.
pub(super) fn receive(
    calls: &mut mpsc::UnboundedReceiver<Call>,
    deadline: Option<Instant>,
) -> Received {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut next = pin!(calls.recv());
    loop {
        match next.as_mut().poll(&mut context) {
            Poll::Ready(Some(call)) => return Received::Call(call),
            Poll::Ready(None) => return Received::Closed,
            Poll::Pending => {}
        }
        let Some(deadline) = deadline else {
            thread::park();
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Received::Late;
        }
        thread::park_timeout(left);
    }
}
