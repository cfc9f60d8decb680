//! What is known of a drill, from its evidence where there is some, else from its status: the one form that everything is rendered from.

mod seal;

use anyhow::{Context, bail};
use durable_write_crds::FailoverDrill;
use durable_write_crds::conditions::drill_types;
use durable_write_crds::drill::{
    ClusterStatus, Criterion, DrillInstance, DrillQueue, FailoverDrillSpec, Integrity, Observation, Recovery, RoleStatus, Verdict,
};
use durable_write_crds::evidence::{self, Call, Claim, Evidence, Series};
use durable_write_crds::probe::ProbeResult;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

pub use seal::Seal;

/// What is known of a drill.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, which no other drill ever has.
    pub uid: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it ended.
    pub concluded: Option<Timestamp>,
    /// What was asked for.
    pub spec: FailoverDrillSpec,
    /// How it ended; none while it runs.
    pub verdict: Option<Verdict>,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// How far this account can be trusted.
    pub seal: Seal,
    /// The Aurora cluster.
    pub cluster: Option<ClusterStatus>,
    /// The writer before the failover.
    pub writer_before: Option<String>,
    /// The instance that was asked to become the writer.
    pub target: Option<String>,
    /// The new writer; none when no other instance became the writer.
    pub writer_after: Option<String>,
    /// The roles before the failover, with the lag that was measured.
    pub roles_before: Vec<RoleStatus>,
    /// The roles after it.
    pub roles_after: Vec<RoleStatus>,
    /// What was asked for and what was measured.
    pub criteria: Vec<Criterion>,
    /// What happened.
    pub timeline: Vec<Observation>,
    /// How long writes stood still.
    pub recovery: Recovery,
    /// What became of what the probe wrote; none when it was not counted.
    pub integrity: Option<Integrity>,
    /// How many messages were in the queue.
    pub queue: DrillQueue,
    /// What each instance shows at the end.
    pub instances: Vec<DrillInstance>,
    /// The conditions of the drill, where it still exists.
    pub conditions: Vec<Condition>,
    /// What only the evidence has.
    pub evidence: Option<Details>,
}

/// What only the evidence has.
#[derive(Clone, Debug)]
pub struct Details {
    /// The document, as it is stored.
    pub document: String,
    /// What was decided before the call.
    pub claim: Claim,
    /// What became of the call.
    pub call: Call,
    /// What the probe measured; none when its pod was lost.
    pub probe: Option<ProbeResult>,
    /// Seconds of the probe.
    pub series: Series,
    /// The version of the operator that made the document.
    pub operator_version: String,
    /// How far the evidence reaches.
    pub method: Vec<String>,
}

impl Account {
    /// Puts together what a drill and the ConfigMap of its evidence say. Either may be missing, not both.
    ///
    /// # Errors
    /// There is neither, or the evidence is of a form that this version cannot read.
    pub fn new(drill: Option<&FailoverDrill>, config_map: Option<&ConfigMap>) -> anyhow::Result<Self> {
        let labelled = config_map.filter(|map| map.labels().get(evidence::LABEL).is_some_and(|value| value == "true"));
        let stored = |key: &str| labelled.and_then(|map| map.data.as_ref()?.get(key).cloned());
        let Some(drill) = drill else {
            let document = stored(evidence::EVIDENCE_KEY).context("there is no drill of that name, and no evidence of one")?;
            let seal = Seal::DrillGone { digest: evidence::digest(&document) };
            return Ok(Self::from_evidence(read(&document)?, document, seal, Vec::new()));
        };
        let status = drill.status.clone().unwrap_or_default();
        let reference = status.evidence.as_ref();
        let Some(document) = stored(evidence::EVIDENCE_KEY) else {
            let seal = if let Some(reference) = reference {
                Seal::Missing { expected: Some(reference.digest.clone()) }
            } else if status.verdict.is_none() {
                Seal::NotConcluded
            } else if stored(evidence::CLAIM_KEY).is_some_and(|claim| claims(&claim, drill)) {
                Seal::Missing { expected: None }
            } else {
                Seal::NothingClaimed
            };
            return Ok(Self::from_status(drill, seal));
        };
        let actual = evidence::digest(&document);
        let seal = match reference {
            Some(reference) if reference.digest == actual => Seal::Verified { digest: actual },
            Some(reference) => Seal::Mismatch { expected: reference.digest.clone(), actual },
            None => Seal::NoDigest { digest: actual },
        };
        let evidence = read(&document).with_context(|| seal.text())?;
        if drill.metadata.uid.as_deref() != Some(evidence.claim.drill.uid.as_str()) {
            // The name was used before. What is stored there says nothing of this drill.
            let seal = if reference.is_some() { seal } else { Seal::OfAnotherDrill { uid: evidence.claim.drill.uid } };
            return Ok(Self::from_status(drill, seal));
        }
        Ok(Self::from_evidence(evidence, document, seal, status.conditions))
    }

    /// What a drill alone says, for who may not read its evidence.
    #[must_use]
    pub fn without_evidence(drill: &FailoverDrill) -> Self {
        let ended = drill.status.as_ref().is_some_and(|status| status.verdict.is_some());
        Self::from_status(drill, if ended { Seal::NotAllowed } else { Seal::NotConcluded })
    }

    fn from_evidence(evidence: Evidence, document: String, seal: Seal, conditions: Vec<Condition>) -> Self {
        let (writer_after, recovery, roles_before) =
            (evidence.writer_after().map(str::to_owned), evidence.recovery(), evidence.roles_before());
        let Evidence { claim, call, verdict, reason, message, criteria, timeline, roles_after, probe, series, .. } = evidence;
        Self {
            namespace: claim.drill.namespace.clone(),
            name: claim.drill.name.clone(),
            uid: claim.drill.uid.clone(),
            created: Some(claim.drill.created),
            concluded: Some(evidence.concluded),
            spec: claim.spec.clone(),
            verdict: Some(verdict),
            reason,
            message,
            seal,
            cluster: Some(claim.cluster.clone()),
            writer_before: Some(claim.writer.clone()),
            target: Some(claim.target.clone()),
            writer_after,
            roles_before,
            roles_after,
            criteria,
            timeline,
            recovery,
            integrity: probe.as_ref().map(ProbeResult::integrity),
            queue: probe.as_ref().map_or_else(DrillQueue::default, ProbeResult::queue),
            instances: probe.iter().flat_map(|probe| &probe.instances).map(instance).collect(),
            conditions,
            evidence: Some(Details {
                document,
                claim,
                call,
                probe,
                series,
                operator_version: evidence.operator_version,
                method: evidence.method,
            }),
        }
    }

    fn from_status(drill: &FailoverDrill, seal: Seal) -> Self {
        let status = drill.status.clone().unwrap_or_default();
        let complete = status.conditions.iter().find(|condition| condition.type_ == drill_types::COMPLETE && condition.status == "True");
        Self {
            namespace: drill.namespace().unwrap_or_default(),
            name: drill.name_any(),
            uid: drill.uid().unwrap_or_default(),
            created: drill.creation_timestamp().map(|time| time.0),
            concluded: complete.map(|condition| condition.last_transition_time.0),
            spec: drill.spec.clone(),
            verdict: status.verdict,
            reason: complete.map(|condition| condition.reason.clone()).unwrap_or_default(),
            message: complete.map(|condition| condition.message.clone()).unwrap_or_default(),
            seal,
            cluster: status.cluster,
            writer_before: status.writer_before,
            target: status.target,
            writer_after: status.writer_after,
            roles_before: status.roles_before,
            roles_after: status.roles_after,
            criteria: status.criteria,
            timeline: status.timeline,
            recovery: status.recovery.unwrap_or_default(),
            integrity: status.integrity,
            queue: status.queue.unwrap_or_default(),
            instances: status.instances,
            conditions: status.conditions,
            evidence: None,
        }
    }

    /// The condition of that type, where the drill still exists.
    #[must_use]
    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == name)
    }
}

/// Reads a document, if it is of the form that this version knows.
fn read(document: &str) -> anyhow::Result<Evidence> {
    let value: serde_json::Value = serde_json::from_str(document).context("the evidence is not JSON")?;
    match value.get("schema").and_then(serde_json::Value::as_str) {
        Some(evidence::SCHEMA) => serde_json::from_value(value).context("the evidence is not of the form that it names"),
        Some(other) => {
            bail!("the evidence is of the form {other}, and this version reads only {}: use a newer kubectl dw", evidence::SCHEMA)
        }
        None => bail!("the evidence does not say which form it is of"),
    }
}

/// Whether a stored claim is of this drill.
fn claims(claim: &str, drill: &FailoverDrill) -> bool {
    serde_json::from_str::<Claim>(claim).is_ok_and(|claim| drill.metadata.uid.as_deref() == Some(claim.drill.uid.as_str()))
}

fn instance(rows: &durable_write_crds::probe::InstanceRows) -> DrillInstance {
    DrillInstance { name: rows.name.clone(), probe_rows: rows.rows }
}
