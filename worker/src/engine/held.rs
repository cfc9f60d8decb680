//! The messages that the worker holds, and which of them may be written next. On a FIFO queue a group is written by one lane at a time, in
//! the order in which its messages came; on a standard queue any message is as good as another.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use crate::decode::Record;
use crate::fault::RowFault;

/// The number of a held message. Numbers grow in the order of arrival and are never used again.
pub(super) type Key = u64;

/// Where a held message is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Waits to be written.
    Pending,
    /// In a lane.
    Writing,
    /// Written; waits to be deleted.
    Written,
    /// Waits to be taken by the dead-letter queue.
    DeadLetter,
    /// On its way back to the queue.
    Releasing,
    /// A probe's message that waits to be written: it is of no group, as nothing needs its order.
    Probe,
    /// In the probes' statement.
    ProbeWriting,
    /// Done with; waits to be deleted.
    ProbeWritten,
}

/// How many places there are.
const PLACES: usize = 8;

/// A message that the worker holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) record: Arc<Record>,
    pub(super) place: Place,
    /// When it was received.
    pub(super) received: Instant,
    /// Until when no other consumer sees it.
    pub(super) deadline: Instant,
    /// An extension is on its way.
    pub(super) extending: bool,
    /// What is wrong with it, where that is known.
    pub(super) fault: Option<RowFault>,
    /// Not to be tried again before this.
    not_before: Option<Instant>,
    /// How often it failed alone.
    failures: u32,
    /// What it takes in memory.
    bytes: u64,
    /// The values of its row.
    pub(super) row_bytes: u64,
}

impl Held {
    /// True for a message of a probe.
    pub(super) fn is_probe(&self) -> bool {
        self.record.probe.is_some()
    }

    /// True when it is not to be tried yet.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|time| time > now)
    }
}

/// All messages that the worker holds.
#[derive(Debug)]
pub(super) struct Messages {
    fifo: bool,
    all: BTreeMap<Key, Held>,
    next: Key,
    bytes: u64,
    /// Pending messages of a standard queue: those that have failed less often first.
    loose: BTreeSet<(u32, Key)>,
    groups: HashMap<Arc<str>, Group>,
    /// Groups that may have something to write, the one that waits longest first.
    turn: VecDeque<Arc<str>>,
    /// Messages of probes that wait to be written.
    probes: BTreeSet<Key>,
    /// The same groups, to find one quickly.
    queued: HashSet<Arc<str>>,
    /// How many are at each place.
    counts: [usize; PLACES],
    /// How many have failed alone at least once.
    failed: usize,
}

#[derive(Debug, Default)]
struct Group {
    pending: BTreeSet<Key>,
    /// How many of its messages are in a lane or wait for the dead-letter queue: none may overtake them.
    busy: usize,
}

impl Messages {
    pub(super) fn new(fifo: bool) -> Self {
        Self {
            fifo,
            all: BTreeMap::new(),
            next: 0,
            bytes: 0,
            loose: BTreeSet::new(),
            groups: HashMap::new(),
            turn: VecDeque::new(),
            queued: HashSet::new(),
            probes: BTreeSet::new(),
            counts: [0; PLACES],
            failed: 0,
        }
    }

    /// Takes a message in: it waits to be written.
    pub(super) fn insert(&mut self, record: Record, fault: Option<RowFault>, received: Instant, deadline: Instant) {
        let key = self.next;
        self.next += 1;
        let [bytes, row_bytes] = [record.bytes(), record.row_bytes()].map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
        self.bytes += bytes;
        let place = if record.probe.is_some() { Place::Probe } else { Place::Pending };
        let held = Held {
            record: Arc::new(record),
            place,
            received,
            deadline,
            extending: false,
            fault,
            not_before: None,
            failures: 0,
            bytes,
            row_bytes,
        };
        self.all.insert(key, held);
        self.note(place, 1);
        if place == Place::Probe {
            self.probes.insert(key);
        } else {
            self.make_pending(key);
        }
    }

    /// How many messages of users it holds.
    pub(super) fn of_users(&self) -> usize {
        let probes = [Place::Probe, Place::ProbeWriting, Place::ProbeWritten].map(|place| self.count(place));
        self.len().saturating_sub(probes.iter().sum())
    }

    /// Chooses messages of probes for one statement, at most so many, and moves them there.
    pub(super) fn take_probes(&mut self, most: usize, now: Instant) -> Vec<Key> {
        let ours = |key: &Key| self.all.get(key).is_some_and(|held| held.deadline > now);
        let keys: Vec<Key> = self.probes.iter().copied().filter(ours).take(most).collect();
        for key in &keys {
            self.put(*key, Place::ProbeWriting);
        }
        keys
    }

    /// Of the messages of probes that wait to be written, those that come before the last `most` of at most so many bytes.
    pub(super) fn probes_beyond(&self, most: usize, bytes: u64) -> Vec<Key> {
        let newest = self.probes.iter().rev().filter_map(|key| Some(self.all.get(key)?.bytes)).take(most);
        let sums = newest.scan(0, |sum, of_one| {
            *sum += of_one;
            Some(*sum)
        });
        let fit = sums.take_while(|sum: &u64| *sum <= bytes).count();
        self.probes.iter().rev().skip(fit).copied().collect()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Held> {
        self.all.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Held> {
        self.all.get_mut(&key)
    }

    /// True when the message has failed alone.
    pub(super) fn has_failed(&self, key: Key) -> bool {
        self.all.get(&key).is_some_and(|held| held.failures > 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Held)> {
        self.all.iter().map(|(key, held)| (*key, held))
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// What all held messages take in memory, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many wait to be written.
    pub(super) fn pending(&self) -> usize {
        self.count(Place::Pending)
    }

    /// How many are at this place.
    pub(super) fn count(&self, place: Place) -> usize {
        self.counts.get(place as usize).copied().unwrap_or(0)
    }

    /// How many have failed alone at least once.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// How many cannot be written as long as those that have failed cannot: they themselves, and what is behind them in their groups.
    pub(super) fn stuck(&self) -> usize {
        if self.failed == 0 || !self.fifo {
            return self.failed;
        }
        let is_stuck = |group: &&Group| group.pending.first().is_some_and(|key| self.has_failed(*key));
        self.groups.values().filter(is_stuck).map(|group| group.pending.len()).sum()
    }

    /// How many wait to be written and have not failed.
    pub(super) fn fresh(&self) -> usize {
        self.pending().saturating_sub(self.failed)
    }

    /// Forgets a message.
    pub(super) fn remove(&mut self, key: Key) {
        self.leave(key);
        if let Some(held) = self.all.remove(&key) {
            self.bytes -= held.bytes;
            self.failed -= usize::from(held.failures > 0);
        }
    }

    /// Makes a message that failed alone pending again: behind the others, and on a standard queue not in their way.
    pub(super) fn put_back(&mut self, key: Key, not_before: Option<Instant>) {
        self.leave(key);
        let Some(held) = self.all.get_mut(&key) else { return };
        held.place = Place::Pending;
        held.not_before = not_before;
        held.failures += 1;
        self.failed += usize::from(held.failures == 1);
        self.note(Place::Pending, 1);
        self.make_pending(key);
    }

    /// Moves a message to another place.
    pub(super) fn put(&mut self, key: Key, place: Place) {
        self.leave(key);
        let Some(held) = self.all.get_mut(&key) else { return };
        held.place = place;
        self.note(place, 1);
        match place {
            Place::Pending => self.make_pending(key),
            Place::Writing | Place::DeadLetter => {
                if let Some(group) = self.group_of(key) {
                    self.groups.entry(group).or_default().busy += 1;
                }
            }
            Place::Probe => {
                self.probes.insert(key);
            }
            Place::Written | Place::Releasing | Place::ProbeWriting | Place::ProbeWritten => {}
        }
    }

    /// The pending messages that come behind this one in its group. None on a standard queue.
    pub(super) fn pending_behind(&self, key: Key) -> Vec<Key> {
        let Some(group) = self.group_of(key) else { return Vec::new() };
        self.groups.get(&group).map(|group| group.pending.range(key..).copied().filter(|other| *other != key).collect()).unwrap_or_default()
    }

    /// True when both are of one group of a FIFO queue.
    pub(super) fn same_group(&self, one: Key, other: Key) -> bool {
        self.group_of(one).is_some_and(|group| self.group_of(other) == Some(group))
    }

    /// Chooses pending messages for one lane, as many as there is room for, and moves them there.
    pub(super) fn take(&mut self, room: Room, now: Instant) -> Vec<Key> {
        let mut batch = Batch { room, keys: Vec::new() };
        if self.fifo {
            for _ in 0..self.turn.len() {
                let Some(name) = self.turn.pop_front() else { break };
                let waiting = self.groups.get(&name).map_or(0, |group| group.pending.len());
                let run = match self.groups.get(&name) {
                    Some(group) if group.busy == 0 => self.fill(&mut batch, group.pending.iter().copied(), now),
                    _ => 0,
                };
                if run < waiting {
                    self.turn.push_back(name);
                } else {
                    self.queued.remove(&name);
                }
                if batch.keys.len() >= batch.room.rows {
                    break;
                }
            }
        } else {
            self.fill(&mut batch, self.loose.iter().map(|(_, key)| *key), now);
        }
        for &key in &batch.keys {
            self.put(key, Place::Writing);
        }
        batch.keys
    }

    /// Adds messages to a batch while they fit; on a FIFO queue it stops at the first that cannot be taken. How many were added.
    fn fill(&self, batch: &mut Batch, keys: impl Iterator<Item = Key>, now: Instant) -> usize {
        let before = batch.keys.len();
        for key in keys {
            let Some(held) = self.all.get(&key) else { continue };
            let ready = !held.waits(now) && held.deadline > now;
            if ready && !batch.add(key, held) || !ready && self.fifo {
                break;
            }
        }
        batch.keys.len() - before
    }

    fn group_of(&self, key: Key) -> Option<Arc<str>> {
        if !self.fifo {
            return None;
        }
        let held = self.all.get(&key).filter(|held| !held.is_probe())?;
        Some(held.record.message.group.as_deref().unwrap_or_default().into())
    }

    fn note(&mut self, place: Place, change: isize) {
        if let Some(count) = self.counts.get_mut(place as usize) {
            *count = count.saturating_add_signed(change);
        }
    }

    fn make_pending(&mut self, key: Key) {
        match self.group_of(key) {
            None => {
                let failures = self.all.get(&key).map_or(0, |held| held.failures);
                self.loose.insert((failures, key));
            }
            Some(name) => {
                self.groups.entry(name.clone()).or_default().pending.insert(key);
                if self.queued.insert(name.clone()) {
                    self.turn.push_back(name);
                }
            }
        }
    }

    /// Takes a message out of where it is.
    fn leave(&mut self, key: Key) {
        let Some((place, failures)) = self.all.get(&key).map(|held| (held.place, held.failures)) else { return };
        let group = self.group_of(key);
        self.note(place, -1);
        match place {
            Place::Pending => match &group {
                None => {
                    self.loose.remove(&(failures, key));
                }
                Some(name) => {
                    self.groups.get_mut(name).map(|group| group.pending.remove(&key));
                }
            },
            Place::Writing | Place::DeadLetter => {
                if let Some(group) = group.as_ref().and_then(|name| self.groups.get_mut(name)) {
                    group.busy -= 1;
                }
            }
            Place::Probe => {
                self.probes.remove(&key);
            }
            Place::Written | Place::Releasing | Place::ProbeWriting | Place::ProbeWritten => {}
        }
        if let Some(name) = group
            && self.groups.get(&name).is_some_and(|group| group.pending.is_empty() && group.busy == 0)
        {
            self.groups.remove(&name);
        }
    }
}

/// What a lane may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) rows: usize,
    /// Of message bodies; a first message is taken whatever its size.
    pub(super) body_bytes: usize,
    /// Of the values of rows.
    pub(super) row_bytes: u64,
    /// A first message is taken also when its values do not fit: nothing else would make room for it.
    pub(super) at_least_one: bool,
}

struct Batch {
    room: Room,
    keys: Vec<Key>,
}

impl Batch {
    /// Adds a message when it fits.
    fn add(&mut self, key: Key, held: &Held) -> bool {
        let (room, body_bytes) = (&mut self.room, held.record.message.body.len());
        let first = self.keys.is_empty();
        let fits = self.keys.len() < room.rows
            && (body_bytes <= room.body_bytes || first)
            && (held.row_bytes <= room.row_bytes || first && room.at_least_one);
        if fits {
            self.keys.push(key);
            room.body_bytes = room.body_bytes.saturating_sub(body_bytes);
            room.row_bytes = room.row_bytes.saturating_sub(held.row_bytes);
        }
        fits
    }
}

#[cfg(test)]
impl Messages {
    /// Fails the test when what is kept up to date is not what counting says.
    pub(super) fn assert_consistent(&self) {
        let mut counts = [0; PLACES];
        for held in self.all.values() {
            counts[held.place as usize] += 1;
        }
        assert_eq!(self.counts, counts);
        assert_eq!(self.failed, self.all.values().filter(|held| held.failures > 0).count());
        assert_eq!(self.bytes, self.all.values().map(|held| held.bytes).sum::<u64>());
        let pending = self.loose.len() + self.groups.values().map(|group| group.pending.len()).sum::<usize>();
        assert_eq!(pending, self.pending());
        assert_eq!(self.probes.len(), counts[Place::Probe as usize]);
        if self.fifo {
            let busy = self.groups.values().map(|group| group.busy).sum::<usize>();
            assert_eq!(busy, counts[Place::Writing as usize] + counts[Place::DeadLetter as usize]);
        }
    }
}
