//! The controller of `FailoverDrill`: dereference (all reads) → `next_step` (pure) → executor → status. The call for a failover is made in one
//! place only, right after the create of the claim has succeeded, and never after one was read.

mod build;
mod dereference;
mod evidence;
mod executor;
#[cfg(test)]
mod fixtures;
mod kubernetes;
mod lease;
mod memory;
mod observed;
mod orphans;
mod passed;
mod preflight;
mod rds;
mod series;
#[cfg(test)]
mod simulation;
mod status;
mod step;
mod timeline;
mod verdict;
mod world;

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::Phase;
use durable_write_crds::evidence::LABEL;
use durable_write_crds::probe::ProbeState;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Error as ControllerError, ReconcileRequest, trigger_self};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, applier, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};

use crate::leader;
use crate::metrics::{DrillMetrics, Metrics};
use crate::pipeline::{self, names::MANAGER};
use crate::settings::Settings;
use crate::workers::Poller;
use executor::{Executor, StepError};
use kubernetes::KubernetesApi;
use rds::RdsApi;
use world::Surroundings;

/// A drill, or the reason why the object could not be read as one.
pub(crate) type Guarded = DeserializeGuard<FailoverDrill>;

/// How many drills are looked at side by side.
const CONCURRENCY: u16 = 32;
/// How often claims are looked at that nobody else may look after.
const ORPHANS: Duration = Duration::from_secs(5);
/// The longest wait after a failed look: a failover is not waited for by anybody else.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The controller of drills, which has not begun.
pub(crate) struct Controller {
    context: Arc<Context>,
    triggers: BoxStream<'static, Result<ReconcileRequest<Guarded>, watcher::Error>>,
    claims: BoxStream<'static, ()>,
}

struct Context {
    executor: Executor<KubernetesApi, RdsApi, Real>,
    drills: Store<Guarded>,
    claims: Store<ConfigMap>,
}

/// What others may see of the drills.
pub(crate) struct View(Arc<Context>);

impl View {
    /// True once the watches have listed what is there.
    pub(crate) fn ready(&self) -> bool {
        let drills = self.0.drills.wait_until_ready().now_or_never().is_some_and(|result| result.is_ok());
        drills && self.0.claims.wait_until_ready().now_or_never().is_some_and(|result| result.is_ok())
    }

    /// What the drills and their evidence say in metrics; of pipelines, while drills are switched on.
    pub(crate) fn metrics(&self, pipelines: &[Arc<pipeline::Guarded>]) -> DrillMetrics {
        if !self.ready() {
            return DrillMetrics::default();
        }
        let drills = self.0.drills.state();
        let pipelines = pipelines.iter().filter_map(|guard| guard.0.as_ref().ok()).filter(|_| self.0.executor.settings.drills_enabled);
        let ended = drills.iter().filter_map(|guard| guard.0.as_ref().ok());
        let running = drills.iter().filter(|guard| is_running(guard)).count();
        DrillMetrics { running, ..passed::metrics(ended, &self.0.claims.state(), pipelines) }
    }
}

/// The real surroundings.
struct Real {
    client: Client,
    settings: Settings,
    poller: Poller,
}

impl Surroundings for Real {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn leads(&self) -> bool {
        leader::leads_for_long(&self.client, &self.settings).await
    }

    async fn probe_state(&self, pod: &Pod) -> Option<ProbeState> {
        let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        self.poller.ask_probe(address).await.ok()
    }

    fn nonce(&self) -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

impl Controller {
    /// A controller that begins to watch when it is run.
    pub(crate) fn new(client: &Client, rds: &aws_sdk_rds::Client, settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let (drills, writer) = store();
        let watched = reflector(writer, watcher(Api::<Guarded>::all(client.clone()), watcher::Config::default()));
        let triggers = trigger_self(logged(watched, "failoverdrills"), ()).boxed();
        let (claims, writer) = store();
        let selector = watcher::Config::default().labels(&format!("{LABEL}=true"));
        let watched = reflector(writer, watcher(Api::<ConfigMap>::all(client.clone()), selector).modify(passed::shorten));
        let claims_stream = logged(watched, "configmaps").map(drop).boxed();
        let kubernetes =
            KubernetesApi { client: client.clone(), recorder: Recorder::new(client.clone(), Reporter::from(MANAGER)), metrics };
        let surroundings = Real { client: client.clone(), settings: settings.clone(), poller: Poller::new() };
        let executor = Executor::new(kubernetes, RdsApi::new(rds), surroundings, settings.clone());
        Self { context: Arc::new(Context { executor, drills, claims }), triggers, claims: claims_stream }
    }

    pub(crate) fn view(&self) -> View {
        View(Arc::clone(&self.context))
    }

    /// What the watch of drills holds.
    pub(crate) fn drills(&self) -> Store<Guarded> {
        self.context.drills.clone()
    }

    /// Runs until `shutdown`, then finishes the looks that have begun.
    ///
    /// # Errors
    /// The loop ended by itself.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Clone + Send + 'static) -> anyhow::Result<()> {
        let Self { context, triggers, claims } = self;
        let config = Config::default().concurrency(CONCURRENCY);
        let queue = triggers.take_until(shutdown.clone());
        let looks = applier(
            |guard, context| reconcile(guard, context).boxed(),
            after_failure,
            Arc::clone(&context),
            context.drills.clone(),
            queue,
            config,
        )
        .for_each(|result| {
            if let Err(ControllerError::ObjectNotFound(_)) = result {
                forget_the_gone(&context);
            }
            std::future::ready(())
        });
        let orphans = async {
            tokio::select! {
                () = claims.for_each(std::future::ready) => {}
                () = look_after_orphans(&context) => {}
                () = shutdown.clone() => {}
            }
        };
        futures::join!(looks, orphans);
        anyhow::ensure!(shutdown.now_or_never().is_some(), "the controller of drills ended by itself: start the operator again");
        Ok(())
    }
}

/// The objects of a watch that changed or went; errors are logged and the watch begins again after a while.
fn logged<K: kube::Resource + Clone>(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>,
    kind: &'static str,
) -> impl futures::Stream<Item = Result<K, watcher::Error>> {
    stream.default_backoff().touched_objects().filter(move |item| {
        if let Err(error) = item {
            tracing::warn!(kind, %error, "a watch failed and begins again; if it says forbidden or not found, install the chart's roles and CRDs");
        }
        std::future::ready(item.is_ok())
    })
}

async fn reconcile(guard: Arc<Guarded>, context: Arc<Context>) -> Result<Action, StepError> {
    let (namespace, name, uid) = (guard.namespace().unwrap_or_default(), guard.name_any(), guard.uid().unwrap_or_default());
    if let Err(invalid) = &guard.0 {
        tracing::warn!(namespace, name, error = invalid.error, "this version of the operator cannot read the drill, which stays as it is");
        return Ok(Action::await_change());
    }
    let next = context.executor.look(&namespace, &name, &uid).await?;
    Ok(next.map_or_else(Action::await_change, Action::requeue))
}

fn after_failure(guard: Arc<Guarded>, error: &StepError, context: Arc<Context>) -> Action {
    let failures = context.executor.failures(&guard.uid().unwrap_or_default());
    let wait = Duration::from_millis(500).saturating_mul(1 << failures.saturating_sub(1).min(5)).min(LONGEST_WAIT);
    let (name, namespace) = (guard.name_any(), guard.namespace().unwrap_or_default());
    tracing::warn!(name, namespace, %error, failures, "a step of a drill failed; it is tried again");
    Action::requeue(wait.mul_f64(rand::random_range(0.9..1.1)))
}

fn forget_the_gone(context: &Context) {
    let drills = context.drills.state();
    // An open claim may be an orphan's, whose memory is kept under its drill's uid.
    let orphans = !context.claims.state_filter(is_open).is_empty();
    context.executor.keep(|uid| orphans || drills.iter().any(|guard| guard.meta().uid.as_deref() == Some(uid)));
}

async fn look_after_orphans(context: &Context) {
    loop {
        tokio::time::sleep(ORPHANS).await;
        for claim in context.claims.state_filter(is_open) {
            let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
            if let Err(error) = context.executor.look_after(&namespace, &name).await {
                tracing::warn!(namespace, name, %error, "the evidence of a drill that was deleted or had ended could not be completed; it is tried again");
            }
        }
    }
}

fn is_open(claim: &ConfigMap) -> bool {
    claim.immutable != Some(true)
}

/// True while a drill measures, or is about to.
pub(crate) fn is_running(guard: &Guarded) -> bool {
    let Ok(drill) = &guard.0 else { return false };
    let phase = drill.status.as_ref().and_then(|status| status.phase);
    !step::has_ended(drill) && !matches!(phase, None | Some(Phase::Pending | Phase::Concluded))
}
