//! The pod of the probe. Pure. It has what the pipeline's workers have, and its plan, which pins what the preflight found.

use std::collections::BTreeMap;

use durable_write_crds::FailoverDrill;
use durable_write_crds::layout;
use durable_write_crds::probe::{PLAN_VARIABLE, ProbePlan, RESULT_FILE};
use durable_write_crds::{Duration, drill::BASELINE_PATIENCE};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, Probe};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::preflight::{Pins, max_replica_lag};
use super::step::{MARGIN, shortest_baseline, signed};
use crate::pipeline::names::{COMPONENT_LABEL, MANAGED_BY_LABEL, MANAGER, PIPELINE_LABEL};
use crate::pipeline::pod_like_workers;
use crate::settings::Settings;

/// The name of the probe's container.
pub(super) const CONTAINER: &str = "probe";
/// The pipeline's uid and the generation of its spec, as they were pinned.
pub(super) const PIPELINE_UID_ANNOTATION: &str = "durablewrite.dev/pipeline-uid";
pub(super) const GENERATION_ANNOTATION: &str = "durablewrite.dev/pipeline-generation";
/// The drill's name, for people.
const DRILL_LABEL: &str = "durablewrite.dev/drill";
/// It stops at once: nothing is to be drained.
const GRACE_SECONDS: i64 = 10;

/// The name of the probe's pod.
pub(super) fn pod_name(drill: &str) -> String {
    format!("{drill}-probe")
}

/// Why the pod could not be made; never, for a drill and a pipeline that the API server took.
#[derive(Debug, thiserror::Error)]
#[error("the probe's pod could not be made: {0}")]
pub(super) struct Unbuildable(String);

/// The pod of the probe of `drill`, which must have ended when `left` is over.
pub(super) fn pod(drill: &FailoverDrill, pins: &Pins, settings: &Settings, left: SignedDuration) -> Result<Pod, Unbuildable> {
    let unbuildable = |why: &dyn std::fmt::Display| Unbuildable(why.to_string());
    let plan = plan(drill, pins, settings, left);
    let plan = serde_json::to_string(&plan).map_err(|error| unbuildable(&error))?;
    let mut spec = pod_like_workers(&pins.pipeline, settings).map_err(|error| unbuildable(&error))?;
    spec.restart_policy = Some("Never".to_owned());
    spec.termination_grace_period_seconds = Some(GRACE_SECONDS);
    spec.containers = spec.containers.into_iter().take(1).map(|worker| container(worker, plan.clone())).collect();
    Ok(Pod { metadata: metadata(drill, pins).ok_or_else(|| unbuildable(&"the drill has no uid"))?, spec: Some(spec), status: None })
}

fn metadata(drill: &FailoverDrill, pins: &Pins) -> Option<ObjectMeta> {
    let generation = pins.identity.generation.to_string();
    let annotations = [
        (PIPELINE_UID_ANNOTATION, pins.identity.uid.as_str()),
        (GENERATION_ANNOTATION, &generation),
        // Whoever moves the probe spoils the drill.
        ("karpenter.sh/do-not-disrupt", "true"),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ];
    let name = drill.name_any();
    let labels = [
        ("app.kubernetes.io/name", "durable-write"),
        (COMPONENT_LABEL, CONTAINER),
        (MANAGED_BY_LABEL, MANAGER),
        (PIPELINE_LABEL, pins.identity.name.as_str()),
        (DRILL_LABEL, &name),
    ];
    let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Some(ObjectMeta {
        name: Some(pod_name(&name)),
        namespace: drill.namespace(),
        labels: Some(owned(&labels)),
        annotations: Some(owned(&annotations)),
        owner_references: Some(vec![drill.controller_owner_ref(&())?]),
        ..ObjectMeta::default()
    })
}

fn container(worker: Container, plan: String) -> Container {
    let mut env = worker.env.unwrap_or_default();
    env.push(EnvVar { name: PLAN_VARIABLE.to_owned(), value: Some(plan), value_from: None });
    let mut resources = worker.resources.unwrap_or_default();
    // What measures time must not be starved by its neighbours. Where there is a limit, that is what is asked for.
    if resources.limits.as_ref().is_none_or(|limits| !limits.contains_key("cpu")) {
        resources.requests.get_or_insert_default().entry("cpu".to_owned()).or_insert_with(|| Quantity("100m".to_owned()));
    }
    Container {
        resources: Some(resources),
        name: CONTAINER.to_owned(),
        args: Some(["probe", "--mounts", layout::MOUNTS].map(str::to_owned).into()),
        env: Some(env),
        // The probe has its own deadline, and is never started again.
        liveness_probe: None,
        readiness_probe: worker.readiness_probe.map(|readiness| Probe {
            period_seconds: Some(1),
            timeout_seconds: Some(1),
            failure_threshold: Some(1),
            ..readiness
        }),
        termination_message_path: Some(RESULT_FILE.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..worker
    }
}

fn plan(drill: &FailoverDrill, pins: &Pins, settings: &Settings, left: SignedDuration) -> ProbePlan {
    let load = &drill.spec.load;
    // A drill that another release of the operator has begun holds back this one's: each has Leases of its own.
    let operator = format!("{}:{}", settings.cluster_name, settings.namespace);
    ProbePlan {
        drill: drill.uid().unwrap_or_default(),
        drill_name: format!("{operator}/{}/{}", drill.namespace().unwrap_or_default(), drill.name_any()),
        resource_id: pins.cluster.resource_id.clone(),
        writer: pins.writer.clone(),
        target: pins.target.clone(),
        max_replica_lag: max_replica_lag(drill, settings),
        messages_per_second: u32::try_from(load.messages_per_second).unwrap_or(1),
        direct_write_interval: load.direct_write_interval,
        direct_path: load.direct_path,
        warm_up: load.warm_up,
        cool_down: load.cool_down,
        backlog_drained: drill.spec.objectives.backlog_drained,
        deadline: probe_deadline(drill, left),
    }
}

/// What is left of the drill, without the time for cooling down, draining and counting; but enough for a baseline that comes late and for what
/// the objective allows. The queue's DelaySeconds, which only the probe knows, are not in it: a recovery at the last moment may not be measured.
fn probe_deadline(drill: &FailoverDrill, left: SignedDuration) -> Duration {
    let objectives = &drill.spec.objectives;
    let after = signed(drill.spec.load.cool_down.get() + objectives.backlog_drained.get() + MARGIN);
    let least = signed(shortest_baseline(drill) + BASELINE_PATIENCE + objectives.recovery_time.get());
    let deadline = (left - after).max(least.min(left));
    Duration::from_millis(u64::try_from(deadline.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use crate::drill::fixtures;
    use crate::pipeline::fixtures::{settings, yaml};

    use super::*;

    #[test]
    fn the_pod_of_the_probe() {
        let pod = pod(&fixtures::drill(), &fixtures::pins(), &settings(), SignedDuration::from_secs(897)).unwrap();
        insta::assert_snapshot!(yaml(&pod));
    }

    #[test]
    fn a_probe_asks_for_processor_time_unless_the_manifest_says_how_much() {
        let asked = |resources: serde_json::Value| {
            let worker = Container { resources: serde_json::from_value(resources).unwrap(), ..Container::default() };
            let requests = container(worker, String::new()).resources.unwrap().requests;
            requests.and_then(|requests| requests.get("cpu").cloned()).map(|cpu| cpu.0)
        };
        assert_eq!(asked(serde_json::json!({})).as_deref(), Some("100m"));
        assert_eq!(asked(serde_json::json!({"requests": {"cpu": "1"}})).as_deref(), Some("1"));
        assert_eq!(asked(serde_json::json!({"limits": {"cpu": "50m"}})), None, "a request is never above the limit");
    }

    #[test]
    fn the_probe_is_no_worker_to_the_deployment() {
        let pod = pod(&fixtures::drill(), &fixtures::pins(), &settings(), SignedDuration::from_secs(897)).unwrap();
        let selector = crate::pipeline::names::selector_text(&fixtures::pins().identity.name);
        let labels = pod.metadata.labels.unwrap();
        assert!(
            !selector
                .split(',')
                .all(|pair| pair.split_once('=').is_some_and(|(key, value)| labels.get(key).is_some_and(|label| label == value)))
        );
    }

    #[test]
    fn a_short_drill_leaves_its_probe_time_for_a_late_baseline_and_the_objective() {
        let deadline = |warm_up: u64, recovery: u64, left: i64| {
            let mut drill = fixtures::drill();
            drill.spec.load.warm_up = Duration::from_millis(warm_up * 1000);
            drill.spec.objectives.recovery_time = Duration::from_millis(recovery * 1000);
            plan(&drill, &fixtures::pins(), &settings(), SignedDuration::from_secs(left)).deadline.get().as_secs()
        };
        assert_eq!(deadline(20, 60, 897), 897 - 30 - 300 - 15, "without the time for what comes after");
        assert_eq!(deadline(20, 60, 300), 20 + 30 + 60);
        assert_eq!(deadline(20, 60, 100), 100, "not longer than the drill");
        assert_eq!(deadline(2, 1, 58), 6 + 30 + 1, "no baseline is shorter than 6 s");
        assert_eq!(deadline(2, 1, -5), 0);
    }

    #[test]
    fn a_drill_can_only_tighten_how_far_its_target_may_lag() {
        for (asked, most) in [(None, 1000), (Some(500), 500), (Some(10_000), 1000)] {
            let mut drill = fixtures::drill();
            drill.spec.preflight.max_replica_lag = asked.map(Duration::from_millis);
            let plan = plan(&drill, &fixtures::pins(), &settings(), SignedDuration::from_secs(897));
            assert_eq!(plan.max_replica_lag, Duration::from_millis(most), "{asked:?}");
        }
    }

    #[test]
    fn drills_of_two_releases_of_the_operator_are_told_apart_by_the_first_part_of_their_names() {
        let name = |namespace: &str| {
            let settings = Settings { namespace: namespace.to_owned(), ..settings() };
            plan(&fixtures::drill(), &fixtures::pins(), &settings, SignedDuration::from_secs(897)).drill_name
        };
        assert_eq!([name("one"), name("other")], ["test:one/shop/first", "test:other/shop/first"]);
    }
}
