//! The probe's own SQL: what it asks of its tables and of the cluster. It shares none of it with the pipeline that it measures.

use std::collections::BTreeMap;
use std::time::Duration;

use durable_write_crds::conditions::{drill_reasons, reasons};
use durable_write_crds::probe::ProbePlan;
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection};

use crate::problem::Problem;

/// Tables and rights that a drill needs and this user does not have.
const MISSING: &str = "\
SELECT wanted.name || CASE WHEN to_regclass(wanted.name) IS NULL THEN ' is missing' ELSE ': no right to ' || wanted.rights END \
FROM (VALUES ('durable_write.probe', 'SELECT, INSERT'), ('durable_write.probe_key', 'SELECT, INSERT'), \
('durable_write.probe_direct', 'SELECT, INSERT'), ('durable_write.drill', 'SELECT, INSERT, UPDATE')) AS wanted (name, rights) \
WHERE NOT coalesce((SELECT bool_and(has_table_privilege(to_regclass(wanted.name), needed)) \
FROM string_to_table(wanted.rights, ', ') AS needed), false)";
/// Drills of one Aurora cluster queue up here, so that of two that begin at once only one finds nobody.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('durable-write/' || $1, 0))";
/// Another drill that is open on this Aurora cluster. Those of the own operator (the first part of the name) are none: its Lease lets one drill
/// begin at a time, and a probe that was killed left its row open.
const OTHER: &str = "\
SELECT name FROM durable_write.drill WHERE drill <> $1::text::uuid AND resource_id = $2 AND split_part(name, '/', 1) <> split_part($3, '/', 1) \
AND closed IS NULL AND expires > clock_timestamp() LIMIT 1";
/// A row of its own that is still open is left from a commit whose reply was lost.
const INSERT: &str = "\
INSERT INTO durable_write.drill AS drill (drill, resource_id, name, opened, expires) \
VALUES ($1::text::uuid, $2, $3, clock_timestamp(), clock_timestamp() + make_interval(secs => $4::bigint)) \
ON CONFLICT (drill) DO UPDATE SET expires = excluded.expires WHERE drill.closed IS NULL";
const CLOSE: &str = "UPDATE durable_write.drill SET closed = clock_timestamp() WHERE drill = $1::text::uuid AND closed IS NULL";
const SETTLED: &str = "SELECT DISTINCT seq FROM durable_write.probe WHERE drill = $1::text::uuid AND seq > $2";
const LAGS: &str =
    "SELECT server_id::text, replica_lag_in_msec::float8::bigint FROM aurora_replica_status() WHERE replica_lag_in_msec IS NOT NULL";
const QUEUE_ROWS: &str = "SELECT seq, count(*) FROM durable_write.probe WHERE drill = $1::text::uuid GROUP BY seq";
const DIRECT_ROWS: &str = "SELECT seq, count(*) FROM durable_write.probe_direct WHERE drill = $1::text::uuid GROUP BY seq";
const ALL_ROWS: &str = "\
SELECT aurora_db_instance_identifier()::text, (SELECT count(*) FROM durable_write.probe WHERE drill = $1::text::uuid) \
+ (SELECT count(*) FROM durable_write.probe_direct WHERE drill = $1::text::uuid)";
/// The two rows that follow one another with the most time between them, among those that were written from `$2` to `$3`.
const LONGEST_PAUSE: &str = "\
SELECT before.instance, (extract(epoch FROM before.at) * 1000)::bigint, after.instance, (extract(epoch FROM after.at) * 1000)::bigint \
FROM (SELECT instance, at, lead(at) OVER (ORDER BY at) AS next FROM durable_write.probe WHERE drill = $1::text::uuid) AS before \
JOIN durable_write.probe AS after ON after.drill = $1::text::uuid AND after.at = before.next \
WHERE before.at >= to_timestamp($2::bigint / 1000.0) AND before.at <= to_timestamp($3::bigint / 1000.0) \
ORDER BY after.at - before.at DESC LIMIT 1";
/// How long a question may take; the count at the end may be of millions of rows.
pub(super) const QUESTION: Duration = Duration::from_secs(5);
pub(super) const COUNT: Duration = Duration::from_secs(60);

/// Looks for the tables and the rights to them.
///
/// # Errors
/// Some are missing, or the connection failed.
pub(crate) async fn check_tables(connection: &mut PgConnection) -> Result<(), Problem> {
    let missing: Vec<String> = sqlx::query_scalar(MISSING).persistent(false).fetch_all(connection).await.map_err(problem)?;
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the tables of drills are not ready in this database ({}): run `durable-write-worker schema --drills` and apply what it prints",
        missing.join("; ")
    );
    Err(Problem::new(drill_reasons::PROBE_TABLES_MISSING, "", message))
}

/// Looks for the tables and claims the Aurora cluster for this drill. `lifetime`: when the claim is void, whatever becomes of the probe.
///
/// # Errors
/// A table or a right is missing, another drill runs, or the connection failed.
pub(super) async fn open(connection: &mut PgConnection, plan: &ProbePlan, lifetime: Duration) -> Result<(), Problem> {
    check_tables(connection).await?;
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let mut transaction = connection.begin().await.map_err(problem)?;
    sqlx::query(LOCK).bind(&plan.resource_id).persistent(false).execute(&mut *transaction).await.map_err(problem)?;
    let other = sqlx::query_scalar::<_, String>(OTHER).bind(&plan.drill).bind(&plan.resource_id).bind(&plan.drill_name).persistent(false);
    if let Some(name) = other.fetch_optional(&mut *transaction).await.map_err(problem)? {
        let message = format!(
            "the drill {name} is open on this Aurora cluster: wait until it has ended. If it is known to be dead, run UPDATE durable_write.drill \
             SET closed = now() WHERE name = '{name}'; its claim runs out by itself"
        );
        return Err(Problem::new(drill_reasons::ANOTHER_DRILL, "", message));
    }
    let insert = sqlx::query(INSERT).bind(&plan.drill).bind(&plan.resource_id).bind(&plan.drill_name).bind(seconds);
    if insert.persistent(false).execute(&mut *transaction).await.map_err(problem)?.rows_affected() == 0 {
        let message = "this drill has been measured before: its rows would be counted again; create a new drill";
        return Err(Problem::new(drill_reasons::ANOTHER_DRILL, "", message));
    }
    transaction.commit().await.map_err(problem)
}

/// Gives the Aurora cluster free.
pub(super) async fn close(connection: &mut PgConnection, drill: &str) -> Result<(), Problem> {
    sqlx::query(CLOSE).bind(drill).persistent(false).execute(connection).await.map(|_| ()).map_err(problem)
}

/// The numbers above `low` that are in the table of the queue channel.
pub(super) async fn settled(connection: &mut PgConnection, drill: &str, low: i64) -> Result<Vec<i64>, Problem> {
    sqlx::query_scalar(SETTLED).bind(drill).bind(low).persistent(false).fetch_all(connection).await.map_err(problem)
}

/// How far each reader lags behind the writer, in milliseconds.
pub(super) async fn lags(connection: &mut PgConnection) -> Result<BTreeMap<String, i64>, Problem> {
    let rows: Vec<(String, i64)> = sqlx::query_as(LAGS).persistent(false).fetch_all(connection).await.map_err(problem)?;
    Ok(rows.into_iter().collect())
}

/// A channel's table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Channel {
    Queue,
    Direct,
}

/// Gives each number in a channel's table with how many rows it has; kept are none, as there may be millions.
pub(super) async fn rows(
    connection: &mut PgConnection,
    channel: Channel,
    drill: &str,
    mut give: impl FnMut(i64, i64),
) -> Result<(), Problem> {
    let query = match channel {
        Channel::Queue => QUEUE_ROWS,
        Channel::Direct => DIRECT_ROWS,
    };
    let mut rows = sqlx::query_as::<_, (i64, i64)>(query).bind(drill).persistent(false).fetch(connection);
    while let Some((seq, count)) = rows.try_next().await.map_err(problem)? {
        give(seq, count);
    }
    Ok(())
}

/// Which instance this server is, and how many rows of both channels it shows.
pub(super) async fn all_rows(connection: &mut PgConnection, drill: &str) -> Result<(String, i64), Problem> {
    sqlx::query_as(ALL_ROWS).bind(drill).persistent(false).fetch_one(connection).await.map_err(problem)
}

/// Two rows with nothing between them: who wrote each, and when by its own clock, in milliseconds since 1970.
pub(super) type Pause = (Option<String>, i64, Option<String>, i64);

/// The longest time between two rows of the queue channel that begins within these times (milliseconds since 1970).
pub(super) async fn longest_pause(connection: &mut PgConnection, drill: &str, from: i64, to: i64) -> Result<Option<Pause>, Problem> {
    sqlx::query_as(LONGEST_PAUSE).bind(drill).bind(from).bind(to).persistent(false).fetch_optional(connection).await.map_err(problem)
}

fn problem(error: sqlx::Error) -> Problem {
    let failure = crate::database::failure::failure(&error);
    match failure.sqlstate.as_deref() {
        Some("42883") => {
            Problem::new(reasons::NOT_AURORA, "database", "the server lacks Aurora's functions: drills need a cluster of Aurora PostgreSQL")
        }
        _ => failure.problem,
    }
}
