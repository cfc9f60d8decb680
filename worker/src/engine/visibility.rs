//! Keeping held messages ours: extends their visibility in time, gives back what was held too long, and gives up what another consumer
//! may have.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::held::{Held, Key, Place};
use super::{Effect, Engine, HOLD, VISIBILITY};
use crate::queue::{EntryError, Failures, Handle, QueueError};

/// Visibility is extended when less than this is left of it.
const EXTEND_BEFORE: Duration = Duration::from_secs(30);
/// A message is given up when less than this is left of its visibility: it would not be written in time.
const MARGIN: Duration = Duration::from_secs(1);
/// How often the held messages are looked through.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// How many messages one call takes.
const BATCH: usize = 10;

impl Engine {
    /// Looks through all held messages, which is too much work for every event.
    pub(super) fn tend_held(&mut self, now: Instant) {
        if now < self.tend_at && !self.draining {
            return;
        }
        self.tend_at = now + TEND_EVERY;
        self.give_back(now);
        self.make_room(now);
        self.delete_excess_probes(now);
        self.drop_expired(now);
        self.extend(now);
    }

    fn extend(&mut self, now: Instant) {
        let due: Vec<Key> = self
            .messages
            .iter()
            .filter(|(_, held)| held.place != Place::Releasing && !held.extending)
            .filter(|(_, held)| held.deadline < now + EXTEND_BEFORE && held.deadline > now)
            .map(|(key, _)| key)
            .collect();
        for keys in due.chunks(BATCH) {
            for key in keys {
                if let Some(held) = self.messages.get_mut(*key) {
                    held.extending = true;
                }
            }
            let handles = self.handles(keys);
            self.effects.push(Effect::Extend(handles));
        }
    }

    pub(super) fn on_extended(&mut self, keys: &[Key], started: Instant, result: Result<Failures, QueueError>) {
        let failures = result.as_ref().map_or(&[][..], Vec::as_slice);
        for &key in keys {
            let Some(held) = self.messages.get_mut(key) else { continue };
            held.extending = false;
            if result.is_ok() && !failures.iter().any(|(failed, _)| *failed == key) {
                held.deadline = started + VISIBILITY;
            }
        }
        // What was not extended the queue hands out again: on a FIFO queue what we hold behind it must not overtake it.
        let lost = failures.iter().filter(|(_, error)| self.settings.fifo || *error == EntryError::Expired);
        self.cut_pending(lost.map(|(key, _)| *key).collect());
    }

    /// Gives back what has been held through an outage for too long, and, when the worker ends, what it cannot write.
    ///
    /// While it is the pipeline that is in doubt, messages are received to try them: giving them back for nothing would spend receives.
    fn give_back(&mut self, now: Instant) {
        let flowing = self.phase.is_flowing();
        let ending = self.draining && self.receiving.in_flight() == 0;
        let outage = !flowing && self.phase.doubt().is_none();
        if !outage && !ending {
            return;
        }
        let hopeless = |held: &Held| !flowing || held.waits(now) || held.is_probe() && self.probes.are_failing();
        let is_due = |held: &Held| outage && now >= held.received.max(self.outage_since) + HOLD || ending && hopeless(held);
        let mut keys: BTreeSet<Key> = self.pending().filter(|(_, held)| is_due(held)).map(|(key, _)| key).collect();
        // Nothing may overtake them in their groups.
        let behind: Vec<Key> = keys.iter().flat_map(|key| self.messages.pending_behind(*key)).collect();
        keys.extend(behind);
        self.release(keys.into_iter().collect());
    }

    /// Lets go of some that cannot be written, when they keep all others from being received. They come back when their visibility ends: given
    /// back at once they would be the next to be received.
    fn make_room(&mut self, now: Instant) {
        if !self.is_crowded() {
            return;
        }
        let oldest = self.pending().filter(|(key, held)| self.messages.has_failed(*key) && now >= held.received + HOLD);
        let oldest: Vec<Key> = oldest.map(|(key, _)| key).take(BATCH).collect();
        self.cut_pending(oldest);
    }

    /// Messages whose visibility is over are no longer ours to write, nor is what comes behind them in their group.
    fn drop_expired(&mut self, now: Instant) {
        let expired = self.pending().filter(|(_, held)| held.deadline <= now + MARGIN).map(|(key, _)| key).collect();
        self.cut_pending(expired);
    }

    fn pending(&self) -> impl Iterator<Item = (Key, &Held)> {
        self.messages.iter().filter(|(_, held)| matches!(held.place, Place::Pending | Place::Probe))
    }

    /// Gives up those that are pending; what was behind another is being given back by then.
    fn cut_pending(&mut self, keys: Vec<Key>) {
        for key in keys {
            if self.messages.get(key).is_some_and(|held| matches!(held.place, Place::Pending | Place::Probe)) {
                self.cut(key);
            }
        }
    }

    /// Gives up a message and all that is behind it in its group: another consumer may have them.
    pub(super) fn cut(&mut self, key: Key) {
        let behind = self.messages.pending_behind(key);
        self.counters.released += self.counted(key);
        self.messages.remove(key);
        self.release(behind);
    }

    /// Gives messages back to the queue, in their order.
    pub(super) fn release(&mut self, keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            self.messages.put(*key, Place::Releasing);
        }
        let handles = self.handles(&keys);
        self.effects.push(Effect::Release(handles));
    }

    pub(super) fn on_released(&mut self, keys: &[Key]) {
        for key in keys {
            self.counters.released += self.counted(*key);
            self.messages.remove(*key);
        }
    }

    /// What a message adds to a counter: those of probes nothing.
    pub(super) fn counted(&self, key: Key) -> u64 {
        u64::from(self.messages.get(key).is_some_and(|held| !held.is_probe()))
    }

    fn handles(&self, keys: &[Key]) -> Vec<Handle> {
        keys.iter().filter_map(|key| self.handle_of(*key)).collect()
    }
}
