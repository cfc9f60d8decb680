//! Whether messages can be written: the search for the writer, the look at the table, and the pauses when nothing can be written although
//! the writer is there. The worker starts as in an outage, so that no receive is spent before a writer is proven.

use std::time::Duration;

use durable_write_crds::conditions::reasons;
use tokio::time::Instant;

use super::held::Place;
use super::{Effect, Engine};
use crate::problem::Problem;
use crate::sink::{Class, WriteError};

/// The shortest pause before a pipeline fault is tried again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A statement that takes longer than this may hang on a server that is no longer the writer: the writer is sought beside it. A batch usually
/// takes some milliseconds, and a search costs each server a connection.
const SUSPICIOUS: Duration = Duration::from_millis(300);

/// Whether messages can be written.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// No writer is known.
    Seeking,
    /// A writer is known; the table is being looked at.
    Preparing { doubt: Option<Doubt> },
    /// Messages are written. Until one was, only one statement is under way, and while there is a doubt it is not said to be well.
    Flowing { proven: bool, doubt: Option<Doubt> },
    /// The writer is there, but no message can be written.
    Paused { doubt: Doubt, until: Instant },
}

/// A pipeline fault that was met, and how often in a row.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) problem: Problem,
    pub(super) tries: u32,
}

impl Phase {
    pub(super) fn is_flowing(&self) -> bool {
        matches!(self, Self::Flowing { .. })
    }

    /// True when a message was committed and nothing is in doubt since.
    pub(super) fn is_well(&self) -> bool {
        matches!(self, Self::Flowing { proven: true, doubt: None })
    }

    pub(super) fn doubt(&self) -> Option<&Doubt> {
        match self {
            Self::Seeking => None,
            Self::Preparing { doubt } | Self::Flowing { doubt, .. } => doubt.as_ref(),
            Self::Paused { doubt, .. } => Some(doubt),
        }
    }
}

impl Engine {
    /// Asks for the writer, unless it is being sought.
    pub(super) fn seek(&mut self) {
        if !self.seeking {
            self.seeking = true;
            self.effects.push(Effect::Seek);
        }
    }

    pub(super) fn on_writer_found(&mut self, identity: String, name: String, now: Instant) {
        self.seeking = false;
        self.database.hindrance = None;
        let moved = self.database.identity.as_ref() != Some(&identity);
        if !matches!(self.phase, Phase::Seeking) {
            if !moved {
                // The writer is where it was: a slow statement is just slow.
                return;
            }
            self.lose_writer(Problem::new(reasons::DATABASE_OUTAGE, "database", "the writer has moved"), now);
            self.seeking = false;
            self.effects.retain(|effect| !matches!(effect, Effect::Seek));
        }
        self.database.identity = Some(identity);
        self.database.writer = Some(name);
        self.database.hindrance = None;
        self.phase = if self.database.checked {
            Phase::Flowing { proven: false, doubt: None }
        } else {
            self.effects.push(Effect::Prepare);
            Phase::Preparing { doubt: None }
        };
    }

    pub(super) fn on_seek_hindered(&mut self, problem: Problem) {
        if matches!(self.phase, Phase::Seeking) {
            self.database.hindrance = Some(problem);
        }
    }

    pub(super) fn on_prepared(&mut self, result: Result<(), WriteError>, now: Instant) {
        if matches!(self.phase, Phase::Seeking | Phase::Paused { .. }) {
            return; // It was overtaken.
        }
        match result {
            Ok(()) => {
                self.database.checked = true;
                if let Phase::Preparing { doubt } = &self.phase {
                    self.phase = Phase::Flowing { proven: false, doubt: doubt.clone() };
                }
                if self.phase.doubt().is_none() {
                    self.database.fault = None;
                }
            }
            Err(error) if matches!(error.class, Class::Outage | Class::Reconnect | Class::Authentication | Class::Retry) => {
                self.lose_writer(error.problem, now);
            }
            Err(error) => {
                self.database.checked = false;
                self.pause(error.problem, now);
            }
        }
    }

    /// The writer is gone: every statement under way is given up, and its messages wait for the next writer.
    pub(super) fn lose_writer(&mut self, problem: Problem, now: Instant) {
        if !matches!(self.phase, Phase::Seeking) {
            tracing::warn!(
                reason = problem.reason,
                %problem,
                held = self.messages.len(),
                "the writer is lost; looking for it"
            );
            self.counters.outages += 1;
        }
        if self.phase.doubt().is_some() || self.phase.is_flowing() {
            self.outage_since = now;
        }
        self.phase = Phase::Seeking;
        self.database.hindrance = Some(problem);
        self.database.identity = None;
        self.give_up_lanes();
        self.close_connections();
        self.seek();
    }

    /// Closes all connections; what is under way on them is not waited for.
    fn close_connections(&mut self) {
        self.give_up_probes();
        self.effects.push(Effect::CloseConnections);
    }

    /// No message can be written although the writer is there: wait, longer each time, and try again.
    pub(super) fn pause(&mut self, problem: Problem, now: Instant) {
        let tries = self.phase.doubt().map_or(0, |doubt| doubt.tries) + 1;
        let pause = SHORTEST_PAUSE.saturating_mul(1 << tries.min(6)).min(LONGEST_PAUSE);
        if tries == 1 {
            tracing::warn!(reason = problem.reason, %problem, held = self.messages.len(), "nothing can be written; holding");
        }
        if self.lanes.values().any(|lane| lane.write.is_some()) {
            // Their answers are not waited for: they must not take connections and memory from those that come.
            self.close_connections();
        }
        self.give_up_lanes();
        if problem.reason != reasons::TOO_MANY_BAD_MESSAGES {
            self.database.fault = Some(problem.clone());
        }
        self.phase = Phase::Paused { doubt: Doubt { problem, tries }, until: now + pause };
    }

    /// Tries again soon.
    pub(super) fn shorten_pause(&mut self, now: Instant) {
        if let Phase::Paused { until, .. } = &mut self.phase {
            *until = now + SHORTEST_PAUSE;
        }
    }

    /// A message was committed: all doubts are over.
    pub(super) fn prove_flow(&mut self) {
        if let Some(doubt) = self.phase.doubt() {
            tracing::info!(reason = doubt.problem.reason, "messages can be written again");
        }
        self.phase = Phase::Flowing { proven: true, doubt: None };
        self.database.fault = None;
    }

    /// Tries again after a pause, forgets a doubt that nothing is left to test, and looks for the writer beside a slow statement.
    pub(super) fn resume_flow(&mut self, now: Instant) {
        match &self.phase {
            Phase::Paused { until, doubt } if *until <= now => {
                self.phase = Phase::Preparing { doubt: Some(doubt.clone()) };
                self.effects.push(Effect::Prepare);
            }
            Phase::Flowing { .. } if now >= self.suspect_at && self.sent_first().is_some_and(|sent| now >= sent + SUSPICIOUS) => {
                self.suspect_at = now + SUSPICIOUS;
                self.seek();
            }
            _ => {}
        }
    }

    pub(super) fn flow_wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Paused { until, .. } => Some(*until),
            Phase::Flowing { .. } => self.sent_first().map(|sent| (sent + SUSPICIOUS).max(self.suspect_at)),
            _ => None,
        }
    }

    /// When the statement was sent that has waited longest for its answer.
    fn sent_first(&self) -> Option<Instant> {
        let lanes = self.lanes.values().filter(|lane| lane.write.is_some()).map(|lane| lane.started);
        lanes.chain(self.probes.sent()).min()
    }

    fn give_up_lanes(&mut self) {
        for (_, lane) in std::mem::take(&mut self.lanes) {
            let failed = lane.ends.iter().map(|(key, _)| *key);
            for key in lane.unwritten().into_iter().chain(failed) {
                if self.messages.get(key).is_some_and(|held| held.place == Place::Writing) {
                    self.messages.put(key, Place::Pending);
                }
            }
        }
    }
}
