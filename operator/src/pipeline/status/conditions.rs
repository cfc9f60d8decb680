//! The conditions of a pipeline, each from what was observed and what was said before.

use durable_write_crds::DurableWritePipelineStatus;
use durable_write_crds::conditions::{reasons, types};
use durable_write_crds::layout::HTTP_PORT;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Observed;
use super::reports::{self, Draft};
use crate::pipeline::build::max_unavailable;
use crate::pipeline::rollouts::{self, AT_ONCE};
use crate::pipeline::validate::Refusal;

/// A condition without time, of that type.
pub(super) struct Typed {
    pub(super) type_: &'static str,
    pub(super) draft: Draft,
}

/// All conditions but `WithinRetention`, which follows from them.
pub(super) struct Drafts {
    ready: Draft,
    pub(super) flowing: Draft,
    queue_ready: Draft,
    database_ready: Draft,
    stalled: Draft,
    reconciling: Draft,
}

impl Drafts {
    /// In the order in which they stand in a status.
    pub(super) fn all(self) -> impl Iterator<Item = Typed> {
        [
            (types::READY, self.ready),
            (types::FLOWING, self.flowing),
            (types::QUEUE_READY, self.queue_ready),
            (types::DATABASE_READY, self.database_ready),
            (types::STALLED, self.stalled),
            (types::RECONCILING, self.reconciling),
        ]
        .into_iter()
        .map(|(type_, draft)| Typed { type_, draft })
    }
}

/// Decides all conditions.
pub(super) fn drafts(previous: &DurableWritePipelineStatus, observed: &Observed<'_>) -> Drafts {
    if let Some(refusal) = observed.refusal {
        return refused(refusal);
    }
    let rollout = Rollout::new(observed);
    if rollout.wanted == 0 {
        return stopped(observed, &rollout);
    }
    let silence = silence(previous, observed, &rollout);
    let worst = |pick: fn(&durable_write_crds::wire::WorkerState) -> &durable_write_crds::wire::Report| {
        reports::worst(observed.answers, pick, false)
    };
    let unknown = || Draft { status: None, ..silence.clone() };
    let stalled = stalled(previous, observed, &rollout);
    Drafts {
        ready: ready(previous, observed, &rollout, &stalled),
        flowing: worst(|state| &state.flowing).unwrap_or_else(|| silence.clone()),
        queue_ready: shared(worst(|state| &state.queue_ready).unwrap_or_else(unknown), observed.sharing),
        database_ready: match observed.cluster_trouble {
            Some(trouble) => {
                Draft::new(Some(false), trouble.reason, format!("{}; the workers keep the last known endpoints", trouble.message))
            }
            None => worst(|state| &state.database_ready).unwrap_or_else(unknown),
        },
        stalled,
        reconciling: rollout.reconciling(),
    }
}

fn refused(refusal: &Refusal) -> Drafts {
    let draft = |status| Draft::new(status, refusal.reason, refusal.message.as_str());
    let waiting = refusal.reason == reasons::CLUSTER_UNKNOWN;
    Drafts {
        ready: draft(Some(false)),
        flowing: draft(Some(false)),
        queue_ready: draft(if refusal.reason == reasons::QUEUE_IN_USE { Some(false) } else { None }),
        database_ready: draft(if matches!(refusal.reason, reasons::CLUSTER_NOT_FOUND | reasons::NOT_AURORA) { Some(false) } else { None }),
        // RDS that does not answer may come back by itself.
        stalled: draft(Some(!waiting)),
        reconciling: draft(Some(waiting)),
    }
}

fn stopped(observed: &Observed<'_>, rollout: &Rollout<'_>) -> Drafts {
    let (reason, message) = if observed.pipeline.spec.suspend {
        (reasons::SUSPENDED, "suspended by spec.suspend: messages stay in the queue")
    } else {
        (reasons::SCALED_TO_ZERO, "spec.workers.replicas is 0: messages stay in the queue")
    };
    let draft = |status| Draft::new(status, reason, message);
    Drafts {
        ready: draft(Some(false)),
        flowing: draft(Some(false)),
        queue_ready: draft(None),
        database_ready: draft(None),
        stalled: draft(Some(false)),
        reconciling: rollout.reconciling(),
    }
}

/// What is said of `Flowing` when no worker answers.
fn silence(previous: &DurableWritePipelineStatus, observed: &Observed<'_>, rollout: &Rollout<'_>) -> Draft {
    if let Some(reason) = reports::no_answer(observed.answers)
        && observed.answers.iter().any(|answer| answer.ready)
    {
        let message = format!(
            "the operator cannot reach port {HTTP_PORT} of the workers ({reason}): allow it from the operator's namespace, for example in a NetworkPolicy"
        );
        return Draft::new(None, reasons::WORKERS_UNREACHABLE, message);
    }
    let started = find(previous, types::FLOWING)
        .is_some_and(|condition| !matches!(condition.reason.as_str(), reasons::STARTING | reasons::SUSPENDED | reasons::SCALED_TO_ZERO));
    match rollout.failure() {
        Some(failure) => Draft::new(Some(false), reasons::WORKERS_UNAVAILABLE, failure),
        None if started => Draft::new(Some(false), reasons::WORKERS_UNAVAILABLE, "no worker is ready"),
        None => Draft::new(None, reasons::STARTING, "no worker has reported yet"),
    }
}

fn ready(previous: &DurableWritePipelineStatus, observed: &Observed<'_>, rollout: &Rollout<'_>, stalled: &Draft) -> Draft {
    let before = find(previous, types::READY);
    let was = |status: &str| before.is_some_and(|condition| condition.status == status);
    if stalled.status == Some(true) {
        return Draft { status: Some(false), ..stalled.clone() };
    }
    if !rollout.available() {
        let text = format!("{} of {} workers are available", rollout.available, rollout.wanted);
        return match rollout.failure() {
            Some(failure) => Draft::new(Some(false), reasons::WORKERS_UNAVAILABLE, format!("{text}: {failure}")),
            None if was("True") || before.is_some_and(|condition| condition.reason == reasons::WORKERS_UNAVAILABLE) => {
                Draft::new(Some(false), reasons::WORKERS_UNAVAILABLE, text)
            }
            None => Draft::new(None, reasons::STARTING, text),
        };
    }
    let checked = reports::states(observed.answers).filter(|state| state.checked).count();
    let wanted = usize::try_from(rollout.wanted).unwrap_or(0);
    if was("True") || (checked >= wanted && checked == observed.answers.len()) {
        return Draft::new(Some(true), reasons::OK, "the workers are available and have checked queue and table");
    }
    Draft::new(None, reasons::STARTING, format!("{checked} of {wanted} workers have checked queue and table"))
}

fn stalled(previous: &DurableWritePipelineStatus, observed: &Observed<'_>, rollout: &Rollout<'_>) -> Draft {
    if let Some(trouble) = observed.cluster_trouble {
        return Draft::new(Some(true), trouble.reason, trouble.message.as_str());
    }
    if let Some(failure) = rollout.failure().filter(|_| !rollout.available()) {
        return Draft::new(Some(true), reasons::WORKERS_UNAVAILABLE, failure);
    }
    let said_by_workers = |condition: &&Condition| {
        let operators = [
            reasons::WORKERS_UNAVAILABLE,
            reasons::QUEUE_IN_USE,
            reasons::INVALID_SPEC,
            reasons::NAME_TAKEN,
            reasons::CLUSTER_NOT_FOUND,
            reasons::CLUSTER_UNKNOWN,
            reasons::NOT_AURORA,
        ];
        condition.status == "True" && !operators.contains(&condition.reason.as_str())
    };
    reports::worst(observed.answers, |state| &state.stalled, true)
        .or_else(|| {
            let condition = find(previous, types::STALLED).filter(said_by_workers)?;
            Some(Draft::new(Some(true), &condition.reason, condition.message.as_str()))
        })
        .unwrap_or_else(|| Draft::new(Some(false), reasons::OK, "nothing is known that needs somebody to act"))
}

/// A queue that is read from elsewhere too still works; it is shown.
fn shared(queue_ready: Draft, sharing: usize) -> Draft {
    if queue_ready.status != Some(true) || sharing == 0 {
        return queue_ready;
    }
    let message = format!(
        "{}; pipelines elsewhere that read a queue of this name: {sharing}, so each gets a part of its messages",
        queue_ready.message
    );
    Draft::new(Some(true), reasons::QUEUE_SHARED, message)
}

/// How far the Deployment is.
struct Rollout<'a> {
    deployment: Option<&'a Deployment>,
    held_back: bool,
    wanted: i32,
    available: i32,
}

impl<'a> Rollout<'a> {
    fn new(observed: &Observed<'a>) -> Self {
        let spec = &observed.pipeline.spec;
        let status = observed.deployment.and_then(|deployment| deployment.status.as_ref());
        Self {
            deployment: observed.deployment,
            held_back: observed.held_back,
            wanted: if spec.suspend { 0 } else { spec.workers.replicas },
            available: status.and_then(|status| status.available_replicas).unwrap_or(0),
        }
    }

    /// As many workers are available as a rollout leaves.
    fn available(&self) -> bool {
        self.available >= (self.wanted - max_unavailable(self.wanted)).max(1)
    }

    /// Why Kubernetes cannot start workers.
    fn failure(&self) -> Option<String> {
        let text = rollouts::failure(self.deployment?)?.message.clone().unwrap_or_default();
        Some(format!("Kubernetes cannot start the workers: {text}; look at the events of the pods"))
    }

    fn reconciling(&self) -> Draft {
        if self.held_back {
            let message = format!("a new version of the workers waits for its turn: {AT_ONCE} pipelines roll at a time");
            return Draft::new(Some(true), reasons::WAITING_FOR_ROLLOUTS, message);
        }
        if self.done() {
            return Draft::new(Some(false), reasons::OK, "the workers are as the spec says");
        }
        Draft::new(Some(true), reasons::PROGRESSING, "the workers are being brought to what the spec says")
    }

    fn done(&self) -> bool {
        let Some((deployment, status)) = self.deployment.and_then(|deployment| Some((deployment, deployment.status.as_ref()?))) else {
            return false;
        };
        let count = |number: Option<i32>| number.unwrap_or(0);
        deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(self.wanted)
            && status.observed_generation >= deployment.metadata.generation
            && count(status.updated_replicas) == self.wanted
            && count(status.replicas) == self.wanted
            // What a drill goes by too: whoever has waited for the end of `Reconciling` can drill.
            && !rollouts::is_rolling(deployment)
    }
}

fn find<'a>(status: &'a DurableWritePipelineStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Puts times to conditions: the moment of the last change of status.
pub(super) fn merge(previous: &[Condition], next: impl Iterator<Item = Typed>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let condition = |Typed { type_, draft }: Typed| {
        let status = match draft.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let before = previous.iter().find(|condition| condition.type_ == type_ && condition.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: draft.reason,
            message: draft.message,
            last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    next.map(condition).collect()
}
