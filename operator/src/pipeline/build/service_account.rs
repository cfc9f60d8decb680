//! The workers' identity, when the manifest names none: what IAM roles are bound to.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::pipeline::validate::{Accepted, Identity};

pub(super) fn build(pipeline: &Accepted) -> Option<ServiceAccount> {
    let Identity::Made(annotations) = &pipeline.service_account else { return None };
    let mut metadata = metadata(pipeline, pipeline.name.clone());
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    Some(ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() })
}
