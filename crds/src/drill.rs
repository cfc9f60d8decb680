//! `FailoverDrill`: fails an Aurora cluster over once, under load, and records what happened.

mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

pub use status::{
    ClusterStatus, Criterion, CriterionResult, DrillInstance, DrillQueue, EvidenceConfigMap, EvidenceReference, FailoverDrillStatus,
    Integrity, Observation, ObservationSource, Phase, Recovery, RoleStatus, Verdict,
};

/// The shortest baseline of a probe, whatever [`Load::warm_up`] says: a second's messages are then old enough to be missed.
pub const SHORTEST_BASELINE: std::time::Duration = std::time::Duration::from_secs(6);
/// How long after its warm-up a probe's baseline may take to become steady.
pub const BASELINE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Fails the Aurora cluster of a pipeline over once, while it writes, and records what happened.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "durablewrite.dev",
    version = "v1alpha1",
    kind = "FailoverDrill",
    namespaced,
    status = "FailoverDrillStatus",
    derive = "PartialEq",
    shortname = "drill",
    category = "durable-write",
    cel,
    doc = "Fails the Aurora cluster of a pipeline over once, while it writes, and records what happened.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict"),
    printcolumn(name = "Recovery", type_ = "string", json_path = ".status.recovery.summary"),
    printcolumn(name = "Lost", type_ = "integer", json_path = ".status.integrity.lost"),
    printcolumn(name = "Dup", type_ = "integer", json_path = ".status.integrity.duplicated"),
    printcolumn(name = "From", type_ = "string", json_path = ".status.writerBefore"),
    printcolumn(name = "To", type_ = "string", json_path = ".status.writerAfter"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 50").message("metadata.name: at most 50 characters, as names of pods are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.pipelineRef == oldSelf.pipelineRef && (has(self.targetInstance) ? self.targetInstance : '') == (has(oldSelf.targetInstance) ? oldSelf.targetInstance : '') && self.load == oldSelf.load && self.objectives == oldSelf.objectives && self.preflight == oldSelf.preflight && self.deadline == oldSelf.deadline && has(self.notAfter) == has(oldSelf.notAfter) && (!has(self.notAfter) || self.notAfter == oldSelf.notAfter) && (has(self.requestedBy) ? self.requestedBy : '') == (has(oldSelf.requestedBy) ? oldSelf.requestedBy : '') && (has(self.reason) ? self.reason : '') == (has(oldSelf.reason) ? oldSelf.reason : '') && (has(self.changeReference) ? self.changeReference : '') == (has(oldSelf.changeReference) ? oldSelf.changeReference : '')").message("a drill cannot be changed but for abort; create a new drill of another name"))]
#[x_kube(validation = Rule::new("self.abort || !oldSelf.abort").message("abort: an aborted drill stays aborted; create a new drill of another name"))]
#[x_kube(validation = Rule::new("duration(self.deadline) <= duration('2h')").message("deadline: at most 2h"))]
#[x_kube(validation = Rule::new("duration(self.deadline) >= duration(self.load.warmUp) + duration(self.load.coolDown) + duration(self.objectives.recoveryTime)").message("deadline: at least load.warmUp, load.coolDown and objectives.recoveryTime together"))]
pub struct FailoverDrillSpec {
    /// The pipeline under test, of this namespace. Its Aurora cluster is failed over.
    pub pipeline_ref: PipelineReference,
    /// The instance that is to become the writer; by default the available reader of the lowest promotion tier. It may not lag too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z][a-z0-9-]{0,62}$"), length(max = 63))]
    pub target_instance: Option<String>,
    /// What the probe writes while the cluster fails over.
    #[serde(default)]
    pub load: Load,
    /// What must be met for the verdict Pass.
    #[serde(default)]
    pub objectives: Objectives,
    /// Limits of the preflight. They can only tighten those that the platform team has set.
    #[serde(default)]
    pub preflight: Preflight,
    /// When the drill ends at the latest, counted from its start; 2h at most. An operator that starts while a failover is measured counts anew.
    #[serde(default = "defaults::deadline")]
    pub deadline: Duration,
    /// The drill never triggers later than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// Set to true to end the drill. A failover that has been triggered is not undone.
    #[serde(default)]
    pub abort: bool,
    /// Who asked for the drill. If set, it must be the user who creates it; the admission policy of the chart sees to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,
    /// Why the drill is run, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
    /// The change or ticket that the drill belongs to, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub change_reference: Option<String>,
}

/// A pipeline of the drill's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PipelineReference {
    /// The name of the pipeline.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$"), length(max = 50))]
    pub name: String,
}

/// What the probe writes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.directWriteInterval) >= duration('50ms') && duration(self.directWriteInterval) <= duration('1s')").message("load.directWriteInterval: 50ms to 1s"))]
#[x_kube(validation = Rule::new("duration(self.warmUp) >= duration('2s') && duration(self.warmUp) <= duration('10m')").message("load.warmUp: 2s to 10m"))]
#[x_kube(validation = Rule::new("duration(self.coolDown) >= duration('2s') && duration(self.coolDown) <= duration('10m')").message("load.coolDown: 2s to 10m"))]
pub struct Load {
    /// How many messages a second the probe sends through the queue.
    #[serde(default = "defaults::messages_per_second")]
    #[schemars(range(min = 1, max = 500))]
    pub messages_per_second: i32,
    /// How often the probe begins a write into the database, past the queue: the resolution of the recovery time.
    #[serde(default = "defaults::direct_write_interval")]
    pub direct_write_interval: Duration,
    /// Which way those writes take.
    #[serde(default)]
    pub direct_path: DirectPath,
    /// How long the probe writes before the failover is triggered, at the least; never less than 6s.
    #[serde(default = "defaults::warm_up")]
    pub warm_up: Duration,
    /// How long the probe goes on after the recovery.
    #[serde(default = "defaults::cool_down")]
    pub cool_down: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            messages_per_second: defaults::messages_per_second(),
            direct_write_interval: defaults::direct_write_interval(),
            direct_path: DirectPath::default(),
            warm_up: defaults::warm_up(),
            cool_down: defaults::cool_down(),
        }
    }
}

/// Which way the probe's own writes take. Each measures something else.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectPath {
    /// All instances at once, as the workers find the writer: measures the database.
    #[default]
    Instances,
    /// The cluster endpoint, as an ordinary client does: measures its name resolution too.
    ClusterEndpoint,
}

/// What must be met for the verdict Pass.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.recoveryTime) > duration('0s') && duration(self.recoveryTime) <= duration('1h')").message("objectives.recoveryTime: more than 0s, at most 1h"))]
#[x_kube(validation = Rule::new("duration(self.backlogDrained) > duration('0s') && duration(self.backlogDrained) <= duration('1h')").message("objectives.backlogDrained: more than 0s, at most 1h"))]
pub struct Objectives {
    /// The longest time from the last good write on the old writer to the first on the new one.
    #[serde(default = "defaults::recovery_time")]
    pub recovery_time: Duration,
    /// The most acknowledged messages and direct writes that may be lost.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub lost: i32,
    /// The most that may be written twice.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub duplicated: i32,
    /// The most probe messages that may be dead-lettered.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub dead_lettered: i32,
    /// The longest time from the recovery until every acknowledged message is settled.
    #[serde(default = "defaults::backlog_drained")]
    pub backlog_drained: Duration,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            recovery_time: defaults::recovery_time(),
            lost: 0,
            duplicated: 0,
            dead_lettered: 0,
            backlog_drained: defaults::backlog_drained(),
        }
    }
}

/// Limits of the preflight. What is absent is as the platform team has set it, and nothing here can loosen that.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.maxReplicaLag) || (duration(self.maxReplicaLag) > duration('0s') && duration(self.maxReplicaLag) <= duration('1h'))").message("preflight.maxReplicaLag: more than 0s, at most 1h"))]
pub struct Preflight {
    /// The most that the target may lag behind the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replica_lag: Option<Duration>,
    /// How many readers must be available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 15))]
    pub min_readers: Option<i32>,
    /// The shortest time since the last failover of the cluster, whatever its cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_interval: Option<Duration>,
}

/// Defaults of single fields: the schema shows them.
mod defaults {
    use crate::Duration;

    pub(super) fn deadline() -> Duration {
        Duration::from_millis(900_000)
    }

    pub(super) fn messages_per_second() -> i32 {
        50
    }

    pub(super) fn direct_write_interval() -> Duration {
        Duration::from_millis(100)
    }

    pub(super) fn warm_up() -> Duration {
        Duration::from_millis(20_000)
    }

    pub(super) fn cool_down() -> Duration {
        Duration::from_millis(30_000)
    }

    pub(super) fn recovery_time() -> Duration {
        Duration::from_millis(60_000)
    }

    pub(super) fn backlog_drained() -> Duration {
        Duration::from_millis(300_000)
    }
}
