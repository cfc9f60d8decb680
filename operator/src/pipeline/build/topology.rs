//! The ConfigMap that says where the database's instances are. It changes while workers run; they read it again.

use std::collections::BTreeMap;

use durable_write_crds::layout;
use durable_write_crds::wire::Topology;
use k8s_openapi::api::core::v1::ConfigMap;

use super::{BuildError, metadata, names};
use crate::pipeline::validate::Accepted;

pub(super) fn build(pipeline: &Accepted) -> Result<ConfigMap, BuildError> {
    let text = serde_saphyr::to_string(&pipeline.topology).map_err(|error| BuildError(error.to_string()))?;
    Ok(ConfigMap {
        metadata: metadata(pipeline, names::topology(&pipeline.name)),
        data: Some(BTreeMap::from([(layout::file_name(layout::TOPOLOGY).to_owned(), text)])),
        ..ConfigMap::default()
    })
}

/// The topology that `config_map` holds, when it is readable.
pub(in crate::pipeline) fn read(config_map: &ConfigMap) -> Option<Topology> {
    let text = config_map.data.as_ref()?.get(layout::file_name(layout::TOPOLOGY))?;
    serde_saphyr::from_str(text).ok()
}
