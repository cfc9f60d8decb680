//! Whether a drill may go on towards its trigger. Pure; asked again at each step until the claim, so that what changed meanwhile counts.

use durable_write_crds::conditions::{drill_reasons as reasons, reasons as pipeline_reasons, types};
use durable_write_crds::evidence::PipelineIdentity;
use durable_write_crds::{DurableWritePipeline, Duration, FailoverDrill};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::observed::{ClusterSeen, Observed, Probe};
use super::rds::{AVAILABLE, AuroraCluster, Instance};
use super::step::{Ending, error};
use crate::aurora::ENGINE;
use crate::settings::Settings;

/// The tag of an Aurora cluster that opens it to drills of one Kubernetes cluster.
const TAG_PREFIX: &str = "durablewrite.dev/drills.";
/// The value that opens it to all namespaces.
const ALL_NAMESPACES: &str = "@all";
/// So long an outage of the pipeline is waited for: its status is up to 10 s old, and workers that were idle in a failover find it out, and a
/// writer at once, only by the probe's first message.
const FLOWS_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What was found fit, and is pinned.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    pub(super) cluster: AuroraCluster,
    pub(super) writer: String,
    pub(super) target: String,
    pub(super) pipeline: DurableWritePipeline,
    pub(super) identity: PipelineIdentity,
}

/// Why a drill does not go on.
#[derive(Clone, Debug)]
pub(super) enum Hindrance {
    /// It ends.
    End(Ending),
    /// The RDS API does not answer: it may again.
    Unknown(String),
    /// The pipeline is in an outage that began just now.
    Outage(String),
}

impl From<Ending> for Hindrance {
    fn from(ending: Ending) -> Self {
        Self::End(ending)
    }
}

/// The longest interval that counts: RDS keeps its events for 14 days.
pub(super) fn min_interval(drill: &FailoverDrill, settings: &Settings) -> Duration {
    drill.spec.preflight.min_interval.map_or(settings.drills_min_interval, |asked| asked.max(settings.drills_min_interval))
}

/// The most that the target may lag.
pub(super) fn max_replica_lag(drill: &FailoverDrill, settings: &Settings) -> Duration {
    drill.spec.preflight.max_replica_lag.map_or(settings.drills_max_replica_lag, |asked| asked.min(settings.drills_max_replica_lag))
}

/// Checks what no other drill changes: whether this one may be run on the cluster at all.
pub(super) fn entitled<'a>(
    drill: &FailoverDrill,
    observed: &'a Observed,
    settings: &Settings,
    now: Timestamp,
) -> Result<&'a AuroraCluster, Hindrance> {
    if !settings.drills_enabled {
        return Err(error(reasons::DRILLS_DISABLED, "the platform team has switched drills off: the chart's value drills.enabled").into());
    }
    if let Some(not_after) = drill.spec.not_after.as_ref().filter(|not_after| now > not_after.0) {
        return Err(error(reasons::TOO_LATE, format!("notAfter, {}, has passed: create a new drill", not_after.0)).into());
    }
    let cluster = cluster(pipeline(drill, observed)?, observed)?;
    opened(drill, cluster, settings)?;
    Ok(cluster)
}

/// Checks everything but the Lease.
pub(super) fn check(drill: &FailoverDrill, observed: &Observed, settings: &Settings, now: Timestamp) -> Result<Pins, Hindrance> {
    let cluster = entitled(drill, observed, settings, now)?;
    let pipeline = pipeline(drill, observed)?;
    ready(pipeline, observed, now)?;
    if !cluster.is_available() {
        let message = format!("the cluster {} is {}, not available: wait, and create a new drill", cluster.identifier, cluster.status);
        return Err(error(reasons::CLUSTER_NOT_AVAILABLE, message).into());
    }
    if let Some(probe) = observed.probe.ours() {
        unchanged(probe, pipeline, cluster)?;
    }
    let writer =
        cluster.writer().ok_or_else(|| Hindrance::Unknown(format!("the RDS API names no writer of the cluster {}", cluster.identifier)))?;
    readers(drill, cluster, settings)?;
    let target = target(drill, cluster, observed.probe.ours())?;
    interval(drill, observed, settings, now)?;
    Ok(Pins { cluster: cluster.clone(), writer: writer.to_owned(), target, pipeline: pipeline.clone(), identity: identity(pipeline) })
}

/// Which pipeline, and which state of its spec.
pub(super) fn identity(pipeline: &DurableWritePipeline) -> PipelineIdentity {
    PipelineIdentity {
        name: pipeline.name_any(),
        uid: pipeline.uid().unwrap_or_default(),
        generation: pipeline.metadata.generation.unwrap_or_default(),
        queue: pipeline.spec.queue.queue_name().to_owned(),
        table: format!("{}.{}", pipeline.spec.target.table.schema, pipeline.spec.target.table.name),
    }
}

fn pipeline<'a>(drill: &FailoverDrill, observed: &'a Observed) -> Result<&'a DurableWritePipeline, Ending> {
    let name = &drill.spec.pipeline_ref.name;
    let pipeline = observed.pipeline.as_ref().filter(|pipeline| pipeline.metadata.deletion_timestamp.is_none());
    pipeline.ok_or_else(|| error(reasons::PIPELINE_MISSING, format!("no pipeline {name} is in this namespace: check pipelineRef.name")))
}

fn ready(pipeline: &DurableWritePipeline, observed: &Observed, now: Timestamp) -> Result<(), Hindrance> {
    let name = pipeline.name_any();
    let not_ready = |what: &str| Err(error(reasons::PIPELINE_NOT_READY, format!("the pipeline {name} {what}")).into());
    if pipeline.spec.suspend {
        return not_ready("is suspended: set suspend to false and create a new drill");
    }
    if pipeline.spec.workers.replicas == 0 {
        return not_ready("has no workers: set workers.replicas and create a new drill");
    }
    let conditions = pipeline.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let condition = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    match condition(types::READY) {
        Some(ready) if ready.status == "True" => {}
        Some(ready) => return not_ready(&format!("is not ready ({}): {}", ready.reason, ready.message)),
        None => return not_ready("has no condition Ready yet: wait for it, for example with kubectl wait"),
    }
    // Unknown is no hindrance: the probe finds out by itself.
    match condition(types::FLOWING) {
        Some(flowing) if flowing.status == "False" => {
            let what = format!("does not flow ({}): {}", flowing.reason, flowing.message);
            let new = now.duration_since(flowing.last_transition_time.0) < FLOWS_AGAIN;
            if new && flowing.reason == pipeline_reasons::DATABASE_OUTAGE {
                return Err(Hindrance::Outage(format!("the pipeline {name} {what}")));
            }
            not_ready(&what)
        }
        _ if observed.workers.rolling => not_ready("is being rolled: wait until kubectl get shows it at rest, and create a new drill"),
        _ => Ok(()),
    }
}

fn cluster<'a>(pipeline: &DurableWritePipeline, observed: &'a Observed) -> Result<&'a AuroraCluster, Hindrance> {
    let Some(aurora) = &pipeline.spec.database.aurora else {
        return Err(
            error(reasons::NOT_AURORA, "the pipeline's database is not an Aurora cluster: drills are for database.aurora only").into()
        );
    };
    let identifier = &aurora.cluster_identifier;
    let cluster = match &observed.cluster {
        ClusterSeen::Found(cluster) => cluster,
        ClusterSeen::Missing => {
            let message =
                format!("no cluster {identifier} is in the operator's account and region: check clusterIdentifier and aws.region");
            return Err(error(reasons::CLUSTER_NOT_FOUND, message).into());
        }
        ClusterSeen::Unknown(trouble) => return Err(Hindrance::Unknown(trouble.clone())),
        ClusterSeen::NotAsked => return Err(Hindrance::Unknown("the RDS API was not asked".to_owned())),
    };
    if cluster.engine != ENGINE {
        let message = format!("the cluster {identifier} is of the engine {}, not {ENGINE}", cluster.engine);
        return Err(error(reasons::NOT_AURORA, message).into());
    }
    Ok(cluster)
}

/// The owner of the cluster decides who may fail it over: by a tag.
pub(super) fn opened(drill: &FailoverDrill, cluster: &AuroraCluster, settings: &Settings) -> Result<(), Ending> {
    let namespace = drill.namespace().unwrap_or_default();
    let key = format!("{TAG_PREFIX}{}", settings.cluster_name);
    let value = cluster.tags.get(&key).map(String::as_str).unwrap_or_default();
    let open = !settings.cluster_name.is_empty() && value.split_whitespace().any(|opened| opened == ALL_NAMESPACES || opened == namespace);
    if open {
        return Ok(());
    }
    Err(error(
        reasons::NOT_OPENED,
        format!(
            "the cluster {} is not opened to this namespace: its owner adds {namespace} to the value of its tag {key}, names separated by spaces",
            cluster.identifier
        ),
    ))
}

/// What the probe was started for must still be so.
fn unchanged(probe: &Probe, pipeline: &DurableWritePipeline, cluster: &AuroraCluster) -> Result<(), Ending> {
    let (uid, generation) = (pipeline.uid().unwrap_or_default(), pipeline.metadata.generation.unwrap_or_default());
    let what = if cluster.resource_id != probe.plan.resource_id {
        "the Aurora cluster was replaced by another of the same identifier"
    } else if cluster.writer() != Some(probe.plan.writer.as_str()) {
        "another instance became the writer"
    } else if (uid, generation) != probe.pipeline {
        "the pipeline was edited"
    } else {
        return Ok(());
    };
    Err(error(reasons::CHANGED_BEFORE_TRIGGER, format!("{what} after the preflight: nothing was triggered; create a new drill")))
}

fn can_take_over(instance: &Instance) -> bool {
    !instance.writer && instance.status == AVAILABLE
}

fn readers(drill: &FailoverDrill, cluster: &AuroraCluster, settings: &Settings) -> Result<(), Ending> {
    let wanted = drill.spec.preflight.min_readers.unwrap_or_default().max(settings.drills_min_readers).max(1);
    let found = cluster.instances.iter().filter(|instance| can_take_over(instance)).count();
    if i32::try_from(found).unwrap_or(i32::MAX) >= wanted {
        return Ok(());
    }
    let message = format!("the cluster {} has {found} available readers and {wanted} are asked for: add readers", cluster.identifier);
    Err(error(reasons::NO_READER, message))
}

/// The instance that is to become the writer: the pinned one, the one that the spec names, or the one that RDS would choose.
fn target(drill: &FailoverDrill, cluster: &AuroraCluster, probe: Option<&Probe>) -> Result<String, Ending> {
    let named = probe.map(|probe| &probe.plan.target).or(drill.spec.target_instance.as_ref());
    let unsuitable = |name: &str, what: &str| error(reasons::TARGET_UNSUITABLE, format!("the target {name} {what}"));
    let Some(name) = named else {
        let best = cluster
            .instances
            .iter()
            .filter(|instance| can_take_over(instance))
            .min_by_key(|instance| (instance.tier.unwrap_or(i32::MAX), &instance.name));
        return best.map(|instance| instance.name.clone()).ok_or_else(|| unsuitable("", "could not be chosen: no reader is available"));
    };
    match cluster.instances.iter().find(|instance| instance.name == *name) {
        None => Err(unsuitable(name, &format!("is no instance of the cluster {}: check targetInstance", cluster.identifier))),
        Some(instance) if instance.writer => Err(unsuitable(name, "is the writer already: name a reader, or none")),
        Some(instance) if !can_take_over(instance) => Err(unsuitable(name, &format!("is {}, not available", instance.status))),
        Some(instance) => Ok(instance.name.clone()),
    }
}

/// Counts failovers of any cause, as RDS tells them.
fn interval(drill: &FailoverDrill, observed: &Observed, settings: &Settings, now: Timestamp) -> Result<(), Hindrance> {
    let interval = min_interval(drill, settings);
    if interval.get().is_zero() {
        return Ok(());
    }
    let events = observed.events.as_ref().map_err(|trouble| Hindrance::Unknown(trouble.clone()))?;
    let last = events.iter().filter(|event| event.kind.is_failover()).map(|event| event.at).max();
    let span = SignedDuration::try_from(interval.get()).unwrap_or(SignedDuration::MAX);
    match last {
        Some(last) if now.duration_since(last) < span => {
            let message =
                format!("the last failover of the cluster was at {last}, and {interval} must lie between two: create a new drill later");
            Err(error(reasons::TOO_SOON, message).into())
        }
        _ => Ok(()),
    }
}
