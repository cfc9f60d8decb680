//! What the operator and the probe of a drill exchange: the plan that the probe is started with, what it shows while it runs, and its result.
//!
//! Times are of the probe's wall clock, anchored once to its monotonic clock, so that two of them can be subtracted. Lengths are in
//! milliseconds.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::drill::{DirectPath, DrillQueue, Integrity};

/// The environment variable that holds the [`ProbePlan`], in JSON.
pub const PLAN_VARIABLE: &str = "DURABLE_WRITE_PROBE_PLAN";
/// Where the probe leaves its [`ProbeResult`], in JSON: the kubelet takes it over as the termination message.
pub const RESULT_FILE: &str = "/dev/termination-log";
/// A termination message that is longer is cut off by the kubelet.
pub const RESULT_BYTES: usize = 4096;
/// This many good writes in a row, all begun after one another, make a recovery; and so many that fail after it, with no such row between them,
/// show that it was none.
pub const STREAK: u32 = 5;
/// Attempts that take longer have failed; whether they were carried out is then unknown.
pub const ATTEMPT_MILLISECONDS: u64 = 2000;

/// What a probe is to do.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbePlan {
    /// The drill's uid: it marks every message and row of the probe.
    pub drill: String,
    /// `<kubernetes cluster>:<namespace of the operator>/<namespace>/<drill>`, for people who find the open-drill row.
    pub drill_name: String,
    /// The Aurora cluster's resource identifier: one open drill each.
    pub resource_id: String,
    /// The pinned writer: the baseline is only steady when this instance takes the writes.
    pub writer: String,
    /// The instance that is to become the writer.
    pub target: String,
    /// The baseline is only steady while the target lags less than this behind the writer.
    pub max_replica_lag: Duration,
    /// Messages a second through the queue.
    pub messages_per_second: u32,
    /// A direct write begins this often.
    pub direct_write_interval: Duration,
    /// The way of the direct writes.
    pub direct_path: DirectPath,
    /// The shortest baseline.
    pub warm_up: Duration,
    /// How long writes go on after the recovery.
    pub cool_down: Duration,
    /// The longest drain, counted from the recovery; the queue's DelaySeconds are added.
    pub backlog_drained: Duration,
    /// The probe gives up when it has not seen a recovery by then, counted from its start. It then still drains and counts.
    pub deadline: Duration,
}

/// The message attribute that marks a message of a probe. Its value and the body say the same, else it is a user's message.
pub const PROBE_ATTRIBUTE: &str = "durable-write-probe";

/// What a probe's message says: the body holds it as JSON, the attribute as text, `<drill>/<seq>/<expires in Unix seconds>`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeMark {
    /// The drill's uid.
    pub drill: String,
    /// The number of the message, dense from 1.
    pub seq: i64,
    /// When the drill is over at the latest, in Unix seconds.
    pub expires: i64,
}

/// The body of a probe's message.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeBody {
    /// The mark, under a name that no producer uses by chance.
    pub durable_write_probe: ProbeMark,
}

impl ProbeMark {
    /// The value of the attribute.
    #[must_use]
    pub fn attribute(&self) -> String {
        format!("{}/{}/{}", self.drill, self.seq, self.expires)
    }

    /// The mark of a message, when attribute and body both have the probe's form and agree.
    #[must_use]
    pub fn read(attribute: &str, body: &str) -> Option<Self> {
        let ProbeBody { durable_write_probe: mark } = serde_json::from_str(body).ok()?;
        (mark.attribute() == attribute && mark.seq >= 1 && is_uid(&mark.drill)).then_some(mark)
    }
}

/// A uid as Kubernetes gives it: 36 hexadecimal digits and hyphens.
fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// What a probe says of itself at `/state`. Best effort: no verdict depends on it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeState {
    /// The last seconds, oldest first; at most sixty.
    pub seconds: Vec<ProbeSecond>,
    /// Where the probe is: `Checking`, `Baseline`, `Steady`, `Outage`, `Recovered`, `Draining` or `Counting`.
    pub stage: String,
    /// What it waits for, for people.
    pub message: String,
}

/// One second of a probe.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSecond {
    /// The second's begin, in Unix seconds.
    pub at: i64,
    /// Messages that SQS confirmed in it.
    pub accepted: u32,
    /// Direct writes that the database confirmed in it.
    pub committed: u32,
    /// Direct writes that failed in it.
    pub failed: u32,
    /// Messages in the queue, where known.
    pub depth: Option<i64>,
    /// The instance that took the last good direct write.
    pub writer: Option<String>,
}

/// What a probe measured; at most [`RESULT_BYTES`] as JSON.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeResult {
    /// The probe's version.
    pub version: String,
    /// The drill's uid.
    pub drill: String,
    /// How the probe ended: `Completed`, or `Refused` when it could not measure.
    pub outcome: ProbeOutcome,
    /// Why it was refused, in one word: one of [`crate::conditions::drill_reasons`], or a reason of the queue's or the database's conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people: what it is and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the probe began.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started: Timestamp,
    /// When the baseline was steady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ready: Option<Timestamp>,
    /// When the probe ended.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub ended: Timestamp,
    /// The outage, when there was one after the baseline was steady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// How many times the direct writes moved to another instance after the baseline was steady.
    #[serde(default)]
    pub writer_changes: u32,
    /// The accept side: messages into the queue.
    #[serde(default)]
    pub accept: AcceptSide,
    /// What became of the messages.
    #[serde(default)]
    pub queue_channel: Integrity,
    /// What became of the direct writes.
    #[serde(default)]
    pub direct_channel: Integrity,
    /// Unknown writes that were found: not an error.
    #[serde(default)]
    pub recovered: i64,
    /// From the end of the gap until every acknowledged message was settled; absent when that did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_milliseconds: Option<i64>,
    /// The longest time between two rows of the queue channel, around the gap, by the probe's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_gap_milliseconds: Option<i64>,
    /// Messages in the queue at the end of the baseline, at the most, and at the end.
    #[serde(default)]
    pub depth: DepthSeen,
    /// By how much the dead-letter queue grew, of whatever messages; absent when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_growth: Option<i64>,
    /// Begins of direct writes that came late by more than their interval, since the baseline was steady.
    #[serde(default)]
    pub missed_ticks: u64,
    /// Of these, those between the last good write before the gap and the first after it.
    #[serde(default)]
    pub missed_ticks_in_gap: u64,
    /// By how much the wall clock moved against the monotonic clock, at the most.
    #[serde(default)]
    pub clock_step_milliseconds: i64,
    /// The database's clock minus the probe's, before and after, each with its uncertainty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock_offsets: Vec<ClockOffset>,
    /// How many of the probe's rows each instance shows; none where it was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceRows>,
    /// The queue's DelaySeconds.
    #[serde(default)]
    pub delay_seconds: i64,
}

impl ProbeResult {
    /// How many of its messages can have gone to the dead-letter queue, at the most: what is not in the table, and by what that queue grew, of
    /// whatever messages. None when that queue could not be read and something is not in the table.
    #[must_use]
    pub fn most_dead_lettered(&self) -> Option<i64> {
        let missing = self.queue_channel.lost.saturating_add(self.queue_channel.undrained).max(0);
        if missing == 0 { Some(0) } else { self.dead_letter_growth.map(|growth| growth.clamp(0, missing)) }
    }

    /// Both channels together.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        let (one, other) = (&self.queue_channel, &self.direct_channel);
        Integrity {
            sent: one.sent.saturating_add(other.sent),
            acknowledged: one.acknowledged.saturating_add(other.acknowledged),
            committed: one.committed.saturating_add(other.committed),
            lost: one.lost.saturating_add(other.lost),
            duplicated: one.duplicated.saturating_add(other.duplicated),
            unknown: one.unknown.saturating_add(other.unknown),
            unexpected: one.unexpected.saturating_add(other.unexpected),
            late: one.late.saturating_add(other.late),
            undrained: one.undrained.saturating_add(other.undrained),
        }
    }

    /// The depths of the queue. Of dead letters only that there are none is certain: neither probe nor operator may look into their queue.
    #[must_use]
    pub fn queue(&self) -> DrillQueue {
        DrillQueue {
            before: self.depth.before,
            peak: self.depth.peak,
            after: self.depth.after,
            dead_lettered_probes: self.most_dead_lettered().filter(|most| *most == 0),
        }
    }
}

/// How a probe ended.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It measured to its end.
    Completed,
    /// It could not begin, or its baseline was not steady: nothing was measured.
    Refused,
    /// Of a newer version.
    #[serde(other)]
    Unknown,
}

/// The outage that the direct channel saw: from the last good write on the pinned writer to the first of [`STREAK`] good writes after it, on
/// one instance, that stayed good for the cool-down. When as many writes fail again in the cool-down, with no such row of good ones between
/// them, the outage has gone on; fewer change nothing, as a busy machine makes single ones fail.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// When the last good write on the pinned writer was sent: until then it could commit, at least.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_good_began: Timestamp,
    /// When the pinned writer first refused a write after that: until then it could commit, at most. Absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub first_failed_ended: Option<Timestamp>,
    /// When the instance that took the good writes was last asked and refused: until then it could not commit, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_failed_began: Option<Timestamp>,
    /// When the first good write of the streak was answered; absent when writes did not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub first_good_ended: Option<Timestamp>,
    /// Attempts in it that no instance took.
    pub failed_attempts: u64,
    /// The instance that took the streak; the pinned writer when no other came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_after: Option<String>,
    /// Writes stood still at least so long: `last_failed_began` − `first_failed_ended`, at least 0.
    pub lower_milliseconds: i64,
    /// Writes stood still at most so long: `first_good_ended` − `last_good_began`. Absent when writes did not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_milliseconds: Option<i64>,
}

/// The accept side of the queue channel, since the baseline was steady.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AcceptSide {
    /// Sends that were begun.
    pub attempted: u64,
    /// Sends that SQS confirmed.
    pub acknowledged: u64,
    /// Sends that were refused or not answered.
    pub failed: u64,
    /// Of those that SQS confirmed, the ones begun between the two ends of the gap: only these prove something about it.
    pub acknowledged_in_gap: u64,
    /// The longest time between two confirmations, or from the last one until nothing was sent any more.
    pub longest_gap_milliseconds: i64,
}

/// Depths of the queue.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DepthSeen {
    /// At the end of the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// At the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<i64>,
    /// At the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

/// One clock against another.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClockOffset {
    /// The instance whose clock it is.
    pub instance: String,
    /// Its clock minus the probe's.
    pub milliseconds: i64,
    /// How far that may be off: half of the way there and back.
    pub uncertainty_milliseconds: i64,
}

/// What one instance shows at the end.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRows {
    /// The instance's identifier.
    pub name: String,
    /// Rows of both channels; none when it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// How far it lagged behind the writer at the end of the baseline, as `aurora_replica_status()` said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_before_milliseconds: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> ProbeMark {
        ProbeMark { drill: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(), seq: 7, expires: 1_800_000_000 }
    }

    #[test]
    fn a_message_is_a_probes_only_when_attribute_and_body_agree() {
        let mark = mark();
        let body = serde_json::to_string(&ProbeBody { durable_write_probe: mark.clone() }).unwrap();
        assert!(body.len() < 512);
        assert_eq!(ProbeMark::read(&mark.attribute(), &body), Some(mark.clone()));
        assert_eq!(ProbeMark::read("copied by a tracing bridge", &body), None);
        assert_eq!(ProbeMark::read(&mark.attribute(), r#"{"id": 7}"#), None);
        assert_eq!(ProbeMark::read(&ProbeMark { seq: 8, ..mark }.attribute(), &body), None);
    }

    #[test]
    fn what_a_newer_probe_adds_to_the_body_does_not_make_its_message_a_users() {
        let body = format!(
            r#"{{"durableWriteProbe": {{"drill": "{}", "seq": 7, "expires": 1800000000, "channel": "b"}}, "version": 2}}"#,
            mark().drill
        );
        assert_eq!(ProbeMark::read(&mark().attribute(), &body), Some(mark()));
    }

    #[test]
    fn a_drill_that_is_no_uid_marks_nothing() {
        let mark = ProbeMark { drill: "'; DROP TABLE".to_owned(), ..mark() };
        let body = serde_json::to_string(&ProbeBody { durable_write_probe: mark.clone() }).unwrap();
        assert_eq!(ProbeMark::read(&mark.attribute(), &body), None);
    }
}
