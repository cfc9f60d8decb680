//! The model of the probe: it gets ready, waits for the failover, drains, and leaves its result.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::probe::{Gap, PLAN_VARIABLE, ProbeOutcome, ProbePlan, ProbeResult};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt;

use super::rds::Failover;
use super::world::{State, World};
use crate::drill::fixtures;
use crate::drill::rds::AVAILABLE;
use crate::drill::world::Surroundings;

/// How long it waits for the failover.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until its pod ends or is deleted.
pub(super) async fn run(world: World, pod: Pod) {
    let gone = world.until(|state| (!is_there(state, &pod)).then_some(()));
    let plan = plan(&pod);
    tokio::select! {
        biased;
        () = gone => {}
        () = measure(&world, &pod, &plan) => {}
    }
    world.with(|state| state.open.remove(&plan.drill));
}

fn plan(pod: &Pod) -> ProbePlan {
    let env = pod.spec.as_ref().unwrap().containers[0].env.as_ref().unwrap();
    let plan = env.iter().find(|variable| variable.name == PLAN_VARIABLE).unwrap();
    serde_json::from_str(plan.value.as_ref().unwrap()).unwrap()
}

/// Enters the drill into the database, unless one of another operator's is open.
fn open(state: &mut State, plan: &ProbePlan) -> bool {
    let operator = plan.drill_name.split('/').next().unwrap();
    if state.open.values().any(|other| other != operator) {
        return false;
    }
    state.open.insert(plan.drill.clone(), operator.to_owned());
    true
}

fn is_there(state: &State, pod: &Pod) -> bool {
    state.store.same(pod).is_some_and(|found| found.uid() == pod.uid())
}

fn show(world: &World, pod: &Pod, status: PodStatus) {
    let found = world.with(|state| state.store.same(pod)).unwrap();
    world.put(Pod { status: Some(status), ..Arc::unwrap_or_clone(found) });
}

async fn measure(world: &World, pod: &Pod, plan: &ProbePlan) {
    let takes = if world.is_foul() { 5000 } else { 600 };
    let started = world.now();
    if !world.with(|state| open(state, plan)) {
        let (outcome, reason) = (ProbeOutcome::Refused, Some(reasons::ANOTHER_DRILL.to_owned()));
        let result = ProbeResult { outcome, reason, ..result(plan, started, world.now(), None) };
        return show(world, pod, fixtures::terminated(&result));
    }
    world.sleep(500, takes).await;
    let earlier = world.until(|state| (state.cluster.status == AVAILABLE).then_some(state.failovers.len())).await;
    show(world, pod, fixtures::running(true));
    let ended = |state: &mut State| state.failovers.get(earlier).filter(|failover| failover.ended.is_some()).cloned();
    let failover = tokio::time::timeout(PATIENCE, world.until(ended)).await.ok();
    world.sleep(500, takes).await;
    let now = world.now();
    let gap = failover.as_ref().map(gap).or_else(|| world.happens(50).then(|| blip(now, &plan.writer)));
    show(world, pod, fixtures::terminated(&result(plan, started, now, gap)));
}

fn result(plan: &ProbePlan, started: Timestamp, ended: Timestamp, gap: Option<Gap>) -> ProbeResult {
    let mut result = fixtures::result();
    result.drill.clone_from(&plan.drill);
    (result.started, result.ready, result.ended) = (started, Some(started), ended);
    result.gap = gap;
    result.accept.acknowledged_in_gap = 10_000;
    result
}

/// One write failed just before the end.
fn blip(ended: Timestamp, writer: &str) -> Gap {
    let failover = Failover { began: ended - SignedDuration::from_millis(150), ended: Some(ended), writer_after: writer.to_owned() };
    Gap { failed_attempts: 1, ..gap(&failover) }
}

fn gap(failover: &Failover) -> Gap {
    let ended = failover.ended.unwrap();
    let upper = i64::try_from(ended.duration_since(failover.began).as_millis()).unwrap();
    Gap {
        last_good_began: failover.began,
        first_failed_ended: Some(failover.began),
        last_failed_began: Some(ended),
        first_good_ended: Some(ended),
        failed_attempts: u64::try_from(upper / 100).unwrap(),
        writer_after: Some(failover.writer_after.clone()),
        lower_milliseconds: (upper - 200).max(0),
        upper_milliseconds: Some(upper),
    }
}
