//! What a drill does next: a function of the drill, of what was read, of what this process knows, and of the time. Pure.

use std::time::Duration;

use durable_write_crds::FailoverDrill;
use durable_write_crds::conditions::{drill_reasons as reasons, drill_types};
use durable_write_crds::drill::{Criterion, Phase, Verdict};
use durable_write_crds::evidence::{Call, CallOutcome, Claim, Evidence};
use durable_write_crds::probe::ProbeOutcome;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;

use super::lease::{self, Holder, Standing};
use super::observed::{ClusterSeen, EvidenceSeen, LeaseSeen, Observed, Probe, ProbeSeen};
use super::preflight::{self, Hindrance, Pins};
use super::rds::EventKind;
use super::verdict::{self, Measured};
use super::world::CALL_TIMEOUT;
use crate::settings::Settings;

/// How long the RDS API may be silent in the preflight.
const RDS_SILENCE: Duration = Duration::from_secs(120);
/// How long the probe may take beside its warm-up, for its image, its connections and a steady baseline.
const BASELINE: Duration = Duration::from_secs(240);
/// Who has made the claim calls within this time of its own clock, or never.
pub(super) const CLAIM_HOLDS: Duration = Duration::from_secs(5);
/// A failover that was called for shows in the RDS API within this time.
const SHOWS_WITHIN: Duration = Duration::from_secs(45);

/// How a drill ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    /// One of [`reasons`], or a reason of the probe's.
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) criteria: Vec<Criterion>,
}

/// An ending without measured criteria.
pub(super) fn ending(verdict: Verdict, reason: &str, message: impl Into<String>) -> Ending {
    Ending { verdict, reason: reason.to_owned(), message: message.into(), criteria: Vec::new() }
}

/// Nothing was triggered, or nobody can know what became of it.
pub(super) fn error(reason: &str, message: impl Into<String>) -> Ending {
    ending(Verdict::Error, reason, message)
}

/// What this process knows beside what it reads. All of it may be lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The probe's pod, from the reply to its create.
    pub(super) probe: Option<String>,
    /// How long the RDS API has been silent.
    pub(super) silent: Option<Duration>,
    /// What came of the call, when this process made it or decided not to.
    pub(super) call: Option<Call>,
    /// How the pipeline changed after the claim.
    pub(super) pipeline_changed: Option<String>,
    /// By how much the wall clock moved against the monotonic clock, in milliseconds.
    pub(super) clock_step: i64,
    /// How long ago the claim was made or first read, by the monotonic clock.
    pub(super) since_claim: Option<Duration>,
    /// The stage that the probe shows, for the summary only.
    pub(super) stage: Option<String>,
}

/// What a drill does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing but to look again: where the drill is, and why it waits.
    Wait(Phase, &'static str, String),
    /// Takes or renews the Lease.
    WriteLease(Box<Lease>, Phase),
    /// Makes the probe's pod.
    StartProbe(Box<Pins>),
    /// Reads everything once more, claims, and calls.
    Trigger(Box<Pins>),
    /// Watches the failover. True: the probe is stopped.
    Observe(Phase, bool),
    /// Ends without a claim.
    End(Ending),
    /// Completes the evidence.
    Conclude(Ending),
    /// The evidence is complete: status, then the Lease.
    Finish(Box<Evidence>, String),
    /// The drill has ended before: its Lease and its probe are let go.
    CleanUp,
}

/// Decides the next step.
pub(super) fn next_step(drill: &FailoverDrill, observed: &Observed, known: &Known, settings: &Settings, now: Timestamp) -> Step {
    match &observed.evidence {
        EvidenceSeen::Concluded(evidence, digest) => Step::Finish(evidence.clone(), digest.clone()),
        EvidenceSeen::Claimed(claim, _) => after_claim(drill, observed, known, claim, now),
        _ if has_ended(drill) => Step::CleanUp,
        EvidenceSeen::Foreign => Step::End(error(
            reasons::EVIDENCE_NAME_TAKEN,
            "a ConfigMap with the name of this drill's evidence is somebody else's: create a drill of another name",
        )),
        EvidenceSeen::Another => {
            Step::End(error(reasons::NAME_USED_BEFORE, "a drill of this name has run before: create a drill of another name"))
        }
        EvidenceSeen::None => before_claim(drill, observed, known, settings, now),
    }
}

/// A status can end a drill, and nothing else follows from one: a restored drill has none.
pub(super) fn has_ended(drill: &FailoverDrill) -> bool {
    let conditions = drill.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == drill_types::COMPLETE && condition.status == "True")
}

/// What is left until the drill's deadline.
pub(super) fn left(drill: &FailoverDrill, now: Timestamp) -> SignedDuration {
    let created = drill.creation_timestamp().map_or(now, |time| time.0);
    signed(drill.spec.deadline.get()) - now.duration_since(created)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// The least that a drill needs from the start of its probe.
fn needs(drill: &FailoverDrill) -> SignedDuration {
    signed(drill.spec.load.warm_up.get() + drill.spec.load.cool_down.get())
}

fn before_claim(drill: &FailoverDrill, observed: &Observed, known: &Known, settings: &Settings, now: Timestamp) -> Step {
    if let Some(ending) = given_up(drill) {
        return Step::End(ending);
    }
    let late = left(drill, now) < SignedDuration::ZERO;
    let pins = match preflight::check(drill, observed, settings, now) {
        Ok(pins) => pins,
        Err(Hindrance::End(ending)) => return behind_another(drill, observed, settings, &ending, now).unwrap_or(Step::End(ending)),
        Err(Hindrance::Outage(trouble)) if late => return Step::End(error(reasons::PIPELINE_NOT_READY, trouble)),
        Err(Hindrance::Outage(trouble)) => return Step::Wait(before_trigger(observed), reasons::PIPELINE_NOT_READY, trouble),
        Err(Hindrance::Unknown(trouble)) if late || known.silent.is_some_and(|silent| silent >= RDS_SILENCE) => {
            return Step::End(error(reasons::CLUSTER_UNKNOWN, trouble));
        }
        Err(Hindrance::Unknown(trouble)) => return Step::Wait(Phase::Preflight, reasons::CLUSTER_UNKNOWN, trouble),
    };
    if let Some(step) = lease_step(drill, observed, settings, &pins.cluster.resource_id, now) {
        return step;
    }
    match &observed.probe {
        ProbeSeen::Foreign => Step::End(error(
            reasons::BASELINE_UNSTEADY,
            format!(
                "a Pod with the name of this drill's probe, {}-probe, is somebody else's: create a drill of another name",
                drill.name_any()
            ),
        )),
        ProbeSeen::None if known.probe.is_some() => Step::End(error(
            reasons::BASELINE_UNSTEADY,
            "the probe's pod was deleted before the failover was called for: create a new drill",
        )),
        ProbeSeen::None if left(drill, now) < needs(drill) => Step::End(error(
            reasons::DEADLINE_EXCEEDED,
            "too little time is left until the deadline to measure anything: create a new drill",
        )),
        ProbeSeen::None => Step::StartProbe(Box::new(pins)),
        ProbeSeen::Ours(probe) => baseline(drill, probe, known, pins, now),
    }
}

fn given_up(drill: &FailoverDrill) -> Option<Ending> {
    if drill.metadata.deletion_timestamp.is_some() {
        return Some(ending(Verdict::Aborted, reasons::DRILL_DELETED, "the drill was deleted before the failover was called for"));
    }
    drill.spec.abort.then(|| ending(Verdict::Aborted, reasons::ABORTED, "the drill was aborted before the failover was called for"))
}

/// Where a drill is that has not triggered.
fn before_trigger(observed: &Observed) -> Phase {
    if observed.probe.ours().is_some() { Phase::Baseline } else { Phase::Preflight }
}

/// What brings the cluster and its pipelines into a state that hinders may be another drill, which this one waits for.
fn behind_another(drill: &FailoverDrill, observed: &Observed, settings: &Settings, ending: &Ending, now: Timestamp) -> Option<Step> {
    const PASSING: [&str; 4] =
        [reasons::CLUSTER_NOT_AVAILABLE, reasons::NO_READER, reasons::TARGET_UNSUITABLE, reasons::PIPELINE_NOT_READY];
    let cluster = observed.cluster.found().filter(|_| PASSING.contains(&ending.reason.as_str()))?;
    preflight::opened(drill, cluster, settings).ok()?;
    lease_step(drill, observed, settings, &cluster.resource_id, now).filter(|step| matches!(step, Step::Wait(Phase::Pending, ..)))
}

/// What the Lease asks for; none when it is held.
fn lease_step(drill: &FailoverDrill, observed: &Observed, settings: &Settings, resource_id: &str, now: Timestamp) -> Option<Step> {
    let LeaseSeen::Read { lease, holder_gone } = &observed.lease else {
        return Some(Step::Wait(Phase::Preflight, reasons::PROGRESSING, "the Lease of the cluster was not read".to_owned()));
    };
    let (uid, namespace, name) = (drill.uid().unwrap_or_default(), drill.namespace().unwrap_or_default(), drill.name_any());
    let holder = Holder { uid: &uid, namespace: &namespace, name: &name };
    let lease_name = lease::name(resource_id);
    match lease::standing(lease.as_deref(), *holder_gone, holder, (&settings.namespace, &lease_name), now) {
        Standing::Held => None,
        Standing::Write(lease) => Some(Step::WriteLease(lease, before_trigger(observed))),
        Standing::Taken(other) if observed.probe.ours().is_some() || left(drill, now) < needs(drill) => Some(Step::End(error(
            reasons::ANOTHER_DRILL,
            format!("{other} runs on the same Aurora cluster: create a new drill when it has ended"),
        ))),
        Standing::Taken(other) => Some(Step::Wait(
            Phase::Pending,
            reasons::ANOTHER_DRILL,
            format!("waits until {other} has ended, which runs on the same Aurora cluster"),
        )),
    }
}

fn baseline(drill: &FailoverDrill, probe: &Probe, known: &Known, pins: Pins, now: Timestamp) -> Step {
    if known.probe.as_ref().is_some_and(|uid| *uid != probe.uid) {
        return Step::End(error(reasons::BASELINE_UNSTEADY, "the probe's pod was replaced by another: create a new drill"));
    }
    if let Some(end) = &probe.end {
        return Step::End(match &end.result {
            Ok(result) => error(
                result.reason.as_deref().unwrap_or(reasons::BASELINE_UNSTEADY),
                result.message.as_deref().unwrap_or("the probe ended before the failover was called for"),
            ),
            Err(why) => error(reasons::BASELINE_UNSTEADY, format!("{why}: kubectl logs {}-probe says more", drill.name_any())),
        });
    }
    let limit = signed(BASELINE + drill.spec.load.warm_up.get());
    if probe.ready && left(drill, now) > SignedDuration::ZERO {
        return Step::Trigger(Box::new(pins));
    }
    let state = known.stage.as_deref().map(|stage| format!(" (stage {stage})")).unwrap_or_default();
    let waiting = probe.waiting.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    if now.duration_since(probe.created) > limit || left(drill, now) < SignedDuration::ZERO {
        let message = format!(
            "the probe did not come to a steady baseline in time{state}{waiting}; kubectl logs {}-probe says more",
            drill.name_any()
        );
        return Step::End(error(reasons::BASELINE_UNSTEADY, message));
    }
    Step::Wait(Phase::Baseline, reasons::PROGRESSING, format!("the probe writes until its writes are steady{state}{waiting}"))
}

fn after_claim(drill: &FailoverDrill, observed: &Observed, known: &Known, claim: &Claim, now: Timestamp) -> Step {
    let unclear = Call { outcome: CallOutcome::Unclear, began: None, ended: None, message: None };
    let call = known.call.as_ref().unwrap_or(&unclear);
    if call.outcome == CallOutcome::Refused {
        let why = call.message.as_deref().unwrap_or_default();
        return Step::Conclude(error(reasons::REFUSED, format!("the RDS API refused the failover: {why}")));
    }
    let fate = Fate::read(observed, known, claim);
    let probe = observed.probe.ours().filter(|probe| probe.uid == claim.probe.uid);
    let stop = |ending: Ending| if fate.settled { Step::Conclude(ending) } else { Step::Observe(fate.phase(known), true) };

    if drill.metadata.deletion_timestamp.is_some() {
        return stop(ending(Verdict::Aborted, reasons::DRILL_DELETED, "the drill was deleted while it ran"));
    }
    if drill.spec.abort {
        return stop(ending(
            Verdict::Aborted,
            reasons::ABORTED,
            "the drill was aborted after its claim; a failover that was called for is not undone",
        ));
    }
    let end = probe.and_then(|probe| probe.end.as_ref());
    if let Some(Ok(result)) = end.map(|end| &end.result) {
        if !fate.seen && result.gap.is_none() {
            return stop(unseen(call, result.message.as_deref()));
        }
        if result.outcome != ProbeOutcome::Completed {
            let why = result.message.as_deref().unwrap_or("without a reason");
            return stop(ending(Verdict::Inconclusive, reasons::PROBE_LOST, format!("the probe ended before it had measured: {why}")));
        }
        let events = observed.events.as_deref().unwrap_or_default();
        let measured = Measured { claim, call, result, events, known, target_is_writer: fate.target_is_writer };
        return stop(verdict::judge(&measured));
    }
    if let Some(what) = &known.pipeline_changed {
        return stop(ending(Verdict::Inconclusive, reasons::PIPELINE_CHANGED, format!("{what} while it was measured: create a new drill")));
    }
    let lost = match (probe, end) {
        (None, _) => Some("the probe's pod is gone"),
        (_, Some(end)) => end.result.as_ref().err().map(String::as_str),
        _ => None,
    };
    if let Some(why) = lost {
        let lost = ending(Verdict::Inconclusive, reasons::PROBE_LOST, format!("{why}, so nothing was measured: create a new drill"));
        return stop(if fate.seen { lost } else { unseen(call, Some(why)) });
    }
    // Counted by the monotonic clock since the claim: a clock that was set ahead is no deadline.
    if left(drill, now) + SignedDuration::from_millis(known.clock_step) < SignedDuration::ZERO {
        let late = ending(
            Verdict::Inconclusive,
            reasons::DEADLINE_EXCEEDED,
            "the deadline passed before it was measured: raise spec.deadline in a new drill",
        );
        return stop(if fate.seen { late } else { unseen(call, None) });
    }
    if call.outcome == CallOutcome::Unclear && fate.settled && !fate.seen {
        return stop(unseen(call, None));
    }
    Step::Observe(fate.phase(known), false)
}

/// True when nothing more will come of the call of that claim.
pub(super) fn is_settled(observed: &Observed, known: &Known, claim: &Claim) -> bool {
    Fate::read(observed, known, claim).settled
}

/// No failover was seen.
fn unseen(call: &Call, hint: Option<&str>) -> Ending {
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    if call.outcome == CallOutcome::Accepted {
        let message =
            format!("the RDS API accepted the failover, and no other instance became the writer{hint}: look at the cluster's events");
        return error(reasons::NO_FAILOVER_SEEN, message);
    }
    let message = format!(
        "whether the failover was called for cannot be known, and none was seen{hint}: look at the cluster's events, and create a new drill"
    );
    error(reasons::TRIGGER_UNKNOWN, message)
}

/// What has become of the call, as the roles and the events tell.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// The target is the writer now.
    target_is_writer: bool,
    /// A failover was seen, of whatever outcome.
    seen: bool,
    /// Nothing more will come of the call.
    settled: bool,
}

impl Fate {
    fn read(observed: &Observed, known: &Known, claim: &Claim) -> Self {
        let events = observed.events.as_deref().unwrap_or_default();
        let seen_event = events.iter().any(|event| event.kind.is_failover());
        let over = events.iter().any(|event| event.kind.is_failover() && !matches!(event.kind, EventKind::Started(_)));
        // By the monotonic clock: a wall clock that was set ahead shall not make the wait shorter.
        let waited = known.since_claim.unwrap_or_default();
        let shows = CLAIM_HOLDS + CALL_TIMEOUT + SHOWS_WITHIN;
        let accepted = known.call.as_ref().is_some_and(|call| call.outcome == CallOutcome::Accepted);
        match &observed.cluster {
            ClusterSeen::Found(cluster) if cluster.resource_id == claim.cluster.resource_id => {
                let target_is_writer = cluster.writer() == Some(claim.target.as_str());
                let seen = target_is_writer || seen_event;
                let over = target_is_writer || over;
                Self {
                    target_is_writer,
                    seen,
                    settled: cluster.is_available() && (waited >= shows || (over && (accepted || target_is_writer))),
                }
            }
            // Gone, replaced, or not to be asked: then time alone settles it.
            _ => Self { target_is_writer: false, seen: seen_event, settled: waited >= shows * 3 },
        }
    }

    fn phase(&self, known: &Known) -> Phase {
        match known.stage.as_deref() {
            Some("Draining" | "Counting") => Phase::Draining,
            Some("Recovered") => Phase::Recovering,
            _ if self.target_is_writer => Phase::Recovering,
            _ => Phase::FailingOver,
        }
    }
}

#[cfg(test)]
mod tests;
