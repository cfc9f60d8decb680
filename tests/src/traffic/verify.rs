//! Reads what came of the traffic.

use std::time::Duration;

use anyhow::Context;
use aws_sdk_sqs::types::Message;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::Record;
use crate::history::{Report, Row, Sent, judge};

/// Compares the records of the run `run` with the rows of `table` (as in SQL, `shop.orders`; columns as in `tests/sql/orders.sql`: `id`,
/// `payload`, `written`) and with the messages of the dead-letter queue. Run it on the writer after the queue has drained. Rows and dead
/// letters of other runs are left out.
///
/// # Errors
/// The table cannot be read.
pub async fn verify(
    run: &str,
    records: &[Record],
    database: &mut PgConnection,
    table: &str,
    dead_letters: &[Message],
) -> anyhow::Result<Report> {
    let prefix = format!("{run}-");
    let select = format!("SELECT id::text, (payload->>'seq')::bigint FROM {table} WHERE starts_with(id::text, $1) ORDER BY written");
    let rows = sqlx::query(AssertSqlSafe(select)).bind(&prefix).fetch_all(database).await;
    let rows = rows.with_context(|| format!("read {table}: it needs the columns of tests/sql/orders.sql"))?;
    let rows = rows.iter().map(|row| {
        let sequence: Option<i64> = row.try_get(1)?;
        anyhow::Ok(Row { key: row.try_get(0)?, sequence: sequence.and_then(|number| u64::try_from(number).ok()).unwrap_or(u64::MAX) })
    });
    let dead: Vec<String> = dead_letters.iter().map(key_of).filter(|key| key.starts_with(&prefix)).collect();
    let sent: Vec<Sent> = records.iter().map(|record| record.sent.clone()).collect();
    Ok(judge(&sent, &rows.collect::<anyhow::Result<Vec<_>>>()?, &dead))
}

/// The key of a message of the traffic; of any other message its id.
#[must_use]
pub fn key_of(message: &Message) -> String {
    let body: Option<Value> = message.body().and_then(|body| serde_json::from_str(body).ok());
    let key = body.as_ref().and_then(|body| body.get("id")).and_then(Value::as_str).or(message.message_id());
    key.unwrap_or_default().to_owned()
}

/// The longest time between two successive writes of the run, by the database's clock; none with fewer than two rows.
///
/// # Errors
/// The table cannot be read.
pub async fn write_gap(run: &str, database: &mut PgConnection, table: &str) -> anyhow::Result<Option<Duration>> {
    let select = format!(
        "SELECT extract(epoch FROM max(gap))::float8 FROM (
           SELECT written_at - lag(written_at) OVER (ORDER BY written_at) AS gap FROM {table} WHERE starts_with(id::text, $1)) AS gaps"
    );
    let seconds: Option<f64> = sqlx::query(AssertSqlSafe(select)).bind(format!("{run}-")).fetch_one(database).await?.try_get(0)?;
    Ok(seconds.map(Duration::from_secs_f64))
}
