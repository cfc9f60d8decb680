//! The claim and the document that is kept of a drill, and the ConfigMap that holds both. Pure.

use std::collections::BTreeMap;

use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::{ClusterStatus, RoleStatus};
use durable_write_crds::evidence::{
    CLAIM_KEY, Call, Claim, DrillIdentity, EVIDENCE_KEY, Evidence, LABEL, ProbeIdentity, SCHEMA, Series, canonical, config_map_name,
};
use durable_write_crds::probe::ProbeResult;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::ResourceExt;

use super::memory::Seen;
use super::observed::Probe;
use super::preflight::Pins;
use super::rds::AuroraCluster;
use super::step::Ending;
use crate::settings::Settings;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The longest text of a refusal, in characters.
const LONGEST_REFUSAL: usize = 256;
/// How far the evidence reaches.
const METHOD: [&str; 6] = [
    "Lost, duplicated and dead-lettered writes were judged for the probe's own messages and rows only, counted on the writer after the queue had drained; the user's messages are not read.",
    "The probe's messages pass the same queue, workers and kind of key as the user's, and land in the probe's own tables; the user's own unique index was not judged.",
    "The recovery time is an interval that contains the true one: from the last good write on the old writer to the first of five good ones on the new that stayed good for the cool-down, by the probe's monotonic clock alone.",
    "Times of different clocks stand beside each other in the timeline and are never subtracted for the recovery time.",
    "Events of RDS are best effort: one that is missing or late changes no verdict.",
    "Who may edit Pods of the namespace and read the database's Secret can spoil a drill: the evidence guards against mistakes and strangers, not against the team itself.",
];

/// The claim of `drill`, for a call that has not been made.
pub(super) fn claim(drill: &FailoverDrill, pins: &Pins, probe: &Probe, settings: &Settings, nonce: String, now: Timestamp) -> Claim {
    Claim {
        schema: SCHEMA.to_owned(),
        nonce,
        at: now,
        operator_version: VERSION.to_owned(),
        kubernetes_cluster: settings.cluster_name.clone(),
        drill: DrillIdentity {
            namespace: drill.namespace().unwrap_or_default(),
            name: drill.name_any(),
            uid: drill.uid().unwrap_or_default(),
            created: drill.creation_timestamp().map_or(now, |time| time.0),
        },
        spec: drill.spec.clone(),
        requested_by_verified: settings.requested_by_verified && drill.spec.requested_by.is_some(),
        pipeline: pins.identity.clone(),
        cluster: cluster_status(&pins.cluster),
        writer: pins.writer.clone(),
        target: pins.target.clone(),
        roles: roles(&pins.cluster, now),
        probe: ProbeIdentity { pod: probe.pod.name_any(), uid: probe.uid.clone(), image: probe.image.clone() },
    }
}

/// The ConfigMap of a claim. It has no owner: it outlives its drill.
pub(super) fn claim_object(claim: &Claim) -> Result<ConfigMap, serde_json::Error> {
    // Without the label of what pipelines are made of: their watches would keep every document in memory.
    let labels = [(LABEL, "true")];
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map_name(&claim.drill.name)),
            namespace: Some(claim.drill.namespace.clone()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(CLAIM_KEY.to_owned(), canonical(claim)?)])),
        ..ConfigMap::default()
    })
}

/// The document of a drill that ends now.
pub(super) fn document(claim: &Claim, call: Call, ending: &Ending, seen: &Seen, probe: Option<&ProbeResult>, now: Timestamp) -> Evidence {
    Evidence {
        schema: SCHEMA.to_owned(),
        claim: claim.clone(),
        call,
        verdict: ending.verdict,
        reason: ending.reason.clone(),
        message: ending.message.clone(),
        criteria: ending.criteria.clone(),
        timeline: seen.timeline.entries(),
        roles_after: seen.roles_after.clone(),
        control_plane_milliseconds: seen.control_plane_milliseconds,
        probe: probe.cloned(),
        series: seen.series.clone().thinned(probe.map(|probe| (probe.started, probe.ended))),
        concluded: now,
        operator_version: VERSION.to_owned(),
        method: METHOD.map(str::to_owned).into(),
    }
}

/// The ConfigMap with the document, which nobody can change any more; and the document's text.
pub(super) fn completed(config_map: &ConfigMap, document: &Evidence) -> Result<(ConfigMap, String), serde_json::Error> {
    let text = canonical(document)?;
    let mut completed = config_map.clone();
    completed.metadata.managed_fields = None;
    completed.data.get_or_insert_default().insert(EVIDENCE_KEY.to_owned(), text.clone());
    completed.immutable = Some(true);
    Ok((completed, text))
}

/// The document without its series, which the Kubernetes API refused.
pub(super) fn without_series(document: Evidence, refusal: &str) -> Evidence {
    let why: String = refusal.chars().take(LONGEST_REFUSAL).collect();
    let missing = Some(format!("the Kubernetes API refused the evidence with them: {why}"));
    Evidence { series: Series { seconds: Vec::new(), missing }, ..document }
}

/// The series when none was polled.
pub(super) fn no_series() -> Series {
    Series {
        seconds: Vec::new(),
        missing: Some("the probe's port was never reached: a NetworkPolicy may not let the operator in".to_owned()),
    }
}

pub(super) fn cluster_status(cluster: &AuroraCluster) -> ClusterStatus {
    ClusterStatus {
        identifier: cluster.identifier.clone(),
        resource_id: cluster.resource_id.clone(),
        engine_version: cluster.engine_version.clone(),
    }
}

/// The roles of all instances, as RDS describes them now.
pub(super) fn roles(cluster: &AuroraCluster, now: Timestamp) -> Vec<RoleStatus> {
    let role = |instance: &super::rds::Instance| RoleStatus {
        instance: instance.name.clone(),
        role: if instance.writer { "Writer" } else { "Reader" }.to_owned(),
        zone: instance.zone.clone(),
        promotion_tier: instance.tier,
        replica_lag_milliseconds: None,
        observed_at: MicroTime(now),
    };
    cluster.instances.iter().take(16).map(role).collect()
}

#[cfg(test)]
mod tests;
