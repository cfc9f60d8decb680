//! Writes the messages of a drill's probe: past the user's table, by statements of constant text.

use std::sync::Arc;

use sqlx::{Connection, PgConnection};

use crate::decode::Record;

/// Somebody's lock on the probe's tables must not hold a connection for long: a user's message may wait for it.
const LIMIT: &str = "SET LOCAL lock_timeout = '250ms'";

/// A key lets each message through once, as the key of a pipeline's table does. What it lets through goes into a table that has no key, where
/// a message that was written twice is there twice. Sorted, so that two workers do not wait for one another.
macro_rules! insert {
    ($instance:literal) => {
        concat!(
            "WITH fresh AS (INSERT INTO durable_write.probe_key (drill, seq) \
             SELECT drill::uuid, seq FROM unnest($1::text[], $2::bigint[]) AS sent (drill, seq) ORDER BY 1, 2 \
             ON CONFLICT DO NOTHING RETURNING drill, seq) \
             INSERT INTO durable_write.probe (drill, seq, instance) SELECT drill, seq, ",
            $instance,
            " FROM fresh"
        )
    };
}

/// Writes the messages, and says how many were not there before.
///
/// # Errors
/// The tables or a right are missing, or the connection failed: then none is written, or, when the answer was lost, all are.
pub(super) async fn write(connection: &mut PgConnection, rows: &[Arc<Record>], aurora: bool) -> Result<u64, sqlx::Error> {
    let statement = if aurora { insert!("aurora_db_instance_identifier()::text") } else { insert!("current_setting('cluster_name')") };
    let marks = || rows.iter().filter_map(|row| row.probe.as_ref());
    let drills: Vec<&str> = marks().map(|mark| mark.drill.as_str()).collect();
    let numbers: Vec<i64> = marks().map(|mark| mark.seq).collect();
    let mut transaction = connection.begin().await?;
    sqlx::query(LIMIT).persistent(false).execute(&mut *transaction).await?;
    let done = sqlx::query(statement).bind(drills).bind(numbers).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}
