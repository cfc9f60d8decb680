//! The probe's time: a monotonic clock that the wall clock was read on once, so that two times can always be subtracted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// How long after the probe's start something was.
pub(super) type At = Duration;

/// The probe's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    anchor: Timestamp,
}

impl Clock {
    /// Starts it.
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), anchor: Timestamp::now() }
    }

    /// The time now.
    pub(super) fn now(&self) -> At {
        self.started.elapsed()
    }

    /// When this is, for timers.
    pub(super) fn instant(&self, at: At) -> Instant {
        self.started + at
    }

    /// The time as people and other programs know it.
    pub(super) fn wall(&self, at: At) -> Timestamp {
        wall(self.anchor, at)
    }
}

/// The wall clock's time at `at`, when it showed `anchor` at the start.
pub(super) fn wall(anchor: Timestamp, at: At) -> Timestamp {
    SignedDuration::try_from(at).ok().and_then(|at| anchor.checked_add(at).ok()).unwrap_or(anchor)
}

/// Notes by how much the wall clock moves against the monotonic one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    most: i64,
}

impl Steps {
    /// Compares what the wall clock shows with what it should.
    pub(super) fn observe(&mut self, expected: Timestamp, shown: Timestamp) {
        let step = shown.duration_since(expected).as_millis().unsigned_abs();
        self.most = self.most.max(i64::try_from(step).unwrap_or(i64::MAX));
    }

    /// The largest difference seen, in milliseconds.
    pub(super) fn most(&self) -> i64 {
        self.most
    }
}

/// Whole milliseconds, rounded down.
pub(super) fn floor(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// Whole milliseconds, rounded up.
pub(super) fn ceil(length: Duration) -> i64 {
    i64::try_from(length.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_shows_as_a_step_whichever_way() {
        let anchor: Timestamp = "2026-11-24T06:00:00Z".parse().unwrap();
        let mut steps = Steps::default();
        let expected = wall(anchor, Duration::from_secs(10));
        steps.observe(expected, "2026-11-24T06:00:10.003Z".parse().unwrap());
        assert_eq!(steps.most(), 3);
        steps.observe(expected, "2026-11-24T06:00:02Z".parse().unwrap());
        assert_eq!(steps.most(), 8000);
        steps.observe(expected, expected);
        assert_eq!(steps.most(), 8000);
    }

    #[test]
    fn bounds_are_rounded_outwards() {
        assert_eq!((floor(Duration::from_micros(1999)), ceil(Duration::from_micros(1001))), (1, 2));
    }
}
