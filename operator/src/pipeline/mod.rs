//! The controller of `DurableWritePipeline`: dereference (all reads) → validate (pure) → build (pure) → apply → status (pure, then one
//! write if it changed).

mod apply;
mod build;
mod dereference;
#[cfg(test)]
pub(crate) mod fixtures;
mod memory;
pub(crate) mod names;
mod rivals;
pub(crate) mod rollouts;
mod status;
mod stores;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::DurableWritePipeline;
use durable_write_crds::conditions::{reasons, types};
use durable_write_crds::wire::Topology;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodSpec;
use kube::api::{Api, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::runtime::{applier, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::time::Instant;

use crate::aurora::{Clusters, Lookup};
use crate::drill;
use crate::metrics::{Metrics, Outcome};
use crate::settings::Settings;
use crate::workers::Poller;
use apply::{Applier, ApplyError};
use memory::{Memories, Memory};
use rivals::Rivals;
use rollouts::{AT_ONCE, Rollouts};
use status::{Note, Observed};
pub(crate) use stores::Guarded;
use stores::{Stores, Triggers};
use validate::{Accepted, Children, Refusal};

pub(crate) use status::two_figures;

/// How often a pipeline is looked at when nothing changes in Kubernetes: workers and RDS do not call.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often numbers are written into a status at the most.
const NUMBERS_INTERVAL: Duration = Duration::from_secs(30);
/// Changes that come close together are looked at once.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How many pipelines are looked at side by side.
const CONCURRENCY: u16 = 32;
/// The longest wait after a failed look.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What every look at a pipeline uses.
struct Context {
    client: Client,
    settings: Settings,
    stores: Stores,
    drills: Store<drill::Guarded>,
    clusters: Clusters,
    poller: Poller,
    memories: Memories,
    rollouts: Rollouts,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

/// What others may see of the pipelines.
pub(crate) struct View(Arc<Context>);

impl View {
    /// True once the watches have listed what is there.
    pub(crate) fn ready(&self) -> bool {
        self.0.stores.ready().now_or_never().is_some_and(|result| result.is_ok())
    }

    /// The pipelines that are there.
    pub(crate) fn all(&self) -> Vec<Arc<Guarded>> {
        self.0.stores.pipelines.state()
    }

    /// The status of the condition Ready of each pipeline.
    pub(crate) fn conditions_ready(&self) -> Vec<String> {
        let ready = |guard: &Arc<Guarded>| {
            let conditions = &guard.0.as_ref().ok()?.status.as_ref()?.conditions;
            conditions.iter().find(|condition| condition.type_ == types::READY).map(|condition| condition.status.clone())
        };
        self.0.stores.pipelines.state().iter().map(|guard| ready(guard).unwrap_or_else(|| "Unknown".to_owned())).collect()
    }
}

/// A pod that has what the workers of `pipeline` have: identity, mounts, environment. The caller says what it runs.
///
/// # Errors
/// The manifest could not be written.
pub(crate) fn pod_like_workers(pipeline: &DurableWritePipeline, settings: &Settings) -> Result<PodSpec, build::BuildError> {
    // Where the instances are stands in the live topology alone.
    let nowhere = Topology { writer: String::new(), instances: Vec::new(), resource_id: None };
    let accepted = validate::validate(pipeline, &Rivals::default(), None, Some(&nowhere));
    build::pod_like_workers(&accepted.map_err(|refusal| build::BuildError::from(refusal.message))?, settings)
}

/// Why a look at a pipeline failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the watches ended")]
    Stores(#[from] kube::runtime::reflector::store::WriterDropped),
    #[error("the object cannot be read: {0}")]
    Unreadable(#[source] Box<InvalidObject>),
    #[error(transparent)]
    Build(#[from] build::BuildError),
    #[error("children: {0}")]
    Apply(#[from] ApplyError),
    #[error("status: {0}")]
    Status(#[source] Box<kube::Error>),
}

/// The controller of pipelines, which has not begun.
pub(crate) struct Controller {
    context: Arc<Context>,
    triggers: Triggers,
}

impl Controller {
    /// A controller that begins to watch when it is run. No version of the workers is rolled out while one of `drills` runs.
    pub(crate) fn new(
        client: Client,
        rds: aws_sdk_rds::Client,
        settings: Settings,
        metrics: Arc<Metrics>,
        drills: Store<drill::Guarded>,
    ) -> Self {
        let (stores, triggers) = Stores::watch(&client);
        let context = Arc::new(Context {
            recorder: Recorder::new(client.clone(), Reporter::from(names::MANAGER)),
            client,
            stores,
            drills,
            clusters: Clusters::new(rds),
            poller: Poller::new(),
            memories: Memories::default(),
            rollouts: Rollouts::default(),
            metrics,
            settings,
        });
        Self { context, triggers }
    }

    /// What others may see.
    pub(crate) fn view(&self) -> View {
        View(Arc::clone(&self.context))
    }

    /// Runs until `shutdown`, then finishes the looks that have begun.
    ///
    /// # Errors
    /// The loop ended by itself.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Clone + Send + 'static) -> anyhow::Result<()> {
        let Self { context, triggers } = self;
        let queue = triggers.take_until(shutdown.clone());
        let config = Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY);
        applier(
            |guard, context| reconcile(guard, context).boxed(),
            after_failure,
            Arc::clone(&context),
            context.stores.pipelines.clone(),
            queue,
            config,
        )
        .for_each(|result| {
            finished(&context, result);
            std::future::ready(())
        })
        .await;
        anyhow::ensure!(shutdown.now_or_never().is_some(), "the controller of pipelines ended by itself: start the operator again");
        Ok(())
    }
}

async fn reconcile(guard: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    context.stores.ready().await?;
    // Whether a drill runs is asked at each look.
    context.drills.wait_until_ready().await?;
    let uid = guard.uid().unwrap_or_default();
    let mut memory = context.memories.take(&uid);
    let started = Instant::now();
    let result = match &guard.0 {
        Err(invalid) => Err(tell_unreadable(&guard, invalid, &mut memory, &context).await),
        // What is being deleted is left to the garbage collector.
        Ok(pipeline) if pipeline.metadata.deletion_timestamp.is_some() => Ok(Action::await_change()),
        Ok(pipeline) => look(pipeline, &mut memory, &context).await,
    };
    if result.is_ok() {
        memory.failures = 0;
    }
    context.memories.put(&uid, memory);
    context.metrics.observe(started.elapsed(), outcome(&result));
    result
}

async fn look(pipeline: &DurableWritePipeline, memory: &mut Memory, context: &Context) -> Result<Action, Error> {
    let found = dereference::dereference(pipeline, &context.stores, &context.clusters, &context.poller).await;
    let known = found.children.topology(&pipeline.name_any());
    let verdict = validate::validate(pipeline, &found.rivals, found.cluster.as_ref(), known.as_ref());
    let applied = apply(pipeline, &verdict, &found.children, memory, context).await;
    let late = applied.as_ref().err().and_then(|error| match error {
        Error::Apply(error) => error.refusal(),
        _ => None,
    });
    let cluster_trouble = cluster_trouble(pipeline, found.cluster.as_ref());
    let observed = Observed {
        pipeline,
        refusal: verdict.as_ref().err().or(late.as_ref()),
        cluster_trouble: cluster_trouble.as_ref(),
        cluster: found.cluster.as_ref(),
        deployment: applied.as_ref().ok().and_then(Option::as_ref).or(found.children.deployment()),
        held_back: memory.held_back.is_some(),
        answers: &found.answers,
        sharing: found.rivals.sharing,
        now: Timestamp::now(),
    };
    write_status(&observed, memory, context).await?;
    applied?;
    Ok(Action::requeue(jittered(INTERVAL)))
}

async fn apply(
    pipeline: &DurableWritePipeline,
    verdict: &Result<Accepted, Refusal>,
    live: &dereference::LiveChildren,
    memory: &mut Memory,
    context: &Context,
) -> Result<Option<Deployment>, Error> {
    let (namespace, uid) = (pipeline.namespace().unwrap_or_default(), pipeline.uid().unwrap_or_default());
    let held_back = memory.held_back.take();
    let mut applier =
        Applier { client: &context.client, metrics: &context.metrics, namespace: &namespace, owner: &uid, applied: &mut memory.applied };
    match verdict {
        Ok(accepted) => {
            let mut desired = build::build(accepted, &context.settings)?;
            let all = || context.stores.deployments.state();
            let at_once = if context.drills.state().iter().any(|guard| drill::is_running(guard)) { 0 } else { AT_ONCE };
            memory.held_back = context.rollouts.hold_back(&uid, &mut desired.deployment, held_back.as_deref(), at_once, all);
            return Ok(applier.apply(&desired, live).await.inspect_err(|_| context.rollouts.forget(&uid))?);
        }
        Err(Refusal { children: Children::Remove, .. }) => applier.remove_all(live).await?,
        Err(Refusal { children: Children::Keep, .. }) => {}
    }
    Ok(None)
}

/// An Aurora cluster that is gone while its last known endpoints stay in use.
fn cluster_trouble(pipeline: &DurableWritePipeline, cluster: Option<&Lookup>) -> Option<Refusal> {
    let identifier = &pipeline.spec.database.aurora.as_ref()?.cluster_identifier;
    cluster
        .filter(|lookup| matches!(lookup, Lookup::Missing | Lookup::OtherEngine(_)))
        .map(|lookup| validate::cluster_trouble(identifier, lookup))
}

async fn write_status(observed: &Observed<'_>, memory: &mut Memory, context: &Context) -> Result<(), Error> {
    let pipeline = observed.pipeline;
    let version = pipeline.resource_version();
    let previous = match &memory.written {
        Some((made_from, status)) if *made_from == version => status.clone(),
        _ => pipeline.status.clone().unwrap_or_default(),
    };
    let due = memory.numbers_at.is_none_or(|at| at.elapsed() >= NUMBERS_INTERVAL);
    let Some(next) = status::change(&previous, status::next(&previous, observed), due) else { return Ok(()) };
    let api = Api::<DurableWritePipeline>::namespaced(context.client.clone(), &pipeline.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "apiVersion": DurableWritePipeline::api_version(&()),
        "kind": DurableWritePipeline::kind(&()),
        "metadata": {"uid": pipeline.uid()},
        "status": next,
    });
    match api.patch_status(&pipeline.name_any(), &PatchParams::apply(names::MANAGER).force(), &Patch::Apply(&patch)).await {
        Ok(_) => {}
        // Deleted meanwhile, or deleted and made again: the watch will say so.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(()),
        Err(error) => return Err(Error::Status(Box::new(error))),
    }
    context.metrics.count_write("DurableWritePipeline");
    memory.numbers_at = Some(Instant::now());
    for note in status::notes(&previous.conditions, &next.conditions) {
        tell(pipeline, note, context).await;
    }
    memory.written = Some((version, next));
    Ok(())
}

/// Publishes an Event. One that cannot be published is lost: the status says the same.
async fn tell(object: &impl Resource<DynamicType = ()>, note: Note, context: &Context) {
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason,
        note: Some(note.message.chars().take(1000).collect()),
        action: note.action,
        secondary: None,
    };
    match context.recorder.publish(&event, &object.object_ref(&())).await {
        Ok(()) => context.metrics.count_write("Event"),
        Err(error) => tracing::warn!(%error, reason = event.reason, "an event could not be published"),
    }
}

/// Tells once of an object that this version of the operator cannot read; its children stay.
async fn tell_unreadable(guard: &Guarded, invalid: &InvalidObject, memory: &mut Memory, context: &Context) -> Error {
    if memory.unreadable.as_ref() != Some(&invalid.error) {
        let message = format!("this version of the operator cannot read the object, its workers stay as they are: {}", invalid.error);
        let note = Note { warning: true, reason: reasons::INVALID_SPEC.to_owned(), message, action: "Read".to_owned() };
        tell(guard, note, context).await;
        memory.unreadable = Some(invalid.error.clone());
    }
    Error::Unreadable(Box::new(invalid.clone()))
}

/// Waits longer after each failure of the same pipeline.
fn after_failure(guard: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    if matches!(error, Error::Unreadable(_)) {
        return Action::await_change();
    }
    let failures = context.memories.count_failure(&guard.uid().unwrap_or_default());
    let wait = Duration::from_secs(1).saturating_mul(1 << (failures - 1).min(9)).min(LONGEST_WAIT);
    let (name, namespace) = (guard.name_any(), guard.namespace().unwrap_or_default());
    tracing::warn!(name, namespace, %error, failures, "a pipeline could not be brought to its spec; it is tried again");
    Action::requeue(jittered(wait))
}

/// Some looks find that the pipeline is gone: then it is forgotten.
fn finished<T>(context: &Context, result: Result<T, ControllerError<Error, watcher::Error>>) {
    match result {
        Err(ControllerError::ObjectNotFound(_)) => {
            let pipelines = context.stores.pipelines.state();
            context.memories.keep(|uid| pipelines.iter().any(|guard| guard.meta().uid.as_deref() == Some(uid)));
        }
        Err(ControllerError::QueueError(error)) => tracing::warn!(%error, "a watch failed"),
        Err(ControllerError::RunnerError(error)) => tracing::error!(%error, "the controller's loop failed"),
        Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
    }
}

fn outcome(result: &Result<Action, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(Error::Stores(_)) => Outcome::Ended,
        Err(Error::Unreadable(_)) => Outcome::Unreadable,
        Err(Error::Build(_) | Error::Apply(_)) => Outcome::ChildrenFailed,
        Err(Error::Status(_)) => Outcome::StatusFailed,
    }
}

/// Up to a tenth shorter or longer, so that pipelines do not march in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.9..1.1))
}
