//! The state of the model, its chances and its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use durable_write_crds::probe::ProbeState;
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::process::Process;
use super::rds::{Effect, Failover, Told};
use super::store::Store;
use crate::drill::fixtures;
use crate::drill::rds::AuroraCluster;
use crate::drill::world::{CALL_TIMEOUT, Object, Surroundings};

static PIPELINE: LazyLock<DurableWritePipeline> = LazyLock::new(fixtures::pipeline);
static BEGIN: LazyLock<Timestamp> = LazyLock::new(|| fixtures::second(0));

/// What can go wrong by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// Nothing.
    Fair,
    /// Replies get lost or come late, RDS refuses, forgets or goes back, events are missing, late or doubled.
    Foul,
}

/// A claim that was made, and what came of its call.
pub(super) struct Claimed {
    pub(super) nonce: String,
    pub(super) process: u64,
    /// When its process began to make it.
    pub(super) began: Instant,
    pub(super) called: bool,
    pub(super) effect: Option<Effect>,
}

pub(super) struct State {
    pub(super) random: StdRng,
    pub(super) weather: Weather,
    /// Nobody is killed any more.
    pub(super) calm: bool,
    pub(super) store: Store,
    pub(super) cluster: AuroraCluster,
    /// The cluster was deleted.
    pub(super) gone: bool,
    /// The open drills in the cluster's database, with the first part of their names.
    pub(super) open: BTreeMap<String, String>,
    pub(super) failovers: Vec<Failover>,
    pub(super) told: Vec<Told>,
    pub(super) claims: Vec<Claimed>,
    /// Leases whose create came when their drill had ended: whoever comes next takes them.
    pub(super) late_leases: BTreeSet<String>,
    /// By how much the wall clock of all processes was set.
    pub(super) step: SignedDuration,
    pub(super) processes: u64,
    /// Where processes were killed.
    pub(super) kills: BTreeMap<String, usize>,
    /// What must never happen, and has.
    pub(super) broken: Vec<String>,
}

/// The world as one process knows it, or as nobody does.
#[derive(Clone)]
pub(super) struct World {
    pub(super) state: Arc<Mutex<State>>,
    /// Wakes who waits in the order in which they began to, so that a seed is always the same history.
    pub(super) changes: Arc<Notify>,
    pub(super) process: Option<Arc<Process>>,
    began: Instant,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            weather,
            calm: false,
            store: Store::default(),
            cluster: fixtures::cluster(),
            gone: false,
            open: BTreeMap::new(),
            failovers: Vec::new(),
            told: Vec::new(),
            claims: Vec::new(),
            late_leases: BTreeSet::new(),
            step: SignedDuration::ZERO,
            processes: 0,
            kills: BTreeMap::new(),
            broken: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), changes: Arc::default(), process: None, began: Instant::now() }
    }

    /// The same world as another process knows it.
    pub(super) fn seen_by(&self, process: Option<Arc<Process>>) -> Self {
        Self { process, ..self.clone() }
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.with(|state| state.random.random_range(0..end))
    }

    pub(super) fn is_foul(&self) -> bool {
        self.with(|state| state.weather == Weather::Foul)
    }

    /// True in so many of a hundred times of foul weather.
    pub(super) fn happens(&self, percent: u64) -> bool {
        self.is_foul() && self.below(100) < percent
    }

    pub(super) async fn sleep(&self, least: u64, most: u64) {
        let wait = least + self.below(most - least);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    /// Something on its way: mostly short, now and then as long as it takes to be given up.
    pub(super) async fn travel(&self) {
        if self.happens(2) { self.sleep(3000, 12_000).await } else { self.sleep(0, 150).await }
    }

    /// Waits until something is so.
    pub(super) async fn until<T>(&self, mut what: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changes.notified();
            if let Some(found) = self.with(&mut what) {
                return found;
            }
            changed.await;
        }
    }

    pub(super) fn changed(&self) {
        self.changes.notify_waiters();
    }

    pub(super) fn put<K: Object>(&self, object: K) -> K {
        let now = self.now();
        let object = self.with(|state| state.store.put(object, now));
        self.changed();
        object
    }

    pub(super) fn remove<K: Object>(&self, object: &K) {
        self.with(|state| state.store.remove(object));
        self.changed();
    }

    pub(super) fn drills(&self) -> Vec<Arc<FailoverDrill>> {
        self.with(|state| state.store.all().collect())
    }

    /// A request of a process. It takes effect also when the process is killed while it is under way. None: the reply was lost.
    pub(super) async fn request<T: Send + 'static>(
        &self,
        what: (&'static str, &'static str),
        effect: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        self.point("before", what).await;
        let world = self.seen_by(None);
        let effect = tokio::spawn(async move {
            world.travel().await;
            effect(&world)
        });
        self.point("during", what).await;
        let reply = tokio::time::timeout(CALL_TIMEOUT, effect).await;
        self.travel().await;
        self.point("after", what).await;
        reply.ok().map(Result::unwrap).filter(|_| !self.happens(2))
    }

    /// A place at which a process can be killed.
    pub(super) async fn point(&self, when: &str, (verb, what): (&str, &str)) {
        let killed = self.process.as_ref().is_some_and(|process| self.with(|state| process.is_killed(state, when, verb, what)));
        if killed {
            std::future::pending::<()>().await;
        }
    }
}

impl Surroundings for World {
    fn now(&self) -> Timestamp {
        let step = self.with(|state| if self.process.is_some() { state.step } else { SignedDuration::ZERO });
        *BEGIN + SignedDuration::try_from(self.began.elapsed()).unwrap() + step
    }

    async fn leads(&self) -> bool {
        self.travel().await;
        self.point("after", ("ask who", "leads")).await;
        !self.happens(5)
    }

    async fn probe_state(&self, _: &Pod) -> Option<ProbeState> {
        None
    }

    fn nonce(&self) -> String {
        format!("{:x}", self.with(|state| state.random.random::<u64>()))
    }
}

/// The pipeline in that namespace.
pub(super) fn pipeline(namespace: &str) -> DurableWritePipeline {
    let mut pipeline = PIPELINE.clone();
    pipeline.metadata.namespace = Some(namespace.to_owned());
    pipeline
}
