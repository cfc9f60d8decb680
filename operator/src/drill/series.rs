//! The probe's seconds for the report's chart. Best effort: no verdict depends on them.

use std::collections::BTreeMap;

use durable_write_crds::drill::DrillQueue;
use durable_write_crds::evidence::{MOST_SECONDS, Series};
use durable_write_crds::probe::{ProbeSecond, ProbeState};
use jiff::Timestamp;

use crate::pipeline::two_figures;

/// The most seconds that are kept in memory: the longest deadline and more.
const MOST_KEPT: usize = 3 * 3600;

/// So many seconds outside the probe's life are the difference of two clocks.
const TOLERANCE: i64 = 60;
/// So many seconds without writes at its begin and its end are the probe's way.
const AT_THE_ENDS: i64 = 5;
/// The longest name of an instance: what a probe says is the tenant's.
const LONGEST_NAME: usize = 63;

/// Seconds that were read, by their begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Seconds(BTreeMap<i64, ProbeSecond>);

impl Seconds {
    /// Takes over what a probe shows whose pod was made at that time. Of seconds that are shown twice, or were not whole yet, the later ones
    /// are kept; those outside its life are not.
    pub(super) fn take(&mut self, state: &ProbeState, created: Timestamp, now: Timestamp) {
        let life = created.as_second() - TOLERANCE..=now.as_second() + TOLERANCE;
        for second in state.seconds.iter().filter(|second| life.contains(&second.at)) {
            if self.0.len() < MOST_KEPT || self.0.contains_key(&second.at) {
                let writer = second.writer.as_ref().map(|writer| writer.chars().take(LONGEST_NAME).collect());
                self.0.insert(second.at, ProbeSecond { writer, ..second.clone() });
            }
        }
    }

    /// The depth of the queue at the most and in the last second that shows it, rounded for a status.
    pub(super) fn depth(&self) -> Option<DrillQueue> {
        let depths = || self.0.values().filter_map(|second| second.depth);
        let (peak, last) = (depths().max()?, depths().next_back()?);
        Some(DrillQueue { peak: Some(two_figures(peak)), after: Some(two_figures(last)), ..DrillQueue::default() })
    }

    /// At most [`MOST_SECONDS`], and which are missing; `probe` is when it began and ended, where known.
    pub(super) fn thinned(self, probe: Option<(Timestamp, Timestamp)>) -> Series {
        let (Some((first, _)), Some((last, _))) = (self.0.first_key_value(), self.0.last_key_value()) else {
            return super::evidence::no_series();
        };
        let gone = last.saturating_sub(*first).saturating_add(1) - i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        let every = self.0.len().div_ceil(MOST_SECONDS).max(1);
        let mut missing = Vec::new();
        if let Some((began, ended)) = probe {
            let (head, tail) = (first.saturating_sub(began.as_second()), ended.as_second().saturating_sub(*last));
            if head > AT_THE_ENDS {
                missing.push(format!("the first {head} seconds of the probe were not read"));
            }
            if tail > AT_THE_ENDS {
                missing.push(format!("the last {tail} seconds of the probe were not read"));
            }
        }
        if gone > 0 {
            missing.push(format!("{gone} seconds could not be read from the probe"));
        }
        if every > 1 {
            missing.push(format!("one second in {every} is kept"));
        }
        let seconds = self.0.into_values().step_by(every).collect();
        Series { seconds, missing: (!missing.is_empty()).then(|| missing.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use durable_write_crds::evidence::canonical;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    fn second(at: i64) -> ProbeSecond {
        ProbeSecond { at: NOW + at, accepted: 1, committed: 1, failed: 0, depth: None, writer: None }
    }

    fn state(seconds: impl Iterator<Item = ProbeSecond>) -> ProbeState {
        ProbeState { seconds: seconds.collect(), stage: "Steady".to_owned(), message: String::new() }
    }

    /// The seconds of a probe whose pod was made at 0, read at 5000.
    fn read(seconds: impl Iterator<Item = i64>) -> Seconds {
        let mut read = Seconds::default();
        read.take(&state(seconds.map(second)), at(0), at(5000));
        read
    }

    #[test]
    fn many_seconds_are_thinned_and_it_is_said() {
        let series = read(0..1300).thinned(None);
        assert!(series.seconds.len() <= MOST_SECONDS, "{}", series.seconds.len());
        assert_eq!(series.missing.as_deref(), Some("one second in 3 is kept"));
    }

    #[test]
    fn seconds_that_overlap_are_kept_once_and_missing_ones_are_said() {
        let series = read((0..10).chain(5..15).chain(20..21)).thinned(None);
        assert_eq!(series.seconds.len(), 16);
        assert_eq!(series.missing.as_deref(), Some("5 seconds could not be read from the probe"));
        assert!(Seconds::default().thinned(None).missing.is_some());
    }

    #[test]
    fn a_head_and_a_tail_that_were_not_read_are_said() {
        let whole = read(100..200).thinned(Some((at(97), at(203))));
        assert_eq!(whole.missing, None);
        let cut = read(100..200).thinned(Some((at(40), at(230))));
        let said = "the first 60 seconds of the probe were not read; the last 31 seconds of the probe were not read";
        assert_eq!(cut.missing.as_deref(), Some(said));
    }

    #[test]
    fn what_a_probe_says_is_bounded() {
        let mut seconds = Seconds::default();
        let widest = |at: i64| ProbeSecond {
            accepted: u32::MAX,
            committed: u32::MAX,
            failed: u32::MAX,
            depth: Some(i64::MIN),
            writer: Some("\u{1}".repeat(60_000)),
            ..second(at)
        };
        for minute in -10..50 {
            seconds.take(&state((minute * 60..minute * 60 + 60).map(widest)), at(0), at(600));
        }
        assert!(seconds.0.keys().all(|second| (-60..=660).contains(&(second - NOW))), "only its life counts");
        let text = canonical(&seconds.thinned(None)).unwrap();
        assert!(text.len() < 512 * 1024, "a ConfigMap takes 1 MiB, and this is {}", text.len());
    }

    #[test]
    fn the_depth_of_the_queue_is_rounded() {
        assert_eq!(read(0..3).depth(), None);
        let mut seconds = Seconds::default();
        let depths = [Some(1), Some(1234), Some(567), None];
        seconds.take(&state((0..).zip(depths).map(|(at, depth)| ProbeSecond { depth, ..second(at) })), at(0), at(9));
        assert_eq!(seconds.depth(), Some(DrillQueue { peak: Some(1200), after: Some(560), ..DrillQueue::default() }));
    }
}
