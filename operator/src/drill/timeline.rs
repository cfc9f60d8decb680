//! What happened, in the order of its own time; at most as many entries as a status takes.

use durable_write_crds::drill::{Observation, ObservationSource};
use durable_write_crds::evidence::{Call, CallOutcome};
use durable_write_crds::probe::ProbeResult;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The most entries of a status.
const MOST: usize = 64;
/// The longest message of an entry, in characters.
const LONGEST: usize = 512;

/// The longest reason of an entry, in characters.
const LONGEST_REASON: usize = 64;

/// Observations, sorted by when they happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timeline(Vec<Observation>);

/// An observation without uncertainty.
pub(super) fn observation(at: Timestamp, observed: Timestamp, source: ObservationSource, reason: &str, message: &str) -> Observation {
    Observation {
        at: MicroTime(micros(at)),
        observed_at: MicroTime(micros(observed)),
        source,
        reason: reason.chars().take(LONGEST_REASON).collect(),
        message: message.chars().take(LONGEST).collect(),
        uncertainty_milliseconds: None,
    }
}

/// As the API server stores times, so that what is written compares equal to what is read.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

impl Timeline {
    /// What a status or another process kept.
    pub(super) fn of(entries: &[Observation]) -> Self {
        let mut timeline = Self::default();
        entries.iter().cloned().for_each(|entry| timeline.add(entry));
        timeline
    }

    /// Adds an entry, unless the same source has said the same of the same time, or too many are there.
    pub(super) fn add(&mut self, entry: Observation) {
        let same = |other: &Observation| {
            (&other.at, other.source, &other.reason, &other.message) == (&entry.at, entry.source, &entry.reason, &entry.message)
        };
        if self.0.len() < MOST && !self.0.iter().any(same) {
            let place = self.0.partition_point(|other| other.at.0 <= entry.at.0);
            self.0.insert(place, entry);
        }
    }

    pub(super) fn has(&self, reason: &str) -> bool {
        self.0.iter().any(|entry| entry.reason == reason)
    }

    pub(super) fn entries(&self) -> Vec<Observation> {
        self.0.clone()
    }

    /// What the call and the probe say, when the drill ends.
    pub(super) fn add_result(&mut self, call: &Call, result: Option<&ProbeResult>, now: Timestamp) {
        if let Some(began) = call.began {
            self.add(observation(began, began, ObservationSource::Operator, "Called", "the RDS API was called for the failover"));
        }
        if let Some(ended) = call.ended {
            let (reason, message) = match call.outcome {
                CallOutcome::Accepted => ("CallAccepted", "the RDS API accepted the failover"),
                CallOutcome::Refused => ("CallRefused", "the RDS API refused the failover"),
                CallOutcome::Unclear | CallOutcome::NotMade | CallOutcome::Unknown => {
                    ("CallUnclear", "whether the RDS API took the call is not known")
                }
            };
            self.add(observation(ended, ended, ObservationSource::Operator, reason, message));
        }
        let Some(result) = result else { return };
        let mut probe = |at: Option<Timestamp>, reason: &str, message: &str| {
            // Before that, no time stands in a form that the API server takes.
            if let Some(at) = at.filter(|at| *at > Timestamp::UNIX_EPOCH) {
                self.add(observation(at, now, ObservationSource::Probe, reason, message));
            }
        };
        probe(result.ready, "BaselineSteady", "the probe's writes were steady on the writer");
        if let Some(gap) = &result.gap {
            probe(Some(gap.last_good_began), "LastGoodWrite", "the last good write on the old writer began");
            probe(gap.first_failed_ended, "FirstFailedWrite", "the first write failed");
            probe(gap.last_failed_began, "LastFailedWrite", "the last write that failed began");
            let after = gap.writer_after.as_deref().unwrap_or("an instance that was not named");
            probe(gap.first_good_ended, "FirstGoodWrite", &format!("the first good write ended, on {after}"));
        }
        let settled = result.gap.as_ref().and_then(|gap| gap.first_good_ended).zip(result.drained_milliseconds);
        let drained = settled.and_then(|(good, took)| good.checked_add(jiff::SignedDuration::from_millis(took)).ok());
        probe(drained, "Drained", "every acknowledged message was settled");
        probe(Some(result.ended), "ProbeEnded", "the probe counted its rows and ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn entries_stand_in_the_order_of_their_own_time_and_once() {
        let mut timeline = Timeline::default();
        for (second, seen) in [(5, 6), (1, 7), (5, 9), (3, 8)] {
            timeline.add(observation(at(second), at(seen), ObservationSource::RDSEvent, "FailoverStarted", "to orders-2"));
        }
        let entries = timeline.entries();
        assert_eq!(entries.iter().map(|entry| entry.at.0).collect::<Vec<_>>(), [at(1), at(3), at(5)]);
        assert_eq!(entries[2].observed_at.0, at(6), "the first look at an event that is told twice");
    }

    #[test]
    fn there_are_never_more_than_a_status_takes() {
        let mut timeline = Timeline::default();
        for second in 0..200 {
            timeline.add(observation(at(second), at(second), ObservationSource::Operator, "X", &"x".repeat(2000)));
        }
        assert_eq!(timeline.entries().len(), MOST);
        assert!(timeline.entries().iter().all(|entry| entry.message.len() <= LONGEST));
    }

    #[test]
    fn what_the_probe_saw_stands_at_the_probes_own_times() {
        let mut timeline = Timeline::default();
        let mut result = crate::drill::fixtures::result();
        result.gap.as_mut().unwrap().first_good_ended = Some(Timestamp::MIN);
        let call = Call { outcome: CallOutcome::Accepted, began: None, ended: None, message: None };
        timeline.add_result(&call, Some(&result), at(999));
        let entries = timeline.entries();
        let steady = entries.iter().find(|entry| entry.reason == "BaselineSteady").unwrap();
        assert_eq!((steady.source, Some(steady.at.0)), (ObservationSource::Probe, result.ready));
        assert!(entries.iter().all(|entry| entry.at.0 > Timestamp::UNIX_EPOCH), "the API server takes no year before 0");
    }
}
