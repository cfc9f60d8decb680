//! A process of the operator, which looks at drills and claims as the controller does, until it is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use durable_write_crds::FailoverDrill;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use tokio::sync::Notify;

use super::world::{State, World};
use crate::drill::executor::Executor;
use crate::settings::Settings;

type Operator = Executor<World, World, World>;

pub(super) struct Process {
    pub(super) id: u64,
    /// How many awaits it lives.
    fuse: AtomicU64,
    dead: AtomicBool,
    died: Notify,
}

impl Process {
    /// What is under way beside the killing await goes no further either.
    pub(super) fn is_killed(&self, state: &mut State, when: &str, verb: &str, what: &str) -> bool {
        if self.dead.load(Ordering::Relaxed) {
            return true;
        }
        if state.calm || self.fuse.fetch_sub(1, Ordering::Relaxed) > 1 {
            return false;
        }
        let point = format!("{when} {verb} {what}");
        *state.kills.entry(point.trim_end().to_owned()).or_default() += 1;
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
        true
    }
}

/// Runs a process for so many awaits.
pub(super) async fn run(world: &World, awaits: u64, settings: &Settings) {
    let id = world.with(|state| {
        state.processes += 1;
        state.processes
    });
    let process = Arc::new(Process { id, fuse: AtomicU64::new(awaits), dead: AtomicBool::new(false), died: Notify::new() });
    let world = world.seen_by(Some(Arc::clone(&process)));
    let operator = Executor::new(world.clone(), world.clone(), world.clone(), settings.clone());
    tokio::select! {
        biased;
        () = process.died.notified() => {}
        () = drills(&world, &operator) => {}
        () = orphans(&world, &operator) => {}
    }
}

async fn drills(world: &World, operator: &Operator) {
    let mut looks = FuturesUnordered::new();
    let mut known = Vec::new();
    loop {
        let changed = world.changes.notified();
        for drill in world.drills() {
            if !known.contains(&drill.uid()) {
                known.push(drill.uid());
                looks.push(look_again_and_again(world, operator, drill));
            }
        }
        tokio::select! {
            biased;
            Some(()) = looks.next() => {}
            () = changed => {}
        }
    }
}

/// Looks at a drill when it is due, or was changed, as long as it is there.
async fn look_again_and_again(world: &World, operator: &Operator, drill: Arc<FailoverDrill>) {
    let (namespace, name, uid) = (drill.namespace().unwrap(), drill.name_any(), drill.uid().unwrap());
    let current = |state: &mut State| {
        let found = state.store.get::<FailoverDrill>(&namespace, &name).filter(|found| found.uid().as_ref() == Some(&uid));
        found.map(|found| found.resource_version())
    };
    while let Some(seen) = world.with(current) {
        let next = match operator.look(&namespace, &name, &uid).await {
            Ok(next) => next,
            Err(_) => Some(Duration::from_secs(1)),
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(next.unwrap_or(Duration::MAX)) => {}
            () = world.until(|state| (current(state).as_ref() != Some(&seen)).then_some(())) => {}
        }
    }
}

async fn orphans(world: &World, operator: &Operator) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let claims: Vec<_> = world.with(|state| state.store.all::<ConfigMap>().collect());
        for claim in claims.iter().filter(|claim| claim.immutable != Some(true)) {
            operator.look_after(&claim.namespace().unwrap(), &claim.name_any()).await.ok();
        }
    }
}
