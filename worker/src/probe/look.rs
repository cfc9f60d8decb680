//! The look that the probe takes now and then at its table and at the readers' lags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use tokio::time::{Instant, timeout_at};

use super::clock::At;
use super::servers::Servers;
use super::tables::{self, QUESTION};
use crate::problem::Problem;

/// How often the table, the lags and the queue are asked.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the writer said.
pub(super) struct Look {
    pub(super) settled: Vec<i64>,
    /// Where it said so.
    pub(super) lags: Option<BTreeMap<String, i64>>,
}

/// Asks the writer. A server that hangs is not waited for: what comes after it would be measured with it.
///
/// # Errors
/// No writer said what is in the table.
pub(super) async fn look(servers: &Servers, known: Option<Arc<str>>, drill: &str, low: i64) -> Result<Look, Problem> {
    let end = Instant::now() + QUESTION;
    let settled = async {
        let mut writer = servers.writer(known.as_deref()).await?;
        let settled = tables::settled(&mut writer, drill, low).await?;
        Ok((writer, settled))
    };
    let (mut writer, settled) = timeout_at(end, settled).await.unwrap_or_else(|_| Err(no_answer()))?;
    let lags = timeout_at(end, tables::lags(&mut writer)).await.ok().and_then(Result::ok);
    timeout_at(end, sqlx::Connection::close(writer)).await.ok();
    Ok(Look { settled, lags })
}

/// When to ask again at the earliest: a table that takes long to answer is not asked all the time.
pub(super) fn next(asked: At, now: At, answered: bool) -> At {
    let took = if answered { now.saturating_sub(asked) } else { Duration::ZERO };
    now + (2 * took).min(QUESTION)
}

pub(super) fn no_answer() -> Problem {
    Problem::new(reasons::DATABASE_OUTAGE, "database", "the writer does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_answers_slowly_is_asked_less_often_and_one_that_did_not_answer_soon_again() {
        let after = |took: u64, answered| {
            let (asked, now) = (Duration::from_secs(100), Duration::from_secs(100) + Duration::from_millis(took));
            next(asked, now, answered).saturating_sub(now)
        };
        assert_eq!(after(2000, true), Duration::from_secs(4));
        assert_eq!(after(60_000, true), QUESTION);
        assert_eq!(after(60_000, false), Duration::ZERO);
    }
}
