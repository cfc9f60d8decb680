//! The immutable ConfigMap with the manifest that workers run. Its name holds a hash of the content, so a pod never sees another one, and
//! only what a running worker cannot take up is in it: scale, suspension, resources and instances are not.

use std::collections::BTreeMap;

use durable_write_crds::layout;
use durable_write_crds::pipeline::Postgres;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::{BuildError, hash, metadata, names};
use crate::pipeline::validate::Accepted;

pub(super) fn build(pipeline: &Accepted) -> Result<ConfigMap, BuildError> {
    let text = serde_saphyr::to_string(&normalised(pipeline)).map_err(|error| BuildError(error.to_string()))?;
    Ok(ConfigMap {
        metadata: metadata(pipeline, names::manifest(&pipeline.name, &hash(&text))),
        data: Some(BTreeMap::from([(layout::file_name(layout::MANIFEST).to_owned(), text)])),
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// The pipeline without what may change under a running worker.
fn normalised(pipeline: &Accepted) -> serde_json::Value {
    let spec = &pipeline.spec;
    let mut database = spec.database.clone();
    if let Some(Postgres { instances, .. }) = &mut database.postgres {
        instances.clear();
    }
    json!({
        "apiVersion": pipeline.owner.api_version,
        "kind": pipeline.owner.kind,
        "metadata": {"name": pipeline.name, "namespace": pipeline.namespace},
        "spec": {
            "queue": spec.queue,
            "database": database,
            "target": spec.target,
            "idempotency": spec.idempotency,
            "batching": spec.batching,
            "workers": {"connections": spec.workers.connections, "memoryBudget": spec.workers.memory_budget},
        },
    })
}
