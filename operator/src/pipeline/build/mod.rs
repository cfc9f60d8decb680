//! The children of a pipeline, one file each. Pure: the same pipeline and settings give the same objects, byte for byte.

mod deployment;
mod disruption_budget;
mod manifest;
mod service_account;
mod topology;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PodSpec, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

pub(super) use deployment::{max_unavailable, mounted_config_maps};
pub(super) use topology::read as read_topology;

use super::names;
use super::validate::Accepted;
use crate::settings::Settings;

/// All that the operator makes for a pipeline.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) service_account: Option<ServiceAccount>,
    pub(super) manifest: ConfigMap,
    pub(super) topology: ConfigMap,
    pub(super) disruption_budget: PodDisruptionBudget,
    pub(super) deployment: Deployment,
}

/// Builds the children of `pipeline`.
///
/// # Errors
/// A document could not be written as YAML.
pub(super) fn build(pipeline: &Accepted, settings: &Settings) -> Result<Desired, BuildError> {
    let manifest = manifest::build(pipeline)?;
    Ok(Desired {
        service_account: service_account::build(pipeline),
        topology: topology::build(pipeline)?,
        disruption_budget: disruption_budget::build(pipeline),
        deployment: deployment::build(pipeline, manifest.metadata.name.as_deref().unwrap_or_default(), settings)?,
        manifest,
    })
}

/// A pod that has what the workers of `pipeline` have: identity, mounts, environment. The caller says what it runs.
///
/// # Errors
/// The manifest could not be written as YAML.
pub(super) fn pod_like_workers(pipeline: &Accepted, settings: &Settings) -> Result<PodSpec, BuildError> {
    let manifest = manifest::build(pipeline)?;
    Ok(deployment::pod(pipeline, manifest.metadata.name.as_deref().unwrap_or_default(), settings))
}

/// A document could not be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("a document for the workers could not be written: {0}")]
pub(crate) struct BuildError(String);

impl From<String> for BuildError {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// A short hash: two texts of one pipeline that differ have different ones.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

fn metadata(pipeline: &Accepted, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(pipeline.namespace.clone()),
        labels: Some(names::labels(&pipeline.name)),
        owner_references: Some(vec![pipeline.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use durable_write_crds::pipeline::{Credentials, IamCredentials};

    use super::*;
    use crate::pipeline::fixtures;

    fn desired(change: impl FnOnce(&mut durable_write_crds::DurableWritePipeline)) -> Desired {
        let mut pipeline = fixtures::orders();
        change(&mut pipeline);
        build(&fixtures::accepted(&pipeline), &fixtures::settings()).unwrap()
    }

    #[test]
    fn children_of_the_smallest_pipeline() {
        let desired = desired(|_| {});
        insta::assert_snapshot!("service_account", fixtures::yaml(&desired.service_account));
        insta::assert_snapshot!("manifest", fixtures::yaml(&desired.manifest));
        insta::assert_snapshot!("topology", fixtures::yaml(&desired.topology));
        insta::assert_snapshot!("disruption_budget", fixtures::yaml(&desired.disruption_budget));
        insta::assert_snapshot!("deployment", fixtures::yaml(&desired.deployment));
    }

    #[test]
    fn children_of_a_pipeline_with_everything_set() {
        let pipeline = fixtures::everything();
        let desired = build(&fixtures::accepted(&pipeline), &fixtures::settings()).unwrap();
        assert!(desired.service_account.is_none());
        insta::assert_snapshot!("manifest_with_everything", fixtures::yaml(&desired.manifest));
        insta::assert_snapshot!("topology_with_everything", fixtures::yaml(&desired.topology));
        insta::assert_snapshot!("deployment_with_everything", fixtures::yaml(&desired.deployment));
    }

    #[test]
    fn a_login_by_iam_needs_no_secret_but_the_clusters_resource_identifier() {
        let mut pipeline = fixtures::everything();
        let iam = IamCredentials { username: "payments".to_owned() };
        pipeline.spec.database.credentials = Credentials { secret_ref: None, iam: Some(iam) };
        let desired = build(&fixtures::accepted(&pipeline), &fixtures::settings()).unwrap();
        let pod = desired.deployment.spec.unwrap().template.spec.unwrap();
        let mounts = pod.containers[0].volume_mounts.iter().flatten().map(|mount| mount.name.as_str());
        assert_eq!(mounts.collect::<Vec<_>>(), ["pipeline", "topology", "ca"]);
        assert!(pod.volumes.unwrap().iter().all(|volume| volume.secret.is_none()));
        assert!(desired.topology.data.unwrap()["topology.yaml"].contains("resourceId: cluster-ABC"));
        assert!(desired.manifest.data.unwrap()["pipeline.yaml"].contains("username: payments"));
    }

    #[test]
    fn the_manifest_that_workers_get_reads_back_as_a_pipeline() {
        let desired = desired(|_| {});
        let text = desired.manifest.data.unwrap().remove("pipeline.yaml").unwrap();
        let pipeline: durable_write_crds::DurableWritePipeline = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(pipeline.spec.target, fixtures::orders().spec.target);
    }

    #[test]
    fn scale_suspend_and_new_instances_change_no_pod_template() {
        let before = desired(|_| {});
        for (what, after) in [
            ("scale", desired(|pipeline| pipeline.spec.workers.replicas = 40)),
            ("suspend", desired(|pipeline| pipeline.spec.suspend = true)),
            ("a new instance", {
                desired(|pipeline| {
                    pipeline.spec.database.postgres.as_mut().unwrap().instances.push("database-4:5432".to_owned());
                })
            }),
        ] {
            assert_eq!(
                before.deployment.spec.as_ref().unwrap().template,
                after.deployment.spec.as_ref().unwrap().template,
                "{what} changed the pod template"
            );
            assert_eq!(before.manifest, after.manifest, "{what} changed the manifest");
        }
    }

    #[test]
    fn what_workers_must_be_restarted_for_changes_the_pod_template() {
        let before = desired(|_| {});
        for (what, after) in [
            ("a column", desired(|pipeline| drop(pipeline.spec.target.columns.pop()))),
            ("a batch's size", desired(|pipeline| pipeline.spec.batching.max_rows = 7)),
            ("the connections", desired(|pipeline| pipeline.spec.workers.connections = 7)),
        ] {
            assert_ne!(before.manifest.metadata.name, after.manifest.metadata.name, "{what} did not change the manifest's name");
            assert_ne!(
                before.deployment.spec.as_ref().unwrap().template,
                after.deployment.spec.as_ref().unwrap().template,
                "{what} did not change the pod template"
            );
        }
    }

    #[test]
    fn names_of_the_longest_pipeline_fit_where_kubernetes_puts_them() {
        let longest = "p".repeat(50);
        let desired = desired(|pipeline| pipeline.metadata.name = Some(longest.clone()));
        // A pod is named after its ReplicaSet: -<10 characters>-<5 characters>; labels take 63.
        assert!(desired.deployment.metadata.name.unwrap().len() <= 63);
        assert!(desired.deployment.metadata.labels.unwrap().values().all(|value| value.len() <= 63));
    }
}
