//! The probe's result: put together from what was seen and counted, and fitted into a termination message.

use std::path::Path;

use anyhow::Context;
use durable_write_crds::drill::Integrity;
use durable_write_crds::probe::{ClockOffset, InstanceRows, ProbeOutcome, ProbeResult, RESULT_BYTES};

use super::clock::{At, Clock, floor};
use super::count::Counts;
use super::course::Course;
use super::direct::Offset;
use super::gap::Span;
use crate::problem::Problem;

/// A result in which nothing was measured.
pub(super) fn empty(drill: &str, clock: Clock) -> ProbeResult {
    ProbeResult {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        drill: drill.to_owned(),
        outcome: ProbeOutcome::Refused,
        reason: None,
        message: None,
        started: clock.wall(At::ZERO),
        ready: None,
        ended: clock.wall(clock.now()),
        gap: None,
        writer_changes: 0,
        accept: Default::default(),
        queue_channel: Default::default(),
        direct_channel: Default::default(),
        recovered: 0,
        drained_milliseconds: None,
        queue_gap_milliseconds: None,
        depth: Default::default(),
        dead_letter_growth: None,
        missed_ticks: 0,
        missed_ticks_in_gap: 0,
        clock_step_milliseconds: 0,
        clock_offsets: Vec::new(),
        instances: Vec::new(),
        delay_seconds: 0,
    }
}

/// The probe cannot measure.
pub(super) fn refused(result: ProbeResult, problem: &Problem) -> ProbeResult {
    ProbeResult { outcome: ProbeOutcome::Refused, reason: Some(problem.reason.to_owned()), message: Some(problem.to_string()), ..result }
}

/// What was seen, without what is counted in the end.
pub(super) fn seen(course: &Course, clock: Clock) -> ProbeResult {
    let now = clock.now();
    let span = course.found(now).or_else(|| course.gaps.so_far());
    let recovered = span.and_then(|span| span.recovered.as_ref()).map(|good| good.received);
    let confirmed = |span: &Span| course.queue.confirmed_between(span.last_good_sent, recovered.unwrap_or(now));
    let acknowledged_in_gap = span.filter(|_| course.ready.is_some()).map_or(0, confirmed);
    let (missed_ticks, missed_ticks_in_gap) = course.missed(span);
    let before = course.clocks_before.get(course.plan.writer.as_str()).map(|offset| shown(&course.plan.writer, *offset));
    let after = course.gaps.last_instance().and_then(|name| Some(shown(name, *course.clocks_after.get(name)?)));
    ProbeResult {
        ready: course.ready.map(|ready| clock.wall(ready)),
        gap: span.filter(|_| course.ready.is_some()).map(|span| span.report(course.anchor)),
        writer_changes: course.gaps.changes(),
        accept: durable_write_crds::probe::AcceptSide { acknowledged_in_gap, ..course.accept },
        drained_milliseconds: recovered.zip(course.drained).map(|(recovered, drained)| floor(drained.saturating_sub(recovered))),
        depth: course.depth,
        dead_letter_growth: course.dead_letter_growth(),
        missed_ticks,
        missed_ticks_in_gap,
        clock_step_milliseconds: course.steps.most(),
        clock_offsets: before.into_iter().chain(after).collect(),
        delay_seconds: i64::try_from(course.delay.as_secs()).unwrap_or(0),
        ..empty(&course.plan.drill, clock)
    }
}

/// What was seen, and what was counted.
pub(super) fn completed(course: &Course, counts: Counts, clock: Clock) -> ProbeResult {
    let seen = seen(course, clock);
    let absent = counts.queue.integrity.lost;
    let undrained = if course.backlog_is_gone() { 0 } else { absent };
    let instance =
        |(name, rows): (String, Option<i64>)| InstanceRows { lag_before_milliseconds: course.lags_before.get(&name).copied(), name, rows };
    ProbeResult {
        outcome: ProbeOutcome::Completed,
        queue_channel: Integrity { lost: absent - undrained, undrained, ..counts.queue.integrity },
        direct_channel: counts.direct.integrity,
        recovered: counts.queue.recovered + counts.direct.recovered,
        queue_gap_milliseconds: counts.queue_gap,
        instances: counts.instances.into_iter().map(instance).collect(),
        ..seen
    }
}

fn shown(instance: &str, offset: Offset) -> ClockOffset {
    ClockOffset {
        instance: instance.to_owned(),
        milliseconds: offset.microseconds / 1000,
        uncertainty_milliseconds: (offset.uncertainty + 999) / 1000,
    }
}

/// Leaves the result where the kubelet finds it.
///
/// # Errors
/// The file cannot be written.
pub(super) fn leave(result: ProbeResult, path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, fit(result)?).with_context(|| format!("write {}", path.display()))
}

/// The result as JSON of at most [`RESULT_BYTES`]: what is left out first is the end of the message, then what no criterion needs: the lags, and
/// with very many instances their rows.
fn fit(mut result: ProbeResult) -> anyhow::Result<String> {
    let drops: [fn(&mut ProbeResult); 3] = [
        |_| {},
        |result| result.instances.iter_mut().for_each(|instance| instance.lag_before_milliseconds = None),
        |result| result.instances.clear(),
    ];
    for drop in drops {
        drop(&mut result);
        let text = serde_json::to_string(&result)?;
        let excess = text.len().saturating_sub(RESULT_BYTES);
        if excess == 0 {
            return Ok(text);
        }
        // In JSON a character may take more than in the message, never less.
        if let Some(message) = &mut result.message
            && message.len() > excess + '…'.len_utf8()
        {
            let end = message.floor_char_boundary(message.len() - excess - '…'.len_utf8());
            message.truncate(end);
            message.push('…');
            return Ok(serde_json::to_string(&result)?);
        }
    }
    result.message = None;
    Ok(serde_json::to_string(&result)?)
}

#[cfg(test)]
mod tests {
    use durable_write_crds::probe::{AcceptSide, DepthSeen, Gap};
    use jiff::Timestamp;

    use super::*;

    /// Every field there, every number and name as long as it can be.
    fn longest() -> ProbeResult {
        let (name, time) = ("n".repeat(63), Timestamp::now());
        let number = 3_600_000;
        let integrity = Integrity {
            sent: number,
            acknowledged: number,
            committed: number,
            lost: number,
            duplicated: number,
            unknown: number,
            unexpected: number,
            late: number,
            undrained: number,
        };
        let gap = Gap {
            last_good_began: time,
            first_failed_ended: Some(time),
            last_failed_began: Some(time),
            first_good_ended: Some(time),
            failed_attempts: 144_000,
            writer_after: Some(name.clone()),
            lower_milliseconds: 7_200_000,
            upper_milliseconds: Some(7_200_000),
        };
        let clock = ClockOffset { instance: name.clone(), milliseconds: -7_200_000, uncertainty_milliseconds: 2000 };
        let instance = InstanceRows { name, rows: Some(number), lag_before_milliseconds: Some(7_200_000) };
        ProbeResult {
            outcome: ProbeOutcome::Completed,
            reason: Some("BaselineUnsteady".to_owned()),
            ready: Some(time),
            gap: Some(gap),
            writer_changes: 1000,
            accept: AcceptSide {
                attempted: 3_600_000,
                acknowledged: 3_600_000,
                failed: 3_600_000,
                acknowledged_in_gap: 3_600_000,
                longest_gap_milliseconds: number,
            },
            queue_channel: integrity.clone(),
            direct_channel: integrity,
            drained_milliseconds: Some(number),
            queue_gap_milliseconds: Some(number),
            depth: DepthSeen { before: Some(number), peak: Some(number), after: Some(number) },
            dead_letter_growth: Some(number),
            missed_ticks: 144_000,
            missed_ticks_in_gap: 144_000,
            clock_step_milliseconds: number,
            clock_offsets: vec![clock.clone(), clock],
            instances: vec![instance; 16],
            delay_seconds: 900,
            ..empty("0f8fad5b-d9cb-469f-a165-70867728950e", Clock::start())
        }
    }

    #[tokio::test]
    async fn the_longest_result_fits_whatever_the_message() {
        for message in [None, Some("ü".repeat(5000)), Some("\"\\\n".repeat(3000)), Some("\u{1}".repeat(4000))] {
            let text = fit(ProbeResult { message: message.clone(), ..longest() }).unwrap();
            assert!(text.len() <= RESULT_BYTES, "{} bytes", text.len());
            let read: ProbeResult = serde_json::from_str(&text).unwrap();
            assert_eq!(read.queue_channel.lost, 3_600_000);
            if message.is_none() {
                assert_eq!(read.instances.len(), 16, "nothing had to be left out");
            }
        }
    }

    #[tokio::test]
    async fn what_a_criterion_needs_stays_however_many_instances_there_are() {
        let longest = longest();
        let instances = longest.instances.iter().cycle().take(60).cloned().collect();
        let read: ProbeResult = serde_json::from_str(&fit(ProbeResult { instances, ..longest }).unwrap()).unwrap();
        assert_eq!((read.instances.len(), read.clock_offsets.len()), (0, 2));
    }

    #[tokio::test]
    async fn of_a_long_message_the_beginning_is_kept() {
        let result = ProbeResult { message: Some("x".repeat(9000)), ..empty("d", Clock::start()) };
        let read: ProbeResult = serde_json::from_str(&fit(result).unwrap()).unwrap();
        assert!(read.message.is_some_and(|message| message.len() > 3000 && message.ends_with('…')));
    }
}
