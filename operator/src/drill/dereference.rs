//! All reads of a step: of the API server, never of a watch, and of the RDS API.

use durable_write_crds::evidence::{Claim, config_map_name};
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Resource, ResourceExt};

use super::build::pod_name;
use super::lease;
use super::observed::{ClusterSeen, EvidenceSeen, LeaseSeen, Observed, ProbeSeen, Workers};
use super::preflight::min_interval;
use super::rds::{AuroraCluster, ClusterEvent};
use super::step::has_ended;
use super::world::{Failure, Kubernetes, Rds};
use crate::settings::Settings;

/// Reads all that the next step of `drill` needs. What RDS does not say is part of what is observed, and no failure.
pub(super) async fn dereference<K: Kubernetes, R: Rds>(
    kubernetes: &K,
    rds: &R,
    settings: &Settings,
    drill: &FailoverDrill,
    now: Timestamp,
) -> Result<Observed, Failure> {
    let observed = read(kubernetes, rds, settings, drill, now).await?;
    if !matches!(observed.evidence, EvidenceSeen::None) {
        return Ok(observed);
    }
    // Another operator may have claimed and called meanwhile: then what was read shows its failover, and all is read again as after a claim.
    let evidence = config_map_name(&drill.name_any());
    match kubernetes.get::<ConfigMap>(&drill.namespace().unwrap_or_default(), &evidence).await? {
        None => Ok(observed),
        Some(_) => read(kubernetes, rds, settings, drill, now).await,
    }
}

async fn read<K: Kubernetes, R: Rds>(
    kubernetes: &K,
    rds: &R,
    settings: &Settings,
    drill: &FailoverDrill,
    now: Timestamp,
) -> Result<Observed, Failure> {
    let (namespace, name, uid) = (drill.namespace().unwrap_or_default(), drill.name_any(), drill.uid().unwrap_or_default());
    let (evidence, probe) = (config_map_name(&name), pod_name(&name));
    let (evidence, pod, pipeline) = futures::try_join!(
        kubernetes.get::<ConfigMap>(&namespace, &evidence),
        kubernetes.get::<Pod>(&namespace, &probe),
        kubernetes.get::<DurableWritePipeline>(&namespace, &drill.spec.pipeline_ref.name),
    )?;
    let evidence = EvidenceSeen::read(evidence, &uid);
    let over = matches!(evidence, EvidenceSeen::Concluded(..)) || (evidence.claim().is_none() && has_ended(drill));
    let workers = match &pipeline {
        Some(pipeline) if !over => {
            let (pods, rolling) = kubernetes.workers(pipeline).await?;
            Workers::new(&pods, rolling)
        }
        _ => Workers::default(),
    };
    let identifier = identifier(evidence.claim(), pipeline.as_ref()).filter(|_| !over);
    let (cluster, events) = ask_rds(rds, identifier, since(drill, evidence.claim(), settings, now)).await;
    let lease = match cluster.found().filter(|_| evidence.claim().is_none()) {
        Some(cluster) => read_lease(kubernetes, settings, cluster, &uid).await?,
        None => LeaseSeen::NotAsked,
    };
    Ok(Observed { evidence, pipeline, workers, probe: ProbeSeen::read(pod, drill), lease, cluster, events })
}

/// Before the claim the pipeline says which cluster it is, afterwards the claim.
fn identifier(claim: Option<&Claim>, pipeline: Option<&DurableWritePipeline>) -> Option<String> {
    let claimed = claim.map(|claim| claim.cluster.identifier.clone());
    claimed.or_else(|| Some(pipeline?.spec.database.aurora.as_ref()?.cluster_identifier.clone()))
}

fn since(drill: &FailoverDrill, claim: Option<&Claim>, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    if let Some(claim) = claim {
        return since_claim(claim);
    }
    let interval = min_interval(drill, settings).get();
    let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX).min(SignedDuration::from_hours(14 * 24));
    if interval.is_zero() { None } else { now.checked_sub(interval).ok() }
}

/// From when on events are a claim's: from a little earlier, as clocks differ.
pub(super) fn since_claim(claim: &Claim) -> Option<Timestamp> {
    claim.at.checked_sub(SignedDuration::from_secs(5)).ok()
}

pub(super) async fn ask_rds<R: Rds>(
    rds: &R,
    identifier: Option<String>,
    since: Option<Timestamp>,
) -> (ClusterSeen, Result<Vec<ClusterEvent>, String>) {
    let Some(identifier) = identifier else { return (ClusterSeen::NotAsked, Ok(Vec::new())) };
    let events = async {
        match since {
            Some(since) => rds.events(&identifier, since).await,
            None => Ok(Vec::new()),
        }
    };
    let (cluster, events) = futures::join!(rds.cluster(&identifier), events);
    let cluster = match cluster {
        Ok(Some(cluster)) => ClusterSeen::Found(cluster),
        Ok(None) => ClusterSeen::Missing,
        Err(trouble) => ClusterSeen::Unknown(trouble),
    };
    (cluster, events)
}

async fn read_lease<K: Kubernetes>(kubernetes: &K, settings: &Settings, cluster: &AuroraCluster, uid: &str) -> Result<LeaseSeen, Failure> {
    let lease = kubernetes.get::<Lease>(&settings.namespace, &lease::name(&cluster.resource_id)).await?;
    let holder_gone = match lease.as_ref().and_then(lease::holder).filter(|holder| holder.uid != uid) {
        Some(holder) => {
            let found = kubernetes.get_drill(holder.namespace, holder.name).await?;
            // One that this version cannot read may run.
            found.is_none_or(|found| found.meta().uid.as_deref() != Some(holder.uid) || found.0.as_ref().is_ok_and(has_ended))
        }
        None => false,
    };
    Ok(LeaseSeen::Read { lease: lease.map(Box::new), holder_gone })
}
