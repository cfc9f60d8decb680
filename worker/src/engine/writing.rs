//! Lanes: which messages are written together, and what the answers of the database mean for them.

use std::time::Duration;

use durable_write_crds::conditions::reasons;
use tokio::time::Instant;

use super::flow::Phase;
use super::held::{Held, Key, Place, Room};
use super::lane::{End, Failure, Lane};
use super::{Effect, Engine, HOLD};
use crate::fault::RowFault;
use crate::problem::Problem;
use crate::sink::{Class, WriteError};

/// How often a part is tried again before its failure is taken for something else.
const TRIES: u32 = 8;
/// How often a statement is tried again after the table was read again.
const PREPARES: u32 = 2;
/// How many that have failed are tried again beside others while it is not known whether they or the pipeline are at fault.
const AGAIN: usize = 20;
/// How long a message that may be writable later waits between two tries.
const LATER: Duration = Duration::from_secs(5);

impl Engine {
    /// Starts lanes while there is something to write, a connection for it, and room for what is written and not yet deleted.
    pub(super) fn start_lanes(&mut self, now: Instant) {
        while self.may_start_lane(now) {
            let room = Room {
                rows: self.rows_of_lane(),
                body_bytes: self.settings.max_bytes,
                row_bytes: self.room_for_lane(),
                at_least_one: self.lanes.is_empty(),
            };
            let mut keys = self.messages.take(room, now);
            if keys.is_empty() {
                return;
            }
            if !self.settings.fifo {
                self.sort_by_key(&mut keys);
            }
            self.receiving.taken(self.messages.fresh() > 0, now);
            self.probes.end_turn();
            let number = self.number();
            let bytes = self.lane_bytes(&keys);
            let mut lane = Lane::new(keys, bytes, now);
            self.set_undecodable_aside(&mut lane);
            self.lanes.insert(number, lane);
            self.advance(number, now);
        }
    }

    /// While there is a doubt only a few of those that have failed are tried again beside others that may be good.
    fn rows_of_lane(&self) -> usize {
        let fresh = self.messages.fresh();
        if self.phase.doubt().is_some() && !self.settings.fifo && fresh > 0 {
            self.settings.max_rows.min(fresh + AGAIN)
        } else {
            self.settings.max_rows
        }
    }

    fn may_start_lane(&self, now: Instant) -> bool {
        let Phase::Flowing { proven, .. } = self.phase else { return false };
        let lanes = self.most_lanes(proven, now);
        let unacknowledged = self.messages.count(Place::Writing) + self.messages.count(Place::Written);
        self.messages.pending() > 0 && self.lanes.len() < lanes && unacknowledged <= self.settings.max_rows && !self.should_linger(now)
    }

    /// While more messages are surely coming, a small batch waits for them.
    fn should_linger(&self, now: Instant) -> bool {
        let more = self.receiving.expects_more() && !self.draining;
        more && self.messages.pending() < self.settings.max_rows && self.linger_until().is_some_and(|until| now < until)
    }

    fn linger_until(&self) -> Option<Instant> {
        self.receiving.waiting_since().map(|since| since + self.settings.max_wait)
    }

    /// Two workers that write the same keys in different order would deadlock.
    fn sort_by_key(&self, keys: &mut [Key]) {
        let columns = self.decoder.keys();
        let text = |key: &Key| self.messages.get(*key).map(|held| held.record.clone());
        keys.sort_by_cached_key(|key| {
            let record = text(key);
            columns
                .iter()
                .map(|column| record.as_ref().and_then(|record| record.raw(*column)).unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        });
    }

    /// Messages that could not be decoded fail alone, without a statement.
    fn set_undecodable_aside(&mut self, lane: &mut Lane) {
        let bad: Vec<(Key, RowFault)> =
            lane.unwritten().into_iter().filter_map(|key| Some((key, self.messages.get(key)?.fault.clone()?))).collect();
        for (key, fault) in bad {
            if lane.remove(|other| other == key).is_empty() {
                continue; // It left behind an earlier one of its group.
            }
            let problem = Problem::new(reasons::TOO_MANY_BAD_MESSAGES, "target.columns", fault.message.clone());
            self.fail_alone(lane, key, Failure { fault, problem, class: Class::RowFault });
        }
    }

    /// Notes that a message failed alone. What comes behind it in its group waits until it is gone.
    fn fail_alone(&mut self, lane: &mut Lane, key: Key, failure: Failure) {
        for behind in lane.remove(|other| other > key && self.messages.same_group(other, key)) {
            self.messages.put(behind, Place::Pending);
        }
        lane.fail(key, failure);
    }

    /// Sends the lane's next part, or ends the lane.
    fn advance(&mut self, number: u64, now: Instant) {
        let Some(mut lane) = self.lanes.remove(&number) else { return };
        // While there is a doubt, one message that can be written decides it: then the whole batch is tried.
        let hopeless = self.phase.doubt().is_none() && lane.looks_hopeless();
        if !hopeless && (!lane.current.is_empty() || lane.advance()) {
            self.send(&mut lane, now);
            self.lanes.insert(number, lane);
        } else {
            self.end_lane(lane, now);
        }
    }

    fn send(&mut self, lane: &mut Lane, now: Instant) {
        let write = self.number();
        lane.write = Some(write);
        lane.started = now;
        lane.not_before = None;
        let rows = lane.current.iter().filter_map(|key| self.messages.get(*key)).map(|held| held.record.clone()).collect();
        self.effects.push(Effect::Write { write, rows });
    }

    /// Sends what waited to be tried again.
    pub(super) fn resume_lanes(&mut self, now: Instant) {
        if !self.phase.is_flowing() {
            return;
        }
        let due: Vec<u64> =
            self.lanes.iter().filter(|(_, lane)| lane.not_before.is_some_and(|time| time <= now)).map(|(number, _)| *number).collect();
        for number in due {
            self.advance(number, now);
        }
    }

    pub(super) fn lanes_wake_at(&self, now: Instant) -> Option<Instant> {
        let lanes = self.lanes.values().filter_map(|lane| lane.not_before).min();
        let linger = if self.messages.pending() > 0 { self.linger_until().filter(|time| *time > now) } else { None };
        lanes.into_iter().chain(linger).min()
    }

    pub(super) fn on_written(&mut self, write: u64, result: Result<u64, WriteError>, now: Instant) {
        let Some(number) = self.lanes.iter().find(|(_, lane)| lane.write == Some(write)).map(|(number, _)| *number) else { return };
        let Some(mut lane) = self.lanes.remove(&number) else { return };
        lane.write = None;
        match result {
            Ok(inserted) => {
                let keys = lane.commit();
                self.count_written(&keys, inserted);
                for key in keys {
                    self.messages.put(key, Place::Written);
                    self.acknowledging.push(key, now);
                }
                self.prove_flow();
            }
            Err(error) => {
                if let Some(problem) = self.judge(&mut lane, error, now) {
                    // Back into the lanes, so that its messages return with those of the others.
                    let lost = matches!(problem.1, Class::Outage | Class::Authentication);
                    self.lanes.insert(number, lane);
                    if lost {
                        self.lose_writer(problem.0, now)
                    } else {
                        self.pause(problem.0, now)
                    }
                    return;
                }
            }
        }
        let waits = lane.not_before.is_some();
        self.lanes.insert(number, lane);
        if !waits {
            self.advance(number, now);
        }
    }

    /// What a failed statement means: a problem of the whole pipeline, or what the lane does next.
    fn judge(&mut self, lane: &mut Lane, error: WriteError, now: Instant) -> Option<(Problem, Class)> {
        lane.tries += 1;
        let again = Duration::from_millis(10 << lane.tries.min(6));
        match error.class {
            Class::Outage | Class::Authentication => return Some((error.problem, error.class)),
            Class::Retry if lane.tries > TRIES => return Some((error.problem, error.class)),
            Class::Reconnect if lane.tries <= 3 => lane.not_before = Some(now + again),
            Class::Retry => lane.not_before = Some(now + again + jitter(again)),
            Class::Catalogue => {
                // The driver reads the table again before the next try.
                self.database.checked = false;
                if lane.tries > PREPARES {
                    return Some((error.problem, error.class));
                }
                lane.not_before = Some(now + Duration::from_millis(500));
                self.effects.push(Effect::Prepare);
            }
            Class::RowFault | Class::HoldThenRowFault | Class::Ambiguous | Class::Reconnect => {
                if let Some(key) = lane.halve() {
                    let fault = RowFault {
                        reason: "RowRefused".to_owned(),
                        sqlstate: error.sqlstate,
                        column: error.column,
                        message: error.problem.message.clone(),
                    };
                    let class = if error.class == Class::Reconnect { Class::Ambiguous } else { error.class };
                    self.fail_alone(lane, key, Failure { fault, problem: error.problem, class });
                }
            }
        }
        None
    }

    /// Decides about the messages that failed alone: the messages are bad, or the pipeline is.
    fn end_lane(&mut self, lane: Lane, now: Instant) {
        let committed = lane.has_committed();
        let doubtful =
            if committed || self.says_nothing_new(&lane, now) { None } else { lane.doubtful().map(|failure| failure.problem.clone()) };
        let poisoned = doubtful.is_none() && self.open_breaker(&lane, now);
        for key in lane.unwritten() {
            self.messages.put(key, Place::Pending);
        }
        let failures: Vec<(Key, Failure)> = lane
            .ends
            .into_iter()
            .filter_map(|(key, end)| match end {
                End::Failed(failure) => Some((key, failure)),
                End::Committed => None,
            })
            .collect();
        let pause = doubtful.or_else(|| if poisoned { failures.first().map(|(_, failure)| too_many(&failure.fault)) } else { None });
        if let Some(problem) = pause {
            // Beside others that can be written they need not be tried at once.
            let again = committed.then_some(now + LATER);
            for (key, _) in failures {
                self.messages.put_back(key, again);
            }
            self.pause(problem, now);
            // Where there is no order, one that was not tried yet may be good.
            if !self.settings.fifo && self.messages.fresh() > 0 {
                self.shorten_pause(now);
            }
            return;
        }
        for (key, failure) in failures {
            self.settle(key, failure, now);
        }
    }

    /// True when messages can be written and only those have failed that are held because they have failed before.
    fn says_nothing_new(&self, lane: &Lane, now: Instant) -> bool {
        let known = |(key, end): &(Key, End)| match end {
            End::Committed => false,
            End::Failed(failure) => {
                self.messages.has_failed(*key) && self.messages.get(*key).is_some_and(|held| is_held(failure, held, now))
            }
        };
        self.phase.is_well() && !self.is_crowded() && lane.ends.iter().all(known)
    }

    /// Tells the breaker how the messages of a lane ended, without those that are held. True when none may be dead-lettered.
    fn open_breaker(&mut self, lane: &Lane, now: Instant) -> bool {
        let outcomes = lane.ends.iter().filter_map(|(key, end)| match end {
            // A commit counts each time, whatever its id.
            End::Committed => Some(("", None)),
            End::Failed(failure) => {
                let held = self.messages.get(*key).filter(|held| !is_held(failure, held, now))?;
                Some((held.record.message.id.as_str(), Some(failure.fault.signature())))
            }
        });
        self.breaker.record(outcomes)
    }

    /// One bad message among good ones.
    fn settle(&mut self, key: Key, failure: Failure, now: Instant) {
        let Some(held) = self.messages.get_mut(key) else { return };
        if is_held(&failure, held, now) {
            self.messages.put_back(key, Some(now + LATER));
        } else {
            held.fault = Some(failure.fault);
            self.messages.put(key, Place::DeadLetter);
            self.acknowledging.dead_letter(key, now);
        }
    }

    fn count_written(&mut self, keys: &[Key], inserted: u64) {
        let rows = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        let skipped = rows.saturating_sub(inserted);
        let again = keys.iter().filter(|key| self.messages.get(**key).is_some_and(|held| held.record.message.receive_count > 1)).count();
        self.counters.written += inserted;
        self.counters.duplicates += skipped;
        self.database
            .duplicates
            .record(keys.len() - again.min(keys.len()), usize::try_from(skipped).unwrap_or(usize::MAX).saturating_sub(again));
    }
}

/// True when a message that failed alone may be writable later.
fn is_held(failure: &Failure, held: &Held, now: Instant) -> bool {
    failure.class == Class::HoldThenRowFault && now < held.received + HOLD
}

fn too_many(fault: &RowFault) -> Problem {
    let what = [
        fault.sqlstate.as_deref().map(|code| format!("SQLSTATE {code}")),
        fault.column.as_deref().map(|column| format!("column or constraint {column}")),
    ];
    let what: Vec<String> = what.into_iter().flatten().collect();
    let what = if what.is_empty() { fault.reason.clone() } else { format!("{}: {}", fault.reason, what.join(", ")) };
    Problem::new(
        reasons::TOO_MANY_BAD_MESSAGES,
        "target",
        format!(
            "too many messages fail in the same way ({what}): {}; mend the table, the columns of the manifest, or what producers send; held messages are tried again by themselves",
            fault.message
        ),
    )
}

fn jitter(most: Duration) -> Duration {
    most.mul_f64(rand::random::<f64>())
}
