//! What was measured becomes criteria and a verdict. Pure. Pass only when everything was measured and every objective met; an objective that
//! was missed counts as Fail only when the measuring itself was sound, but for a proven loss.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{Criterion, CriterionResult, Verdict};
use durable_write_crds::evidence::{Call, CallOutcome, Claim};
use durable_write_crds::probe::{Gap, ProbeResult};
use jiff::{SignedDuration, Timestamp};

use super::rds::{ClusterEvent, EventKind};
use super::step::{Ending, Known};

/// A gap that began longer before the claim is not of this drill; clocks that moved by more were set.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// So many messages must have been due in the gap before it counts that too few were accepted.
const FEWEST_DUE: i64 = 4;

/// All that a verdict is made from.
pub(super) struct Measured<'a> {
    pub(super) claim: &'a Claim,
    pub(super) call: &'a Call,
    pub(super) result: &'a ProbeResult,
    pub(super) events: &'a [ClusterEvent],
    pub(super) known: &'a Known,
    /// As RDS described the cluster last.
    pub(super) target_is_writer: bool,
}

/// A criterion, and the reason that it gives the drill when it does not pass.
struct Judged {
    criterion: Criterion,
    reason: &'static str,
}

/// The criteria and the verdict of a drill whose probe has measured to its end.
pub(super) fn judge(measured: &Measured<'_>) -> Ending {
    let rules = [pipeline(measured), failover(measured), clocks(measured), load(measured), ticks(measured)];
    let result = measured.result;
    let objectives = &measured.claim.spec.objectives;
    let lost = lost(measured);
    let duplicated = count("duplicated", objectives.duplicated.into(), result.queue_channel.duplicated + result.direct_channel.duplicated);
    let unexpected = count("unexpected", 0, result.queue_channel.unexpected + result.direct_channel.unexpected);
    let integrity = [lost, duplicated, unexpected];
    let others = [recovery(measured), dead_lettered(measured), drained(measured)];

    let is = |judged: &&Judged, result: CriterionResult| judged.criterion.result == result;
    let unsound = rules.iter().find(|judged| is(judged, CriterionResult::Inconclusive));
    let changed = is(&&rules[0], CriterionResult::Inconclusive);
    let proven = integrity.iter().find(|judged| is(judged, CriterionResult::Fail)).filter(|_| !changed);
    let missed = rules.iter().chain(&others).find(|judged| is(judged, CriterionResult::Fail));
    let open = others.iter().chain(&integrity).find(|judged| is(judged, CriterionResult::Inconclusive));
    let (verdict, cause) = match (proven, unsound, missed, open) {
        (Some(proven), ..) => (Verdict::Fail, Some(proven)),
        (_, Some(unsound), ..) => (Verdict::Inconclusive, Some(unsound)),
        (_, _, Some(missed), _) => (Verdict::Fail, Some(missed)),
        (_, _, _, Some(open)) => (Verdict::Inconclusive, Some(open)),
        _ => (Verdict::Pass, None),
    };
    let reason = cause.map_or(reasons::OBJECTIVES_MET, |judged| judged.reason);
    let message = message(verdict, cause, rules.iter().chain(&integrity).chain(&others));
    let criteria = others.into_iter().chain(integrity).chain(rules).map(|judged| judged.criterion).collect();
    Ending { verdict, reason: reason.to_owned(), message, criteria }
}

fn message<'a>(verdict: Verdict, cause: Option<&Judged>, all: impl Iterator<Item = &'a Judged>) -> String {
    let say = |criterion: &Criterion| match &criterion.message {
        Some(message) => format!("{}: {message}", criterion.name),
        None => format!("{}: {}, the objective is {}", criterion.name, criterion.measured, criterion.target),
    };
    let Some(cause) = cause else { return "every objective was met, and measured soundly".to_owned() };
    let missed: Vec<_> =
        all.map(|judged| &judged.criterion).filter(|criterion| criterion.result == CriterionResult::Fail).map(say).collect();
    if verdict == Verdict::Fail { missed.join("; ") } else { say(&cause.criterion) }
}

fn judged(name: &str, target: impl Into<String>, measured: impl Into<String>, result: CriterionResult) -> Judged {
    let criterion = Criterion { name: name.to_owned(), target: target.into(), measured: measured.into(), result, message: None };
    Judged { criterion, reason: reasons::OBJECTIVE_MISSED }
}

impl Judged {
    fn because(mut self, reason: &'static str, message: impl Into<String>) -> Self {
        self.reason = reason;
        self.criterion.message = Some(message.into());
        self
    }
}

fn count(name: &str, most: i64, measured: i64) -> Judged {
    let result = if measured <= most { CriterionResult::Pass } else { CriterionResult::Fail };
    judged(name, format!("at most {most}"), measured.to_string(), result)
}

/// A sound rule of measuring.
fn sound(name: &str, target: &str, measured: impl Into<String>) -> Judged {
    judged(name, target, measured, CriterionResult::Pass)
}

fn unsound(name: &str, target: &str, measured: impl Into<String>) -> Judged {
    judged(name, target, measured, CriterionResult::Inconclusive)
}

/// Milliseconds for people.
pub(super) fn seconds(milliseconds: i64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds.rem_euclid(1000))
}

fn milliseconds(duration: durable_write_crds::Duration) -> i64 {
    i64::try_from(duration.get().as_millis()).unwrap_or(i64::MAX)
}

fn recovery(measured: &Measured<'_>) -> Judged {
    let objective = measured.claim.spec.objectives.recovery_time;
    let limit = milliseconds(objective);
    let target = format!("at most {objective}");
    let Some(gap) = &measured.result.gap else {
        return judged("recoveryTime", target, "not measured", CriterionResult::Inconclusive)
            .because(reasons::NO_LOAD, "the probe saw no gap in its writes, though the writer changed");
    };
    let upper = gap.upper_milliseconds;
    let range = format!("{} to {}", seconds(gap.lower_milliseconds), upper.map_or_else(|| "unknown".to_owned(), seconds));
    match upper {
        _ if gap.lower_milliseconds > limit => judged("recoveryTime", target, range, CriterionResult::Fail),
        Some(upper) if upper <= limit => judged("recoveryTime", target, range, CriterionResult::Pass),
        Some(_) => judged("recoveryTime", target, range.clone(), CriterionResult::Inconclusive)
            .because(reasons::AMBIGUOUS_INTERVAL, format!("the true value lies within {range}, and the objective {objective} does too")),
        None => judged("recoveryTime", target, range, CriterionResult::Inconclusive)
            .because(reasons::DEADLINE_EXCEEDED, "writes had not come back to stay when the probe's deadline passed"),
    }
}

/// What had not arrived while messages were still in the queue may be lost or not.
fn lost(measured: &Measured<'_>) -> Judged {
    let (queue, direct) = (&measured.result.queue_channel, &measured.result.direct_channel);
    let most = measured.claim.spec.objectives.lost.into();
    let judged = count("lost", most, queue.lost + direct.lost);
    if queue.undrained <= 0 || judged.criterion.result == CriterionResult::Fail {
        return judged;
    }
    let message = format!("{} acknowledged messages had not arrived when the time for the drain was over", queue.undrained);
    Judged { criterion: Criterion { result: CriterionResult::Inconclusive, ..judged.criterion }, ..judged }
        .because(reasons::BACKLOG_NOT_DRAINED, message)
}

/// The probe may not receive from the dead-letter queue: what is missing from the table could have gone there.
fn dead_lettered(measured: &Measured<'_>) -> Judged {
    let objective = measured.claim.spec.objectives.dead_lettered.into();
    let unknown = |measured: String, message: &str| {
        judged("deadLettered", format!("at most {objective}"), measured, CriterionResult::Inconclusive)
            .because(reasons::DEAD_LETTERS_UNKNOWN, message)
    };
    match measured.result.most_dead_lettered() {
        Some(0) => count("deadLettered", objective, 0),
        Some(most) if most <= objective => {
            judged("deadLettered", format!("at most {objective}"), format!("at most {most}"), CriterionResult::Pass)
        }
        Some(most) => unknown(
            format!("at most {most}"),
            "the dead-letter queue grew while messages of the probe did not arrive: whether by these is not known",
        ),
        None => unknown(
            "not measured".to_owned(),
            "messages of the probe did not arrive, and the depth of the dead-letter queue could not be read",
        ),
    }
}

fn drained(measured: &Measured<'_>) -> Judged {
    let objective = measured.claim.spec.objectives.backlog_drained;
    let delay = measured.result.delay_seconds.max(0) * 1000;
    let target = if delay > 0 { format!("at most {objective} and {delay} ms delay") } else { format!("at most {objective}") };
    let recovered = measured.result.gap.as_ref().is_some_and(|gap| gap.first_good_ended.is_some());
    match measured.result.drained_milliseconds {
        Some(took) if took <= milliseconds(objective) + delay => judged("backlogDrained", target, seconds(took), CriterionResult::Pass),
        Some(took) => judged("backlogDrained", target, seconds(took), CriterionResult::Fail),
        None if recovered => judged("backlogDrained", target, "not in time", CriterionResult::Fail),
        None => judged("backlogDrained", target, "not measured", CriterionResult::Inconclusive)
            .because(reasons::DEADLINE_EXCEEDED, "writes had not come back, so nothing could be drained"),
    }
}

fn pipeline(measured: &Measured<'_>) -> Judged {
    let target = "unchanged";
    match &measured.known.pipeline_changed {
        None => sound("pipeline", target, "unchanged"),
        Some(what) => unsound("pipeline", target, "changed")
            .because(reasons::PIPELINE_CHANGED, format!("{what} while it was measured: create a new drill")),
    }
}

fn clocks(measured: &Measured<'_>) -> Judged {
    let target = "steady";
    let step = measured.known.clock_step.abs().max(measured.result.clock_step_milliseconds.abs());
    if SignedDuration::from_millis(step) > TOLERANCE {
        let message = "a clock of the operator or of the probe was set: create a new drill";
        return unsound("clocks", target, format!("stepped by {}", seconds(step))).because(reasons::CLOCK_STEPPED, message);
    }
    let uncertain = measured.result.clock_offsets.iter().map(|offset| offset.uncertainty_milliseconds).max().unwrap_or(0);
    if uncertain > milliseconds(measured.claim.spec.objectives.recovery_time) / 10 {
        let message = "the clocks of probe and database can only be compared to more than a tenth of the objective";
        return unsound("clocks", target, format!("± {}", seconds(uncertain))).because(reasons::CLOCKS_UNCERTAIN, message);
    }
    sound("clocks", target, format!("steady to {}", seconds(step)))
}

/// How long the probe wrote in the gap, in milliseconds. In one without an end it wrote until its deadline: as long as its attempts failed.
fn length(measured: &Measured<'_>) -> i64 {
    let Some(gap) = &measured.result.gap else { return 0 };
    let interval = milliseconds(measured.claim.spec.load.direct_write_interval);
    let failed = i64::try_from(gap.failed_attempts).unwrap_or(i64::MAX).saturating_mul(interval);
    gap.upper_milliseconds.unwrap_or(failed.max(gap.lower_milliseconds))
}

fn load(measured: &Measured<'_>) -> Judged {
    let accept = &measured.result.accept;
    let rate = i64::from(measured.claim.spec.load.messages_per_second);
    let target = format!("{rate} messages a second");
    let due = rate.saturating_mul(length(measured)) / 1000;
    let accepted = i64::try_from(accept.acknowledged_in_gap).unwrap_or(i64::MAX);
    let measured_text = format!("{accepted} of {due} due in the gap");
    if accept.acknowledged == 0 || measured.result.direct_channel.sent == 0 {
        return unsound("load", &target, "none").because(reasons::NO_LOAD, "nothing was written: look at the probe's log");
    }
    if due >= FEWEST_DUE && accepted < due / 2 {
        let message = "the queue accepted too few messages while writes stood still, so little is proven: look whether SQS throttles or refuses the probe";
        return unsound("load", &target, measured_text).because(reasons::NO_LOAD, message);
    }
    sound("load", &target, measured_text)
}

/// One late begin in ten is a busy machine, and the interval has room for it; more would hide when writes came back.
fn ticks(measured: &Measured<'_>) -> Judged {
    let target = "at most a tenth late";
    let interval = milliseconds(measured.claim.spec.load.direct_write_interval).max(1);
    let (missed, due) = (i64::try_from(measured.result.missed_ticks_in_gap).unwrap_or(i64::MAX), length(measured) / interval);
    let text = format!("{missed} of {due} in the gap");
    if missed.saturating_mul(10) <= due {
        return sound("ticks", target, text);
    }
    unsound("ticks", target, text).because(reasons::MISSED_TICKS, "the probe itself came late: give its node more processor time")
}

/// Whether the gap is this drill's failover.
fn failover(measured: &Measured<'_>) -> Judged {
    let target = "one, to the target";
    let gap = measured.result.gap.as_ref();
    let another = |message: String| unsound("failover", target, "another").because(reasons::ANOTHER_FAILOVER, message);
    if let Some(why) = gap.and_then(|gap| strange_gap(gap, measured)).or_else(|| strange_events(measured)) {
        return another(why);
    }
    let fail = |reason: &'static str, what: &str| judged("failover", target, what, CriterionResult::Fail).because(reason, what);
    let events = || in_window(measured).map(|event| &event.kind);
    let back = gap.is_some_and(|gap| gap.writer_after.as_ref() == Some(&measured.claim.writer)) && !measured.target_is_writer;
    if events().any(|kind| *kind == EventKind::Failed) {
        return fail(reasons::FAILOVER_FAILED, "RDS says that the failover failed");
    }
    if events().any(|kind| *kind == EventKind::PreviousWriterPromoted) || (back && measured.call.outcome == CallOutcome::Accepted) {
        return fail(reasons::PREVIOUS_WRITER_PROMOTED, "RDS promoted the previous writer again");
    }
    match gap.and_then(|gap| gap.writer_after.as_deref()) {
        Some(after) if after != measured.claim.target => another(format!("{after} took the writes, which is not the target")),
        _ if measured.result.writer_changes > 1 => another("the writer changed more than once".to_owned()),
        after => sound("failover", target, after.unwrap_or(if measured.target_is_writer { &measured.claim.target } else { "none" })),
    }
}

fn strange_gap(gap: &Gap, measured: &Measured<'_>) -> Option<String> {
    let claimed = measured.claim.at;
    if claimed.duration_since(gap.last_good_began) > TOLERANCE {
        return Some("writes stood still before this drill called for its failover".to_owned());
    }
    let ended = gap.first_good_ended.is_some_and(|ended| ended < claimed);
    ended.then(|| "writes stood still and came back before this drill called for its failover".to_owned())
}

fn strange_events(measured: &Measured<'_>) -> Option<String> {
    let mut started: Vec<_> = in_window(measured)
        .filter_map(|event| match &event.kind {
            EventKind::Started(to) => Some((event.at, to.as_deref())),
            _ => None,
        })
        .collect();
    started.sort_unstable();
    // The same event may be told twice.
    started.dedup();
    match started.as_slice() {
        [] => None,
        [(_, Some(to))] if *to != measured.claim.target => Some(format!("a failover to {to} began, which is not the target")),
        [_] => None,
        _ => Some("more than one failover began while it was measured".to_owned()),
    }
}

/// The events while it was measured.
fn in_window<'a>(measured: &'a Measured<'_>) -> impl Iterator<Item = &'a ClusterEvent> {
    let window =
        |at: Timestamp| at.duration_since(measured.claim.at) >= -TOLERANCE && at.duration_since(measured.result.ended) <= TOLERANCE;
    measured.events.iter().filter(move |event| window(event.at))
}

#[cfg(test)]
mod tests;
