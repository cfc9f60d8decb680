//! Where a worker's pod finds things: paths below the mount folder, ports, and the names of what both the operator and the worker touch.

use std::path::{Path, PathBuf};

/// The mount folder in a worker's pod (`--mounts`).
pub const MOUNTS: &str = "/etc/durable-write";
/// The manifest that a worker runs, below [`MOUNTS`].
pub const MANIFEST: &str = "pipeline/pipeline.yaml";
/// The topology of the database cluster, below [`MOUNTS`]; it changes while the worker runs.
pub const TOPOLOGY: &str = "topology/topology.yaml";
/// The port of `/livez`, `/readyz`, `/metrics` and `/state`.
pub const HTTP_PORT: u16 = 8080;
/// The keys of a credentials Secret, as `kubernetes.io/basic-auth` names them.
pub const CREDENTIAL_KEYS: [&str; 2] = ["username", "password"];

/// The file's name of [`MANIFEST`] or [`TOPOLOGY`], which is its key in the ConfigMap.
#[must_use]
pub fn file_name(below_mounts: &str) -> &str {
    below_mounts.rsplit('/').next().unwrap_or(below_mounts)
}

/// The file of one key of a Secret below the mount folder.
#[must_use]
pub fn secret_key(mounts: &Path, name: &str, key: &str) -> PathBuf {
    mounts.join("secrets").join(name).join(key)
}

/// The file of one key of a ConfigMap below the mount folder.
#[must_use]
pub fn config_map_key(mounts: &Path, name: &str, key: &str) -> PathBuf {
    mounts.join("configmaps").join(name).join(key)
}
