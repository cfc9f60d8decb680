//! Finds the outage among the direct writes, and its bounds.
//!
//! Writes are back with a streak of good ones on one instance, as long as they stay so: when as many fail as make a streak and no streak of good
//! ones came between, they were not back, and the outage has gone on all the time. Fewer are a busy machine's, and change nothing.
//!
//! The outage is from T0, the last moment at which the pinned writer could commit, to T1, the first one at which the instance could that took
//! the streak of good writes afterwards. Each is known from both sides, whatever the network delays:
//! - T0 is not before the last good INSERT on the pinned writer was sent, as its commit came later. It is not after the first answer after
//!   that by which the writer refused: what it answers to was met at some moment before the answer, and the commit was not after its own.
//! - T1 is not after a good INSERT of the streak was first answered. It is not before the last question was sent that the same instance
//!   refused, as it was still refusing when that arrived.
//!
//! So T1 − T0 is at most the one difference (`upper`) and at least the other (`lower`). A write that failed as a whole was refused by every
//! instance, from its begin to its end. Who says nothing until an attempt's time-out refused until then; but as it may be the probe that is
//! slow, silence tells of T1 only when the instance never answered in the outage. Writes are taken in in the order of their begins and overlap,
//! so that one that hangs hides nothing; refusals of writes that began before the last good one are no part of the outage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::probe::{Gap, STREAK};
use jiff::Timestamp;

use super::clock::{At, ceil, floor, wall};

/// A direct write that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) began: At,
    pub(super) ended: At,
    /// Who took it, if somebody did.
    pub(super) good: Option<Taken>,
    /// Who did not take it.
    pub(super) refusals: Vec<Refusal>,
}

/// An INSERT that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) instance: Arc<str>,
    pub(super) sent: At,
    pub(super) received: At,
}

/// A server was asked to take a write, and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The instance; empty when whoever is behind the cluster endpoint was asked.
    pub(super) server: Arc<str>,
    pub(super) asked: At,
    /// When it answered, or was not waited for any more.
    pub(super) ended: At,
    /// It said nothing.
    pub(super) silent: bool,
}

/// A stretch of time without a good write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// When the last good write was sent and answered.
    pub(super) last_good_sent: At,
    last_good_received: At,
    /// When the pinned writer first refused.
    first_refused: Option<At>,
    /// When each server was last asked that answered and refused.
    last_asked: BTreeMap<Arc<str>, At>,
    /// When each server was last asked that said nothing; under the empty name when none took the write.
    last_asked_in_vain: BTreeMap<Arc<str>, At>,
    failed: u64,
    /// The first good write of the streak that ended it; answered is the first answer of any of them.
    pub(super) recovered: Option<Taken>,
}

impl Span {
    fn since(good: &Taken) -> Self {
        Self { last_good_sent: good.sent, last_good_received: good.received, ..Self::default() }
    }

    fn take_in(&mut self, attempt: &Attempt, writer: &str) {
        for Refusal { server, asked, ended, silent } in &attempt.refusals {
            let last_asked = if *silent { &mut self.last_asked_in_vain } else { &mut self.last_asked };
            latest(last_asked, server, *asked);
            if **server == *writer {
                self.stop(*ended);
            }
        }
        if attempt.good.is_none() {
            latest(&mut self.last_asked_in_vain, &Arc::default(), attempt.began);
            self.stop(attempt.ended);
            self.failed += 1;
        }
    }

    fn stop(&mut self, at: At) {
        self.first_refused = Some(self.first_refused.map_or(at, |first| first.min(at)));
    }

    /// When the pinned writer could commit nothing more, at the latest.
    fn stopped(&self) -> Option<At> {
        self.first_refused.map(|first| first.max(self.last_good_received))
    }

    /// Until when the instance that took the streak could commit nothing, at least.
    fn still_down(&self) -> Option<At> {
        let last = |asked: &BTreeMap<Arc<str>, At>, server: &str| asked.get(server).copied();
        let all = last(&self.last_asked_in_vain, "");
        let Some(good) = &self.recovered else { return all };
        let own = last(&self.last_asked, &good.instance).or_else(|| all.max(last(&self.last_asked_in_vain, &good.instance)));
        own.map(|asked| asked.min(good.received))
    }

    /// How long no write was taken, at least.
    fn lower(&self) -> Duration {
        self.still_down().zip(self.stopped()).map_or(Duration::ZERO, |(end, begin)| end.saturating_sub(begin))
    }

    /// How long no write was taken, at the most.
    fn upper(&self) -> Option<Duration> {
        self.recovered.as_ref().map(|good| good.received.saturating_sub(self.last_good_sent))
    }

    /// As it stands in the result.
    pub(super) fn report(&self, anchor: Timestamp) -> Gap {
        let at = |at: At| wall(anchor, at);
        Gap {
            last_good_began: at(self.last_good_sent),
            first_failed_ended: self.stopped().map(at),
            last_failed_began: self.still_down().map(at),
            first_good_ended: self.recovered.as_ref().map(|good| at(good.received)),
            failed_attempts: self.failed,
            writer_after: self.recovered.as_ref().map(|good| good.instance.to_string()),
            lower_milliseconds: floor(self.lower()),
            upper_milliseconds: self.upper().map(ceil),
        }
    }
}

fn latest(last: &mut BTreeMap<Arc<str>, At>, server: &Arc<str>, asked: At) {
    let last = last.entry(server.clone()).or_insert(asked);
    *last = asked.max(*last);
}

/// Good writes in a row, on one instance.
#[derive(Clone, Debug)]
struct Streak {
    first: Taken,
    count: u32,
}

/// Takes in the direct writes in the order of their begins.
#[derive(Debug)]
pub(super) struct Gaps {
    writer: String,
    cool_down: Duration,
    streak: Option<Streak>,
    last_instance: Option<Arc<str>>,
    changes: u32,
    /// Since the last good write on the pinned writer.
    since_good: Span,
    /// Since the last good write before the pinned writer failed, as long as it has no streak again.
    since_failed: Option<Span>,
    /// Outages that ended on the pinned writer, the longest of them.
    returned: Option<Span>,
    /// The outage that ended on another instance.
    moved: Option<Span>,
    /// How many writes have failed since the last whole streak.
    failed: u32,
}

impl Gaps {
    pub(super) fn new(writer: &str, cool_down: Duration) -> Self {
        Self {
            writer: writer.to_owned(),
            cool_down,
            streak: None,
            last_instance: None,
            changes: 0,
            since_good: Span::default(),
            since_failed: None,
            returned: None,
            moved: None,
            failed: 0,
        }
    }

    /// From now on outages count. The baseline is steady, so that the last write was good.
    pub(super) fn begin(&mut self) {
        (self.since_failed, self.returned, self.moved, self.changes) = (None, None, None, 0);
    }

    /// How many good writes in a row the pinned writer has taken.
    pub(super) fn good_in_a_row(&self) -> u32 {
        self.streak.as_ref().filter(|streak| *streak.first.instance == *self.writer).map_or(0, |streak| streak.count)
    }

    /// Another instance than the pinned writer that takes the writes.
    pub(super) fn other_writer(&self) -> Option<&str> {
        let other = |streak: &&Streak| *streak.first.instance != *self.writer && streak.count >= STREAK;
        self.streak.as_ref().filter(other).map(|streak| &*streak.first.instance)
    }

    /// The instance that took the last good write.
    pub(super) fn last_instance(&self) -> Option<&Arc<str>> {
        self.last_instance.as_ref()
    }

    /// How many times the good writes moved to another instance.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    /// True while writes fail, or have come back for less than a streak.
    pub(super) fn is_open(&self) -> bool {
        self.moved.is_none() && (self.since_good.failed > 0 || self.since_failed.is_some())
    }

    pub(super) fn take_in(&mut self, attempt: &Attempt) {
        self.since_good.take_in(attempt, &self.writer);
        if attempt.good.is_none() && self.since_failed.is_none() {
            self.since_failed = Some(self.since_good.clone());
        } else if let Some(span) = &mut self.since_failed {
            span.take_in(attempt, &self.writer);
        }
        match &attempt.good {
            None => self.fail(),
            Some(good) => self.succeed(good),
        }
    }

    fn fail(&mut self) {
        self.streak = None;
        self.failed = self.failed.saturating_add(1);
        if self.failed >= STREAK {
            self.moved = None;
        }
    }

    fn succeed(&mut self, good: &Taken) {
        if self.last_instance.as_ref().is_some_and(|last| *last != good.instance) {
            self.changes += 1;
        }
        self.last_instance = Some(good.instance.clone());
        let streak = match self.streak.take().filter(|streak| streak.first.instance == good.instance) {
            Some(Streak { first, count }) => {
                // One that began later may have been answered sooner.
                let received = first.received.min(good.received);
                Streak { first: Taken { received, ..first }, count: count.saturating_add(1) }
            }
            None => Streak { first: good.clone(), count: 1 },
        };
        let complete = (streak.count >= STREAK).then(|| streak.first.clone());
        self.streak = Some(streak);
        if complete.is_some() {
            self.failed = 0;
        }
        if self.moved.is_some() {
            return;
        }
        if *good.instance != *self.writer {
            if complete.is_some() {
                self.moved = Some(Span { recovered: complete, ..self.since_good.clone() });
            }
            return;
        }
        self.since_good = Span::since(good);
        if complete.is_some()
            && let Some(span) = self.since_failed.take()
        {
            let span = Span { recovered: complete, ..span };
            if self.returned.as_ref().is_none_or(|longest| longest.upper() < span.upper()) {
                self.returned = Some(span);
            }
        }
    }

    /// The outage, when it is over: writes have moved to another instance and stayed good there until now, or have been good again on the old one
    /// for the whole cool-down. Single writes that fail are no outage.
    pub(super) fn found(&self, now: At) -> Option<&Span> {
        let stayed = |span: &&Span| {
            let good_since = span.recovered.as_ref().map(|good| good.received);
            let quiet = self.since_failed.is_none() && good_since.is_some_and(|since| now >= since + self.cool_down);
            span.failed >= u64::from(STREAK) && quiet
        };
        self.moved.as_ref().or_else(|| self.returned.as_ref().filter(stayed))
    }

    /// The outage as far as it is known, when there is no more time.
    pub(super) fn so_far(&self) -> Option<&Span> {
        self.moved.as_ref().or(self.since_failed.as_ref()).or(self.returned.as_ref())
    }
}

#[cfg(test)]
mod tests;
