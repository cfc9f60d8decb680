//! What follows a message that is done with: its copy in the dead-letter queue, and its delete. Off the write path, but close behind it, as
//! what is written and not yet deleted is what a crash delivers again.

use std::collections::VecDeque;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use tokio::time::Instant;

use super::held::{Key, Place};
use super::{Effect, Engine};
use crate::problem::Problem;
use crate::queue::{EntryError, Failures, QueueError};

/// How many messages one call takes.
const BATCH: usize = 10;
/// How many delete calls may be under way.
const CALLS: usize = 16;
/// How many dead letters may be on their way: each is in memory several times.
const DEAD_LETTER_CALLS: usize = 4;
/// After so long without a successful delete nothing more is received.
const FAILING: Duration = Duration::from_secs(30);

/// Messages that are done with.
#[derive(Debug, Default)]
pub(super) struct Acknowledging {
    deletes: VecDeque<Key>,
    /// Since when the first of them waits.
    waiting_since: Option<Instant>,
    calls: usize,
    failing_since: Option<Instant>,
    retry_at: Option<Instant>,
    tries: u32,
    /// Messages for the dead-letter queue, with the time before which each is not sent.
    dead: VecDeque<(Key, Instant)>,
    dead_letter_calls: usize,
    /// Why the dead-letter queue refused the last message.
    refused: Option<Problem>,
}

impl Acknowledging {
    pub(super) fn push(&mut self, key: Key, now: Instant) {
        self.waiting_since.get_or_insert(now);
        self.deletes.push_back(key);
    }

    pub(super) fn dead_letter(&mut self, key: Key, now: Instant) {
        self.dead.push_back((key, now));
    }

    /// True when deletes have failed for so long that receiving more would only pile up.
    pub(super) fn is_failing(&self, now: Instant) -> bool {
        self.failing_since.is_some_and(|since| now >= since + FAILING)
    }

    pub(super) fn refusal(&self) -> Option<&Problem> {
        self.refused.as_ref()
    }

    pub(super) fn wake_at(&self, linger: Duration) -> Option<Instant> {
        let due = |since: Instant| self.retry_at.map_or(since + linger, |retry_at| retry_at.max(since + linger));
        let deletes = self.waiting_since.filter(|_| self.calls < CALLS).map(due);
        let dead_letters = self.dead.front().filter(|_| self.dead_letter_calls < DEAD_LETTER_CALLS).map(|(_, time)| *time);
        dead_letters.into_iter().chain(deletes).min()
    }
}

impl Engine {
    /// Sends the deletes that are due, in tens. A smaller batch waits a little for more, while statements are under way.
    pub(super) fn send_deletes(&mut self, now: Instant) {
        let linger = if self.settings.fifo || self.draining || self.lanes.is_empty() { Duration::ZERO } else { self.settings.max_wait };
        let acknowledging = &mut self.acknowledging;
        if acknowledging.retry_at.is_some_and(|time| now < time) {
            return;
        }
        while acknowledging.calls < CALLS && !acknowledging.deletes.is_empty() {
            let partial = acknowledging.deletes.len() < BATCH;
            if partial && acknowledging.waiting_since.is_some_and(|since| now < since + linger) {
                return;
            }
            let count = acknowledging.deletes.len().min(BATCH);
            let keys: Vec<Key> = acknowledging.deletes.drain(..count).collect();
            acknowledging.waiting_since = if acknowledging.deletes.is_empty() { None } else { Some(now) };
            acknowledging.calls += 1;
            let messages = &self.messages;
            let handles =
                keys.iter().filter_map(|key| Some(crate::queue::Handle { key: *key, record: messages.get(*key)?.record.clone() }));
            self.effects.push(Effect::Delete(handles.collect()));
        }
    }

    pub(super) fn on_deleted(&mut self, keys: &[Key], result: Result<Failures, QueueError>, now: Instant) {
        self.acknowledging.calls -= 1;
        let failed = match result {
            Ok(failures) => failures,
            Err(error) => {
                if let QueueError::Problem(problem) = error {
                    self.queue.fault = Some(problem);
                }
                keys.iter().map(|key| (*key, EntryError::Transient)).collect()
            }
        };
        let mut again = Vec::new();
        for &key in keys {
            match failed.iter().find(|(failed, _)| *failed == key) {
                None => {
                    self.counters.acknowledged += self.counted(key);
                    self.messages.remove(key);
                }
                // It will be delivered again, and found in the table.
                Some((_, EntryError::Expired)) => self.messages.remove(key),
                Some((_, EntryError::Transient)) => again.push(key),
            }
        }
        let acknowledging = &mut self.acknowledging;
        if again.is_empty() {
            if acknowledging.failing_since.take().is_some() {
                self.queue.fault = None;
            }
            acknowledging.retry_at = None;
            acknowledging.tries = 0;
        } else {
            acknowledging.failing_since.get_or_insert(now);
            acknowledging.tries += 1;
            acknowledging.retry_at = Some(now + Duration::from_millis(50 << acknowledging.tries.min(6)));
            acknowledging.waiting_since.get_or_insert(now);
            again.into_iter().rev().for_each(|key| acknowledging.deletes.push_front(key));
        }
    }

    /// Sends copies to the dead-letter queue.
    pub(super) fn send_dead_letters(&mut self, now: Instant) {
        for _ in 0..self.acknowledging.dead.len() {
            if self.acknowledging.dead_letter_calls >= DEAD_LETTER_CALLS {
                return;
            }
            let Some((key, time)) = self.acknowledging.dead.pop_front() else { return };
            let Some(held) = self.messages.get(key).filter(|held| held.place == Place::DeadLetter) else { continue };
            if time > now {
                self.acknowledging.dead.push_back((key, time));
            } else if held.deadline <= now || (self.draining && self.acknowledging.refused.is_some()) {
                self.cut(key); // Another consumer has it, or will.
            } else if let (Some(handle), Some(fault)) = (self.handle_of(key), held.fault.clone()) {
                let key = self.decoder.key_text(&handle.record);
                self.acknowledging.dead_letter_calls += 1;
                self.effects.push(Effect::DeadLetter { handle, fault, key });
            }
        }
    }

    pub(super) fn on_dead_lettered(&mut self, key: Key, result: Result<(), QueueError>, now: Instant) {
        self.acknowledging.dead_letter_calls -= 1;
        match result {
            Ok(()) => {
                self.counters.dead_lettered += 1;
                self.acknowledging.refused = None;
                self.messages.put(key, Place::Written);
                self.acknowledging.push(key, now);
            }
            Err(error) => {
                let why = match error {
                    QueueError::Transient(message) => message,
                    QueueError::Problem(problem) => problem.to_string(),
                };
                let message = format!("the dead-letter queue refuses messages: {why}; they are held and sent again");
                self.acknowledging.refused = Some(Problem::new(reasons::DEAD_LETTER_REFUSED, "queue.deadLetterQueue", message));
                self.acknowledging.dead.push_back((key, now + Duration::from_secs(2)));
            }
        }
    }
}
