//! Finds the outage among the direct writes, and its bounds.
//!
//! A write counts by when it began. That the database took none is known for certain only from the end of the first that failed until the
//! begin of the last that failed; that it may have taken none, from the begin of the last good one on the old writer until the end of the
//! first good one of the streak. Writes overlap, so that one that hangs hides nothing.

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
    /// The instance that took it, if one did.
    pub(super) good: Option<Arc<str>>,
}

/// A stretch of time without a good write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) last_good_began: At,
    first_failed_ended: Option<At>,
    last_failed_began: Option<At>,
    failed: u64,
    /// The first good write of the streak that ended it: its end, and who took it.
    pub(super) recovered: Option<(At, Arc<str>)>,
}

impl Span {
    fn since(last_good_began: At) -> Self {
        Self { last_good_began, ..Self::default() }
    }

    fn fail(&mut self, attempt: &Attempt) {
        self.first_failed_ended = Some(self.first_failed_ended.map_or(attempt.ended, |first| first.min(attempt.ended)));
        self.last_failed_began = Some(self.last_failed_began.map_or(attempt.began, |last| last.max(attempt.began)));
        self.failed += 1;
    }

    /// How long no write was taken, at least.
    fn lower(&self) -> Duration {
        match (self.first_failed_ended, self.last_failed_began) {
            (Some(first), Some(last)) => last.saturating_sub(first),
            _ => Duration::ZERO,
        }
    }

    /// How long no write was taken, at the most.
    fn upper(&self) -> Option<Duration> {
        self.recovered.as_ref().map(|(ended, _)| ended.saturating_sub(self.last_good_began))
    }

    /// As it stands in the result.
    pub(super) fn report(&self, anchor: Timestamp) -> Gap {
        let at = |at: At| wall(anchor, at);
        Gap {
            last_good_began: at(self.last_good_began),
            first_failed_ended: self.first_failed_ended.map(at),
            last_failed_began: self.last_failed_began.map(at),
            first_good_ended: self.recovered.as_ref().map(|(ended, _)| at(*ended)),
            failed_attempts: self.failed,
            writer_after: self.recovered.as_ref().map(|(_, instance)| instance.to_string()),
            lower_milliseconds: floor(self.lower()),
            upper_milliseconds: self.upper().map(ceil),
        }
    }
}

/// Good writes in a row, on one instance.
#[derive(Clone, Debug)]
struct Streak {
    instance: Arc<str>,
    /// The end of its first one.
    ended: At,
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
        }
    }

    /// From now on outages count. The baseline is steady, so that the last write was good.
    pub(super) fn begin(&mut self) {
        (self.since_failed, self.returned, self.moved, self.changes) = (None, None, None, 0);
    }

    /// How many good writes in a row the pinned writer has taken.
    pub(super) fn good_in_a_row(&self) -> u32 {
        self.streak.as_ref().filter(|streak| *streak.instance == *self.writer).map_or(0, |streak| streak.count)
    }

    /// Another instance than the pinned writer that takes the writes.
    pub(super) fn other_writer(&self) -> Option<&str> {
        self.streak.as_ref().filter(|streak| *streak.instance != *self.writer && streak.count >= STREAK).map(|streak| &*streak.instance)
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
        match &attempt.good {
            None => self.fail(attempt),
            Some(instance) => self.succeed(attempt, instance),
        }
    }

    fn fail(&mut self, attempt: &Attempt) {
        self.streak = None;
        if self.moved.is_none() {
            self.since_failed.get_or_insert_with(|| Span::since(self.since_good.last_good_began)).fail(attempt);
            self.since_good.fail(attempt);
        }
    }

    fn succeed(&mut self, attempt: &Attempt, instance: &Arc<str>) {
        if self.last_instance.as_ref().is_some_and(|last| last != instance) {
            self.changes += 1;
        }
        self.last_instance = Some(instance.clone());
        let streak = match self.streak.take().filter(|streak| streak.instance == *instance) {
            Some(streak) => Streak { count: streak.count.saturating_add(1), ..streak },
            None => Streak { instance: instance.clone(), ended: attempt.ended, count: 1 },
        };
        let complete = (streak.count >= STREAK).then(|| (streak.ended, streak.instance.clone()));
        self.streak = Some(streak);
        if self.moved.is_some() {
            return;
        }
        if **instance != *self.writer {
            if let Some(recovered) = complete {
                self.moved = Some(Span { recovered: Some(recovered), ..self.since_good.clone() });
            }
            return;
        }
        self.since_good = Span::since(attempt.began);
        if let Some(recovered) = complete
            && let Some(span) = self.since_failed.take()
        {
            let span = Span { recovered: Some(recovered), ..span };
            if self.returned.as_ref().is_none_or(|longest| longest.upper() < span.upper()) {
                self.returned = Some(span);
            }
        }
    }

    /// The outage, once it is certain that this is it: writes have moved to another instance, or have been good again on the old one for the
    /// whole cool-down. Single writes that fail are no outage.
    pub(super) fn found(&self, now: At) -> Option<&Span> {
        let stayed = |span: &&Span| {
            let good_since = span.recovered.as_ref().map(|(ended, _)| *ended);
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
