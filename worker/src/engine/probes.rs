//! Messages of a drill's probe: they come through the user's queue, but touch neither the user's table nor its order, dead letters and counters.
//! They are written by statements of their own, one at a time and beside the lanes, so that no fault of the probe's tables holds up a user's
//! message. What cannot be written is held and tried again while its drill lasts. Then it is deleted: the drill counts it as lost, which is
//! what it is.

use std::time::Duration;

use durable_write_crds::probe::{PROBE_ATTRIBUTE, ProbeMark};
use jiff::Timestamp;
use tokio::time::Instant;

use super::flow::Phase;
use super::held::{Held, Key, Place};
use super::{Effect, Engine};
use crate::message::{AttributeValue, Message};
use crate::sink::{Class, WriteError};

/// So many failures in a row are said.
const FAILURES: u32 = 5;
/// What cannot be written takes this part of the memory at the most: users' messages need the rest.
const PART_OF_MEMORY: u64 = 4;
/// What one row takes in a statement, at the most.
const ROW_BYTES: u64 = 128;

/// The statement of the probe's messages.
#[derive(Debug)]
pub(super) struct Probes {
    /// The wall clock, as it was read once.
    anchor: (Instant, Timestamp),
    /// The statement that is under way, and since when.
    write: Option<(u64, Instant)>,
    /// What it writes.
    keys: Vec<Key>,
    /// How many statements have failed in a row.
    failures: u32,
    not_before: Option<Instant>,
    /// Their statement was sent after the last lane was started.
    had_turn: bool,
    /// How many messages were deleted unwritten since then.
    deleted: usize,
}

impl Probes {
    pub(super) fn new(now: Instant) -> Self {
        Self { anchor: (now, Timestamp::now()), write: None, keys: Vec::new(), failures: 0, not_before: None, had_turn: false, deleted: 0 }
    }

    /// What the statement takes in memory.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.keys.len()).unwrap_or(u64::MAX).saturating_mul(ROW_BYTES)
    }

    /// Since when a statement is under way.
    pub(super) fn sent(&self) -> Option<Instant> {
        self.write.map(|(_, sent)| sent)
    }

    /// A lane was started.
    pub(super) fn end_turn(&mut self) {
        self.had_turn = false;
    }

    /// True when the last statement failed.
    pub(super) fn are_failing(&self) -> bool {
        self.failures > 0
    }

    /// True when the drill of this message is over.
    fn is_over(&self, held: &Held, now: Instant) -> bool {
        let (anchor, wall) = self.anchor;
        let seconds = i64::try_from(now.saturating_duration_since(anchor).as_secs()).unwrap_or(i64::MAX);
        held.record.probe.as_ref().is_none_or(|mark| mark.expires <= wall.as_second().saturating_add(seconds))
    }
}

/// What the probe's mark on a message says, when it is a probe's message.
pub(super) fn mark(message: &Message) -> Option<ProbeMark> {
    match &message.attributes.get(PROBE_ATTRIBUTE)?.value {
        AttributeValue::Text(text) => ProbeMark::read(text, &message.body),
        AttributeValue::Binary(_) => None,
    }
}

impl Engine {
    /// Writes what waits, one statement at a time: the next one takes all that came meanwhile.
    pub(super) fn write_probes(&mut self, now: Instant) {
        let Phase::Flowing { proven, doubt } = &self.phase else { return };
        // A new writer is tried by one statement, a user's if there is one.
        let may = *proven || doubt.is_some() || self.lanes.is_empty();
        if !may || !self.probes_are_due(now) || self.lanes.len() >= self.settings.connections {
            return;
        }
        let room = usize::try_from(self.room_for_lane() / ROW_BYTES).unwrap_or(usize::MAX).clamp(1, self.settings.max_rows);
        let keys = self.messages.take_probes(room, now);
        if keys.is_empty() {
            return;
        }
        let rows = keys.iter().filter_map(|key| self.messages.get(*key)).map(|held| held.record.clone()).collect();
        let write = self.number();
        self.probes.write = Some((write, now));
        (self.probes.not_before, self.probes.had_turn) = (None, true);
        self.probes.keys = keys;
        self.effects.push(Effect::WriteProbes { write, rows });
    }

    /// True when there is something to write, and nothing to wait for but a connection.
    fn probes_are_due(&self, now: Instant) -> bool {
        let busy = self.probes.write.is_some() || self.probes.not_before.is_some_and(|time| time > now);
        // What is written and not yet deleted is what a crash delivers again.
        let crowded = self.messages.count(Place::ProbeWritten) > self.settings.max_rows;
        !busy && !crowded && self.messages.count(Place::Probe) > 0
    }

    /// How many lanes there may be: the probes' statement takes one of their connections, and where there is only one, both take turns. Until
    /// a message was committed there is one lane.
    pub(super) fn most_lanes(&self, proven: bool, now: Instant) -> usize {
        let (all, writing) = (self.settings.connections, self.probes.write.is_some());
        match all {
            1 if writing => 0,
            _ if !proven => 1,
            _ if !writing && !self.probes_are_due(now) => all,
            1 => usize::from(self.probes.had_turn),
            _ => all - 1,
        }
    }

    pub(super) fn on_probes_written(&mut self, write: u64, result: Result<u64, WriteError>, now: Instant) {
        if self.probes.write.is_none_or(|(under_way, _)| under_way != write) {
            return; // It was given up.
        }
        match result {
            Ok(_) => self.probes_are_written(now),
            Err(error) if matches!(error.class, Class::Outage | Class::Authentication) => self.lose_writer(error.problem, now),
            Err(error) => self.hold_probes(&error, now),
        }
    }

    pub(super) fn probes_wake_at(&self, now: Instant) -> Option<Instant> {
        let wait = self.phase.is_flowing() && self.messages.count(Place::Probe) > 0;
        self.probes.not_before.filter(|time| wait && *time > now)
    }

    fn probes_are_written(&mut self, now: Instant) {
        if self.probes.failures >= FAILURES {
            tracing::info!(deleted = self.probes.deleted, "messages of a probe can be written again");
        }
        let keys = self.end_probes();
        self.finish_probes(keys, now);
        (self.probes.failures, self.probes.deleted) = (0, 0);
        // The writer takes commits: with nothing in doubt there is nothing more to prove.
        if let Phase::Flowing { proven, doubt: None } = &mut self.phase {
            *proven = true;
        }
    }

    /// The statement failed: its messages are tried again later, but for those whose drill is over.
    fn hold_probes(&mut self, error: &WriteError, now: Instant) {
        self.probes.failures += 1;
        if self.probes.failures == FAILURES {
            tracing::warn!(
                reason = error.problem.reason,
                sqlstate = error.sqlstate,
                "messages of a probe cannot be written and are held until their drill is over; what is not written then it counts as lost. The \
                 probe's tables or the right to them may be missing: `durable-write-worker schema --drills` prints the statements"
            );
        }
        self.probes.not_before = Some(now + Duration::from_millis(10 << self.probes.failures.min(9)));
        let is_over = |key: &Key| self.messages.get(*key).is_none_or(|held| self.probes.is_over(held, now));
        let (over, held) = self.probes.keys.iter().copied().partition::<Vec<Key>, _>(is_over);
        self.end_probes();
        // No user's statement says whether the writer is still there.
        if error.class == Class::Reconnect && self.lanes.is_empty() {
            self.seek();
        }
        self.delete_unwritten(over, now);
        held.into_iter().for_each(|key| self.messages.put(key, Place::Probe));
    }

    /// Of the messages that cannot be written only so many are held; of those beyond, the oldest are deleted.
    pub(super) fn delete_excess_probes(&mut self, now: Instant) {
        if self.probes.are_failing() {
            let excess = self.messages.probes_beyond(self.most_stuck(), self.settings.memory / PART_OF_MEMORY);
            self.delete_unwritten(excess, now);
        }
    }

    fn delete_unwritten(&mut self, keys: Vec<Key>, now: Instant) {
        self.probes.deleted += keys.len();
        self.finish_probes(keys, now);
    }

    /// These are done with, and are deleted.
    fn finish_probes(&mut self, keys: Vec<Key>, now: Instant) {
        for key in keys {
            if self.messages.get(key).is_some() {
                self.messages.put(key, Place::ProbeWritten);
                self.acknowledging.push(key, now);
            }
        }
    }

    /// No statement is under way any more: what was in it.
    fn end_probes(&mut self) -> Vec<Key> {
        self.probes.write = None;
        std::mem::take(&mut self.probes.keys)
    }

    /// The statement under way is given up: its messages wait for the next one.
    pub(super) fn give_up_probes(&mut self) {
        for key in self.end_probes() {
            self.messages.put(key, Place::Probe);
        }
        (self.probes.failures, self.probes.not_before) = (0, None);
    }
}

#[cfg(test)]
mod tests;
