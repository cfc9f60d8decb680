//! The final count: on the writer, and on each instance by itself.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use super::clock::floor;
use super::course::Course;
use super::gap::Span;
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
    /// How many rows the writer has.
    pub(super) total: i64,
    /// Each instance with the rows that it shows, where they were counted.
    pub(super) instances: Vec<(String, Option<i64>)>,
}

/// Counts on the writer.
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
    Ok(Counts { queue, direct, queue_gap, total, instances: Vec::new() })
}

/// Counts on each instance. None keeps the others waiting: what it does not say is not measured.
pub(super) async fn instances(servers: &Servers, drill: &str, total: i64) -> Vec<(String, Option<i64>)> {
    join_all(servers.instances.iter().map(|server| async move { (server.name.to_string(), shows(server, drill, total).await) })).await
}

async fn shows(server: &Server, drill: &str, total: i64) -> Option<i64> {
    let end = Instant::now() + LAG;
    let mut connection = timeout_at(end, server.connect()).await.ok()?.ok()?;
    caught_up(total, end, async || of(&server.name, tables::all_rows(&mut connection, drill).await.ok()?)).await
}

/// The rows, if that instance has answered: an endpoint's name may lead elsewhere for a while.
fn of(name: &str, (answered, rows): (String, i64)) -> Option<i64> {
    (answered == name).then_some(rows)
}

/// How many rows there are, as soon as these are as many as the writer has, or in the end.
async fn caught_up(total: i64, end: Instant, mut rows: impl AsyncFnMut() -> Option<i64>) -> Option<i64> {
    let mut last = None;
    while Instant::now() < end {
        let Ok(Some(rows)) = timeout_at(end, rows()).await else { break };
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
    let offset = |instance: &Option<String>| {
        let instance = instance.as_deref().unwrap_or_default();
        course.clocks_after.get(instance).or_else(|| course.clocks_before.get(instance)).map_or(0, |offset| offset.microseconds / 1000)
    };
    let (from, to) = window(course, span);
    let pause = tables::longest_pause(writer, &course.plan.drill, from, to).await?;
    Ok(pause.map(|(before, began, after, ended)| (ended - offset(&after)) - (began - offset(&before))))
}

/// In which time the pause must begin, by the clock of the writer before: the rows were written by it.
pub(super) fn window(course: &Course, span: &Span) -> (i64, i64) {
    let offset = course.clocks_before.get(course.plan.writer.as_str()).map_or(0, |offset| offset.microseconds / 1000);
    let milliseconds = |at| super::clock::wall(course.anchor, at).as_millisecond() + offset;
    let from = milliseconds(span.last_good_sent) - 1000;
    let to = span.recovered.as_ref().map_or(i64::MAX / 1_000_000, |good| milliseconds(good.received)) + floor(course.delay);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_another_instance_than_was_asked_are_not_measured() {
        let answer = || ("orders-2".to_owned(), 9);
        assert_eq!((of("orders-2", answer()), of("orders-3", answer())), (Some(9), None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_hangs_costs_no_more_than_its_time_and_what_it_said_before_is_kept() {
        let (started, end) = (Instant::now(), Instant::now() + LAG);
        assert_eq!(caught_up(10, end, async || std::future::pending().await).await, None);
        assert_eq!(started.elapsed(), LAG);

        let (end, mut calls) = (Instant::now() + LAG, 0);
        let behind = async || {
            calls += 1;
            if calls == 3 { std::future::pending().await } else { Some(6 + calls) }
        };
        assert_eq!(caught_up(10, end, behind).await, Some(8));
        assert_eq!(caught_up(10, Instant::now() + LAG, async || Some(10)).await, Some(10));
        let started = Instant::now();
        assert_eq!(caught_up(10, started + LAG, async || Some(9)).await, Some(9));
        assert_eq!(started.elapsed(), LAG);
    }
}
