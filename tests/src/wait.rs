//! Waiting for something that takes its time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Asks again and again until there is an answer.
///
/// # Errors
/// There is none within `limit`: the error says what was waited for, and why the last attempt had no answer.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > end => return Err(error.context(format!("waited {} s for {what}", limit.as_secs()))),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
