//! What a drill does next: a function of the drill, of what was read, of what this process knows, and of the time. Pure.

mod fate;

use std::time::Duration;

use durable_write_crds::FailoverDrill;
use durable_write_crds::conditions::{drill_reasons as reasons, drill_types};
use durable_write_crds::drill::{Criterion, Phase, SHORTEST_BASELINE, Verdict};
use durable_write_crds::evidence::{Call, CallOutcome, Claim, Evidence};
use durable_write_crds::probe::{Gap, ProbeOutcome, STREAK};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::lease::{self, Holder, Standing};
use super::observed::{EvidenceSeen, LeaseSeen, Observed, Probe, ProbeSeen};
use super::preflight::{self, Hindrance, Pins};
use super::rds::{AuroraCluster, ClusterEvent};
use super::verdict::{self, Measured};
use crate::settings::Settings;
use fate::{Fate, unseen};

pub(super) use fate::is_settled;

/// How long the RDS API may be silent in the preflight.
const RDS_SILENCE: Duration = Duration::from_secs(120);
/// How long the probe may take beside its warm-up, for its image, its connections and a steady baseline.
const BASELINE: Duration = Duration::from_secs(240);
/// Who has made the claim calls within this time of its own clock, or never.
pub(super) const CLAIM_HOLDS: Duration = Duration::from_secs(5);
/// What the probe's image, its connections and its final count take beside what is planned.
pub(super) const MARGIN: Duration = Duration::from_secs(15);
/// The longest reason of a probe's that is passed on.
const LONGEST_REASON: usize = 64;

/// What is said of a call that this process did not make: another may have.
pub(super) const MAYBE_MADE: Call = Call { outcome: CallOutcome::Unclear, began: None, ended: None, message: None };

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
    /// What was left until the deadline, by the monotonic clock since the first look.
    pub(super) left: Option<SignedDuration>,
    /// Another instance was the writer after the claim, if only for a while.
    pub(super) moved: bool,
    /// The cluster's events since the claim, of all looks.
    pub(super) events: Vec<ClusterEvent>,
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
        EvidenceSeen::Unreadable => Step::End(error(
            reasons::EVIDENCE_UNREADABLE,
            "this version of the operator cannot read the evidence of a drill of this name; a failover may have been called for: \
             upgrade the operator, or create a drill of another name",
        )),
        EvidenceSeen::None if known.call.is_some() || true_condition(drill, drill_types::TRIGGERED).is_some() => Step::End(error(
            reasons::EVIDENCE_MISSING,
            "the claim was deleted while the drill ran; a failover may have been called for: look at the cluster's events",
        )),
        EvidenceSeen::None => before_claim(drill, observed, known, settings, now),
    }
}

/// A status can end a drill, and nothing else follows from one: a restored drill has none.
pub(super) fn has_ended(drill: &FailoverDrill) -> bool {
    ended(drill).is_some()
}

/// When the drill ended.
pub(super) fn ended(drill: &FailoverDrill) -> Option<Timestamp> {
    Some(true_condition(drill, drill_types::COMPLETE)?.last_transition_time.0)
}

fn true_condition<'d>(drill: &'d FailoverDrill, type_: &str) -> Option<&'d Condition> {
    drill.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// What is left until the drill's deadline when a process looks at it for the first time: by the wall clock, which may have been set. After the
/// claim the deadline counts anew, as nothing shall end a drill in its failover that is no more than a clock; the probe ends by its own.
pub(super) fn left(drill: &FailoverDrill, claimed: bool, now: Timestamp) -> SignedDuration {
    let deadline = signed(drill.spec.deadline.get());
    let began = drill.creation_timestamp().filter(|_| !claimed).map_or(now, |time| time.0);
    deadline.min(deadline - now.duration_since(began))
}

/// The same by the monotonic clock, where this process has seen the drill before.
pub(super) fn remaining(drill: &FailoverDrill, known: &Known, now: Timestamp) -> SignedDuration {
    known.left.unwrap_or_else(|| left(drill, false, now))
}

pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// How long the probe writes before the failover at the least, while its queue delays no message.
pub(super) fn shortest_baseline(drill: &FailoverDrill) -> Duration {
    drill.spec.load.warm_up.get().max(SHORTEST_BASELINE)
}

/// The least that a drill needs from the start of its probe.
fn needs(drill: &FailoverDrill) -> SignedDuration {
    signed(shortest_baseline(drill) + MARGIN) + needs_after_trigger(drill)
}

/// The least that a drill needs from its trigger, to measure a failover that meets the objective.
fn needs_after_trigger(drill: &FailoverDrill) -> SignedDuration {
    signed(drill.spec.objectives.recovery_time.get() + drill.spec.load.cool_down.get())
}

/// What is left until the deadline of the probe, which counts from the start of its container.
fn left_of_probe(probe: &Probe, now: Timestamp) -> SignedDuration {
    let ran = probe.started.map_or(SignedDuration::ZERO, |started| now.duration_since(started));
    signed(probe.plan.deadline.get()) - ran.max(SignedDuration::ZERO)
}

fn before_claim(drill: &FailoverDrill, observed: &Observed, known: &Known, settings: &Settings, now: Timestamp) -> Step {
    if let Some(ending) = given_up(drill) {
        return Step::End(ending);
    }
    let left = remaining(drill, known, now);
    let hindered = |hindrance| match hindrance {
        Hindrance::End(ending) => Step::End(ending),
        Hindrance::Unknown(trouble) if left < SignedDuration::ZERO || known.silent.is_some_and(|silent| silent >= RDS_SILENCE) => {
            Step::End(error(reasons::CLUSTER_UNKNOWN, trouble))
        }
        Hindrance::Unknown(trouble) => Step::Wait(before_trigger(observed), reasons::CLUSTER_UNKNOWN, trouble),
        Hindrance::Outage(trouble) if left < SignedDuration::ZERO => Step::End(error(reasons::PIPELINE_NOT_READY, trouble)),
        Hindrance::Outage(trouble) => Step::Wait(before_trigger(observed), reasons::PIPELINE_NOT_READY, trouble),
    };
    let cluster = match preflight::entitled(drill, observed, settings, now) {
        Ok(cluster) => cluster,
        Err(hindrance) => return hindered(hindrance),
    };
    // Before all that another drill changes: what it does to cluster and pipeline ends none that waits for it.
    let lease = match lease_step(drill, observed, settings, cluster, left, now) {
        Ok(lease) => lease,
        Err(step) => return step,
    };
    let pins = match preflight::check(drill, observed, settings, now) {
        Ok(pins) => pins,
        Err(hindrance) => return hindered(hindrance),
    };
    if let Some(lease) = lease {
        return Step::WriteLease(lease, before_trigger(observed));
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
        ProbeSeen::None if left < needs(drill) => Step::End(error(
            reasons::DEADLINE_EXCEEDED,
            format!(
                "{} s are left until the deadline, and baseline, failover and cool-down need {} s at the least: raise spec.deadline in a new drill",
                left.as_secs().max(0),
                needs(drill).as_secs()
            ),
        )),
        ProbeSeen::None => Step::StartProbe(Box::new(pins)),
        ProbeSeen::Ours(probe) => baseline(drill, probe, known, pins, left, now),
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

/// What is to be written of the Lease; none when it is held. Fails with what there is to do while another drill has it.
fn lease_step(
    drill: &FailoverDrill,
    observed: &Observed,
    settings: &Settings,
    cluster: &AuroraCluster,
    left: SignedDuration,
    now: Timestamp,
) -> Result<Option<Box<Lease>>, Step> {
    let LeaseSeen::Read { lease, holder_gone } = &observed.lease else {
        return Err(Step::Wait(Phase::Preflight, reasons::PROGRESSING, "the Lease of the cluster was not read".to_owned()));
    };
    let (uid, namespace, name) = (drill.uid().unwrap_or_default(), drill.namespace().unwrap_or_default(), drill.name_any());
    let holder = Holder { uid: &uid, namespace: &namespace, name: &name };
    let lease_name = lease::name(&cluster.resource_id);
    match lease::standing(lease.as_deref(), *holder_gone, holder, (&settings.namespace, &lease_name), now) {
        Standing::Held => Ok(None),
        Standing::Write(lease) => Ok(Some(lease)),
        Standing::Taken(other) if observed.probe.ours().is_some() || left < needs(drill) => Err(Step::End(error(
            reasons::ANOTHER_DRILL,
            format!("{other} runs on the same Aurora cluster: create a new drill when it has ended"),
        ))),
        Standing::Taken(other) => Err(Step::Wait(
            Phase::Pending,
            reasons::ANOTHER_DRILL,
            format!("waits until {other} has ended, which runs on the same Aurora cluster"),
        )),
    }
}

fn baseline(drill: &FailoverDrill, probe: &Probe, known: &Known, pins: Pins, left: SignedDuration, now: Timestamp) -> Step {
    if known.probe.as_ref().is_some_and(|uid| *uid != probe.uid) {
        return Step::End(error(reasons::BASELINE_UNSTEADY, "the probe's pod was replaced by another: create a new drill"));
    }
    if let Some(end) = &probe.end {
        return Step::End(match &end.result {
            Ok(result) => error(
                result.reason.as_deref().filter(|reason| is_reason(reason)).unwrap_or(reasons::BASELINE_UNSTEADY),
                result.message.as_deref().unwrap_or("the probe ended before the failover was called for"),
            ),
            Err(why) => error(reasons::BASELINE_UNSTEADY, format!("{why}: kubectl logs {}-probe says more", drill.name_any())),
        });
    }
    // A failover that meets the objective must be seen to its end, by the probe too.
    let recovery = signed(drill.spec.objectives.recovery_time.get());
    let in_time = left >= needs_after_trigger(drill) && left_of_probe(probe, now) >= recovery;
    if probe.ready && in_time {
        return Step::Trigger(Box::new(pins));
    }
    if probe.ready {
        let message = "too little time is left to measure a failover, and nothing was triggered: raise spec.deadline in a new drill";
        return Step::End(error(reasons::DEADLINE_EXCEEDED, message));
    }
    let state = known.stage.as_deref().map(|stage| format!(" (stage {stage})")).unwrap_or_default();
    let waiting = probe.waiting.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let limit = signed(BASELINE + drill.spec.load.warm_up.get());
    if now.duration_since(probe.created) > limit || !in_time {
        let message = format!(
            "the probe did not come to a steady baseline in time{state}{waiting}; kubectl logs {}-probe says more",
            drill.name_any()
        );
        return Step::End(error(reasons::BASELINE_UNSTEADY, message));
    }
    Step::Wait(Phase::Baseline, reasons::PROGRESSING, format!("the probe writes until its writes are steady{state}{waiting}"))
}

/// True for what a condition takes as its reason: what a probe says is the tenant's.
fn is_reason(text: &str) -> bool {
    text.len() <= LONGEST_REASON
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn after_claim(drill: &FailoverDrill, observed: &Observed, known: &Known, claim: &Claim, now: Timestamp) -> Step {
    let call = known.call.as_ref().unwrap_or(&MAYBE_MADE);
    if call.outcome == CallOutcome::Refused {
        let why = call.message.as_deref().unwrap_or_default();
        return Step::Conclude(error(reasons::REFUSED, format!("the RDS API refused the failover: {why}")));
    }
    if call.outcome == CallOutcome::NotMade {
        let message = "the claim was answered too late to call for the failover, and nothing was triggered: create a new drill";
        return Step::Conclude(error(reasons::NOT_CALLED, message));
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
        // Single writes that fail are no failover. Writes that stood still and went on on the old writer are one if it was accepted.
        let stayed = |gap: &Gap| match &gap.writer_after {
            Some(after) if *after != claim.writer => false,
            Some(_) if call.outcome != CallOutcome::Accepted => true,
            _ => gap.failed_attempts < STREAK.into(),
        };
        if !fate.seen && result.gap.as_ref().is_none_or(stayed) {
            return stop(unseen(call, result.message.as_deref()));
        }
        if result.outcome != ProbeOutcome::Completed {
            let why = result.message.as_deref().unwrap_or("without a reason");
            return stop(ending(Verdict::Inconclusive, reasons::PROBE_LOST, format!("the probe ended before it had measured: {why}")));
        }
        let events = &known.events;
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
    if remaining(drill, known, now) < SignedDuration::ZERO {
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

#[cfg(test)]
mod tests;
