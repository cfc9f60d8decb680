//! Direct writes: past the queue, each on a new connection.
//!
//! Servers that answer as readers are asked again on the connection that stands, which spares them most connections; as soon as one takes
//! writes, it gets a new one. While writes are good only the writer is asked.
//!
//! Each write has one number, and its INSERT is on its way to one server only: first the servers are asked who takes writes, and another is
//! tried only when the one before has refused for certain. So a number that is found twice was doubled by the database, not by the probe.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_write_crds::probe::ATTEMPT_MILLISECONDS;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use super::clock::{At, Clock};
use super::ledger::Fate;
use super::servers::Server;
use crate::database::failure::failure;
use crate::problem::Problem;

/// While writes are good only the writer is asked, and the others when it has not taken the write by then: an outage asks all at once.
const HEAD_START: Duration = Duration::from_millis(300);
/// Where only the writer counts, it has all the time of an attempt: on a busy machine the others would only make it slower.
const ALONE: Duration = Duration::from_millis(ATTEMPT_MILLISECONDS);
/// Classes of SQLSTATE with which a statement was refused for certain. With others a commit may have gone before the error.
const REFUSALS: [&str; 8] = ["0A", "22", "23", "25", "28", "42", "53", "55"];

const WRITABLE: &str = "SELECT NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::bool)";
const INSERT: &str = "INSERT INTO durable_write.probe_direct (drill, seq, instance) \
    VALUES ($1::text::uuid, $2, aurora_db_instance_identifier()::text) \
    RETURNING instance, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// How a direct write ended.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) began: At,
    pub(super) ended: At,
    pub(super) fate: Fate,
    /// Who took it, and what the clocks said.
    pub(super) good: Option<Good>,
    /// Why it failed.
    pub(super) problem: Option<Problem>,
}

/// A write that was taken.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) instance: Arc<str>,
    /// The database's clock minus the probe's.
    pub(super) offset: Offset,
}

/// A difference of clocks: in microseconds, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) microseconds: i64,
    pub(super) uncertainty: i64,
}

/// Connections to readers, by the servers' names.
pub(super) type Standing = Arc<Mutex<HashMap<String, PgConnection>>>;

/// Where direct writes go.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) clock: Clock,
    pub(super) servers: Arc<[Server]>,
    pub(super) standing: Standing,
    pub(super) drill: Arc<str>,
    /// Only the known writer is asked, unless it says that it is none.
    pub(super) alone: bool,
}

/// Writes once. `known` is the server that took the last write, if that was good.
pub(super) async fn write(way: Way, known: Option<Arc<str>>, seq: i64) -> Done {
    let clock = way.clock;
    let began = clock.now();
    let sent = AtomicBool::new(false);
    let limit = Duration::from_millis(ATTEMPT_MILLISECONDS);
    let result = timeout(limit, attempt(&way, known.as_deref(), seq, &sent)).await;
    let ended = clock.now();
    match result {
        Ok(Ok(good)) => Done { began, ended, fate: Fate::Confirmed, good: Some(good), problem: None },
        Ok(Err((fate, problem))) => Done { began, ended, fate, good: None, problem },
        Err(_) => {
            let fate = if sent.load(Ordering::Relaxed) { Fate::Unknown } else { Fate::Refused };
            Done { began, ended, fate, good: None, problem: None }
        }
    }
}

async fn attempt(way: &Way, known: Option<&str>, seq: i64, sent: &AtomicBool) -> Result<Good, (Fate, Option<Problem>)> {
    let ask = |server| ask_again(server, &way.standing);
    let (first, others): (Vec<&Server>, Vec<&Server>) =
        way.servers.iter().partition(|server| known.is_none_or(|known| known == server.name));
    let mut asked: FuturesUnordered<_> = first.into_iter().map(ask).collect();
    let mut others = Some(others).filter(|others| !others.is_empty());
    let mut last = None;
    loop {
        if asked.is_empty() {
            match others.take() {
                Some(others) => asked.extend(others.into_iter().map(ask)),
                None => return Err((Fate::Refused, last)),
            }
        }
        let answer = tokio::select! {
            Some(answer) = asked.next() => answer,
            () = sleep(if way.alone { ALONE } else { HEAD_START }), if others.is_some() => {
                asked.extend(others.take().into_iter().flatten().map(ask));
                continue;
            }
        };
        match answer {
            Ok(Some(connection)) => {
                sent.store(true, Ordering::Relaxed);
                match insert(way, connection, seq).await {
                    Ok(good) => return Ok(good),
                    Err((Fate::Refused, problem)) => {
                        sent.store(false, Ordering::Relaxed);
                        last = Some(problem);
                    }
                    Err((fate, problem)) => return Err((fate, Some(problem))),
                }
            }
            Ok(None) => {}
            Err(problem) => last = Some(problem),
        }
    }
}

/// Asks a reader again on the connection that stands; every other server, and a reader that takes writes now, on a new one.
async fn ask_again(server: &Server, standing: &Standing) -> Result<Option<PgConnection>, Problem> {
    let known = standing.lock().unwrap_or_else(PoisonError::into_inner).remove(&server.name);
    let reader = match known {
        Some(mut connection) => matches!(is_writable(&mut connection).await, Ok(false)).then_some(connection),
        None => None,
    };
    let reader = match reader {
        Some(reader) => reader,
        None => {
            let mut connection = server.connect().await?;
            if is_writable(&mut connection).await? {
                return Ok(Some(connection));
            }
            connection
        }
    };
    standing.lock().unwrap_or_else(PoisonError::into_inner).insert(server.name.clone(), reader);
    Ok(None)
}

async fn is_writable(connection: &mut PgConnection) -> Result<bool, Problem> {
    let answer = sqlx::query_scalar(WRITABLE).persistent(false).fetch_one(connection).await;
    answer.map_err(|error| failure(&error).problem)
}

/// Connects, and keeps the connection if the server takes writes.
pub(super) async fn ask(server: &Server) -> Result<Option<PgConnection>, Problem> {
    let mut connection = server.connect().await?;
    match is_writable(&mut connection).await? {
        true => Ok(Some(connection)),
        false => {
            connection.close().await.ok();
            Ok(None)
        }
    }
}

async fn insert(way: &Way, mut connection: PgConnection, seq: i64) -> Result<Good, (Fate, Problem)> {
    let (clock, drill) = (way.clock, &*way.drill);
    let sent = clock.now();
    // All rows are fetched: only then has the server said that the commit is done.
    let rows = sqlx::query_as::<_, (String, i64)>(INSERT).bind(drill).bind(seq).persistent(false).fetch_all(&mut connection).await;
    let received = clock.now();
    let rows = rows.map_err(|error| {
        let failure = failure(&error);
        let refused = failure.sqlstate.as_deref().and_then(|code| code.get(..2)).is_some_and(|class| REFUSALS.contains(&class));
        (if refused { Fate::Refused } else { Fate::Unknown }, failure.problem)
    })?;
    tokio::spawn(connection.close());
    let (instance, shown) = rows.into_iter().next().unwrap_or_default();
    let half = received.saturating_sub(sent) / 2;
    let expected: Timestamp = clock.wall(sent + half);
    let uncertainty = i64::try_from(half.as_micros()).unwrap_or(i64::MAX);
    Ok(Good { instance: instance.into(), offset: Offset { microseconds: shown - expected.as_microsecond(), uncertainty } })
}
