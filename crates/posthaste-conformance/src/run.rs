//! Runs one law on a runtime of its own, with a deadline.

use std::future::Future;
use std::time::Duration;

/// Longer than any law takes on a slow and busy machine; a law that hangs must still end.
const DEADLINE: Duration = Duration::from_secs(120);

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
    let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, law).await.is_ok() });
    runtime.shutdown_background();
    assert!(ended, "the law '{name}' did not come to an end within {DEADLINE:?}");
}
