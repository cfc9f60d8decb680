//! The model of RDS: what becomes of a call for a failover, and what its events tell.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::world::{State, Weather, World};
use crate::drill::rds::{AVAILABLE, Answer, AuroraCluster, ClusterEvent, EventKind};
use crate::drill::step::CLAIM_HOLDS;
use crate::drill::world::{Rds, Surroundings};

/// What came of the call of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Refused,
    /// It never reached RDS.
    Lost,
    /// RDS accepted it and did nothing.
    Nothing,
    ToTarget,
    /// RDS promoted the old writer again.
    Back,
}

/// A failover as it was.
#[derive(Clone, Debug)]
pub(super) struct Failover {
    pub(super) began: Timestamp,
    pub(super) ended: Option<Timestamp>,
    pub(super) writer_after: String,
}

/// An event, and from when on it is told.
pub(super) struct Told {
    event: ClusterEvent,
    from: Timestamp,
}

impl Rds for World {
    async fn cluster(&self, _: &str) -> Result<Option<AuroraCluster>, String> {
        let described = |world: &Self| world.with(|state| (!state.gone).then(|| state.cluster.clone()));
        self.request(("describe", "cluster"), described).await.ok_or_else(|| "lost".to_owned())
    }

    async fn events(&self, _: &str, since: Timestamp) -> Result<Vec<ClusterEvent>, String> {
        let told = move |world: &Self| {
            let now = world.now();
            let is_told = |told: &&Told| told.from <= now && told.event.at >= since;
            world.with(|state| state.told.iter().filter(is_told).map(|told| told.event.clone()).collect())
        };
        self.request(("describe", "events"), told).await.ok_or_else(|| "lost".to_owned())
    }

    async fn fail_over(&self, _: &str, target: &str) -> Answer {
        let claim = self.with(|state| called(state, self.process.as_ref().map_or(0, |process| process.id)));
        let target = target.to_owned();
        let call = move |world: &Self| {
            let effect = world.with(|state| effect(state, &target));
            if let Some(claim) = claim {
                world.with(|state| state.claims[claim].effect = Some(effect));
            }
            match effect {
                Effect::Refused => return Answer::Refused("InvalidDBClusterStateFault".to_owned()),
                Effect::Lost => return Answer::Unclear("lost on the way there".to_owned()),
                Effect::Nothing => {}
                Effect::ToTarget | Effect::Back => begin(world, target, effect),
            }
            Answer::Accepted
        };
        let answer = self.request(("call", ""), call).await;
        answer.filter(|_| !self.happens(20)).unwrap_or_else(|| Answer::Unclear("lost on the way back".to_owned()))
    }
}

/// Finds the claim that allows the call: made by this very process, not long ago, and not called for yet.
fn called(state: &mut State, process: u64) -> Option<usize> {
    let found = state.claims.iter().rposition(|claim| claim.process == process && !claim.called);
    match found {
        None => state.broken.push(format!("process {process} called without a claim of its own")),
        Some(claim) => {
            let claim = &mut state.claims[claim];
            claim.called = true;
            if Instant::now().duration_since(claim.began) > CLAIM_HOLDS {
                state.broken.push(format!("process {process} called late"));
            }
        }
    }
    found
}

fn effect(state: &mut State, target: &str) -> Effect {
    use rand::RngExt;
    if state.gone || state.cluster.status != AVAILABLE || state.cluster.writer() == Some(target) {
        return Effect::Refused;
    }
    match state.random.random_range(0..10) {
        _ if state.weather == Weather::Fair => Effect::ToTarget,
        0 => Effect::Refused,
        1 => Effect::Lost,
        2..=4 => Effect::Nothing,
        5 => Effect::Back,
        _ => Effect::ToTarget,
    }
}

fn begin(world: &World, target: String, effect: Effect) {
    let takes = Duration::from_millis(500 + world.below(if world.is_foul() { 40_000 } else { 2000 }));
    let now = world.now();
    let writer_after = if effect == Effect::Back { world.with(|state| state.cluster.writer().unwrap().to_owned()) } else { target.clone() };
    world.with(|state| {
        "failing-over".clone_into(&mut state.cluster.status);
        state.failovers.push(Failover { began: now, ended: None, writer_after: writer_after.clone() });
    });
    tell(world, EventKind::Started(Some(target)));
    world.changed();
    let world = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(takes).await;
        let now = world.now();
        world.with(|state| {
            AVAILABLE.clone_into(&mut state.cluster.status);
            state.cluster.instances.iter_mut().for_each(|instance| instance.writer = instance.name == writer_after);
            state.failovers.last_mut().unwrap().ended = Some(now);
        });
        tell(&world, if effect == Effect::Back { EventKind::PreviousWriterPromoted } else { EventKind::Completed });
        world.changed();
    });
}

/// Events are best effort: some are missing, late, or told twice.
fn tell(world: &World, kind: EventKind) {
    if world.happens(20) {
        return;
    }
    let at = world.now();
    let from = if world.happens(20) { at + SignedDuration::from_secs(30) } else { at };
    for _ in 0..if world.happens(20) { 2 } else { 1 } {
        let event = ClusterEvent { at, kind: kind.clone(), message: kind.reason().to_owned() };
        world.with(|state| state.told.push(Told { event, from }));
    }
}
