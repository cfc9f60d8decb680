//! The course of a probe: what it has seen, whether its baseline is steady, and when it stops, has drained and is at its end. It decides only;
//! time is an argument.

mod steadiness;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::probe::{AcceptSide, DepthSeen, ProbePlan, ProbeSecond, ProbeState};
use jiff::Timestamp;

use super::clock::{At, Steps, floor, wall};
use super::direct::{Done, Offset};
use super::gap::{Attempt, Gaps, Span};
use super::ledger::{Fate, Ledger};
use crate::problem::Problem;
use crate::queue::sqs::SendFailure;
use crate::queue::{Depth, QueueError};

/// How long after the last send a message may take, whatever the objective says.
const LEAST_DRAIN: Duration = Duration::from_secs(10);
/// How long after the deadline of the drain there is one more look: what is seen only then is late and not lost.
const LATE: Duration = Duration::from_secs(10);
/// The backlog is gone when all messages that are older than this are in the table: younger ones are on their way at any time.
const ON_THEIR_WAY: Duration = Duration::from_secs(2);
/// So many seconds are shown.
const SECONDS: usize = 60;
/// So many readings of the queue's depth in a row must say that the backlog is gone: each is only about right.
const READINGS: usize = 3;
/// A queue that takes what comes within this many seconds has no backlog.
const NO_BACKLOG: i64 = 2;
/// So many moments of missed ticks are kept; with more nothing was measured anyway.
const MISSED: usize = 10_000;

/// Where the probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Baseline,
    Steady,
    Outage,
    Recovered,
    Draining,
    Counting,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    GoOn,
    /// End: nothing can be measured, for this reason.
    Refuse(Problem),
    /// Nothing is left to wait for: count.
    Count,
}

/// What a probe has seen.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) plan: ProbePlan,
    pub(super) anchor: Timestamp,
    /// How long the queue delays each message.
    pub(super) delay: Duration,
    pub(super) stage: Stage,
    pub(super) gaps: Gaps,
    pub(super) queue: Ledger,
    pub(super) direct: Ledger,
    pub(super) steps: Steps,
    /// When writes began.
    began: At,
    pub(super) ready: Option<At>,
    /// The baseline is steady now.
    steady: bool,
    /// Why it is not.
    waits_for: String,
    /// Direct writes that have not been taken in, in the order of their begins: when each began, and how it ended.
    under_way: BTreeMap<i64, (At, Option<Attempt>)>,
    open_sends: u64,
    /// When the probe stopped to write.
    stopped: Option<At>,
    /// The outage that it stopped for: what comes in afterwards does not take it back.
    found: Option<Span>,
    overdue: bool,
    pub(super) drained: Option<At>,
    missed: VecDeque<(At, u64)>,
    pub(super) lags: Option<BTreeMap<String, i64>>,
    pub(super) lags_before: BTreeMap<String, i64>,
    pub(super) accept: AcceptSide,
    last_accepted: Option<At>,
    pub(super) depth: DepthSeen,
    /// The last of them.
    depths: VecDeque<i64>,
    dead: Option<i64>,
    dead_before: Option<i64>,
    pub(super) clocks_before: BTreeMap<Arc<str>, Offset>,
    pub(super) clocks_after: BTreeMap<Arc<str>, Offset>,
    /// Why the last direct write failed, and why the queue takes no messages.
    direct_problem: Option<Problem>,
    send_problem: Option<Problem>,
    seconds: VecDeque<ProbeSecond>,
}

impl Course {
    /// Writes begin now.
    pub(super) fn new(plan: ProbePlan, anchor: Timestamp, delay: Duration, now: At) -> Self {
        Self {
            gaps: Gaps::new(&plan.writer, plan.cool_down.get()),
            plan,
            anchor,
            delay,
            stage: Stage::Baseline,
            queue: Ledger::default(),
            direct: Ledger::default(),
            steps: Steps::default(),
            began: now,
            ready: None,
            steady: false,
            waits_for: String::new(),
            under_way: BTreeMap::new(),
            open_sends: 0,
            stopped: None,
            found: None,
            overdue: false,
            drained: None,
            missed: VecDeque::new(),
            lags: None,
            lags_before: BTreeMap::new(),
            accept: AcceptSide::default(),
            last_accepted: None,
            depth: DepthSeen::default(),
            depths: VecDeque::new(),
            dead: None,
            dead_before: None,
            clocks_before: BTreeMap::new(),
            clocks_after: BTreeMap::new(),
            direct_problem: None,
            send_problem: None,
            seconds: VecDeque::new(),
        }
    }

    /// True while messages are sent and direct writes begun.
    pub(super) fn writes(&self) -> bool {
        self.stopped.is_none()
    }

    /// True when the baseline is steady now.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Steady && self.steady
    }

    /// The instance that took the last write, or should take the first, while writes are good.
    pub(super) fn known(&self) -> Option<Arc<str>> {
        let last = self.gaps.last_instance().cloned().unwrap_or_else(|| self.plan.writer.as_str().into());
        (self.ready.is_none() || !self.gaps.is_open()).then_some(last)
    }

    // What is begun.

    /// A direct write begins, and so many ticks before it were missed.
    pub(super) fn begin_direct(&mut self, now: At, missed: u64) -> i64 {
        if missed > 0 {
            self.missed.push_back((now, missed));
            if self.missed.len() > MISSED {
                self.missed.pop_front();
            }
        }
        let seq = self.direct.begin(now);
        self.under_way.insert(seq, (now, None));
        seq
    }

    /// A message is sent.
    pub(super) fn begin_send(&mut self, now: At) -> i64 {
        self.open_sends += 1;
        self.accept.attempted += u64::from(self.ready.is_some());
        self.queue.begin(now)
    }

    // What comes back.

    pub(super) fn wrote(&mut self, seq: i64, done: Done) {
        self.direct.end(seq, done.fate);
        self.note(done.ended, |second| match &done.good {
            Some(good) => {
                second.committed += 1;
                second.writer = Some(good.taken.instance.to_string());
            }
            None => second.failed += 1,
        });
        self.direct_problem = done.problem;
        if let Some(good) = &done.good {
            let after = self.found(done.ended).is_some();
            let clocks = if after { &mut self.clocks_after } else { &mut self.clocks_before };
            let best = clocks.entry(good.taken.instance.clone()).or_insert(good.offset);
            if good.offset.uncertainty < best.uncertainty {
                *best = good.offset;
            }
        }
        let attempt = Attempt { began: done.began, ended: done.ended, good: done.good.map(|good| good.taken), refusals: done.refusals };
        if let Some((_, place)) = self.under_way.get_mut(&seq) {
            *place = Some(attempt);
        }
        // In the order of their begins: what hangs is waited for, at most for the time-out.
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.get().1.is_some()) {
            if let (_, Some(attempt)) = entry.remove() {
                self.gaps.take_in(&attempt);
            }
        }
    }

    pub(super) fn sent(&mut self, seq: i64, now: At, result: Result<(), SendFailure>) {
        self.open_sends = self.open_sends.saturating_sub(1);
        let counts = u64::from(self.ready.is_some());
        match result {
            Ok(()) => {
                self.queue.end(seq, Fate::Confirmed);
                self.accept.acknowledged += counts;
                self.note(now, |second| second.accepted += 1);
                self.send_problem = None;
                self.note_pause(now);
                self.last_accepted = Some(now);
            }
            Err(failure) => {
                self.queue.end(seq, if failure.refused { Fate::Refused } else { Fate::Unknown });
                self.accept.failed += counts;
                if let QueueError::Problem(problem) = failure.error {
                    self.send_problem = Some(problem);
                }
            }
        }
    }

    /// The queue has accepted nothing from the last confirmation until now; what comes after the stop is no pause, as nothing is sent then.
    fn note_pause(&mut self, now: At) {
        if let (Some(last), true) = (self.last_accepted, self.ready.is_some()) {
            let pause = floor(self.stopped.unwrap_or(now).min(now).saturating_sub(last));
            self.accept.longest_gap_milliseconds = self.accept.longest_gap_milliseconds.max(pause);
        }
    }

    /// What the table holds, as it was asked at `asked`.
    pub(super) fn looked(&mut self, asked: At, settled: Vec<i64>) {
        settled.into_iter().for_each(|seq| self.queue.settle(seq));
        self.queue.low();
        let recovered = self.recovered_at(asked);
        // What was drained before a recovery that was none says nothing.
        self.drained = self.drained.filter(|drained| recovered.is_some_and(|recovered| *drained >= recovered));
        let caught_up = |course: &Self| course.queue.unsettled(asked.saturating_sub(ON_THEIR_WAY + course.delay)) == 0;
        if !self.overdue && self.drained.is_none() && recovered.is_some_and(|recovered| asked >= recovered) && caught_up(self) {
            self.drained = Some(asked);
        }
    }

    pub(super) fn saw_depth(&mut self, now: At, depth: Depth) {
        let total = depth.visible + depth.in_flight;
        self.note(now, |second| second.depth = Some(total));
        self.depth.after = Some(total);
        self.depths.push_back(total);
        if self.depths.len() > READINGS {
            self.depths.pop_front();
        }
        if self.ready.is_some() {
            self.depth.peak = self.depth.peak.max(Some(total));
        }
        self.dead = depth.dead_lettered;
    }

    /// True when the queue is as empty again as it was in the baseline.
    pub(super) fn backlog_is_gone(&self) -> bool {
        let most = self.depth.before.unwrap_or(0) + NO_BACKLOG * i64::from(self.plan.messages_per_second);
        self.depths.len() == READINGS && self.depths.iter().all(|depth| *depth <= most)
    }

    /// By how much the dead-letter queue has grown, where that is known.
    pub(super) fn dead_letter_growth(&self) -> Option<i64> {
        Some((self.dead? - self.dead_before?).max(0))
    }

    /// How many ticks were missed since the baseline was steady; and of these, how many in a stretch of time.
    pub(super) fn missed(&self, within: Option<&Span>) -> (u64, u64) {
        let since = self.ready.unwrap_or(At::MAX);
        let all = || self.missed.iter().filter(|(at, _)| *at >= since);
        let inside = |span: &Span| {
            let end = span.recovered.as_ref().map_or(At::MAX, |good| good.received);
            all().filter(|(at, _)| *at >= span.last_good_sent && *at <= end).map(|(_, missed)| missed).sum()
        };
        (all().map(|(_, missed)| missed).sum(), within.map_or(0, inside))
    }

    // What follows from it.

    /// Goes on, or says that this is the end.
    pub(super) fn decide(&mut self, now: At) -> Next {
        if let Some(stopped) = self.stopped {
            return self.decide_drain(stopped, now);
        }
        let unsteady = self.unsteady(now);
        self.steady = unsteady.is_none();
        match (&self.ready, unsteady) {
            (None, None) => self.begin_steady(now),
            (None, Some(unsteady)) if unsteady.at_once || now >= self.began + self.patience() => return Next::Refuse(unsteady.problem),
            (None, Some(unsteady)) => self.waits_for = unsteady.problem.message,
            (Some(_), unsteady) => {
                self.stage = match self.found(now) {
                    Some(_) => Stage::Recovered,
                    None if self.gaps.is_open() => Stage::Outage,
                    None => Stage::Steady,
                };
                self.waits_for = unsteady.map(|unsteady| unsteady.problem.message).unwrap_or_default();
            }
        }
        // Writes that hang may yet have failed within the cool-down.
        let all_ended = self.under_way.first_key_value().map_or(now, |(_, (began, _))| *began);
        let cooled = self.recovered_at(now).is_some_and(|recovered| all_ended >= recovered + self.plan.cool_down.get());
        if self.ready.is_some() && cooled || now >= self.plan.deadline.get() {
            self.stopped = Some(now);
            self.note_pause(now);
            self.found = self.gaps.found(now).cloned();
            self.stage = Stage::Draining;
        }
        Next::GoOn
    }

    fn begin_steady(&mut self, now: At) {
        self.ready = Some(now);
        self.stage = Stage::Steady;
        self.gaps.begin();
        self.lags_before = self.lags.clone().unwrap_or_default();
        self.depth = DepthSeen { before: self.depth.after, peak: self.depth.after, after: self.depth.after };
        self.dead_before = self.dead;
    }

    fn decide_drain(&mut self, stopped: At, now: At) -> Next {
        let deadline = self.drain_deadline(stopped, now);
        let settled = self.open_sends == 0 && self.queue.unsettled(now) == 0;
        if settled && self.under_way.is_empty() || self.overdue && now >= deadline + LATE {
            self.stage = Stage::Counting;
            return Next::Count;
        }
        if now >= deadline && !self.overdue {
            self.overdue = true;
            // The backlog was gone once, but not everything has come.
            self.drained = None;
            self.queue.mark_overdue();
        }
        Next::GoOn
    }

    fn drain_deadline(&self, stopped: At, now: At) -> At {
        let recovered = self.recovered_at(now).unwrap_or(stopped);
        (recovered + self.plan.backlog_drained.get()).max(stopped + LEAST_DRAIN) + self.delay
    }

    /// The outage, when it is over.
    pub(super) fn found(&self, now: At) -> Option<&Span> {
        self.found.as_ref().or_else(|| self.gaps.found(now))
    }

    /// When the outage ended.
    pub(super) fn recovered_at(&self, now: At) -> Option<At> {
        self.found(now)?.recovered.as_ref().map(|good| good.received)
    }

    // What people see.

    /// Notes something in the second in which it was.
    fn note(&mut self, at: At, change: impl FnOnce(&mut ProbeSecond)) {
        let second = wall(self.anchor, at).as_second();
        if self.seconds.back().is_none_or(|last| last.at < second) {
            let empty = ProbeSecond { at: second, accepted: 0, committed: 0, failed: 0, depth: None, writer: None };
            self.seconds.push_back(empty);
            if self.seconds.len() > SECONDS {
                self.seconds.pop_front();
            }
        }
        if let Some(second) = self.seconds.iter_mut().rev().find(|known| known.at <= second) {
            change(second);
        }
    }

    /// The state for people.
    pub(super) fn state(&self) -> ProbeState {
        let message = match self.stage {
            Stage::Baseline => format!("the baseline is not steady yet: {}", self.waits_for),
            Stage::Steady if self.steady => "the baseline is steady; waiting for the failover".to_owned(),
            Stage::Steady => format!("the baseline is not steady any more: {}", self.waits_for),
            Stage::Outage => "direct writes fail; waiting until they come back".to_owned(),
            Stage::Recovered => "writes are back; going on for the cool-down".to_owned(),
            Stage::Draining => "no more is written; waiting until every acknowledged message is in the table".to_owned(),
            Stage::Counting => "counting".to_owned(),
        };
        ProbeState { seconds: self.seconds.iter().cloned().collect(), stage: format!("{:?}", self.stage), message }
    }
}

#[cfg(test)]
mod tests;
