//! The model of the probe: it gets ready, waits for the failover, drains, and leaves its result.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::probe::{Gap, ProbeResult};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt;

use super::rds::Failover;
use super::world::{State, World};
use crate::drill::fixtures;
use crate::drill::rds::AVAILABLE;
use crate::drill::world::Surroundings;

/// How long it waits for the failover.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs until its pod ends or is deleted.
pub(super) async fn run(world: World, pod: Pod) {
    let gone = world.until(|state| (!is_there(state, &pod)).then_some(()));
    tokio::select! {
        biased;
        () = gone => {}
        () = measure(&world, &pod) => {}
    }
}

fn is_there(state: &State, pod: &Pod) -> bool {
    state.store.same(pod).is_some_and(|found| found.uid() == pod.uid())
}

fn show(world: &World, pod: &Pod, status: PodStatus) {
    let found = world.with(|state| state.store.same(pod)).unwrap();
    world.put(Pod { status: Some(status), ..Arc::unwrap_or_clone(found) });
}

async fn measure(world: &World, pod: &Pod) {
    let takes = if world.is_foul() { 5000 } else { 600 };
    let (started, step) = (world.now(), world.with(|state| state.step));
    world.sleep(500, takes).await;
    let earlier = world.until(|state| (state.cluster.status == AVAILABLE).then_some(state.failovers.len())).await;
    show(world, pod, fixtures::running(true));
    let ended = |state: &mut State| state.failovers.get(earlier).filter(|failover| failover.ended.is_some()).cloned();
    let failover = tokio::time::timeout(PATIENCE, world.until(ended)).await.ok();
    world.sleep(500, takes).await;
    let stepped = world.with(|state| state.step) - step;
    show(world, pod, fixtures::terminated(&result(pod, started, world.now(), failover.as_ref(), stepped)));
}

fn result(pod: &Pod, started: Timestamp, ended: Timestamp, failover: Option<&Failover>, stepped: SignedDuration) -> ProbeResult {
    let mut result = fixtures::result();
    result.drill = pod.metadata.owner_references.as_ref().unwrap()[0].uid.clone();
    (result.started, result.ready, result.ended) = (started, Some(started), ended);
    result.gap = failover.map(gap);
    result.accept.acknowledged_in_gap = 10_000;
    result.clock_step_milliseconds = i64::try_from(stepped.as_millis()).unwrap();
    result
}

fn gap(failover: &Failover) -> Gap {
    let ended = failover.ended.unwrap();
    let upper = i64::try_from(ended.duration_since(failover.began).as_millis()).unwrap();
    Gap {
        last_good_began: failover.began,
        first_failed_ended: Some(failover.began),
        last_failed_began: Some(ended),
        first_good_ended: Some(ended),
        failed_attempts: 1,
        writer_after: Some(failover.writer_after.clone()),
        lower_milliseconds: (upper - 200).max(0),
        upper_milliseconds: Some(upper),
    }
}
