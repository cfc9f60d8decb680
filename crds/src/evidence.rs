//! The evidence of a drill: the claim that is made before the failover is called for, and the document that is kept afterwards. Both are
//! canonical JSON (RFC 8785) in one ConfigMap, which becomes immutable when the drill ends.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::drill::{ClusterStatus, Criterion, FailoverDrillSpec, Observation, Recovery, RoleStatus, Verdict};
use crate::probe::{ProbeResult, ProbeSecond};

/// The version of the document's form. Readers refuse what they do not know.
pub const SCHEMA: &str = "durablewrite.dev/drill-evidence/v1";
/// The label of every ConfigMap that holds evidence; its value is `"true"`. The admission policy goes by it.
pub const LABEL: &str = "durablewrite.dev/evidence";
/// The key of the [`Claim`] in the ConfigMap.
pub const CLAIM_KEY: &str = "claim.json";
/// The key of the [`Evidence`] in the ConfigMap.
pub const EVIDENCE_KEY: &str = "evidence.json";
/// At most so many seconds of the probe are kept for the chart; more are thinned.
pub const MOST_SECONDS: usize = 600;

/// The reason of the timeline's entry for the first time that the operator saw, after the claim, that the probe's direct writes fail.
pub const WRITES_FAIL: &str = "WritesFail";
/// The reason of the entry for the first time that it saw them back, on one instance for [`crate::probe::STREAK`] in a row.
pub const WRITES_BACK: &str = "WritesBack";

/// The name of the ConfigMap of a drill.
#[must_use]
pub fn config_map_name(drill: &str) -> String {
    format!("{drill}-evidence")
}

/// What is stored before the failover is called for. Who creates it may call once; who finds it never calls.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The form of this document: [`SCHEMA`].
    pub schema: String,
    /// What tells this claim from every other, also after a lost reply.
    pub nonce: String,
    /// When it was made, by the operator's clock.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// The operator's version.
    pub operator_version: String,
    /// The name of the Kubernetes cluster, as the platform team gave it.
    pub kubernetes_cluster: String,
    /// The drill.
    pub drill: DrillIdentity,
    /// The drill's spec, whole: scenario, load and objectives.
    pub spec: FailoverDrillSpec,
    /// True when the admission policy has made sure that `spec.requestedBy` is the user who created the drill.
    pub requested_by_verified: bool,
    /// The pipeline under test, as it was pinned.
    pub pipeline: PipelineIdentity,
    /// The Aurora cluster.
    pub cluster: ClusterStatus,
    /// The writer before the failover.
    pub writer: String,
    /// The instance that the call names.
    pub target: String,
    /// The roles of all instances right before the call.
    pub roles: Vec<RoleStatus>,
    /// The probe's pod.
    pub probe: ProbeIdentity,
}

/// Which drill.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrillIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was created.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created: Timestamp,
}

/// Which pipeline, and which state of its spec.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PipelineIdentity {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// The queue's name.
    pub queue: String,
    /// The table, `schema.name`.
    pub table: String,
}

/// Which pod.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeIdentity {
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its image.
    pub image: String,
}

/// What is kept of a drill.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The form of this document: [`SCHEMA`].
    pub schema: String,
    /// What was decided before the call.
    pub claim: Claim,
    /// What became of the call.
    pub call: Call,
    /// How the drill ended.
    pub verdict: Verdict,
    /// Why, in one word: one of [`crate::conditions::drill_reasons`].
    pub reason: String,
    /// Why, for people, and what to do.
    pub message: String,
    /// What was asked for and what was measured.
    pub criteria: Vec<Criterion>,
    /// What happened, in the order of `at`, as far as it was known when the drill was concluded: an event that RDS tells later is not in it.
    pub timeline: Vec<Observation>,
    /// The roles of all instances at the end.
    pub roles_after: Vec<RoleStatus>,
    /// From the claim until the RDS API named another writer, in milliseconds; absent too when the operator was started anew in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_milliseconds: Option<i64>,
    /// What the probe measured; absent when its pod was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeResult>,
    /// Seconds of the probe, for the chart.
    pub series: Series,
    /// When the document was made, by the operator's clock.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub concluded: Timestamp,
    /// The version of the operator that made it.
    pub operator_version: String,
    /// How far the evidence reaches, for those who judge it: what was judged and what was not.
    pub method: Vec<String>,
}

impl Evidence {
    /// The new writer: the instance that took the probe's writes, else the one that RDS described as the writer. None when no other instance
    /// than the old writer is known to be.
    #[must_use]
    pub fn writer_after(&self) -> Option<&str> {
        let measured = self.probe.as_ref().and_then(|probe| probe.gap.as_ref()?.writer_after.as_deref());
        let described = self.roles_after.iter().find(|role| role.role == "Writer").map(|role| role.instance.as_str());
        let other = |name: &&str| *name != self.claim.writer;
        measured.filter(other).or(described.filter(other))
    }

    /// How long writes stood still.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        let probe = self.probe.as_ref();
        let gap = probe.and_then(|probe| probe.gap.as_ref());
        let recovery = Recovery {
            summary: None,
            lower_bound_milliseconds: gap.map(|gap| gap.lower_milliseconds),
            upper_bound_milliseconds: gap.and_then(|gap| gap.upper_milliseconds),
            control_plane_milliseconds: self.control_plane_milliseconds,
            accept_side_milliseconds: probe.map(|probe| probe.accept.longest_gap_milliseconds),
            backlog_drained_milliseconds: probe.and_then(|probe| probe.drained_milliseconds),
        };
        Recovery { summary: recovery.interval(), ..recovery }
    }

    /// The roles before the failover, with the lag that the probe read at the end of its baseline.
    #[must_use]
    pub fn roles_before(&self) -> Vec<RoleStatus> {
        let measured = |instance: &str| self.probe.as_ref()?.instances.iter().find(|shown| shown.name == instance)?.lag_before_milliseconds;
        let role = |role: &RoleStatus| RoleStatus { replica_lag_milliseconds: measured(&role.instance), ..role.clone() };
        self.claim.roles.iter().map(role).collect()
    }
}

/// What became of the call for a failover.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// What is known of it.
    pub outcome: CallOutcome,
    /// When it was begun, by the operator's clock; absent when another process of the operator made it, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub began: Option<Timestamp>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ended: Option<Timestamp>,
    /// What the RDS API or the way to it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What is known of a call.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The RDS API has accepted it.
    Accepted,
    /// The RDS API has definitely refused it.
    Refused,
    /// It may have been made, or taken effect: only the roles can tell.
    Unclear,
    /// The process that made the claim, which alone may call, did not.
    NotMade,
    /// Of a newer version.
    #[serde(other)]
    Unknown,
}

/// Seconds of the probe, as the operator could read them.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// The seconds, oldest first; at most [`MOST_SECONDS`].
    pub seconds: Vec<ProbeSecond>,
    /// Why seconds are missing; absent when none is known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// The JSON Schema of the [`Evidence`], for those who read it without this crate; `crds/schemas` has it as a file.
#[must_use]
pub fn json_schema() -> schemars::Schema {
    schemars::schema_for!(Evidence)
}

/// A document in canonical JSON.
///
/// # Errors
/// It cannot be written as JSON: never, for the types of this module.
pub fn canonical<T: Serialize>(document: &T) -> Result<String, serde_json::Error> {
    serde_json_canonicalizer::to_string(document)
}

/// The digest of a text, as it stands in a drill's status: `sha256:` and hexadecimal digits.
#[must_use]
pub fn digest(text: &str) -> String {
    use std::fmt::Write;
    Sha256::digest(text.as_bytes()).iter().fold("sha256:".to_owned(), |mut digest, byte| {
        write!(digest, "{byte:02x}").ok();
        digest
    })
}
