//! Receiving: how many polls are under way, and what comes in. Bytes are reserved before each poll, so that memory stays within its budget
//! whatever the messages' size.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::flow::Phase;
use super::{Effect, Engine, VISIBILITY, probes};
use crate::decode::Record;
use crate::message::Message;
use crate::problem::Problem;
use crate::queue::{QueueError, QueueFacts};

/// The most messages of one call.
const BATCH: usize = 10;
/// The most polls under way.
const POLLS: usize = 16;
/// How long a poll waits for its first message: the longest that SQS allows.
const WAIT: Duration = Duration::from_secs(20);
/// The same while it is being tested whether messages can be written again.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// So many full batches of messages that cannot be written are held at the most: each must be kept invisible by a call now and then.
const STUCK: usize = 4;
/// So many failed polls in a row are said.
const FAILURES: u32 = 3;

/// The polls under way, and how many there should be.
#[derive(Debug)]
pub(super) struct Receiving {
    target: usize,
    /// The polls under way: what each has reserved, and the most that it can bring.
    in_flight: BTreeMap<u64, (u64, usize)>,
    last_was_full: bool,
    waiting_since: Option<Instant>,
    not_before: Instant,
    failures: u32,
}

impl Receiving {
    pub(super) fn new(now: Instant) -> Self {
        Self { target: 1, in_flight: BTreeMap::new(), last_was_full: false, waiting_since: None, not_before: now, failures: 0 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What the polls under way may bring, in bytes.
    pub(super) fn reserved(&self) -> u64 {
        self.in_flight.values().map(|(bytes, _)| bytes).sum()
    }

    /// True when the next receive will surely bring messages.
    pub(super) fn expects_more(&self) -> bool {
        self.last_was_full && !self.in_flight.is_empty()
    }

    /// Since when received messages wait to be taken into a lane.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Messages were taken into a lane; some are left, or none.
    pub(super) fn taken(&mut self, left: bool, now: Instant) {
        self.waiting_since = left.then_some(now);
    }

    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        (self.not_before > now).then_some(self.not_before)
    }

    /// Doubles on a full receive, falls on an empty or a thin one.
    fn adapt(&mut self, received: usize, maximum: usize) {
        self.last_was_full = received >= maximum;
        self.target = match received {
            0 => self.target / 2,
            _ if self.last_was_full => self.target * 2,
            _ if received * 2 <= maximum => self.target - 1,
            _ => self.target,
        }
        .clamp(1, POLLS);
    }
}

impl Engine {
    pub(super) fn start_polls(&mut self, now: Instant) {
        while self.may_poll(now) {
            let Some(facts) = &self.queue.facts else { return };
            let (fits, each) = self.room_for_poll(facts.maximum_message_size);
            let fits = fits.min(BATCH);
            let others = !self.receiving.in_flight.is_empty();
            // However small the budget, one message at a time must get through.
            let maximum = if fits == 0 && self.messages.len() == 0 && !others { 1 } else { fits };
            // A call for a few messages costs as much as one for ten: room for ten comes when another poll ends.
            if maximum == 0 || maximum < BATCH && others {
                return;
            }
            let wait = if self.phase.doubt().is_some() { SHORT_WAIT } else { WAIT };
            let poll = self.number();
            let bytes = each.saturating_mul(u64::try_from(maximum).unwrap_or(u64::MAX));
            self.receiving.in_flight.insert(poll, (bytes, maximum));
            self.effects.push(Effect::Poll { poll, maximum, wait });
        }
    }

    /// How many messages may be stuck before nothing more is received.
    pub(super) fn most_stuck(&self) -> usize {
        STUCK * self.settings.max_rows.max(2 * BATCH)
    }

    /// True when nothing more can be received for the messages that are stuck.
    pub(super) fn is_crowded(&self) -> bool {
        let no_room = |facts: &QueueFacts| self.room_for_poll(facts.maximum_message_size).0 == 0;
        // What polls reserve they give back.
        let full = self.receiving.in_flight.is_empty() && self.queue.facts.as_ref().is_some_and(no_room);
        self.messages.failed() > 0 && (full || self.messages.stuck() >= self.most_stuck())
    }

    fn may_poll(&self, now: Instant) -> bool {
        let Phase::Flowing { proven, doubt } = &self.phase else { return false };
        let polls = self.receiving.in_flight.len();
        // Those that are stuck must not keep others from being received.
        let stuck = self.messages.stuck();
        let fresh = self.messages.of_users().saturating_sub(stuck);
        let rows = self.settings.max_rows.max(2 * BATCH);
        let wanted = if stuck >= self.most_stuck() {
            false
        } else if *proven {
            polls < self.receiving.target && fresh + polls * BATCH < 3 * rows
        } else if doubt.is_some() {
            // Only a message that can be written proves that messages can be written: those held may all be bad.
            polls == 0 && fresh < rows
        } else {
            polls == 0 && self.messages.fresh() == 0 && self.lanes.is_empty()
        };
        wanted && !self.draining && self.queue.is_ready() && !self.acknowledging.is_failing(now) && self.receiving.not_before <= now
    }

    pub(super) fn on_received(&mut self, poll: u64, started: Instant, result: Result<Vec<Message>, QueueError>, now: Instant) {
        let maximum = self.receiving.in_flight.remove(&poll).map_or(BATCH, |(_, maximum)| maximum);
        let messages = match result {
            Ok(messages) => messages,
            Err(error) => return self.on_receive_failed(error, now),
        };
        self.receiving.failures = 0;
        self.queue.unreachable = None;
        self.receiving.adapt(messages.len(), maximum);
        self.queue.saw(&messages, started);
        if messages.is_empty() {
            self.end_doubt_when_idle();
            return;
        }
        if self.messages.fresh() == 0 {
            self.receiving.waiting_since = Some(now);
        }
        if !self.receiving.last_was_full && self.receiving.target == 1 {
            // A trickle: a moment later the next poll brings more for the same price.
            self.receiving.not_before = now + self.settings.max_wait;
        }
        for message in messages {
            self.take_in(message, started);
        }
    }

    fn take_in(&mut self, message: Message, started: Instant) {
        let deadline = started + VISIBILITY;
        if let Some(mark) = probes::mark(&message) {
            return self.messages.insert(Record { message, values: Vec::new(), probe: Some(mark) }, None, started, deadline);
        }
        self.counters.received += 1;
        let (values, fault) = match self.decoder.decode(&message) {
            Ok(values) => (values, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        self.messages.insert(Record { message, values, probe: None }, fault, started, deadline);
    }

    fn on_receive_failed(&mut self, error: QueueError, now: Instant) {
        self.receiving.failures += 1;
        self.receiving.target = 1;
        self.receiving.last_was_full = false;
        self.receiving.not_before = now + Duration::from_millis(100 << self.receiving.failures.min(6));
        match error {
            QueueError::Transient(message) => {
                if self.receiving.failures >= FAILURES {
                    self.queue.unreachable = Some(message);
                }
            }
            QueueError::Problem(problem) => self.queue_fault(problem, now),
        }
    }

    /// With nothing held and nothing to receive there is nothing left to doubt.
    fn end_doubt_when_idle(&mut self) {
        if self.messages.of_users() == 0
            && let Phase::Flowing { doubt, .. } = &mut self.phase
        {
            *doubt = None;
            self.database.fault = None;
        }
    }

    pub(super) fn queue_fault(&mut self, problem: Problem, now: Instant) {
        if self.queue.fault.as_ref() != Some(&problem) {
            tracing::warn!(reason = problem.reason, %problem, "the queue cannot be used");
        }
        self.queue.fault = Some(problem);
        self.queue.facts = None;
        self.queue.tries += 1;
        self.queue.check_at = Some(now + Duration::from_millis(500 << self.queue.tries.min(5)).min(Duration::from_secs(10)));
    }
}
