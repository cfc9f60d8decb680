//! Direct writes: past the queue, each on a new connection.
//!
//! While writes are good only the writer is asked. Each write has one number, and its INSERT is on its way to one server only: first the
//! servers are asked who takes writes, and another is tried only when the one before has refused for certain. So a number that is found twice
//! was doubled by the database, not by the probe.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::probe::ATTEMPT_MILLISECONDS;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use super::clock::{At, Clock};
use super::gap::{Refusal, Taken};
use super::ledger::Fate;
use super::servers::Server;
use super::standing::{Answer, Standing};
use crate::database::failure::failure;
use crate::problem::Problem;

/// While writes are good only the writer is asked, and the others when it has not taken the write by then: an outage asks all at once.
const HEAD_START: Duration = Duration::from_millis(300);
/// Where only the writer counts, it has all the time of an attempt: on a busy machine the others would only make it slower.
const ALONE: Duration = Duration::from_millis(ATTEMPT_MILLISECONDS);
/// Classes of SQLSTATE with which a statement was refused for certain. With others a commit may have gone before the error.
const REFUSALS: [&str; 8] = ["0A", "22", "23", "25", "28", "42", "53", "55"];

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
    /// Who did not take it.
    pub(super) refusals: Vec<Refusal>,
    /// Why it failed.
    pub(super) problem: Option<Problem>,
}

/// A write that was taken.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) taken: Taken,
    /// The database's clock minus the probe's.
    pub(super) offset: Offset,
}

/// A difference of clocks: in microseconds, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) microseconds: i64,
    pub(super) uncertainty: i64,
}

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

/// What is known of a write while it is under way.
#[derive(Default)]
struct Trace {
    refusals: Vec<Refusal>,
    /// Who was asked, since when, and has not answered.
    waits_for: Vec<(Arc<str>, At)>,
    /// Who was sent the INSERT, when, and has not answered.
    sent: Option<(Arc<str>, At)>,
}

/// Writes once. `known` is the server that took the last write, if that was good.
pub(super) async fn write(way: Way, known: Option<Arc<str>>, seq: i64) -> Done {
    let clock = way.clock;
    let began = clock.now();
    let mut trace = Trace::default();
    let limit = Duration::from_millis(ATTEMPT_MILLISECONDS);
    let result = timeout(limit, attempt(&way, known.as_deref(), seq, &mut trace)).await;
    let ended = clock.now();
    let Trace { mut refusals, waits_for, sent } = trace;
    match result {
        Ok(Ok(good)) => Done { began, ended, fate: Fate::Confirmed, good: Some(good), refusals, problem: None },
        Ok(Err((fate, problem))) => Done { began, ended, fate, good: None, refusals, problem },
        Err(_) => {
            let fate = if sent.is_some() { Fate::Unknown } else { Fate::Refused };
            let silent = waits_for.into_iter().chain(sent);
            refusals.extend(silent.map(|(server, asked)| Refusal { server, asked, ended, silent: true }));
            Done { began, ended, fate, good: None, refusals, problem: None }
        }
    }
}

async fn attempt(way: &Way, known: Option<&str>, seq: i64, trace: &mut Trace) -> Result<Good, (Fate, Option<Problem>)> {
    let (first, others): (Vec<&Server>, Vec<&Server>) =
        way.servers.iter().partition(|server| known.is_none_or(|known| known == &*server.name));
    let mut asked = FuturesUnordered::new();
    let mut next = Some(first);
    let mut others = Some(others).filter(|others| !others.is_empty());
    let mut last = None;
    loop {
        for server in next.take().into_iter().flatten() {
            trace.waits_for.push((server.name.clone(), way.clock.now()));
            asked.push(way.standing.ask(way.clock, server));
        }
        let answer = tokio::select! {
            answer = asked.next() => answer,
            () = sleep(if way.alone { ALONE } else { HEAD_START }), if others.is_some() => {
                next = others.take();
                continue;
            }
        };
        let Some(Answer { server, asked, ended, said }) = answer else {
            next = others.take();
            if next.is_none() {
                return Err((Fate::Refused, last));
            }
            continue;
        };
        trace.waits_for.retain(|(waits_for, _)| *waits_for != server);
        let connection = match said {
            Ok(Some(connection)) => connection,
            said => {
                let silent = said.is_err() && ended.saturating_sub(asked) >= Duration::from_millis(ATTEMPT_MILLISECONDS);
                trace.refusals.push(Refusal { server, asked, ended, silent });
                last = said.err().or(last);
                continue;
            }
        };
        let sent = way.clock.now();
        trace.sent = Some((server.clone(), sent));
        match insert(way, connection, seq).await {
            Ok(good) => return Ok(good),
            Err((fate, problem)) => {
                trace.sent = None;
                trace.refusals.push(Refusal { server, asked: sent, ended: way.clock.now(), silent: fate != Fate::Refused });
                last = Some(problem);
                if fate != Fate::Refused {
                    return Err((fate, last));
                }
            }
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
    let offset = Offset { microseconds: shown - expected.as_microsecond(), uncertainty };
    Ok(Good { taken: Taken { instance: instance.into(), sent, received }, offset })
}
