//! The status of pipelines over time.

mod retention;

use durable_write_crds::DurableWritePipelineStatus;
use durable_write_crds::conditions::{reasons, types};
use durable_write_crds::wire::{QueueState, Report, WorkerState};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};

use super::*;
use crate::pipeline::fixtures::{self, answer, in_outage, minute, well};
use crate::pipeline::validate::{Children, Refusal, cluster_trouble};
use crate::workers::NoAnswer;

/// A pipeline that is observed again and again, as the controller does it.
struct Scene {
    pipeline: DurableWritePipeline,
    deployment: Option<Deployment>,
    answers: Vec<Answer>,
    held_back: bool,
    refusal: Option<Refusal>,
    sharing: usize,
    status: DurableWritePipelineStatus,
}

impl Scene {
    /// Two workers that are well, since minute 1.
    fn flowing() -> Self {
        let mut scene = Self::new();
        scene.deployment = Some(deployment(2, 2));
        scene.answers = vec![answer(well()), answer(well())];
        scene.at(1);
        scene
    }

    /// Just made.
    fn new() -> Self {
        let status = DurableWritePipelineStatus::default();
        let mut scene = Self {
            pipeline: fixtures::orders(),
            deployment: None,
            answers: Vec::new(),
            held_back: false,
            refusal: None,
            sharing: 0,
            status,
        };
        scene.at(0);
        scene
    }

    /// Looks at that minute, with numbers due; true when something was written.
    fn at(&mut self, minutes: i64) -> bool {
        self.look(minutes, true)
    }

    fn look(&mut self, minutes: i64, numbers_due: bool) -> bool {
        let observed = Observed {
            pipeline: &self.pipeline,
            refusal: self.refusal.as_ref(),
            cluster_trouble: None,
            cluster: None,
            deployment: self.deployment.as_ref(),
            held_back: self.held_back,
            answers: &self.answers,
            sharing: self.sharing,
            now: minute(minutes),
        };
        let written = change(&self.status, next(&self.status, &observed), numbers_due);
        let changed = written.is_some();
        // As it comes back from the API server.
        if let Some(status) = written {
            self.status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        }
        changed
    }

    fn condition(&self, type_: &str) -> (String, String, String) {
        let condition = self.status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    }

    /// Status and reason of a condition.
    fn says(&self, type_: &str) -> (String, String) {
        let (status, reason, _) = self.condition(type_);
        (status, reason)
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.status.queue.as_ref().unwrap().oldest_seen.as_ref().map(|time| time.0)
    }
}

fn deployment(replicas: i32, available: i32) -> Deployment {
    Deployment {
        spec: Some(DeploymentSpec { replicas: Some(replicas), ..DeploymentSpec::default() }),
        status: Some(DeploymentStatus {
            replicas: Some(replicas),
            updated_replicas: Some(replicas),
            available_replicas: Some(available),
            ready_replicas: Some(available),
            conditions: Some(vec![progressing("NewReplicaSetAvailable")]),
            ..DeploymentStatus::default()
        }),
        ..Deployment::default()
    }
}

/// What Kubernetes says of a rollout.
fn progressing(reason: &str) -> DeploymentCondition {
    DeploymentCondition {
        type_: "Progressing".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        ..DeploymentCondition::default()
    }
}

fn says(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn stalled(reason: &str) -> WorkerState {
    let report = |status| Report { status: Some(status), reason: reason.to_owned(), message: "mend it".to_owned(), since: minute(2) };
    WorkerState { stalled: report(true), flowing: report(false), database_ready: report(false), checked: false, ..well() }
}

fn unreachable() -> Answer {
    Answer { ready: true, state: Err(NoAnswer::Silent) }
}

#[test]
fn a_status_of_a_pipeline_that_flows() {
    let mut scene = Scene::flowing();
    scene.sharing = 1;
    scene.at(1);
    insta::assert_snapshot!(fixtures::yaml(&scene.status));
}

#[test]
fn a_status_of_a_pipeline_that_was_just_made() {
    insta::assert_snapshot!(fixtures::yaml(&Scene::new().status));
}

/// A drill, which goes by what Kubernetes says, must not refuse a pipeline that was called at rest.
#[test]
fn a_pipeline_is_at_rest_only_once_kubernetes_calls_its_rollout_complete() {
    let mut scene = Scene::new();
    let mut rolled_out = deployment(2, 2);
    rolled_out.status.as_mut().unwrap().conditions = Some(vec![progressing("ReplicaSetUpdated")]);
    scene.deployment = Some(rolled_out);
    scene.answers = vec![answer(well()), answer(well())];
    scene.at(1);
    assert_eq!(scene.says(types::RECONCILING), says("True", reasons::PROGRESSING));
    scene.deployment = Some(deployment(2, 2));
    scene.at(2);
    assert_eq!(scene.says(types::RECONCILING), says("False", reasons::OK));
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let mut scene = Scene::flowing();
    for minutes in 2..10 {
        assert!(!scene.at(minutes), "written at minute {minutes}");
    }
    let mut scene = Scene::new();
    assert!(!scene.at(1) && !scene.at(2));
    let mut scene = Scene::new();
    scene.pipeline.spec.suspend = true;
    scene.at(1);
    assert!(!scene.at(2) && !scene.at(3));
}

#[test]
fn numbers_and_texts_wait_until_they_are_due_and_conditions_do_not() {
    let mut scene = Scene::flowing();
    scene.answers[0].state.as_mut().unwrap().queue.visible = Some(9_999);
    scene.answers[0].state.as_mut().unwrap().flowing.message = "finer".to_owned();
    assert!(!scene.look(2, false));
    scene.answers[1] = answer(in_outage(2));
    assert!(scene.look(2, false));
    assert_eq!(scene.status.queue.as_ref().unwrap().visible, Some(9_900));
}

#[test]
fn ready_needs_each_worker_to_have_checked_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.says(types::READY), says("Unknown", reasons::STARTING));
    scene.deployment = Some(deployment(2, 2));
    scene.answers = vec![answer(well()), answer(WorkerState { checked: false, ..in_outage(0) })];
    scene.at(1);
    assert_eq!(scene.condition(types::READY).2, "1 of 2 workers have checked queue and table");
    scene.answers = vec![answer(well())];
    scene.at(2);
    assert_eq!(scene.says(types::READY), says("Unknown", reasons::STARTING));
    scene.answers = vec![answer(well()), answer(well())];
    scene.at(3);
    assert_eq!(scene.says(types::READY), says("True", reasons::OK));
}

#[test]
fn an_outage_touches_flowing_and_not_ready() {
    let mut scene = Scene::flowing();
    scene.answers = vec![answer(in_outage(2)), answer(well())];
    scene.at(3);
    assert_eq!(
        scene.condition(types::FLOWING),
        ("False".to_owned(), reasons::DATABASE_OUTAGE.to_owned(), "1 of 2 workers: no writer is reachable".to_owned())
    );
    assert_eq!(scene.says(types::READY), says("True", reasons::OK));
    assert_eq!(scene.says(types::STALLED), says("False", reasons::OK));
}

#[test]
fn a_fault_that_somebody_must_mend_is_ready_false_with_its_reason_and_heals() {
    let mut scene = Scene::flowing();
    scene.answers = vec![answer(stalled(reasons::TABLE_MISSING)), answer(well())];
    scene.at(3);
    assert_eq!(scene.says(types::STALLED), says("True", reasons::TABLE_MISSING));
    assert_eq!(scene.says(types::READY), says("False", reasons::TABLE_MISSING));
    scene.answers = vec![answer(well()), answer(well())];
    scene.at(4);
    assert_eq!(scene.says(types::READY), says("True", reasons::OK));
    assert_eq!(scene.says(types::STALLED), says("False", reasons::OK));
}

#[test]
fn workers_that_cannot_be_reached_are_unknown_and_stalled_keeps_its_value() {
    let mut scene = Scene::flowing();
    scene.answers = vec![answer(stalled(reasons::TABLE_MISSING)); 2];
    scene.at(3);
    scene.answers = vec![unreachable(), unreachable()];
    scene.at(4);
    for type_ in [types::FLOWING, types::QUEUE_READY, types::DATABASE_READY] {
        assert_eq!(scene.says(type_), says("Unknown", reasons::WORKERS_UNREACHABLE), "{type_}");
    }
    assert!(scene.condition(types::FLOWING).2.contains("NetworkPolicy"));
    assert_eq!(scene.says(types::STALLED), says("True", reasons::TABLE_MISSING));
}

#[test]
fn one_silent_worker_of_two_does_not_hide_what_the_other_says() {
    let mut scene = Scene::flowing();
    scene.answers = vec![answer(well()), unreachable()];
    scene.at(3);
    assert_eq!(scene.condition(types::FLOWING).2, "1 of 2 workers: fine");
    assert_eq!(scene.says(types::FLOWING), says("True", reasons::OK));
}

#[test]
fn workers_that_are_gone_are_unavailable() {
    let mut scene = Scene::flowing();
    scene.deployment = Some(deployment(2, 0));
    scene.answers.clear();
    scene.at(3);
    assert_eq!(scene.says(types::READY), says("False", reasons::WORKERS_UNAVAILABLE));
    assert_eq!(scene.says(types::FLOWING), says("False", reasons::WORKERS_UNAVAILABLE));
    assert_eq!(scene.says(types::STALLED), says("False", reasons::OK));
}

#[test]
fn workers_that_kubernetes_cannot_start_are_stalled_with_what_it_says() {
    let mut scene = Scene::new();
    let mut broken = deployment(2, 0);
    broken.status.as_mut().unwrap().conditions = Some(vec![DeploymentCondition {
        type_: "ReplicaFailure".to_owned(),
        status: "True".to_owned(),
        message: Some("exceeded quota".to_owned()),
        ..DeploymentCondition::default()
    }]);
    scene.deployment = Some(broken);
    scene.at(1);
    assert_eq!(scene.says(types::STALLED), says("True", reasons::WORKERS_UNAVAILABLE));
    assert!(scene.condition(types::READY).2.contains("exceeded quota"));
    scene.deployment = Some(deployment(2, 2));
    scene.answers = vec![answer(well()), answer(well())];
    scene.at(2);
    assert_eq!(scene.says(types::STALLED), says("False", reasons::OK));
    assert_eq!(scene.says(types::READY), says("True", reasons::OK));
}

#[test]
fn suspended_and_scaled_to_zero_are_said_as_such_and_not_stalled() {
    for (suspend, reason) in [(true, reasons::SUSPENDED), (false, reasons::SCALED_TO_ZERO)] {
        let mut scene = Scene::flowing();
        scene.answers = vec![answer(stalled(reasons::TABLE_MISSING)); 2];
        scene.at(2);
        scene.pipeline.spec.suspend = suspend;
        scene.pipeline.spec.workers.replicas = if suspend { 2 } else { 0 };
        scene.at(3);
        assert_eq!(scene.says(types::RECONCILING), says("True", reasons::PROGRESSING));
        scene.deployment = Some(deployment(0, 0));
        scene.answers.clear();
        scene.at(4);
        assert_eq!(scene.says(types::READY), says("False", reason));
        assert_eq!(scene.says(types::FLOWING), says("False", reason));
        assert_eq!(scene.says(types::STALLED), says("False", reason));
        assert_eq!(scene.says(types::RECONCILING), says("False", reasons::OK));
    }
}

#[test]
fn a_resumed_pipeline_starts_and_is_not_called_unavailable() {
    let mut scene = Scene::flowing();
    scene.pipeline.spec.suspend = true;
    scene.deployment = Some(deployment(0, 0));
    scene.answers.clear();
    scene.at(2);
    scene.pipeline.spec.suspend = false;
    scene.at(3);
    assert_eq!(scene.says(types::READY), says("Unknown", reasons::STARTING));
    assert_eq!(scene.says(types::FLOWING), says("Unknown", reasons::STARTING));
}

#[test]
fn a_new_version_that_waits_for_other_pipelines_is_said_and_touches_nothing_else() {
    let mut scene = Scene::flowing();
    scene.held_back = true;
    scene.at(2);
    assert_eq!(scene.says(types::RECONCILING), says("True", reasons::WAITING_FOR_ROLLOUTS));
    assert_eq!(scene.says(types::READY), says("True", reasons::OK));
    assert_eq!(scene.says(types::FLOWING), says("True", reasons::OK));
}

#[test]
fn a_refused_pipeline_says_why() {
    let mut scene = Scene::new();
    scene.refusal =
        Some(Refusal { reason: reasons::QUEUE_IN_USE, message: "the older one reads it".to_owned(), children: Children::Remove });
    scene.at(1);
    assert_eq!(scene.says(types::READY), says("False", reasons::QUEUE_IN_USE));
    assert_eq!(scene.says(types::QUEUE_READY), says("False", reasons::QUEUE_IN_USE));
    assert_eq!(scene.says(types::STALLED), says("True", reasons::QUEUE_IN_USE));
    scene.refusal = None;
    scene.at(2);
    assert_eq!(scene.says(types::STALLED), says("False", reasons::OK));
}

#[test]
fn an_aurora_cluster_that_is_gone_is_said_and_what_workers_see_stays() {
    let pipeline = fixtures::everything();
    let trouble = cluster_trouble("payments", &Lookup::Missing);
    let previous = DurableWritePipelineStatus::default();
    let mut pipeline = pipeline;
    pipeline.spec.suspend = false;
    let observed = Observed {
        pipeline: &pipeline,
        refusal: None,
        cluster_trouble: Some(&trouble),
        cluster: Some(&Lookup::Missing),
        deployment: Some(&deployment(8, 8)),
        held_back: false,
        answers: &vec![answer(well()); 8],
        sharing: 0,
        now: minute(1),
    };
    let status = next(&previous, &observed);
    let find = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    assert_eq!(find(types::DATABASE_READY).reason, reasons::CLUSTER_NOT_FOUND);
    assert_eq!(find(types::STALLED).status, "True");
    assert_eq!(find(types::FLOWING).status, "True");
}

#[test]
fn what_tenants_write_into_their_answers_is_cut_before_it_reaches_a_status() {
    let mut scene = Scene::flowing();
    let mut state = in_outage(2);
    state.flowing.reason = "<script>".to_owned();
    state.flowing.message = "x".repeat(60_000);
    state.queue.visible = Some(-5);
    state.database.writer = Some("w".repeat(1000));
    scene.answers = vec![answer(state)];
    scene.at(3);
    let (_, reason, message) = scene.condition(types::FLOWING);
    assert_eq!((reason.as_str(), message.len()), ("Unreadable", 1024));
    assert_eq!(scene.status.queue.as_ref().unwrap().visible, Some(0));
    assert_eq!(scene.status.database.as_ref().unwrap().writer.as_ref().unwrap().len(), 259);
}

#[test]
fn each_change_is_told_once_with_its_reason() {
    let mut scene = Scene::flowing();
    let before = scene.status.clone();
    scene.answers = vec![answer(stalled(reasons::TABLE_MISSING)); 2];
    scene.at(3);
    let told = |before: &DurableWritePipelineStatus, after: &DurableWritePipelineStatus| {
        let notes = notes(&before.conditions, &after.conditions).into_iter();
        notes.map(|note| format!("{} {}", if note.warning { "Warning" } else { "Normal" }, note.reason)).collect::<Vec<_>>()
    };
    assert_eq!(told(&before, &scene.status), ["Warning TableMissing"]);
    assert!(told(&scene.status, &scene.status).is_empty());
    let broken = scene.status.clone();
    scene.answers = vec![answer(well()), answer(well())];
    scene.at(4);
    assert_eq!(told(&broken, &scene.status), ["Normal DatabaseReady", "Normal Flowing", "Normal Ready"]);
    let flowing = scene.status.clone();
    scene.pipeline.spec.suspend = true;
    scene.at(5);
    assert_eq!(told(&flowing, &scene.status), ["Normal Suspended"]);
    assert!(told(&DurableWritePipelineStatus::default(), &Scene::new().status).is_empty(), "a start is no news");
}

#[test]
fn numbers_keep_two_figures() {
    for (exact, shown) in [(0, 0), (7, 7), (99, 99), (101, 100), (1_234, 1_200), (98_765, 98_000)] {
        assert_eq!(two_figures(exact), shown);
    }
}
