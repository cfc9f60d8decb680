//! What is seen of a drill. Enumerations are open strings, so that an older reader can live with a newer writer.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is seen of a drill.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailoverDrillStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the drill is, in one word: one of [`Phase`]. A summary for people; nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 32))]
    pub phase: Option<Phase>,
    /// How the drill ended: one of [`Verdict`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 32))]
    pub verdict: Option<Verdict>,
    /// PreflightPassed, Triggered, Recovered, Complete, Passed and Reconciling.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The cluster, as it was pinned in the preflight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// The writer before the failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub writer_before: Option<String>,
    /// The instance that was asked to become the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub target: Option<String>,
    /// The new writer; absent when no other instance became the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub writer_after: Option<String>,
    /// The roles of all instances before the failover.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["instance".into()]))]
    pub roles_before: Vec<RoleStatus>,
    /// The roles of all instances after the failover.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["instance".into()]))]
    pub roles_after: Vec<RoleStatus>,
    /// What happened, in the order of `at`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub timeline: Vec<Observation>,
    /// How long writes stood still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// What became of what the probe wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// How many messages were in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<DrillQueue>,
    /// How many of the probe's rows each instance shows at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub instances: Vec<DrillInstance>,
    /// What was asked for and what was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub criteria: Vec<Criterion>,
    /// Where the evidence is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceReference>,
}

/// An enumeration that reads what it does not know as `Unknown`.
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A value of a newer version.
            #[serde(other)]
            Unknown,
        }

        impl $name {
            /// The value as it stands in a resource.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                    Self::Unknown => "Unknown",
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

open_enum! {
    /// Where a drill is.
    Phase {
        /// It waits for its turn.
        Pending,
        /// Cluster, pipeline and limits are looked at.
        Preflight,
        /// The probe writes, until its writes are steady.
        Baseline,
        /// The failover is claimed and called for.
        Triggering,
        /// The failover is under way.
        FailingOver,
        /// Another instance is the writer; the probe makes sure that writes are steady again.
        Recovering,
        /// Everything that was sent is awaited.
        Draining,
        /// The drill has ended.
        Concluded,
    }
}

open_enum! {
    /// How a drill ended.
    Verdict {
        /// Measured, and every objective met.
        Pass,
        /// Measured, and an objective missed.
        Fail,
        /// Not measured well enough to say.
        Inconclusive,
        /// Ended by request.
        Aborted,
        /// No failover was triggered, or what became of it cannot be known.
        Error,
    }
}

open_enum! {
    /// How one criterion came out.
    CriterionResult {
        /// The objective is met.
        Pass,
        /// The objective is missed.
        Fail,
        /// It cannot be said.
        Inconclusive,
    }
}

open_enum! {
    /// Who saw something.
    ObservationSource {
        /// The operator, by its own clock.
        Operator,
        /// An event of RDS, with the event's own time.
        RDSEvent,
        /// A description that the RDS API gave.
        RDS,
        /// The probe, by its own clock.
        Probe,
    }
}

/// An Aurora cluster.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Its identifier.
    #[schemars(length(max = 63))]
    pub identifier: String,
    /// Its resource identifier, which no other cluster ever has.
    #[schemars(length(max = 255))]
    pub resource_id: String,
    /// The version of its engine.
    #[schemars(length(max = 64))]
    pub engine_version: String,
}

/// One instance of the cluster, as the RDS API describes it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RoleStatus {
    /// The instance's identifier.
    #[schemars(length(max = 63))]
    pub instance: String,
    /// `Writer` or `Reader`.
    #[schemars(length(max = 32))]
    pub role: String,
    /// The availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub zone: Option<String>,
    /// The lowest tier is promoted first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion_tier: Option<i32>,
    /// How far it lagged behind the writer before the failover, in milliseconds, as the probe read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_lag_milliseconds: Option<i64>,
    /// When this was seen.
    pub observed_at: MicroTime,
}

/// Something that happened.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// When it happened, by the source's clock.
    pub at: MicroTime,
    /// When it was seen, by the operator's clock.
    pub observed_at: MicroTime,
    /// Who saw it: one of [`ObservationSource`].
    #[schemars(with = "String", length(max = 32))]
    pub source: ObservationSource,
    /// What it was, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What it was.
    #[schemars(length(max = 512))]
    pub message: String,
    /// How far `at` may be off, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertainty_milliseconds: Option<i64>,
}

/// How long writes stood still. Lengths in milliseconds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Both bounds for people: `7.1–7.3 s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub summary: Option<String>,
    /// Writes stood still at least so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound_milliseconds: Option<i64>,
    /// Writes stood still at most so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_bound_milliseconds: Option<i64>,
    /// From the call until the RDS API named another writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane_milliseconds: Option<i64>,
    /// The longest time without an acknowledged message on the accept side, while one was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_side_milliseconds: Option<i64>,
    /// From the recovery until every acknowledged message was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_drained_milliseconds: Option<i64>,
}

impl Recovery {
    /// Both bounds for people, rounded outwards so that they never promise more than was measured: `7.1–7.3 s`.
    #[must_use]
    pub fn interval(&self) -> Option<String> {
        let tenths = |tenths: i64| format!("{}.{}", tenths / 10, tenths % 10);
        let down = |milliseconds: i64| tenths(milliseconds.max(0) / 100);
        let up = |milliseconds: i64| tenths(milliseconds.max(0).saturating_add(99) / 100);
        match (self.lower_bound_milliseconds, self.upper_bound_milliseconds) {
            (Some(lower), Some(upper)) => Some(format!("{}–{} s", down(lower), up(upper))),
            (Some(lower), None) => Some(format!("at least {} s", down(lower))),
            (None, Some(upper)) => Some(format!("at most {} s", up(upper))),
            (None, None) => None,
        }
    }
}

/// What became of what the probe wrote, of both channels together.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Integrity {
    /// Attempted.
    pub sent: i64,
    /// Confirmed, by SQS or by the database.
    pub acknowledged: i64,
    /// Distinct writes that were found.
    pub committed: i64,
    /// Confirmed and not found.
    pub lost: i64,
    /// Found once too often.
    pub duplicated: i64,
    /// Neither confirmed nor refused.
    pub unknown: i64,
    /// Found, but never attempted or definitely refused.
    pub unexpected: i64,
    /// Found only after the deadline of the drain.
    pub late: i64,
    /// Confirmed and not found while the queue still had a backlog: they may only be late, and are not counted as lost.
    #[serde(default)]
    pub undrained: i64,
}

/// How many messages were in the queue, as SQS counts them: about.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrillQueue {
    /// At the end of the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// At the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<i64>,
    /// At the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Probe messages that went to the dead-letter queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_lettered_probes: Option<i64>,
}

/// What one instance shows at the end.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrillInstance {
    /// The instance's identifier.
    #[schemars(length(max = 63))]
    pub name: String,
    /// How many of the probe's rows it shows; absent when it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_rows: Option<i64>,
}

/// What was asked for and what was measured.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Criterion {
    /// The objective: `recoveryTime`, `lost`, `duplicated`, `deadLettered`, `backlogDrained`; or a rule of measuring.
    #[schemars(length(max = 64))]
    pub name: String,
    /// What was asked for.
    #[schemars(length(max = 64))]
    pub target: String,
    /// What was measured.
    #[schemars(length(max = 64))]
    pub measured: String,
    /// How it came out: one of [`CriterionResult`].
    #[schemars(with = "String", length(max = 32))]
    pub result: CriterionResult,
    /// Why, where the numbers do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// Where the evidence is kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceReference {
    /// The immutable ConfigMap of the drill's namespace.
    pub config_map_ref: EvidenceConfigMap,
    /// `sha256:` and the digest of the document, in hexadecimal digits.
    #[schemars(length(max = 71))]
    pub digest: String,
}

/// The immutable ConfigMap of the drill's namespace that holds the evidence.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceConfigMap {
    /// The name of the ConfigMap.
    #[schemars(length(max = 253))]
    pub name: String,
}

#[cfg(test)]
mod tests;
