//! From times and values to places on the chart, in whole tenths of a pixel.

use std::fmt;
use std::ops::Sub;

use durable_write_crds::probe::ProbeSecond;

/// The left edge of the lanes, in pixels.
pub(super) const LEFT: i64 = 60;
/// Their right edge.
pub(super) const RIGHT: i64 = 980;
/// The most labels of the axis.
const TICKS: i64 = 10;

/// A place in tenths of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenths(i64);

impl Tenths {
    /// Whole pixels.
    pub(super) fn pixels(pixels: i64) -> Self {
        Self(pixels * 10)
    }
}

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}.{}", if self.0 < 0 { "-" } else { "" }, self.0.abs() / 10, self.0.abs() % 10)
    }
}

impl Sub for Tenths {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

/// The axis of time. Times in milliseconds since the epoch.
pub(super) struct Scale {
    begin: i64,
    end: i64,
    zero: i64,
}

impl Scale {
    /// An axis from one second to another, with its zero at a time in milliseconds.
    pub(super) fn new(begin: i64, end: i64, zero: i64) -> Self {
        let begin = begin.saturating_mul(1000);
        Self { begin, end: end.saturating_mul(1000).max(begin.saturating_add(1000)), zero }
    }

    /// True when the axis reaches so far.
    pub(super) fn shows(&self, at: i64) -> bool {
        (self.begin..=self.end).contains(&at)
    }

    /// The place of a time; what is outside stands at the edge.
    pub(super) fn at(&self, at: i64) -> Tenths {
        let width = i128::from((RIGHT - LEFT) * 10);
        let (done, all) =
            (i128::from(at.clamp(self.begin, self.end)) - i128::from(self.begin), i128::from(self.end) - i128::from(self.begin));
        Tenths(LEFT * 10 + i64::try_from(done * width / all.max(1)).unwrap_or(0))
    }

    /// The place where a second begins.
    pub(super) fn second(&self, second: i64) -> Tenths {
        self.at(second.saturating_mul(1000))
    }

    /// The place of a second's middle.
    pub(super) fn middle(&self, second: i64) -> Tenths {
        self.at(second.saturating_mul(1000).saturating_add(500))
    }

    /// The right edge.
    pub(super) fn end(&self) -> Tenths {
        Tenths::pixels(RIGHT)
    }

    /// How high a value stands in a lane.
    pub(super) fn height(bottom: i64, height: i64, value: i64, most: i64) -> Tenths {
        let up = i128::from(value.clamp(0, most)) * i128::from(height * 10) / i128::from(most.max(1));
        Tenths(bottom * 10 - i64::try_from(up).unwrap_or(0))
    }

    /// The values that are known, in runs without a hole: a second that is missing shall not look like one that was measured.
    pub(super) fn runs(&self, seconds: &[ProbeSecond], value: &dyn Fn(&ProbeSecond) -> Option<i64>) -> Vec<Vec<(i64, i64)>> {
        let usual = usual_step(seconds);
        let known: Vec<(i64, i64)> = seconds.iter().filter_map(|second| Some((second.at, value(second)?))).collect();
        known.chunk_by(|one, other| other.0.saturating_sub(one.0) <= usual.saturating_mul(2)).map(<[_]>::to_vec).collect()
    }

    /// Places and labels of the axis, in seconds from its zero.
    pub(super) fn ticks(&self) -> Vec<(Tenths, String)> {
        let (from, to) = ((self.begin - self.zero).div_euclid(1000), (self.end - self.zero).div_euclid(1000));
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];
        let step = steps.into_iter().find(|step| (to - from) / step <= TICKS).unwrap_or(86_400);
        let first = from.div_euclid(step) + 1;
        let labels = (first..=to.div_euclid(step)).map(|number| number * step).take(20);
        labels.map(|seconds| (self.at(self.zero + seconds * 1000), format!("{seconds:+} s"))).collect()
    }
}

/// The usual distance of two seconds: more than one when they were thinned.
pub(super) fn usual_step(seconds: &[ProbeSecond]) -> i64 {
    let mut steps: Vec<i64> = seconds.windows(2).filter_map(|pair| Some(pair.last()?.at.saturating_sub(pair.first()?.at))).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: i64) -> ProbeSecond {
        ProbeSecond { at, accepted: 1, committed: 1, failed: 0, depth: None, writer: None }
    }

    #[test]
    fn a_line_breaks_where_seconds_are_missing() {
        let seconds: Vec<_> = [1, 2, 3, 4, 9, 10].map(second).into();
        let runs = Scale::new(1, 11, 0).runs(&seconds, &|second| Some(second.accepted.into()));
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    }

    #[test]
    fn thinned_seconds_make_one_line() {
        let seconds: Vec<_> = [0, 2, 4, 6, 8].map(second).into();
        assert_eq!(Scale::new(0, 9, 0).runs(&seconds, &|_| Some(1)).len(), 1);
    }

    #[test]
    fn the_axis_has_its_zero_at_the_claim_and_bears_absurd_times() {
        let ticks = Scale::new(100, 160, 120_300).ticks();
        assert!(ticks.iter().any(|(_, label)| label == "+0 s"), "{ticks:?}");
        assert!(ticks.len() <= 11 && ticks.len() > 4, "{ticks:?}");
        let scale = Scale::new(0, 10, 0);
        assert_eq!((scale.at(i64::MIN), scale.at(i64::MAX)), (Tenths::pixels(LEFT), Tenths::pixels(RIGHT)));
    }
}
