//! What this process remembers of a drill from one look to the next. All of it may be lost: nothing that decides about the call is in it.

use std::collections::BTreeSet;
use std::time::Duration;

use durable_write_crds::drill::{Observation, ObservationSource, RoleStatus};
use durable_write_crds::evidence::Claim;
use durable_write_crds::probe::ProbeState;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use super::observed::{Observed, Workers};
use super::series::Seconds;
use super::step::Known;
use super::timeline::{Timeline, observation};

/// What is remembered of one drill.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) known: Known,
    pub(super) seen: Seen,
    /// Nothing is left to do.
    pub(super) done: bool,
    /// Looks that failed in a row.
    pub(super) failures: u32,
    silent_since: Option<Instant>,
    claim_seen: Option<Instant>,
    /// Both clocks at the same moment.
    anchor: Option<(Timestamp, Instant)>,
    workers: Option<BTreeSet<String>>,
}

/// What was seen, for the report.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) timeline: Timeline,
    pub(super) roles_after: Vec<RoleStatus>,
    /// From the claim until RDS named another writer.
    pub(super) control_plane_milliseconds: Option<i64>,
    pub(super) series: Seconds,
    /// When RDS was asked last and still named the old writer.
    old_writer_at: Option<Timestamp>,
}

impl Memory {
    /// Takes over what was observed.
    pub(super) fn observe(&mut self, observed: &Observed, state: Option<&ProbeState>, now: Timestamp, instant: Instant) {
        if observed.evidence.claim().is_none() {
            // Only a step while it is measured counts.
            self.anchor = None;
        }
        let anchor = *self.anchor.get_or_insert((now, instant));
        let step = signed_milliseconds(now.duration_since(anchor.0)) - signed_milliseconds(duration(instant.duration_since(anchor.1)));
        if step.abs() > self.known.clock_step.abs() {
            self.known.clock_step = step;
        }
        let silent = matches!(observed.cluster, super::observed::ClusterSeen::Unknown(_)) || observed.events.is_err();
        self.silent_since = silent.then(|| self.silent_since.unwrap_or(instant));
        self.known.silent = self.silent_since.map(|since| instant.duration_since(since));
        if let Some(state) = state {
            self.known.stage = Some(state.stage.clone());
            self.seen.series.take(state);
        }
        if let Some(probe) = observed.probe.ours() {
            self.seen.note(probe.created, now, ObservationSource::Operator, "ProbeStarted", "the probe's pod was made");
            if probe.ready && observed.evidence.claim().is_none() {
                self.seen.note_once(now, ObservationSource::Probe, "BaselineSteady", "the probe's writes are steady on the writer");
            }
        }
        if let Some(claim) = observed.evidence.claim() {
            let since = *self.claim_seen.get_or_insert(instant);
            self.known.since_claim = Some(instant.duration_since(since));
            self.seen.after_claim(observed, claim, now);
            if self.known.pipeline_changed.is_none() {
                self.known.pipeline_changed = self.change_of_pipeline(observed, claim);
            }
        }
    }

    /// The claim was made now by this process.
    pub(super) fn claimed(&mut self, instant: Instant) {
        self.claim_seen = Some(instant);
    }

    fn change_of_pipeline(&mut self, observed: &Observed, claim: &Claim) -> Option<String> {
        let ended = observed.probe.ours().and_then(|probe| probe.end.as_ref());
        let Some(pipeline) = &observed.pipeline else { return Some("the pipeline was deleted".to_owned()) };
        if pipeline.metadata.uid.as_ref() != Some(&claim.pipeline.uid) || pipeline.metadata.deletion_timestamp.is_some() {
            return Some("the pipeline was deleted".to_owned());
        }
        if pipeline.metadata.generation != Some(claim.pipeline.generation) {
            let what = if pipeline.spec.suspend { "suspended" } else { "edited" };
            return Some(format!("the pipeline was {what}"));
        }
        let claimed = match &observed.evidence {
            super::observed::EvidenceSeen::Claimed(_, config_map) => config_map.metadata.creation_timestamp.as_ref().map(|time| time.0),
            _ => None,
        };
        let end = ended.and_then(|end| end.at);
        self.replaced(&observed.workers, claimed, end, ended.is_some()).then(|| "pods of the pipeline were replaced".to_owned())
    }

    /// A pod that is newer than the claim, and not than the probe's end; or one that was there and is gone.
    fn replaced(&mut self, workers: &Workers, claimed: Option<Timestamp>, end: Option<Timestamp>, ended: bool) -> bool {
        let newer = |made: &Timestamp| claimed.is_some_and(|claimed| *made > claimed) && end.is_none_or(|end| *made <= end);
        let now: BTreeSet<_> = workers.pods.iter().map(|(uid, _)| uid.clone()).collect();
        let before = self.workers.get_or_insert_with(|| now.clone());
        workers.pods.iter().any(|(_, made)| newer(made)) || (!ended && !before.is_subset(&now))
    }
}

impl Seen {
    /// Notes something that happened once at that time.
    pub(super) fn note(&mut self, at: Timestamp, now: Timestamp, source: ObservationSource, reason: &str, message: &str) {
        self.timeline.add(observation(at, now, source, reason, message));
    }

    /// Notes something that is seen again and again, the first time.
    pub(super) fn note_once(&mut self, now: Timestamp, source: ObservationSource, reason: &str, message: &str) {
        if !self.timeline.has(reason) {
            self.note(now, now, source, reason, message);
        }
    }

    fn after_claim(&mut self, observed: &Observed, claim: &Claim, now: Timestamp) {
        self.note(claim.at, claim.at, ObservationSource::Operator, "Claimed", &format!("the failover to {} was claimed", claim.target));
        for event in observed.events.iter().flatten() {
            self.note(event.at, now, ObservationSource::RDSEvent, event.kind.reason(), &event.message);
        }
        let Some(cluster) = observed.cluster.found().filter(|cluster| cluster.resource_id == claim.cluster.resource_id) else { return };
        self.roles_after = super::evidence::roles(cluster, now);
        match cluster.writer() {
            Some(writer) if writer != claim.writer => {
                if self.control_plane_milliseconds.is_none() && !self.timeline.has("WriterChanged") {
                    self.control_plane_milliseconds = Some(signed_milliseconds(now.duration_since(claim.at)));
                    let message = format!("the RDS API names {writer} as the writer, no longer {}", claim.writer);
                    let uncertainty = self.old_writer_at.map(|before| signed_milliseconds(now.duration_since(before)));
                    let seen = observation(now, now, ObservationSource::RDS, "WriterChanged", &message);
                    self.timeline.add(Observation { uncertainty_milliseconds: uncertainty, at: MicroTime(now), ..seen });
                }
            }
            _ => self.old_writer_at = Some(now),
        }
    }
}

fn duration(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn signed_milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
