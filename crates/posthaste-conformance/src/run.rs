//! Runs one law on a runtime of its own, with a deadline.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Longer than any law takes on a slow and busy machine; a law that hangs must still end.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a case that cannot be made here ends its law with.
struct Skipped;

/// Ends the law that asked for a case, as if it had been kept: what the case needs is not there.
/// Whoever calls this has said so, where it is counted.
pub fn skipped() -> ! {
    resume_unwind(Box::new(Skipped))
}

/// Runs `law` to its end.
///
/// # Panics
/// If the law panics, that is, if it is broken; or if it does not end in time.
pub fn run<F: Future<Output = ()>>(name: &str, law: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the test needs a runtime");
    let deadline = async { tokio::time::timeout(DEADLINE, law).await.is_ok() };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(deadline)));
    runtime.shutdown_background();
    let ended = match ended {
        Ok(ended) => ended,
        Err(panic) if panic.is::<Skipped>() => return,
        Err(panic) => resume_unwind(panic),
    };
    assert!(ended, "the law '{name}' did not come to an end within {DEADLINE:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_whose_case_cannot_be_made_ends_quietly() {
        run("skipped", async { skipped() });
    }

    #[test]
    fn a_law_that_is_broken_does_not() {
        let broken = || run("broken", async { panic!("on purpose") });
        assert!(catch_unwind(broken).is_err());
    }
}
