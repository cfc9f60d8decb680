//! Histories: what processes and people do, until nothing is left to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::Verdict;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};

use super::judge;
use super::process;
use super::world::{State, Weather, World, pipeline};
use crate::drill::fixtures;
use crate::drill::step::has_ended;
use crate::settings::Settings;

/// The namespaces of the two drills, whose pipelines write to the same cluster.
const NAMESPACES: [&str; 2] = ["shop", "till"];
/// How long processes are killed.
const CHAOS: Duration = Duration::from_secs(300);
/// In so long every drill ends when nobody is killed.
const CALM: Duration = Duration::from_secs(2400);
/// And in so long after that every Lease is given free.
const SETTLED: Duration = Duration::from_secs(30);

/// What came of a history that kept every promise.
pub(super) struct Ended {
    pub(super) kills: BTreeMap<String, usize>,
    /// Of each claim.
    pub(super) verdicts: Vec<(Verdict, String)>,
}

/// Two drills of one cluster, one operator or two that are killed again and again, and people.
pub(super) async fn history(seed: u64) -> Result<Ended, String> {
    let (world, settings) = (world(seed, Weather::Foul, &NAMESPACES), settings());
    // Some histories have quick deaths only, and some are nearly quiet.
    let most = [30, 200, 1000, 4000][usize::try_from(world.below(4)).unwrap()];
    let several = world.below(3) > 0;
    let operators = async {
        let other = async {
            if several {
                killed_again_and_again(&world, most, &settings).await
            }
        };
        tokio::join!(killed_again_and_again(&world, most, &settings), other);
    };
    let chaos = async {
        let people = async {
            people(&world).await;
            world.until(all_ended).await;
        };
        tokio::time::timeout(CHAOS, people).await.ok();
        world.with(|state| (state.calm, state.weather) = (true, Weather::Fair));
    };
    to_the_end(&world, operators, chaos).await
}

/// One drill in fair weather, whose operator is killed once, at that await; another takes its place.
pub(super) async fn killed_once(seed: u64, awaits: u64) -> Result<Ended, String> {
    let (world, settings) = (world(seed, Weather::Fair, &NAMESPACES[..1]), settings());
    let operator = async {
        process::run(&world, awaits, &settings).await;
        process::run(&world, u64::MAX, &settings).await;
    };
    to_the_end(&world, operator, async {}).await
}

/// One drill in fair weather: when its call has taken effect the operator is killed, and the clock set before another takes its place.
pub(super) async fn clock_set(seed: u64, by: SignedDuration) -> Result<Ended, String> {
    let (world, settings) = (world(seed, Weather::Fair, &NAMESPACES[..1]), settings());
    let operator = async {
        tokio::select! {
            biased;
            () = world.until(|state| state.claims.iter().any(|claim| claim.effect.is_some()).then_some(())) => {}
            () = process::run(&world, u64::MAX, &settings) => {}
        }
        world.with(|state| state.step = by);
        process::run(&world, u64::MAX, &settings).await;
    };
    to_the_end(&world, operator, async {}).await
}

/// Two drills of one cluster in fair weather, and two releases of the operator, each with Leases of its own.
pub(super) async fn two_releases(seed: u64) -> Result<Ended, String> {
    let world = world(seed, Weather::Fair, &NAMESPACES);
    let (one, other) = (settings(), Settings { namespace: "another-release".to_owned(), ..settings() });
    let operators = async {
        tokio::join!(process::run(&world, u64::MAX, &one), process::run(&world, u64::MAX, &other));
    };
    to_the_end(&world, operators, async {}).await
}

/// A world with a drill in each of these namespaces, all of one cluster.
fn world(seed: u64, weather: Weather, namespaces: &[&str]) -> World {
    let world = World::new(seed, weather);
    for (namespace, number) in namespaces.iter().zip(1..) {
        world.put(pipeline(namespace));
        world.put(new_drill(namespace, number));
    }
    world
}

/// Lets time pass until all drills have ended, at first as long as `before` takes, and judges.
async fn to_the_end(world: &World, operators: impl Future<Output = ()>, before: impl Future<Output = ()>) -> Result<Ended, String> {
    let time = async {
        before.await;
        tokio::time::timeout(CALM, world.until(all_ended)).await.ok();
        tokio::time::sleep(SETTLED).await;
    };
    tokio::select! {
        biased;
        () = operators => {}
        () = time => {}
    }
    judge::judge(world)
}

fn settings() -> Settings {
    let mut settings = crate::pipeline::fixtures::settings();
    settings.drills_min_interval = durable_write_crds::Duration::from_millis(0);
    settings
}

async fn killed_again_and_again(world: &World, most: u64, settings: &Settings) {
    loop {
        process::run(world, 1 + world.below(most), settings).await;
        world.sleep(0, 3000).await;
    }
}

fn new_drill(namespace: &str, number: u64) -> FailoverDrill {
    let mut drill = fixtures::drill();
    drill.metadata.namespace = Some(namespace.to_owned());
    drill.metadata.uid = Some(format!("0f8fad5b-d9cb-469f-a165-{number:012}"));
    drill.metadata.creation_timestamp = None;
    drill
}

/// What people do to drills while they run.
async fn people(world: &World) {
    world.sleep(0, 60_000).await;
    let Some(drill) = world.with(|state| state.store.get::<FailoverDrill>(NAMESPACES[0], "first")) else { return };
    let mut drill = Arc::unwrap_or_clone(drill);
    match world.below(9) {
        0 => world.remove(&drill),
        1 => {
            world.remove(&drill);
            world.sleep(0, 4000).await;
            world.put(new_drill(NAMESPACES[0], 3));
        }
        // From a backup, which has no status.
        2 => {
            drill.status = None;
            drill.metadata.uid = Some("0f8fad5b-d9cb-469f-a165-000000000004".to_owned());
            world.put(drill);
        }
        3 => {
            drill.spec.abort = true;
            world.put(drill);
        }
        4 => world.with(|state| state.step = SignedDuration::from_secs(3600)),
        5 => {
            let probe = world.with(|state| state.store.get::<Pod>(NAMESPACES[0], "first-probe"));
            probe.iter().for_each(|probe| world.remove(&**probe));
        }
        6 => world.with(|state| state.gone = true),
        _ => {}
    }
}

/// Nothing is left to be done but to give Leases free.
pub(super) fn all_ended(state: &mut State) -> Option<()> {
    let ended = state.store.all::<FailoverDrill>().all(|drill| has_ended(&drill));
    let complete = state.store.all::<ConfigMap>().all(|claim| claim.immutable == Some(true));
    (ended && complete && state.claims.len() == state.store.all::<ConfigMap>().count()).then_some(())
}
