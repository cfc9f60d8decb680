//! What this process remembers of a drill from one look to the next. All of it may be lost: nothing that decides about the call is in it.

use std::collections::BTreeSet;
use std::time::Duration;

use durable_write_crds::drill::{DrillQueue, Observation, ObservationSource, RoleStatus};
use durable_write_crds::evidence::{Claim, WRITES_BACK, WRITES_FAIL};
use durable_write_crds::probe::ProbeState;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use super::observed::{Observed, Workers};
use super::rds::AuroraCluster;
use super::series::Seconds;
use super::step::{Known, signed};
use super::timeline::{Timeline, observation};

/// The depth of the queue is shown anew this often.
const DEPTH_EVERY: Duration = Duration::from_secs(10);
/// The name of a stage is shorter: what a probe says is the tenant's.
const LONGEST_STAGE: usize = 32;

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
    /// What was left until the deadline at the first look.
    deadline: Option<(SignedDuration, Instant)>,
    /// When the depth of the queue was taken over last.
    depth_at: Option<Instant>,
    workers: Option<BTreeSet<String>>,
    /// The probe's end was seen.
    measured: bool,
}

/// What was seen, for the report.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) timeline: Timeline,
    pub(super) roles_after: Vec<RoleStatus>,
    /// From the claim until RDS named another writer, by the monotonic clock: none when another process made the claim.
    pub(super) control_plane_milliseconds: Option<i64>,
    pub(super) series: Seconds,
    /// The depth of the queue, for people.
    pub(super) queue: Option<DrillQueue>,
    /// When RDS was asked last and still named the old writer.
    old_writer_at: Option<Timestamp>,
}

impl Memory {
    /// Of a drill with which nothing is left to do: what was seen of it is kept in its evidence.
    pub(super) fn done() -> Self {
        Self { done: true, ..Self::default() }
    }

    /// Takes over what was observed.
    pub(super) fn observe(&mut self, observed: &Observed, state: Option<&ProbeState>, now: Timestamp, instant: Instant) {
        if observed.evidence.claim().is_none() {
            // Only a step while it is measured counts.
            self.anchor = None;
        }
        let anchor = *self.anchor.get_or_insert((now, instant));
        let step = signed_milliseconds(now.duration_since(anchor.0)) - signed_milliseconds(signed(instant.duration_since(anchor.1)));
        if step.abs() > self.known.clock_step.abs() {
            self.known.clock_step = step;
        }
        let silent = matches!(observed.cluster, super::observed::ClusterSeen::Unknown(_)) || observed.events.is_err();
        self.silent_since = silent.then(|| self.silent_since.unwrap_or(instant));
        self.known.silent = self.silent_since.map(|since| instant.duration_since(since));
        if let Some(state) = state {
            self.known.stage = Some(state.stage.chars().take(LONGEST_STAGE).collect());
        }
        if let Some(probe) = observed.probe.ours() {
            if let Some(state) = state {
                self.seen.series.take(state, probe.created, now);
                self.show_depth(instant);
            }
            self.seen.note(probe.created, now, ObservationSource::Operator, "ProbeStarted", "the probe's pod was made");
            if probe.ready && observed.evidence.claim().is_none() {
                self.seen.note_once(now, ObservationSource::Operator, "ProbeReady", "the probe's pod is ready: its baseline is steady");
            }
        }
        if let Some(claim) = observed.evidence.claim() {
            let since = *self.claim_seen.get_or_insert(instant);
            let since = instant.duration_since(since);
            self.known.since_claim = Some(since);
            let cluster = observed.cluster.found().filter(|cluster| cluster.resource_id == claim.cluster.resource_id);
            self.known.moved |= cluster.and_then(AuroraCluster::writer).is_some_and(|writer| writer != claim.writer);
            for event in observed.events.iter().flatten() {
                if !self.known.events.contains(event) {
                    self.known.events.push(event.clone());
                }
            }
            self.seen.after_claim(observed, claim, self.known.call.is_some().then_some(since), now);
            self.seen.writes(state, now);
            // What becomes of the pipeline afterwards changes nothing that was measured.
            if self.known.pipeline_changed.is_none() && !self.measured {
                self.known.pipeline_changed = self.change_of_pipeline(observed, claim);
            }
            self.measured |= observed.probe.ours().is_some_and(|probe| probe.end.is_some());
        }
    }

    /// What is left until the deadline; only the first look counts.
    pub(super) fn count_down(&mut self, left: SignedDuration, instant: Instant) {
        let (left, since) = *self.deadline.get_or_insert((left, instant));
        self.known.left = Some(left - signed(instant.duration_since(since)));
    }

    fn show_depth(&mut self, instant: Instant) {
        if self.depth_at.is_none_or(|shown| instant.duration_since(shown) >= DEPTH_EVERY) {
            self.seen.queue = self.seen.series.depth().or(self.seen.queue.take());
            self.depth_at = Some(instant);
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

    /// What the probe shows of its direct writes, for those who watch; its result has the bounds.
    fn writes(&mut self, state: Option<&ProbeState>, now: Timestamp) {
        match state.map(|state| state.stage.as_str()) {
            Some("Outage") => self.note_once(now, ObservationSource::Operator, WRITES_FAIL, "the probe shows that its direct writes fail"),
            Some("Recovered") => {
                self.note_once(now, ObservationSource::Operator, WRITES_BACK, "the probe shows that its direct writes are back")
            }
            _ => {}
        }
    }

    fn after_claim(&mut self, observed: &Observed, claim: &Claim, since: Option<Duration>, now: Timestamp) {
        self.note(claim.at, claim.at, ObservationSource::Operator, "Claimed", &format!("the failover to {} was claimed", claim.target));
        for event in observed.events.iter().flatten() {
            self.note(event.at, now, ObservationSource::RDSEvent, event.kind.reason(), &event.message);
        }
        let Some(cluster) = observed.cluster.found().filter(|cluster| cluster.resource_id == claim.cluster.resource_id) else { return };
        self.roles_after = super::evidence::roles(cluster, now);
        match cluster.writer() {
            Some(writer) if writer != claim.writer => {
                if self.control_plane_milliseconds.is_none() && !self.timeline.has("WriterChanged") {
                    self.control_plane_milliseconds = since.map(|since| signed_milliseconds(signed(since)));
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

fn signed_milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use durable_write_crds::probe::ProbeSecond;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::drill::evidence;
    use crate::drill::fixtures::{self, second};
    use crate::drill::observed::{ClusterSeen, EvidenceSeen, LeaseSeen, ProbeSeen};
    use crate::drill::rds::{ClusterEvent, EventKind};

    fn observed(writer: &str) -> Observed {
        let mut cluster = fixtures::cluster();
        cluster.instances.iter_mut().for_each(|instance| instance.writer = instance.name == writer);
        Observed {
            evidence: EvidenceSeen::read(Some(evidence::claim_object(&fixtures::claim()).unwrap()), fixtures::UID),
            pipeline: Some(fixtures::pipeline()),
            workers: Workers::default(),
            probe: ProbeSeen::read(Some(fixtures::pod(true)), &fixtures::drill()),
            lease: LeaseSeen::NotAsked,
            cluster: ClusterSeen::Found(cluster),
            events: Ok(Vec::new()),
        }
    }

    #[test]
    fn a_writer_that_changed_and_came_back_is_remembered() {
        let (mut memory, instant) = (Memory::default(), Instant::now());
        for (writer, moved) in [("payments-1", false), ("", false), ("payments-2", true), ("payments-1", true)] {
            memory.observe(&observed(writer), None, second(40), instant);
            assert_eq!(memory.known.moved, moved, "{writer}");
        }
    }

    #[test]
    fn what_becomes_of_the_pipeline_after_the_probe_has_ended_changes_nothing() {
        let changes: [fn(&mut Observed); 3] = [
            |seen| seen.pipeline.as_mut().unwrap().metadata.generation = Some(5),
            |seen| seen.pipeline = None,
            |seen| seen.workers.pods = vec![("new".to_owned(), second(60))],
        ];
        for change in changes {
            for ended in [false, true] {
                let (mut memory, instant) = (Memory::default(), Instant::now());
                let mut seen = observed("payments-3");
                if ended {
                    seen.probe = ProbeSeen::read(Some(fixtures::ended(&fixtures::result())), &fixtures::drill());
                }
                let EvidenceSeen::Claimed(_, object) = &mut seen.evidence else { panic!() };
                object.metadata.creation_timestamp = Some(Time(second(30)));
                memory.observe(&seen, None, second(91), instant);
                change(&mut seen);
                memory.observe(&seen, None, second(92), instant);
                assert_eq!(memory.known.pipeline_changed.is_some(), !ended, "{:?}", memory.known.pipeline_changed);
            }
        }
    }

    #[test]
    fn events_of_all_looks_after_the_claim_are_remembered_once() {
        let (mut memory, instant) = (Memory::default(), Instant::now());
        let event = |at| ClusterEvent { at: second(at), kind: EventKind::Completed, message: String::new() };
        for events in [Ok(vec![event(31)]), Err("throttled".to_owned()), Ok(vec![event(31), event(38)]), Ok(Vec::new())] {
            memory.observe(&Observed { events, ..observed("payments-1") }, None, second(40), instant);
        }
        assert_eq!(memory.known.events, [event(31), event(38)]);
        let before = Observed { evidence: EvidenceSeen::None, events: Ok(vec![event(-900)]), ..observed("payments-1") };
        memory.observe(&before, None, second(40), instant);
        assert_eq!(memory.known.events.len(), 2, "those of the interval before the claim are another matter");
    }

    #[test]
    fn how_long_rds_took_goes_by_the_monotonic_clock_of_the_process_that_claimed() {
        for (made, took) in [(true, Some(8000)), (false, None)] {
            let (mut memory, instant) = (Memory::default(), Instant::now());
            memory.claimed(instant);
            memory.known.call = made.then_some(crate::drill::step::MAYBE_MADE);
            // The wall clock is set ahead by an hour.
            memory.observe(&observed("payments-3"), None, second(3638), instant + Duration::from_secs(8));
            assert_eq!(memory.seen.control_plane_milliseconds, took);
        }
    }

    #[test]
    fn writes_that_fail_and_come_back_after_the_claim_are_told_once_each() {
        let (mut memory, instant) = (Memory::default(), Instant::now());
        let state = |stage: &str| ProbeState { seconds: Vec::new(), stage: stage.to_owned(), message: String::new() };
        let unclaimed = Observed { evidence: EvidenceSeen::read(None, fixtures::UID), ..observed("payments-1") };
        memory.observe(&unclaimed, Some(&state("Outage")), second(29), instant);
        for (stage, at) in [("Steady", 31), ("Outage", 32), ("Outage", 33), ("Recovered", 39), ("Outage", 40), ("Draining", 50)] {
            memory.observe(&observed("payments-1"), Some(&state(stage)), second(at), instant);
        }
        let told = memory.seen.timeline.entries().into_iter().filter(|entry| entry.reason.starts_with("Writes"));
        let told: Vec<_> = told.map(|entry| (entry.reason, entry.at.0)).collect();
        assert_eq!(told, [(WRITES_FAIL.to_owned(), second(32)), (WRITES_BACK.to_owned(), second(39))]);
    }

    #[test]
    fn the_deadline_comes_nearer_by_the_monotonic_clock_alone() {
        let (mut memory, instant) = (Memory::default(), Instant::now());
        memory.count_down(SignedDuration::from_secs(900), instant);
        memory.count_down(SignedDuration::from_secs(-2700), instant + Duration::from_secs(10));
        assert_eq!(memory.known.left, Some(SignedDuration::from_secs(890)));
    }

    #[test]
    fn the_depth_of_the_queue_is_shown_anew_each_ten_seconds() {
        let (mut memory, instant) = (Memory::default(), Instant::now());
        let mut shown = |after: i64, depth: i64| {
            let seen =
                ProbeSecond { at: second(after).as_second(), accepted: 1, committed: 1, failed: 0, depth: Some(depth), writer: None };
            let state = ProbeState { seconds: vec![seen], stage: "x".repeat(1000), message: String::new() };
            let passed = Duration::from_secs(u64::try_from(after).unwrap());
            memory.observe(&observed("payments-1"), Some(&state), second(after), instant + passed);
            memory.seen.queue.as_ref().and_then(|queue| queue.after)
        };
        assert_eq!(
            [(10, 3), (15, 40), (19, 50), (20, 60), (29, 70)].map(|(after, depth)| shown(after, depth)),
            [3, 3, 3, 60, 60].map(Some)
        );
        assert_eq!(memory.known.stage.map(|stage| stage.len()), Some(LONGEST_STAGE));
    }
}
