//! What is seen becomes the next status. Pure: conditions are compared without time, numbers change seldom, and a status that says the same
//! as the one before is the same.

mod conditions;
mod events;
mod reports;
mod retention;

use durable_write_crds::pipeline::{DatabaseStatus, InstanceStatus, QueueStatus, WorkersStatus};
use durable_write_crds::{DurableWritePipeline, DurableWritePipelineStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;

pub(super) use events::{Note, notes};

use super::names;
use super::validate::Refusal;
use crate::aurora::{Cluster, Lookup};
use crate::workers::Answer;

/// All that a status is made from.
pub(super) struct Observed<'a> {
    pub(super) pipeline: &'a DurableWritePipeline,
    /// Why the pipeline is not carried out.
    pub(super) refusal: Option<&'a Refusal>,
    /// What is wrong with an Aurora cluster whose last known endpoints stay in use.
    pub(super) cluster_trouble: Option<&'a Refusal>,
    pub(super) cluster: Option<&'a Lookup>,
    pub(super) deployment: Option<&'a Deployment>,
    /// A new pod template waits until other pipelines have rolled.
    pub(super) held_back: bool,
    pub(super) answers: &'a [Answer],
    /// How many pipelines elsewhere read the same queue.
    pub(super) sharing: usize,
    pub(super) now: Timestamp,
}

/// The status that follows from `previous` and what is observed now.
pub(super) fn next(previous: &DurableWritePipelineStatus, observed: &Observed<'_>) -> DurableWritePipelineStatus {
    let now = whole_seconds(observed.now);
    let drafts = conditions::drafts(previous, observed);
    let queue = queue(previous.queue.as_ref(), previous, &drafts, observed, now);
    let within = retention::within(&queue, now);
    let status = observed.deployment.and_then(|deployment| deployment.status.as_ref());
    DurableWritePipelineStatus {
        observed_generation: observed.pipeline.metadata.generation,
        conditions: conditions::merge(&previous.conditions, drafts.all().chain([within]), observed.pipeline.metadata.generation, now),
        queue: Some(queue),
        database: Some(database(previous.database.as_ref(), observed)),
        workers: Some(WorkersStatus { ready: status.and_then(|status| status.ready_replicas).unwrap_or(0) }),
        replicas: status.and_then(|status| status.replicas).unwrap_or(0),
        selector: Some(names::selector_text(&observed.pipeline.name_any())),
    }
}

/// What of `next` is written now: all, when something but numbers and texts changed or when those are due; else `previous` stays.
/// None when there is nothing to write.
pub(super) fn change(
    previous: &DurableWritePipelineStatus,
    next: DurableWritePipelineStatus,
    numbers_due: bool,
) -> Option<DurableWritePipelineStatus> {
    let urgent = essence(previous) != essence(&next);
    (*previous != next && (urgent || numbers_due)).then_some(next)
}

/// A status without what may wait: numbers of the queue, and texts of conditions whose status and reason stay.
fn essence(status: &DurableWritePipelineStatus) -> DurableWritePipelineStatus {
    let mut essence = status.clone();
    for condition in &mut essence.conditions {
        condition.message.clear();
    }
    if let Some(queue) = &mut essence.queue {
        *queue =
            QueueStatus { name: std::mem::take(&mut queue.name), retention_seconds: queue.retention_seconds, ..QueueStatus::default() };
    }
    essence
}

fn queue(
    previous: Option<&QueueStatus>,
    status: &DurableWritePipelineStatus,
    drafts: &conditions::Drafts,
    observed: &Observed<'_>,
    now: Timestamp,
) -> QueueStatus {
    let states = || reports::states(observed.answers);
    let most = |number: fn(&durable_write_crds::wire::QueueState) -> Option<i64>| {
        states().filter_map(|state| number(&state.queue)).max().map(|number| two_figures(number.max(0)))
    };
    let retention = states().filter(|state| state.queue.retention_seconds.is_some()).max_by_key(|state| state.at);
    let mut queue = QueueStatus {
        name: observed.pipeline.spec.queue.queue_name().to_owned(),
        visible: most(|queue| queue.visible),
        in_flight: most(|queue| queue.in_flight),
        dead_lettered: most(|queue| queue.dead_lettered),
        retention_seconds: retention
            .and_then(|state| state.queue.retention_seconds)
            .or_else(|| previous.and_then(|queue| queue.retention_seconds)),
        oldest_seen: None,
    };
    let receiving = retention::Receiving::new(&drafts.flowing, &status.conditions, observed.answers, now);
    let before = previous.and_then(|queue| queue.oldest_seen.as_ref()).map(|time| time.0);
    queue.oldest_seen = retention::oldest_seen(before, &receiving, observed.answers).map(|time| MicroTime(whole_seconds(time)));
    queue
}

/// Two significant figures: the rest is noise that would be written again and again.
pub(crate) fn two_figures(number: i64) -> i64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    number / unit * unit
}

fn database(previous: Option<&DatabaseStatus>, observed: &Observed<'_>) -> DatabaseStatus {
    let cluster = match observed.cluster {
        Some(Lookup::Found(cluster)) => Some(cluster),
        _ => None,
    };
    let described = || cluster.and_then(|cluster| cluster.members.iter().find(|member| member.writer)).map(|member| member.name.clone());
    let writer = reports::writer(observed.answers).or_else(described).or_else(|| previous.and_then(|database| database.writer.clone()));
    let instances = match (cluster, &observed.pipeline.spec.database.postgres) {
        (Some(cluster), _) => described_instances(cluster, writer.as_deref()),
        (None, Some(postgres)) => postgres.instances.iter().map(|endpoint| instance(endpoint, None, writer.as_deref())).collect(),
        (None, None) => previous.map(|database| database.instances.clone()).unwrap_or_default(),
    };
    DatabaseStatus { writer, instances }
}

fn described_instances(cluster: &Cluster, writer: Option<&str>) -> Vec<InstanceStatus> {
    cluster.members.iter().map(|member| instance(&member.name, member.zone.clone(), writer)).collect()
}

fn instance(name: &str, zone: Option<String>, writer: Option<&str>) -> InstanceStatus {
    let role = match writer {
        Some(writer) if writer == name => "Writer",
        Some(_) => "Reader",
        None => "Unknown",
    };
    InstanceStatus { name: name.to_owned(), role: role.to_owned(), zone }
}

/// As the API server stores times, so that what is written compares equal to what is read.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
