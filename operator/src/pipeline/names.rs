//! Names and labels of a pipeline's children. They are an interface: people select pods by them.

use std::collections::BTreeMap;

use durable_write_crds::DurableWritePipeline;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// Who writes, in `managedFields`, in events, and in the label `app.kubernetes.io/managed-by`.
pub(crate) const MANAGER: &str = "durable-write-operator";
/// The label that every child carries: the pipeline's name.
pub(crate) const PIPELINE_LABEL: &str = "durablewrite.dev/pipeline";
/// On the Deployment: a hash of the pod template as the operator built it.
pub(super) const TEMPLATE_ANNOTATION: &str = "durablewrite.dev/template";
/// On the Deployment: the generation of the pipeline that it was made for.
pub(super) const GENERATION_ANNOTATION: &str = "durablewrite.dev/generation";
/// The label that tells workers from probes.
pub(crate) const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The label of all that the operator made.
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Selects all that the operator made.
pub(crate) fn managed_selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGER}")
}

/// The labels of a pipeline's children and of its worker pods.
pub(super) fn labels(pipeline: &str) -> BTreeMap<String, String> {
    let mut labels = selector(pipeline);
    labels.extend([
        ("app.kubernetes.io/name".to_owned(), "durable-write".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), pipeline.to_owned()),
        (MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned()),
    ]);
    labels
}

/// The labels that select a pipeline's worker pods. They can never change: a Deployment's selector is immutable.
pub(super) fn selector(pipeline: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(COMPONENT_LABEL.to_owned(), "worker".to_owned()), (PIPELINE_LABEL.to_owned(), pipeline.to_owned())])
}

/// [`selector`] as the `/scale` subresource shows it.
pub(crate) fn selector_text(pipeline: &str) -> String {
    selector(pipeline).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The name of the Deployment and of the PodDisruptionBudget.
pub(crate) fn workers(pipeline: &str) -> String {
    format!("{pipeline}-worker")
}

/// The name of the ConfigMap that tells the workers where the database's instances are.
pub(super) fn topology(pipeline: &str) -> String {
    format!("{pipeline}-topology")
}

/// The name of the ConfigMap that holds the manifest with that hash.
pub(super) fn manifest(pipeline: &str, hash: &str) -> String {
    format!("{pipeline}-{hash}")
}

/// The reference that makes Kubernetes delete a child after its pipeline. It does not block the pipeline's deletion: nothing waits.
pub(super) fn owner(pipeline: &DurableWritePipeline) -> Option<OwnerReference> {
    pipeline.controller_owner_ref(&())
}

/// True when the object with `metadata` is controlled by the object with that uid.
pub(crate) fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}
