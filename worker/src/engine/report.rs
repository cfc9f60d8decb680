//! What the worker says of itself: made from the engine's state when somebody asks.

use durable_write_crds::conditions::reasons;
use durable_write_crds::wire::{Counters, DatabaseState, QueueState, Report, WorkerState};
use jiff::Timestamp;
use tokio::time::Instant;

use super::Engine;
use super::flow::Phase;
use crate::message::Message;
use crate::problem::Problem;
use crate::queue::{Depth, QueueFacts};

/// First receives of which more than half were duplicates are worth a warning when there were so many.
const DUPLICATES_WINDOW: usize = 200;

/// What is known of the queue.
#[derive(Debug, Default)]
pub(super) struct QueueView {
    pub(super) facts: Option<QueueFacts>,
    pub(super) fault: Option<Problem>,
    pub(super) unreachable: Option<String>,
    pub(super) tries: u32,
    pub(super) check_at: Option<Instant>,
    checked_once: bool,
    oldest_received: Option<Timestamp>,
    /// The start of the last poll that found nothing: nothing older was waiting then.
    empty_at: Option<Instant>,
}

impl QueueView {
    pub(super) fn is_ready(&self) -> bool {
        self.facts.is_some()
    }

    /// Takes in how old the messages of a receive are.
    pub(super) fn saw(&mut self, messages: &[Message], started: Instant) {
        let oldest = messages.iter().map(|message| message.sent).min();
        self.empty_at = if oldest.is_none() { Some(started) } else { None };
        self.oldest_received = oldest;
    }
}

/// What is known of the database.
#[derive(Debug, Default)]
pub(super) struct DatabaseView {
    pub(super) identity: Option<String>,
    pub(super) writer: Option<String>,
    /// The table was looked at and found good.
    pub(super) checked: bool,
    /// What is wrong with the table.
    pub(super) fault: Option<Problem>,
    /// What keeps the writer from being found.
    pub(super) hindrance: Option<Problem>,
    pub(super) duplicates: Duplicates,
}

/// How many first receives were found in the table already.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    first: usize,
    skipped: usize,
    many: bool,
}

impl Duplicates {
    pub(super) fn record(&mut self, first: usize, skipped: usize) {
        self.first += first;
        self.skipped += skipped;
        if self.first >= DUPLICATES_WINDOW {
            self.many = self.skipped * 2 > self.first;
            (self.first, self.skipped) = (0, 0);
        }
    }
}

/// What the engine says of itself, without times: conditions as (status, reason, message).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    flowing: Condition,
    queue_ready: Condition,
    database_ready: Condition,
    stalled: Condition,
    checked: bool,
    queue: QueueState,
    database: DatabaseState,
    counters: Counters,
}

type Condition = (Option<bool>, &'static str, String);

impl Engine {
    pub(super) fn on_queue_checked(&mut self, result: Result<QueueFacts, Problem>, now: Instant) {
        match result {
            Ok(facts) => {
                if self.queue.fault.take().is_some() {
                    tracing::info!("the queue can be used again");
                }
                self.queue.facts = Some(facts);
                self.queue.tries = 0;
                self.queue.check_at = None;
                self.queue.checked_once = true;
            }
            Err(problem) => self.queue_fault(problem, now),
        }
    }

    pub(super) fn check_queue_again(&mut self, now: Instant) {
        if self.queue.check_at.is_some_and(|time| time <= now) && !self.draining {
            self.queue.check_at = None;
            self.effects.push(super::Effect::CheckQueue);
        }
    }

    /// What the worker says of itself now.
    #[must_use]
    pub fn snapshot(&self, now: Instant, wall: Timestamp, depth: Option<Depth>) -> Snapshot {
        let counters = Counters { held: u64::try_from(self.messages.of_users()).unwrap_or(u64::MAX), ..self.counters };
        Snapshot {
            flowing: self.flowing(now),
            queue_ready: self.queue_ready(),
            database_ready: self.database_ready(),
            stalled: self.stalled(now),
            checked: self.queue.checked_once && self.database.identity.is_some() && self.database.checked,
            queue: QueueState {
                visible: depth.map(|depth| depth.visible),
                in_flight: depth.map(|depth| depth.in_flight),
                dead_lettered: depth.and_then(|depth| depth.dead_lettered),
                retention_seconds: self.queue.facts.as_ref().and_then(|facts| i64::try_from(facts.retention.as_secs()).ok()),
                oldest_seen: self.oldest_seen(now, wall),
            },
            database: DatabaseState { writer: self.database.writer.clone() },
            counters,
        }
    }

    fn oldest_seen(&self, now: Instant, wall: Timestamp) -> Option<Timestamp> {
        let held = self.messages.iter().map(|(_, held)| held.record.message.sent).min();
        let empty = || self.queue.empty_at.and_then(|at| wall.checked_sub(now.saturating_duration_since(at)).ok());
        held.or_else(empty).or(self.queue.oldest_received)
    }

    fn flowing(&self, now: Instant) -> Condition {
        if self.draining {
            return (Some(false), reasons::DRAINING, "the worker is ending".to_owned());
        }
        if self.acknowledging.is_failing(now) {
            let message = "written messages cannot be deleted from the queue, so no more are received; see QueueReady".to_owned();
            return (Some(false), reasons::ACKNOWLEDGE_FAILING, message);
        }
        match &self.phase {
            Phase::Seeking | Phase::Preparing { doubt: None } if self.database.hindrance.is_none() && self.queue.fault.is_some() => {
                self.queue_ready()
            }
            Phase::Seeking => match &self.database.hindrance {
                Some(problem) => (Some(false), problem.reason, format!("{problem}; {} messages are held", self.messages.of_users())),
                None => (None, reasons::STARTING, "looking for the writer".to_owned()),
            },
            Phase::Preparing { doubt: None } => (None, reasons::STARTING, "looking at the table".to_owned()),
            Phase::Preparing { doubt: Some(doubt) } | Phase::Flowing { doubt: Some(doubt), .. } | Phase::Paused { doubt, .. } => {
                (Some(false), doubt.problem.reason, doubt.problem.to_string())
            }
            Phase::Flowing { doubt: None, .. } if !self.queue.is_ready() => self.queue_ready(),
            Phase::Flowing { doubt: None, .. } if self.database.duplicates.many => (
                Some(true),
                reasons::TOO_MANY_DUPLICATES,
                "more than half of the messages that came for the first time had their row already: is idempotency.targetKey what tells one message from another?".to_owned(),
            ),
            Phase::Flowing { doubt: None, .. } => (Some(true), reasons::OK, self.flowing_message()),
        }
    }

    fn flowing_message(&self) -> String {
        match self.messages.failed() {
            0 => "messages can be written".to_owned(),
            // Without the number, which changes too often for a condition.
            _ => "messages can be written; some lack a partition or a row that they refer to, and are held and tried again".to_owned(),
        }
    }

    fn queue_ready(&self) -> Condition {
        if let Some(problem) = self.queue.fault.as_ref().or(self.acknowledging.refusal()) {
            return (Some(false), problem.reason, problem.to_string());
        }
        if let Some(message) = &self.queue.unreachable {
            return (Some(false), reasons::QUEUE_UNREACHABLE, format!("SQS does not answer: {message}"));
        }
        match &self.queue.facts {
            Some(_) => (Some(true), reasons::OK, "queue and dead-letter queue can be used".to_owned()),
            None => (None, reasons::STARTING, "looking the queue up".to_owned()),
        }
    }

    fn database_ready(&self) -> Condition {
        let known = self.database.hindrance.as_ref().filter(|problem| problem.reason != reasons::DATABASE_OUTAGE);
        match self.database.fault.as_ref().or(known) {
            Some(problem) => (Some(false), problem.reason, problem.to_string()),
            None if self.database.checked => (Some(true), reasons::OK, "database and table can be used".to_owned()),
            None => (None, reasons::STARTING, "no writer was reached yet".to_owned()),
        }
    }

    /// Somebody must act: a fault that retrying alone is not expected to mend.
    fn stalled(&self, now: Instant) -> Condition {
        let hindrance = self.database.hindrance.as_ref().filter(|problem| problem.reason != reasons::DATABASE_OUTAGE);
        let problem =
            self.queue.fault.as_ref().or(self.acknowledging.refusal()).or(self.phase.doubt().map(|doubt| &doubt.problem)).or(hindrance);
        match problem {
            Some(problem) => (Some(true), problem.reason, problem.to_string()),
            None if self.acknowledging.is_failing(now) => {
                (Some(true), reasons::ACKNOWLEDGE_FAILING, "written messages cannot be deleted".to_owned())
            }
            None => (Some(false), reasons::OK, "nothing needs attention".to_owned()),
        }
    }
}

impl Snapshot {
    /// The document for `/state`. Of the last one it takes the times since when a status stands.
    #[must_use]
    pub fn document(&self, last: Option<&WorkerState>, wall: Timestamp) -> WorkerState {
        let report = |(status, reason, message): &Condition, last: Option<&Report>| Report {
            status: *status,
            reason: (*reason).to_owned(),
            message: message.clone(),
            since: last.filter(|last| last.status == *status).map_or(wall, |last| last.since),
        };
        WorkerState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: wall,
            flowing: report(&self.flowing, last.map(|last| &last.flowing)),
            queue_ready: report(&self.queue_ready, last.map(|last| &last.queue_ready)),
            database_ready: report(&self.database_ready, last.map(|last| &last.database_ready)),
            stalled: report(&self.stalled, last.map(|last| &last.stalled)),
            checked: self.checked || last.is_some_and(|last| last.checked),
            queue: self.queue.clone(),
            database: self.database.clone(),
            counters: self.counters,
        }
    }
}
