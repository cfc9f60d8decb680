//! How close the oldest message that is known is to the end of the queue's retention: the one way to lose a message that nothing else ends.

use durable_write_crds::conditions::{reasons, types};
use durable_write_crds::pipeline::QueueStatus;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::Typed;
use super::reports::{self, Draft};
use crate::workers::Answer;

/// Whether messages are received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// By all workers, and all of them say what they see.
    Fully,
    /// By some, or not all workers say what they see.
    Partly,
    /// By none, since then.
    StoppedAt(Timestamp),
}

impl Receiving {
    pub(super) fn new(flowing: &Draft, previous: &[Condition], answers: &[Answer], now: Timestamp) -> Self {
        if flowing.status == Some(true) {
            let all = answers.iter().all(|answer| answer.state.as_ref().is_ok_and(|state| state.flowing.status == Some(true)));
            return if all { Self::Fully } else { Self::Partly };
        }
        let condition = previous.iter().find(|condition| condition.type_ == types::FLOWING && condition.status != "True");
        let reported = reports::states(answers).filter(|state| state.flowing.status == Some(false)).map(|state| state.flowing.since);
        Self::StoppedAt(reported.chain(condition.map(|condition| condition.last_transition_time.0)).chain([now]).min().unwrap_or(now))
    }
}

/// When the oldest message was sent that may still be in the queue. Only a report of all workers moves it forward; while nothing is
/// received, nobody can know of anything newer than the moment when receiving stopped.
pub(super) fn oldest_seen(previous: Option<Timestamp>, receiving: &Receiving, answers: &[Answer]) -> Option<Timestamp> {
    let reported = reports::states(answers).filter_map(|state| state.queue.oldest_seen).min();
    let empty = reports::states(answers).all(|state| state.queue.visible == Some(0) && state.queue.in_flight == Some(0));
    match receiving {
        Receiving::Fully if empty => None,
        Receiving::Fully => reported.or(previous),
        Receiving::Partly => [reported, previous].into_iter().flatten().min(),
        Receiving::StoppedAt(stopped) => [reported, previous, Some(*stopped)].into_iter().flatten().min(),
    }
}

/// The condition `WithinRetention`, from the status alone: it is also true with no worker up.
pub(super) fn within(queue: &QueueStatus, now: Timestamp) -> Typed {
    let draft = match (queue.retention_seconds, queue.oldest_seen.as_ref()) {
        (Some(retention), Some(sent)) => judge(SignedDuration::from_secs(retention), sent.0, now),
        (Some(_), None) => Draft::new(Some(true), reasons::OK, "no waiting message is known"),
        (None, _) => Draft::new(None, reasons::STARTING, "no worker has reported the queue's retention yet"),
    };
    Typed { type_: types::WITHIN_RETENTION, draft }
}

fn judge(retention: SignedDuration, sent: Timestamp, now: Timestamp) -> Draft {
    let age = now.duration_since(sent);
    let ends = sent.checked_add(retention).map(|end| end.to_string()).unwrap_or_default();
    let warning = |reason, share| {
        let message = format!(
            "the oldest message that may wait has lived {share} of the queue's retention; SQS deletes it at {ends}: \
             mend what stops the pipeline, or raise the queue's MessageRetentionPeriod now"
        );
        Draft::new(Some(false), reason, message)
    };
    if age >= retention * 4 / 5 {
        warning(reasons::RETENTION_NEARLY_OVER, "four fifths")
    } else if age >= retention / 2 {
        warning(reasons::HALF_OF_RETENTION_PASSED, "half")
    } else {
        Draft::new(Some(true), reasons::OK, "every message that is known has lived less than half of the queue's retention")
    }
}
