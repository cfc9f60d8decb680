//! What is known becomes the next status of a drill, and the Events that tell of it. Pure; nothing is decided by a status but that a drill
//! has ended.

use durable_write_crds::conditions::{drill_reasons as reasons, drill_types, types};
use durable_write_crds::drill::{
    ClusterStatus, Criterion, DrillInstance, EvidenceConfigMap, EvidenceReference, Phase, RoleStatus, Verdict,
};
use durable_write_crds::evidence::{CallOutcome, Evidence, config_map_name};
use durable_write_crds::probe::ProbeResult;
use durable_write_crds::{FailoverDrill, FailoverDrillStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::memory::Seen;
use super::step::Ending;
use super::world::Note;

/// The longest message of a condition.
const LONGEST: usize = 1024;
/// The longest message of a criterion, and the longest of its other texts.
const LONGEST_OF_CRITERION: usize = 512;
const LONGEST_WORD: usize = 64;
/// The longest name of an instance.
const LONGEST_NAME: usize = 63;
/// The most instances of a cluster.
const MOST_INSTANCES: usize = 16;

/// Where a drill is that has not ended.
pub(super) struct Progress<'a> {
    pub(super) phase: Phase,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    pub(super) cluster: Option<ClusterStatus>,
    pub(super) writer: Option<String>,
    pub(super) target: Option<String>,
    pub(super) roles: Vec<RoleStatus>,
    /// A failover may have been called for; the text says what is known.
    pub(super) triggered: Option<&'a str>,
    /// The writer after the failover.
    pub(super) recovered: Option<String>,
}

/// The status of a drill that goes on.
pub(super) fn in_progress(drill: &FailoverDrill, progress: Progress<'_>, seen: &Seen, now: Timestamp) -> FailoverDrillStatus {
    let mut status = drill.status.clone().unwrap_or_default();
    let preflight = !matches!(progress.phase, Phase::Pending | Phase::Preflight);
    let recovered = progress.recovered.is_some();
    let waiting = (progress.reason, progress.message);
    let drafts = [
        (
            drill_types::PREFLIGHT_PASSED,
            truth(preflight, "Unknown"),
            if preflight { (reasons::PROGRESSING, "the limits are met") } else { waiting },
        ),
        (
            drill_types::TRIGGERED,
            truth(progress.triggered.is_some(), "False"),
            (reasons::PROGRESSING, progress.triggered.unwrap_or("no failover has been called for")),
        ),
        (
            drill_types::RECOVERED,
            truth(recovered, "False"),
            (reasons::PROGRESSING, if recovered { "another instance is the writer" } else { "no other instance is the writer" }),
        ),
        (drill_types::COMPLETE, "False", waiting),
        (drill_types::PASSED, "Unknown", (reasons::PROGRESSING, "the drill has not ended")),
        (types::RECONCILING, "True", waiting),
    ];
    status.conditions = merge(drill, &status.conditions, &drafts, now);
    status.observed_generation = drill.metadata.generation;
    status.phase = Some(progress.phase);
    status.cluster = progress.cluster.or(status.cluster);
    status.writer_before = progress.writer.or(status.writer_before);
    status.target = progress.target.or(status.target);
    if status.roles_before.is_empty() && preflight {
        status.roles_before = whole_seconds(progress.roles);
    }
    let seen_roles = |roles: &[RoleStatus]| roles.iter().map(|role| (role.instance.clone(), role.role.clone())).collect::<Vec<_>>();
    if recovered && seen_roles(&status.roles_after) != seen_roles(&seen.roles_after) {
        status.roles_after = whole_seconds(seen.roles_after.clone());
    }
    status.writer_after = progress.recovered.or(status.writer_after);
    status.queue = seen.queue.clone().or(status.queue);
    status.timeline = seen.timeline.entries();
    status
}

/// The status of a drill that has ended without a claim.
pub(super) fn ended(
    drill: &FailoverDrill,
    ending: &Ending,
    cluster: Option<ClusterStatus>,
    seen: &Seen,
    now: Timestamp,
) -> FailoverDrillStatus {
    let mut status = drill.status.clone().unwrap_or_default();
    let before =
        |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_).map(|condition| condition.status.clone());
    let preflight = before(drill_types::PREFLIGHT_PASSED).filter(|status| status == "True").unwrap_or_else(|| "False".to_owned());
    // A claim that nobody can read any more may have been followed by a call.
    let doubtful = [reasons::EVIDENCE_MISSING, reasons::EVIDENCE_UNREADABLE].contains(&ending.reason.as_str());
    let triggered = before(drill_types::TRIGGERED).filter(|status| doubtful && status == "True");
    let why = (ending.reason.as_str(), ending.message.as_str());
    let drafts = [
        (drill_types::PREFLIGHT_PASSED, preflight.as_str(), why),
        (drill_types::TRIGGERED, triggered.as_deref().unwrap_or(if doubtful { "Unknown" } else { "False" }), why),
        (drill_types::RECOVERED, "False", why),
        (drill_types::COMPLETE, "True", why),
        (drill_types::PASSED, passed(ending.verdict), why),
        (types::RECONCILING, "False", why),
    ];
    status.conditions = merge(drill, &status.conditions, &drafts, now);
    status.observed_generation = drill.metadata.generation;
    status.phase = Some(Phase::Concluded);
    status.verdict = Some(ending.verdict);
    status.cluster = cluster.or(status.cluster);
    status.timeline = seen.timeline.entries();
    status
}

/// The status that follows from the evidence, whoever made it and whatever the status was.
pub(super) fn concluded(drill: &FailoverDrill, evidence: &Evidence, digest: &str, now: Timestamp) -> FailoverDrillStatus {
    let why = (evidence.reason.as_str(), evidence.message.as_str());
    let probe = evidence.probe.as_ref();
    let after = evidence.writer_after().map(|name| cut(name, LONGEST_NAME));
    let drafts = [
        (drill_types::PREFLIGHT_PASSED, "True", (reasons::PROGRESSING, "the limits were met")),
        (drill_types::TRIGGERED, truth(!matches!(evidence.call.outcome, CallOutcome::Refused | CallOutcome::NotMade), "False"), why),
        (drill_types::RECOVERED, truth(after.is_some(), "False"), why),
        (drill_types::COMPLETE, "True", why),
        (drill_types::PASSED, passed(evidence.verdict), why),
        (types::RECONCILING, "False", why),
    ];
    let before = drill.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    FailoverDrillStatus {
        observed_generation: drill.metadata.generation,
        phase: Some(Phase::Concluded),
        verdict: Some(evidence.verdict),
        conditions: merge(drill, before, &drafts, now),
        cluster: Some(evidence.claim.cluster.clone()),
        writer_before: Some(evidence.claim.writer.clone()),
        target: Some(evidence.claim.target.clone()),
        writer_after: after,
        roles_before: whole_seconds(evidence.roles_before()),
        roles_after: whole_seconds(evidence.roles_after.clone()),
        timeline: evidence.timeline.clone(),
        recovery: Some(evidence.recovery()),
        integrity: probe.map(ProbeResult::integrity),
        queue: probe.map(ProbeResult::queue),
        instances: probe.map(instances).unwrap_or_default(),
        criteria: evidence.criteria.iter().cloned().map(fitting).collect(),
        evidence: Some(EvidenceReference {
            config_map_ref: EvidenceConfigMap { name: config_map_name(&evidence.claim.drill.name) },
            digest: digest.to_owned(),
        }),
    }
}

/// A criterion as a status takes it: no text can keep a drill from its end.
fn fitting(criterion: Criterion) -> Criterion {
    let Criterion { name, target, measured, result, message } = criterion;
    let message = message.map(|message| cut(&message, LONGEST_OF_CRITERION));
    Criterion {
        name: cut(&name, LONGEST_WORD),
        target: cut(&target, LONGEST_WORD),
        measured: cut(&measured, LONGEST_WORD),
        result,
        message,
    }
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// What to tell of the step from one status to the next.
pub(super) fn notes(previous: Option<&FailoverDrillStatus>, next: &FailoverDrillStatus) -> Vec<Note> {
    let conditions = |status: Option<&FailoverDrillStatus>, type_: &str| {
        status.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == type_).cloned())
    };
    let turned = |type_: &str| {
        let now = conditions(Some(next), type_).filter(|condition| condition.status == "True");
        let before = conditions(previous, type_).is_some_and(|condition| condition.status == "True");
        now.filter(|_| !before)
    };
    let mut notes = Vec::new();
    for type_ in [drill_types::PREFLIGHT_PASSED, drill_types::TRIGGERED, drill_types::RECOVERED] {
        if let Some(condition) = turned(type_) {
            notes.push(Note { warning: false, reason: type_.to_owned(), message: condition.message });
        }
    }
    if let Some(condition) = turned(drill_types::COMPLETE) {
        let verdict = next.verdict.unwrap_or(Verdict::Unknown);
        let warning = !matches!(verdict, Verdict::Pass | Verdict::Aborted);
        notes.push(Note { warning, reason: condition.reason, message: format!("{verdict}: {}", condition.message) });
    }
    notes
}

fn truth(is: bool, otherwise: &'static str) -> &'static str {
    if is { "True" } else { otherwise }
}

fn passed(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "True",
        Verdict::Fail => "False",
        Verdict::Inconclusive | Verdict::Aborted | Verdict::Error | Verdict::Unknown => "Unknown",
    }
}

type Draft<'a> = (&'a str, &'a str, (&'a str, &'a str));

fn merge(drill: &FailoverDrill, previous: &[Condition], drafts: &[Draft<'_>], now: Timestamp) -> Vec<Condition> {
    let condition = |(type_, status, (reason, message)): &Draft<'_>| {
        let before = previous.iter().find(|condition| condition.type_ == *type_ && condition.status == *status);
        Condition {
            type_: (*type_).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: cut(message, LONGEST),
            last_transition_time: before.map_or_else(|| Time(whole_second(now)), |condition| condition.last_transition_time.clone()),
            observed_generation: drill.metadata.generation,
        }
    };
    drafts.iter().map(condition).collect()
}

/// As the API server stores the times of conditions.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn whole_seconds(mut roles: Vec<RoleStatus>) -> Vec<RoleStatus> {
    for role in &mut roles {
        role.observed_at.0 = whole_second(role.observed_at.0);
    }
    roles
}

/// As long as a status takes; the evidence has all of it.
fn instances(probe: &ProbeResult) -> Vec<DrillInstance> {
    let mut instances: Vec<DrillInstance> = Vec::new();
    for shown in &probe.instances {
        let name = cut(&shown.name, LONGEST_NAME);
        // The API server takes no name twice.
        if instances.len() < MOST_INSTANCES && instances.iter().all(|other| other.name != name) {
            instances.push(DrillInstance { name, probe_rows: shown.rows });
        }
    }
    instances
}

#[cfg(test)]
mod tests;
