//! The probe's seconds for the report's chart. Best effort: no verdict depends on them.

use std::collections::BTreeMap;

use durable_write_crds::evidence::{MOST_SECONDS, Series};
use durable_write_crds::probe::{ProbeSecond, ProbeState};

/// The most seconds that are kept in memory: the longest deadline and more.
const MOST_KEPT: usize = 3 * 3600;

/// Seconds that were read, by their begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Seconds(BTreeMap<i64, ProbeSecond>);

impl Seconds {
    /// Takes over what the probe shows. Seconds in which it is shown twice, or that are not whole yet, are the later ones.
    pub(super) fn take(&mut self, state: &ProbeState) {
        for second in &state.seconds {
            if self.0.len() < MOST_KEPT || self.0.contains_key(&second.at) {
                self.0.insert(second.at, second.clone());
            }
        }
    }

    /// At most [`MOST_SECONDS`], and why some are missing.
    pub(super) fn thinned(self) -> Series {
        let (Some((first, _)), Some((last, _))) = (self.0.first_key_value(), self.0.last_key_value()) else {
            return super::evidence::no_series();
        };
        let gone = last.saturating_sub(*first).saturating_add(1) - i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        let every = self.0.len().div_ceil(MOST_SECONDS).max(1);
        let mut missing = Vec::new();
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
    use super::*;

    fn state(seconds: impl Iterator<Item = i64>) -> ProbeState {
        let second = |at| ProbeSecond { at, accepted: 1, committed: 1, failed: 0, depth: None, writer: None };
        ProbeState { seconds: seconds.map(second).collect(), stage: "Steady".to_owned(), message: String::new() }
    }

    #[test]
    fn many_seconds_are_thinned_and_it_is_said() {
        let mut seconds = Seconds::default();
        seconds.take(&state(0..1300));
        let series = seconds.thinned();
        assert!(series.seconds.len() <= MOST_SECONDS, "{}", series.seconds.len());
        assert_eq!(series.missing.as_deref(), Some("one second in 3 is kept"));
    }

    #[test]
    fn seconds_that_overlap_are_kept_once_and_missing_ones_are_said() {
        let mut seconds = Seconds::default();
        seconds.take(&state(0..10));
        seconds.take(&state(5..15));
        seconds.take(&state(20..21));
        let series = seconds.thinned();
        assert_eq!(series.seconds.len(), 16);
        assert_eq!(series.missing.as_deref(), Some("5 seconds could not be read from the probe"));
        assert!(Seconds::default().thinned().missing.is_some());
    }
}
