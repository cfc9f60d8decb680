//! Drains of nodes take one worker at a time; a worker that is broken anyway never holds a drain up.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, names};
use crate::pipeline::validate::Accepted;

pub(super) fn build(pipeline: &Accepted) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(pipeline, names::workers(&pipeline.name)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(names::selector(&pipeline.name)), match_expressions: None }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
