//! Waiting for conditions with a deadline, and for the absence of something with a short patience.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How long a condition that must come true is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long something that must not happen is watched for.
pub(crate) const WATCH: Duration = Duration::from_millis(150);
const STEP: Duration = Duration::from_millis(10);

/// Looks again and again until there is something, and returns it.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Waits for a future that must end.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("still not so after {PATIENCE:?}: {what}"),
    }
}
