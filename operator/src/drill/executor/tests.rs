//! What the executor makes of each answer of the Kubernetes and the RDS API.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable_write_crds::DurableWritePipeline;
use durable_write_crds::conditions::drill_types;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::EVIDENCE_KEY;
use durable_write_crds::probe::{ProbeSecond, ProbeState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::*;
use crate::drill::Guarded;
use crate::drill::fixtures::{self, second};
use crate::drill::rds::{Answer, AuroraCluster, ClusterEvent};
use crate::drill::world::{Note, Object};

/// Everything that the executor sees and does.
struct State {
    objects: BTreeMap<(String, String), Value>,
    /// What the Kubernetes API answers to a write of this kind that is due next.
    failures: Vec<(&'static str, Failure)>,
    deleted: Vec<String>,
    answer: Answer,
    calls: usize,
    leads: bool,
    now: Timestamp,
    /// How much later the clocks show when an object was created.
    slow: Duration,
    instant: tokio::time::Instant,
    probe: Option<ProbeState>,
}

#[derive(Clone)]
struct World(Arc<Mutex<State>>);

impl World {
    /// With a drill whose probe is ready and whose Lease is held.
    fn ready() -> Self {
        let world = Self(Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            failures: Vec::new(),
            deleted: Vec::new(),
            answer: Answer::Accepted,
            calls: 0,
            leads: true,
            now: second(29),
            slow: Duration::ZERO,
            instant: tokio::time::Instant::now(),
            probe: None,
        })));
        world.put(&fixtures::drill());
        world.put(&fixtures::pipeline());
        world.put(&fixtures::pod(true));
        let holder = lease::Holder { uid: fixtures::UID, namespace: "shop", name: "first" };
        let name = lease::name(&fixtures::cluster().resource_id);
        match lease::standing(None, false, holder, (&settings().namespace, &name), second(28)) {
            lease::Standing::Write(lease) => world.put(&*lease),
            other => panic!("{other:?}"),
        }
        world
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn put<K: Object>(&self, object: &K) {
        self.with(|state| state.objects.insert(key(object), serde_json::to_value(object).unwrap()));
    }

    fn read<K: Object>(&self, name: &str) -> Option<K> {
        let key = (K::kind(&()).into_owned(), name.to_owned());
        self.with(|state| state.objects.get(&key).map(|value| serde_json::from_value(value.clone()).unwrap()))
    }

    fn fails(&self, kind: &'static str, failure: Failure) {
        self.with(|state| state.failures.push((kind, failure)));
    }

    fn answer(&self, kind: &str) -> Result<(), Failure> {
        self.with(|state| match state.failures.iter().position(|(of, _)| *of == kind) {
            Some(place) => Err(state.failures.remove(place).1),
            None => Ok(()),
        })
    }

    fn drill(&self) -> FailoverDrill {
        self.read("first").unwrap()
    }

    fn status(&self) -> FailoverDrillStatus {
        self.drill().status.unwrap_or_default()
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let found = self.status().conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
        (found.status, found.message)
    }

    fn ending(&self) -> (Option<Verdict>, String) {
        let complete = self.status().conditions.into_iter().find(|condition| condition.type_ == drill_types::COMPLETE).unwrap();
        assert_eq!(complete.status, "True", "{}: {}", complete.reason, complete.message);
        (self.status().verdict, complete.reason)
    }

    /// Both clocks go on to so many seconds after the drill was made.
    fn at(&self, seconds: i64) {
        self.with(|state| {
            state.instant += Duration::try_from(second(seconds).duration_since(state.now)).unwrap();
            state.now = second(seconds);
        });
    }

    /// The probe has measured, and its pod is in that phase.
    fn measured(&self, phase: &str) {
        let mut pod = fixtures::ended(&fixtures::result());
        pod.status.as_mut().unwrap().phase = Some(phase.to_owned());
        self.put(&pod);
    }

    /// After the failover, and after the probe.
    fn over(&self) {
        self.measured("Succeeded");
        self.at(91);
    }
}

fn key<K: Object>(object: &K) -> (String, String) {
    (K::kind(&()).into_owned(), object.name_any())
}

fn settings() -> Settings {
    let mut settings = crate::pipeline::fixtures::settings();
    settings.drills_min_interval = durable_write_crds::Duration::from_millis(0);
    settings
}

fn executor(world: &World) -> Executor<World, World, World> {
    Executor::new(world.clone(), world.clone(), world.clone(), settings())
}

async fn look(executor: &Executor<World, World, World>) -> Result<Next, StepError> {
    executor.look(&fixtures::drill().namespace().unwrap(), "first", fixtures::UID).await
}

impl Kubernetes for World {
    async fn get<K: Object>(&self, _: &str, name: &str) -> Result<Option<K>, Failure> {
        Ok(self.read(name))
    }

    async fn get_drill(&self, _: &str, name: &str) -> Result<Option<Guarded>, Failure> {
        let key = ("FailoverDrill".to_owned(), name.to_owned());
        Ok(self.with(|state| state.objects.get(&key).map(|value| serde_json::from_value(value.clone()).unwrap())))
    }

    async fn create<K: Object>(&self, object: &K) -> Result<K, Failure> {
        self.answer(&K::kind(&()))?;
        let mut object = object.clone();
        object.meta_mut().uid = Some("new".to_owned());
        object.meta_mut().creation_timestamp = Some(Time(self.now()));
        self.with(|state| state.instant += state.slow);
        self.put(&object);
        Ok(object)
    }

    async fn replace<K: Object>(&self, object: &K) -> Result<K, Failure> {
        self.answer(&K::kind(&()))?;
        self.put(object);
        Ok(object.clone())
    }

    async fn delete<K: Object>(&self, object: &K) -> Result<(), Failure> {
        self.with(|state| {
            state.objects.remove(&key(object));
            state.deleted.push(K::kind(&()).into_owned());
        });
        Ok(())
    }

    async fn write_status(&self, _: &FailoverDrill, status: &FailoverDrillStatus) -> Result<(), Failure> {
        self.answer("status")?;
        self.put(&FailoverDrill { status: Some(status.clone()), ..self.drill() });
        Ok(())
    }

    async fn workers(&self, _: &DurableWritePipeline) -> Result<(Vec<Pod>, bool), Failure> {
        Ok((Vec::new(), false))
    }

    async fn publish(&self, _: &FailoverDrill, _: Note) {}
}

impl Rds for World {
    async fn cluster(&self, _: &str) -> Result<Option<AuroraCluster>, String> {
        let mut cluster = fixtures::cluster();
        if self.now() > second(60) {
            cluster.instances.iter_mut().for_each(|instance| instance.writer = instance.name == "payments-3");
        }
        Ok(Some(cluster))
    }

    async fn events(&self, _: &str, _: Timestamp) -> Result<Vec<ClusterEvent>, String> {
        Ok(Vec::new())
    }

    async fn fail_over(&self, _: &str, _: &str) -> Answer {
        self.with(|state| {
            state.calls += 1;
            state.answer.clone()
        })
    }
}

impl Surroundings for World {
    fn now(&self) -> Timestamp {
        self.with(|state| state.now)
    }

    fn instant(&self) -> tokio::time::Instant {
        self.with(|state| state.instant)
    }

    async fn leads(&self) -> bool {
        self.with(|state| state.leads)
    }

    async fn probe_state(&self, _: &Pod) -> Option<ProbeState> {
        self.with(|state| state.probe.clone())
    }

    fn nonce(&self) -> String {
        "nonce".to_owned()
    }
}

#[tokio::test]
async fn a_refused_pod_or_claim_ends_the_drill_and_says_what_was_refused() {
    let quota = || Failure::Refused("exceeded quota: pods=10".to_owned());
    let pod = World::ready();
    pod.with(|state| state.objects.remove(&("Pod".to_owned(), "first-probe".to_owned())));
    pod.fails("Pod", quota());
    let claim = World::ready();
    claim.fails("ConfigMap", quota());
    for (world, what) in [(pod, "the probe's pod"), (claim, "the claim")] {
        look(&executor(&world)).await.unwrap();
        assert_eq!(world.ending(), (Some(Verdict::Error), reasons::KUBERNETES_REFUSED.to_owned()), "{what}");
        let (_, message) = world.condition(drill_types::COMPLETE);
        assert!(message.contains(what) && message.contains("exceeded quota"), "{message}");
        assert_eq!(world.with(|state| state.calls), 0);
    }
}

#[tokio::test]
async fn refused_evidence_is_kept_without_its_series_and_tried_again() {
    let world = World::ready();
    let seen = ProbeSecond { at: second(20).as_second(), accepted: 1, committed: 1, failed: 0, depth: None, writer: None };
    world.with(|state| state.probe = Some(ProbeState { seconds: vec![seen], stage: "Steady".to_owned(), message: String::new() }));
    let executor = executor(&world);
    look(&executor).await.unwrap();
    world.over();
    let refuse = || world.fails("ConfigMap", Failure::Refused("too long".to_owned()));
    refuse();
    refuse();
    look(&executor).await.unwrap_err();
    let (complete, message) = world.condition(drill_types::COMPLETE);
    assert!(complete == "False" && message.contains("refused the evidence") && message.contains("too long"), "{message}");
    refuse();
    look(&executor).await.unwrap();
    assert_eq!(world.ending(), (Some(Verdict::Pass), reasons::OBJECTIVES_MET.to_owned()));
    let kept = world.read::<ConfigMap>("first-evidence").unwrap();
    let document: Evidence = serde_json::from_str(&kept.data.unwrap()[EVIDENCE_KEY]).unwrap();
    assert!(document.series.seconds.is_empty() && document.series.missing.unwrap().contains("too long"));
    assert_eq!(document.timeline.iter().filter(|entry| entry.reason == "Concluded").count(), 1);
}

#[tokio::test]
async fn a_probe_under_a_sidecar_is_read_and_then_deleted() {
    for (phase, deleted) in [("Running", true), ("Succeeded", false)] {
        let world = World::ready();
        let executor = executor(&world);
        look(&executor).await.unwrap();
        world.measured(phase);
        // RDS is behind: something may still come of the call.
        world.at(50);
        world.put(&FailoverDrill {
            spec: durable_write_crds::drill::FailoverDrillSpec { abort: true, ..world.drill().spec },
            ..world.drill()
        });
        look(&executor).await.unwrap();
        assert!(!world.with(|state| state.deleted.contains(&"Pod".to_owned())), "{phase}: its result is still needed");
        world.at(91);
        look(&executor).await.unwrap();
        assert_eq!(world.ending().0, Some(Verdict::Aborted));
        assert_eq!(world.with(|state| state.deleted.contains(&"Pod".to_owned())), deleted, "{phase}");
    }
}

#[tokio::test]
async fn a_drill_that_cannot_be_read_keeps_no_other_from_its_end() {
    let world = World::ready();
    world.with(|state| {
        state.objects.remove(&("Pod".to_owned(), "first-probe".to_owned()));
        let newer = serde_json::json!({"metadata": {"name": "newer", "uid": "newer"}, "spec": {"pipelineRef": 7}});
        state.objects.insert(("FailoverDrill".to_owned(), "newer".to_owned()), newer);
    });
    let name = lease::name(&fixtures::cluster().resource_id);
    let holder = lease::Holder { uid: "newer", namespace: "shop", name: "newer" };
    let lease::Standing::Write(taken) = lease::standing(None, false, holder, (&settings().namespace, &name), second(28)) else { panic!() };
    world.put(&*taken);
    let executor = executor(&world);
    assert_eq!(look(&executor).await.unwrap(), Some(LATER));
    assert!(world.condition(drill_types::COMPLETE).1.contains("the drill newer"));
    world.at(890);
    look(&executor).await.unwrap();
    assert_eq!(world.ending(), (Some(Verdict::Error), reasons::ANOTHER_DRILL.to_owned()));
}

#[tokio::test]
async fn no_lease_is_taken_before_the_status_says_of_which_cluster() {
    let (lost, raced) = (World::ready(), World::ready());
    lost.fails("Lease", Failure::Unclear("lost".to_owned()));
    raced.fails("status", Failure::Conflict);
    let lease = lease::name(&fixtures::cluster().resource_id);
    for world in [&lost, &raced] {
        world.with(|state| state.objects.remove(&("Lease".to_owned(), lease.clone())));
        look(&executor(world)).await.ok();
        assert!(world.read::<Lease>(&lease).is_none());
    }
    assert_eq!(lost.status().cluster, Some(evidence::cluster_status(&fixtures::cluster())), "the Lease may be there");
    look(&executor(&raced)).await.unwrap();
    assert!(raced.read::<Lease>(&lease).is_some());
}

#[tokio::test]
async fn what_was_refused_or_not_called_is_not_said_to_be_triggered() {
    let refused = World::ready();
    refused.with(|state| state.answer = Answer::Refused("AccessDenied".to_owned()));
    let late = World::ready();
    late.with(|state| state.slow = Duration::from_secs(6));
    for (world, reason, calls) in [(refused, reasons::REFUSED, 1), (late, reasons::NOT_CALLED, 0)] {
        let executor = executor(&world);
        look(&executor).await.unwrap();
        assert_eq!(world.condition(drill_types::TRIGGERED).0, "False", "{reason}");
        look(&executor).await.unwrap();
        assert_eq!(world.ending(), (Some(Verdict::Error), reason.to_owned()));
        assert_eq!((world.condition(drill_types::TRIGGERED).0, world.with(|state| state.calls)), ("False".to_owned(), calls));
    }
}

#[tokio::test]
async fn a_process_that_may_not_lead_long_enough_says_why_the_drill_waits() {
    let world = World::ready();
    world.with(|state| state.leads = false);
    let executor = executor(&world);
    look(&executor).await.unwrap();
    let (complete, message) = world.condition(drill_types::COMPLETE);
    assert!(complete == "False" && message.contains("surely leads"), "{message}");
    assert_eq!(world.with(|state| state.calls), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_ahead_stops_no_probe_in_the_failover() {
    let world = World::ready();
    let executor = executor(&world);
    look(&executor).await.unwrap();
    world.with(|state| state.now = second(4000));
    look(&executor).await.unwrap();
    assert_eq!(world.condition(drill_types::COMPLETE).0, "False");
    assert!(world.with(|state| state.deleted.is_empty()));
}

#[tokio::test]
async fn a_status_that_meets_another_write_is_written_again() {
    let world = World::ready();
    let executor = executor(&world);
    look(&executor).await.unwrap();
    world.over();
    world.fails("status", Failure::Conflict);
    assert!(look(&executor).await.unwrap().is_some(), "it is looked at again");
    look(&executor).await.unwrap();
    assert_eq!(world.ending().0, Some(Verdict::Pass));
}

#[tokio::test]
async fn of_a_drill_that_has_ended_nothing_is_kept_in_memory() {
    let world = World::ready();
    let executor = executor(&world);
    look(&executor).await.unwrap();
    world.over();
    look(&executor).await.unwrap();
    assert_eq!(world.ending().0, Some(Verdict::Pass));
    let memory = executor.take(fixtures::UID);
    assert!(memory.done && memory.seen.timeline == Timeline::default() && memory.known.call.is_none());
}
