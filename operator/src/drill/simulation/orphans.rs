//! What becomes of the claim of a drill that was deleted, case by case.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::FailoverDrill;
use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{CLAIM_KEY, EVIDENCE_KEY, Evidence};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::world::{Weather, World};
use crate::drill::executor::Executor;
use crate::drill::fixtures::{self, UID};
use crate::drill::lease::{self, Holder, Standing};
use crate::drill::memory::Seen;
use crate::drill::world::Surroundings;
use crate::drill::{evidence, rds, status, step};

const NAMESPACE: &str = "shop";
/// Nothing more comes of a call after so long.
const SETTLED: Duration = Duration::from_secs(65);

struct Scene {
    world: World,
    operator: Executor<World, World, World>,
}

impl Scene {
    /// A claim whose drill is gone, and whose cluster's Lease somebody holds.
    fn new(holder: &str) -> Self {
        let (world, settings) = (World::new(0, Weather::Fair), crate::pipeline::fixtures::settings());
        world.put(evidence::claim_object(&fixtures::claim()).unwrap());
        let (name, drill) = (lease::name(&fixtures::cluster().resource_id), Holder { uid: holder, namespace: NAMESPACE, name: "first" });
        let Standing::Write(lease) = lease::standing(None, false, drill, (&settings.namespace, &name), world.now()) else { panic!() };
        world.put(*lease);
        Self { operator: Executor::new(world.clone(), world.clone(), world.clone(), settings), world }
    }

    async fn look(&self) {
        self.operator.look_after(NAMESPACE, "first-evidence").await.unwrap();
    }

    /// Looks, and looks again when nothing more can come of the call.
    async fn look_until_settled(&self) {
        self.look().await;
        tokio::time::sleep(SETTLED).await;
        self.look().await;
    }

    fn config_map(&self) -> Arc<ConfigMap> {
        self.world.with(|state| state.store.get(NAMESPACE, "first-evidence")).unwrap()
    }

    fn document(&self) -> Option<Evidence> {
        let config_map = self.config_map();
        let text = config_map.data.as_ref()?.get(EVIDENCE_KEY).filter(|_| config_map.immutable == Some(true))?;
        serde_json::from_str(text).ok()
    }

    fn leases(&self) -> usize {
        self.world.with(|state| state.store.all::<Lease>().count())
    }

    fn drill(&self, uid: &str) {
        let mut drill = fixtures::drill();
        drill.metadata.uid = Some(uid.to_owned());
        self.world.put(drill);
    }

    fn cluster(&self, change: impl FnOnce(&mut rds::AuroraCluster)) {
        self.world.with(|state| change(&mut state.cluster));
    }
}

fn say(scene: &Scene) -> Option<String> {
    scene.document().map(|evidence| format!("{} {}", evidence.verdict, evidence.reason))
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_its_drill_is_completed_when_nothing_more_can_come_of_its_call() {
    let scene = Scene::new(UID);
    scene.look().await;
    tokio::time::sleep(SETTLED / 2).await;
    scene.look().await;
    assert_eq!((say(&scene), scene.leases()), (None, 1), "the call may be under way");
    tokio::time::sleep(SETTLED / 2).await;
    scene.look().await;
    assert_eq!((say(&scene).as_deref(), scene.leases()), (Some("Aborted DrillDeleted"), 0));
    assert_eq!(scene.document().unwrap().claim, fixtures::claim());
}

#[tokio::test(start_paused = true)]
async fn it_is_completed_at_once_when_the_failover_is_over_and_not_before() {
    let scene = Scene::new(UID);
    scene.cluster(|cluster| "failing-over".clone_into(&mut cluster.status));
    scene.look_until_settled().await;
    assert_eq!(say(&scene), None, "the cluster fails over");
    let scene = Scene::new(UID);
    scene.cluster(|cluster| cluster.instances.iter_mut().for_each(|instance| instance.writer = instance.name == "payments-3"));
    scene.look().await;
    assert_eq!(say(&scene).as_deref(), Some("Aborted DrillDeleted"));
    assert!(scene.document().unwrap().timeline.iter().any(|entry| entry.reason == "WriterChanged"), "the report tells of the failover");
}

#[tokio::test(start_paused = true)]
async fn the_claim_of_a_drill_that_is_there_is_left_to_it() {
    let scene = Scene::new(UID);
    scene.drill(UID);
    scene.look_until_settled().await;
    assert_eq!((say(&scene), scene.leases()), (None, 1));
    // Deleted and made again: another drill of that name.
    let scene = Scene::new(UID);
    scene.drill("another");
    scene.look_until_settled().await;
    assert_eq!(say(&scene).as_deref(), Some("Aborted DrillDeleted"));
    let other = scene.world.with(|state| state.store.get::<FailoverDrill>(NAMESPACE, "first")).unwrap();
    assert_eq!(other.status, None, "it has nothing to do with it");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_comes_when_its_drill_has_ended_is_completed_by_the_drill() {
    let scene = Scene::new(UID);
    let claim = scene.config_map();
    scene.world.remove(&*claim);
    let mut drill = fixtures::drill();
    drill.spec.abort = true;
    let aborted = step::ending(Verdict::Aborted, reasons::ABORTED, "why");
    drill.status = Some(status::ended(&drill, &aborted, None, &Seen::default(), scene.world.now()));
    scene.world.put(drill);
    let look = || scene.operator.look(NAMESPACE, "first", UID);
    assert_eq!(look().await.unwrap(), None, "nothing is left to do");
    scene.world.put(Arc::unwrap_or_clone(claim));
    assert_eq!(look().await.unwrap(), None);
    scene.look().await;
    let drill = || scene.world.with(|state| state.store.get::<FailoverDrill>(NAMESPACE, "first")).unwrap();
    assert!(!step::has_ended(&drill()), "its change makes the controller look at it again and again");
    tokio::time::sleep(SETTLED).await;
    assert_eq!(look().await.unwrap(), None);
    assert_eq!(say(&scene).as_deref(), Some("Aborted AbortRequested"));
    assert!(drill().status.as_ref().unwrap().evidence.is_some(), "the drill tells of its evidence");
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_another_drill_stays() {
    let scene = Scene::new("another");
    scene.look_until_settled().await;
    assert_eq!((say(&scene).as_deref(), scene.leases()), (Some("Aborted DrillDeleted"), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_complete_or_cannot_be_read_is_left_alone() {
    let scene = Scene::new(UID);
    scene.look_until_settled().await;
    let complete = scene.config_map();
    scene.look_until_settled().await;
    assert_eq!(scene.config_map(), complete);

    let scene = Scene::new(UID);
    let mut unreadable = Arc::unwrap_or_clone(scene.config_map());
    unreadable.data.as_mut().unwrap().insert(CLAIM_KEY.to_owned(), "{}".to_owned());
    scene.world.put(unreadable);
    let before = scene.config_map().resource_version();
    scene.look_until_settled().await;
    assert_eq!((scene.config_map().resource_version(), scene.leases()), (before, 1));
    scene.operator.look_after(NAMESPACE, "there-is-none").await.unwrap();
}
