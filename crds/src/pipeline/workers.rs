//! The worker pods of a pipeline.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// The worker pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("quantity(self.memoryBudget).compareTo(quantity('64Mi')) >= 0").message("workers.memoryBudget: at least 64Mi, so that one receive and one batch of the largest messages fit"))]
#[x_kube(validation = Rule::new("quantity(self.memoryBudget).compareTo(quantity('64Gi')) <= 0").message("workers.memoryBudget: at most 64Gi"))]
pub struct Workers {
    /// How many worker pods run.
    #[serde(default = "defaults::replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How many connections to the database each worker opens at the most.
    #[serde(default = "defaults::connections")]
    #[schemars(range(min = 1, max = 64))]
    pub connections: i32,
    /// How much memory the messages in a worker may take.
    #[serde(default = "defaults::memory_budget")]
    pub memory_budget: ByteSize,
    /// Requests and limits of the worker's container. The default limit of memory is the memory budget and 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// The workers' identity. By default the operator makes a ServiceAccount of the pipeline's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccount>,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            replicas: defaults::replicas(),
            connections: defaults::connections(),
            memory_budget: defaults::memory_budget(),
            resources: None,
            service_account: None,
        }
    }
}

/// Defaults of single fields: the schema shows them, and a manifest on a laptop gets the same.
mod defaults {
    use crate::ByteSize;

    pub(super) fn replicas() -> i32 {
        2
    }

    pub(super) fn connections() -> i32 {
        4
    }

    pub(super) fn memory_budget() -> ByteSize {
        ByteSize::mebibytes(256)
    }
}

/// The ServiceAccount of the workers: one that exists, or annotations for the one that the operator makes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.annotations)").message("exactly one of name and annotations must be set"))]
pub struct ServiceAccount {
    /// A ServiceAccount of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"), length(max = 253))]
    pub name: Option<String>,
    /// Annotations of the ServiceAccount that the operator makes, for example of an IAM role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "annotations_schema")]
    pub annotations: Option<BTreeMap<String, String>>,
}

fn annotations_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "nullable": true, "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 2048 }
    })
}
