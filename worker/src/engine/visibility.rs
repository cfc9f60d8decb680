//! Keeping held messages ours: extends their visibility in time, gives back what was held too long, and gives up what another consumer
//! may have.

use std::time::Duration;

use tokio::time::Instant;

use super::held::{Key, Place};
use super::{Effect, Engine, HOLD, VISIBILITY};
use crate::queue::{Failures, Handle, QueueError};

/// Visibility is extended when less than this is left of it.
const EXTEND_BEFORE: Duration = Duration::from_secs(30);
/// How many messages one call takes.
const BATCH: usize = 10;

impl Engine {
    pub(super) fn tend_visibility(&mut self, now: Instant) {
        self.give_back(now);
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
        // On a FIFO queue the queue hands out again what was not extended: what we hold behind it must not overtake it.
        if self.settings.fifo {
            for (key, _) in failures {
                if self.messages.get(*key).is_some_and(|held| held.place == Place::Pending) {
                    self.cut(*key);
                }
            }
        }
    }

    /// Gives back what has been held too long, and, when the worker ends and nothing can be written, all.
    fn give_back(&mut self, now: Instant) {
        let flowing = self.phase.is_flowing();
        let ending = self.draining && self.receiving.in_flight() == 0;
        if flowing && !ending && (self.phase.is_proven() || self.phase.doubt().is_none()) {
            return;
        }
        let keys: Vec<Key> = self
            .messages
            .iter()
            .filter(|(_, held)| held.place == Place::Pending)
            .filter(|(_, held)| {
                let later = held.not_before.is_some_and(|time| time > now);
                now >= held.received + HOLD || ending && (!flowing || later)
            })
            .map(|(key, _)| key)
            .collect();
        self.release(keys);
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
            self.counters.released += 1;
            self.messages.remove(*key);
        }
    }

    fn handles(&self, keys: &[Key]) -> Vec<Handle> {
        keys.iter().filter_map(|key| self.handle_of(*key)).collect()
    }
}
