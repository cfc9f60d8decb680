//! The final count: on the writer, and on each instance by itself.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::clock::floor;
use super::course::Course;
use super::ledger::Tally;
use super::servers::{Server, Servers};
use super::tables::{self, Channel};
use crate::problem::Problem;

/// How long an instance may lag before what it shows is taken for what it has.
const LAG: Duration = Duration::from_secs(10);

/// What was counted.
pub(super) struct Counts {
    pub(super) queue: Tally,
    pub(super) direct: Tally,
    pub(super) queue_gap: Option<i64>,
    /// Each instance with the rows that it shows.
    pub(super) instances: Vec<(String, Option<i64>)>,
}

/// Counts on the writer, and then on each instance.
///
/// # Errors
/// No writer answered.
pub(super) async fn count(course: &Course, servers: &Servers, known: Option<Arc<str>>) -> Result<Counts, Problem> {
    let drill = &course.plan.drill;
    let mut writer = servers.writer(known.as_deref()).await?;
    let (mut queue, mut direct) = (course.queue.tally(), course.direct.tally());
    tables::rows(&mut writer, Channel::Queue, drill, |seq, count| queue.add(seq, count)).await?;
    tables::rows(&mut writer, Channel::Direct, drill, |seq, count| direct.add(seq, count)).await?;
    let (queue, direct) = (queue.end(), direct.end());
    let total = queue.rows + direct.rows;
    let queue_gap = queue_gap(course, &mut writer).await?;
    let instances = servers.instances.iter().map(|server| async move { (server.name.to_string(), shows(server, drill, total).await) });
    Ok(Counts { queue, direct, queue_gap, instances: join_all(instances).await })
}

/// How many rows an instance shows, as soon as these are as many as the writer has, or when it has had time enough.
async fn shows(server: &Server, drill: &str, total: i64) -> Option<i64> {
    let end = Instant::now() + LAG;
    let mut connection = timeout_at(end, server.connect()).await.ok()?.ok()?;
    let mut last = None;
    while Instant::now() < end {
        let rows = timeout(tables::COUNT, tables::all_rows(&mut connection, drill)).await.ok()?.ok()?;
        last = Some(rows);
        if rows >= total {
            break;
        }
        sleep(Duration::from_millis(250)).await;
    }
    last
}

/// The longest time around the outage in which no message was written, by the probe's clock: the two rows may be of instances whose clocks
/// differ.
async fn queue_gap(course: &Course, writer: &mut sqlx::PgConnection) -> Result<Option<i64>, Problem> {
    let Some(span) = course.gaps.so_far() else { return Ok(None) };
    let milliseconds = |at| super::clock::wall(course.anchor, at).as_millisecond();
    let offset = |instance: &Option<String>| {
        let instance = instance.as_deref().unwrap_or_default();
        course.clocks_after.get(instance).or_else(|| course.clocks_before.get(instance)).map_or(0, |offset| offset.microseconds / 1000)
    };
    let from = milliseconds(span.last_good_sent) - 1000;
    let to = span.recovered.as_ref().map_or(i64::MAX / 1_000_000, |good| milliseconds(good.received)) + floor(course.delay);
    let pause = tables::longest_pause(writer, &course.plan.drill, from, to).await?;
    Ok(pause.map(|(before, began, after, ended)| (ended - offset(&after)) - (began - offset(&before))))
}
