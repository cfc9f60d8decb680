//! Messages of a drill's probe: they come through the user's queue, but touch neither the user's table nor its order, dead letters and counters.
//! They are written by statements of their own, one at a time and beside the lanes, so that no fault of the probe's tables holds up a user's
//! message. What cannot be written is deleted after a few tries: the drill then counts it as lost, which is what it is.

use std::time::Duration;

use durable_write_crds::probe::{PROBE_ATTRIBUTE, ProbeMark};
use tokio::time::Instant;

use super::flow::Phase;
use super::held::{Key, Place};
use super::{Effect, Engine};
use crate::message::{AttributeValue, Message};
use crate::sink::{Class, WriteError};

/// How often a statement is tried again before its messages are deleted unwritten. Together about two seconds.
const TRIES: u32 = 8;
/// What one row takes in a statement, at the most.
const ROW_BYTES: u64 = 128;

/// The statement of the probe's messages.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// The statement that is under way, and since when.
    write: Option<(u64, Instant)>,
    /// What it writes.
    keys: Vec<Key>,
    tries: u32,
    not_before: Option<Instant>,
    /// How many messages were deleted unwritten, since a statement succeeded last.
    refused: usize,
}

impl Probes {
    /// What the statement takes in memory.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.keys.len()).unwrap_or(u64::MAX).saturating_mul(ROW_BYTES)
    }

    /// Since when a statement is under way.
    pub(super) fn sent(&self) -> Option<Instant> {
        self.write.map(|(_, sent)| sent)
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.not_before
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
        let busy = self.probes.write.is_some() || self.probes.not_before.is_some_and(|time| time > now);
        // What is written and not yet deleted is what a crash delivers again.
        let crowded = self.messages.count(Place::ProbeWritten) > self.settings.max_rows;
        if !may || busy || crowded || self.messages.count(Place::Probe) == 0 {
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
        self.probes.not_before = None;
        self.probes.keys = keys;
        self.effects.push(Effect::WriteProbes { write, rows });
    }

    pub(super) fn on_probes_written(&mut self, write: u64, result: Result<u64, WriteError>, now: Instant) {
        if self.probes.write.is_none_or(|(under_way, _)| under_way != write) {
            return; // It was given up.
        }
        match result {
            Ok(_) => self.probes_are_written(now),
            Err(error) if matches!(error.class, Class::Outage | Class::Authentication) => self.lose_writer(error.problem, now),
            // While they are refused anyway, nothing is gained by trying each of them often.
            Err(error) if self.probes.tries + 1 >= TRIES || self.probes.refused > 0 => self.delete_unwritten(&error, now),
            Err(_) => {
                let tries = self.probes.tries + 1;
                self.give_up_probes();
                self.probes.tries = tries;
                self.probes.not_before = Some(now + Duration::from_millis(10 << tries.min(6)));
            }
        }
    }

    fn probes_are_written(&mut self, now: Instant) {
        if self.probes.refused > 0 {
            tracing::info!(deleted = self.probes.refused, "messages of a probe can be written again");
        }
        self.finish_probes(now);
        self.probes.refused = 0;
        // The writer takes commits: with nothing in doubt there is nothing more to prove.
        if let Phase::Flowing { proven, doubt: None } = &mut self.phase {
            *proven = true;
        }
    }

    fn delete_unwritten(&mut self, error: &WriteError, now: Instant) {
        if self.probes.refused == 0 {
            tracing::warn!(
                reason = error.problem.reason,
                sqlstate = error.sqlstate,
                "messages of a probe cannot be written and are deleted; the drill counts them as lost. The probe's tables or the right to them \
                 may be missing: `durable-write-worker schema --drills` prints the statements"
            );
        }
        self.probes.refused += self.probes.keys.len();
        self.finish_probes(now);
    }

    /// What was under way is done with, and is deleted.
    fn finish_probes(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.probes.keys) {
            if self.messages.get(key).is_some_and(|held| held.place == Place::ProbeWriting) {
                self.messages.put(key, Place::ProbeWritten);
                self.acknowledging.push(key, now);
            }
        }
        self.probes.write = None;
        self.probes.tries = 0;
    }

    /// The statement under way is given up: its messages wait for the next one.
    pub(super) fn give_up_probes(&mut self) {
        for key in std::mem::take(&mut self.probes.keys) {
            if self.messages.get(key).is_some_and(|held| held.place == Place::ProbeWriting) {
                self.messages.put(key, Place::Probe);
            }
        }
        self.probes.write = None;
        self.probes.tries = 0;
        self.probes.not_before = None;
    }
}
