//! What was read of a drill's world, in plain types. No I/O.

use durable_write_crds::evidence::{self, Claim, Evidence};
use durable_write_crds::probe::{PLAN_VARIABLE, ProbePlan, ProbeResult};
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use serde_json::Value;

use super::build::{CONTAINER, GENERATION_ANNOTATION, PIPELINE_UID_ANNOTATION};
use super::rds::{AuroraCluster, ClusterEvent};
use crate::pipeline::names::is_controlled_by;

/// No count and no length of a drill, in milliseconds, is greater.
const MOST_MEASURED: f64 = 1e12;

/// All that was read for one step of a drill.
pub(super) struct Observed {
    pub(super) evidence: EvidenceSeen,
    pub(super) pipeline: Option<DurableWritePipeline>,
    pub(super) workers: Workers,
    pub(super) probe: ProbeSeen,
    pub(super) lease: LeaseSeen,
    pub(super) cluster: ClusterSeen,
    /// The events since the claim, or of the longest interval before it; the error says why they are not known.
    pub(super) events: Result<Vec<ClusterEvent>, String>,
}

/// The ConfigMap with the name of the drill's evidence.
pub(super) enum EvidenceSeen {
    None,
    /// It is not evidence.
    Foreign,
    /// It is another drill's of the same name.
    Another,
    /// It is evidence of a form that this version does not know, maybe this drill's.
    Unreadable,
    /// This drill's claim, and the ConfigMap that holds it.
    Claimed(Box<Claim>, Box<ConfigMap>),
    /// This drill's evidence.
    Concluded(Box<Evidence>, String),
}

impl EvidenceSeen {
    /// Reads the ConfigMap as evidence of the drill with that uid.
    pub(super) fn read(config_map: Option<ConfigMap>, uid: &str) -> Self {
        let Some(config_map) = config_map else { return Self::None };
        if config_map.labels().get(evidence::LABEL).is_none_or(|value| value != "true") {
            return Self::Foreign;
        }
        let text = |key: &str| config_map.data.as_ref().and_then(|data| data.get(key));
        let claim: Value = text(evidence::CLAIM_KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        if claim.pointer("/drill/uid").and_then(Value::as_str).is_some_and(|claimed| claimed != uid) {
            return Self::Another;
        }
        let claim: Option<Claim> = serde_json::from_value(claim).ok();
        let Some(claim) = claim.filter(|claim| claim.schema == evidence::SCHEMA) else { return Self::Unreadable };
        match text(evidence::EVIDENCE_KEY).filter(|_| config_map.immutable == Some(true)) {
            None => Self::Claimed(Box::new(claim), Box::new(config_map)),
            Some(document) => match serde_json::from_str::<Evidence>(document) {
                Ok(evidence) => Self::Concluded(Box::new(evidence), evidence::digest(document)),
                Err(_) => Self::Unreadable,
            },
        }
    }

    pub(super) fn claim(&self) -> Option<&Claim> {
        match self {
            Self::Claimed(claim, _) => Some(claim),
            Self::Concluded(evidence, _) => Some(&evidence.claim),
            Self::None | Self::Foreign | Self::Another | Self::Unreadable => None,
        }
    }
}

/// The workers of the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Workers {
    /// Uid of each pod, and when the API server made it.
    pub(super) pods: Vec<(String, Timestamp)>,
    /// Kubernetes replaces pods now.
    pub(super) rolling: bool,
}

impl Workers {
    pub(super) fn new(pods: &[Pod], rolling: bool) -> Self {
        let pods = pods.iter().filter_map(|pod| Some((pod.uid()?, pod.creation_timestamp()?.0))).collect();
        Self { pods, rolling }
    }
}

/// The pod with the name of the drill's probe.
pub(super) enum ProbeSeen {
    None,
    /// It is not this drill's, or not of this form.
    Foreign,
    Ours(Box<Probe>),
}

impl ProbeSeen {
    pub(super) fn ours(&self) -> Option<&Probe> {
        match self {
            Self::Ours(probe) => Some(probe),
            Self::None | Self::Foreign => None,
        }
    }
}

/// The drill's probe.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) pod: Pod,
    pub(super) uid: String,
    pub(super) plan: ProbePlan,
    /// The pipeline's uid and generation as they were pinned.
    pub(super) pipeline: (String, i64),
    pub(super) image: String,
    pub(super) created: Timestamp,
    /// When its container began, where it runs.
    pub(super) started: Option<Timestamp>,
    /// Its baseline is steady.
    pub(super) ready: bool,
    /// Why its container does not start.
    pub(super) waiting: Option<String>,
    pub(super) end: Option<ProbeEnd>,
}

/// How the probe's container ended.
#[derive(Clone, Debug)]
pub(super) struct ProbeEnd {
    pub(super) at: Option<Timestamp>,
    /// Its result, or why there is none.
    pub(super) result: Result<Box<ProbeResult>, String>,
}

impl ProbeSeen {
    /// Reads the pod as the probe of `drill`. The container's state counts, not the pod's phase: a sidecar may live on.
    pub(super) fn read(pod: Option<Pod>, drill: &FailoverDrill) -> Self {
        let Some(pod) = pod else { return Self::None };
        read_probe(pod, &drill.uid().unwrap_or_default()).map_or(Self::Foreign, |probe| Self::Ours(Box::new(probe)))
    }
}

fn read_probe(pod: Pod, drill: &str) -> Option<Probe> {
    if !is_controlled_by(&pod.metadata, drill) {
        return None;
    }
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == CONTAINER)?;
    let plan = container.env.iter().flatten().find(|variable| variable.name == PLAN_VARIABLE)?.value.as_deref()?;
    let plan: ProbePlan = serde_json::from_str(plan).ok().filter(|plan: &ProbePlan| plan.drill == drill)?;
    let annotation = |name: &str| pod.annotations().get(name);
    let pipeline = (annotation(PIPELINE_UID_ANNOTATION)?.clone(), annotation(GENERATION_ANNOTATION)?.parse().ok()?);
    let status = pod.status.clone().unwrap_or_default();
    let shown: Option<&ContainerStatus> = status.container_statuses.iter().flatten().find(|status| status.name == CONTAINER);
    let state = shown.and_then(|shown| shown.state.clone()).unwrap_or_default();
    let end = match state.terminated {
        Some(terminated) => Some(read_end(&terminated, drill)),
        None if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) => {
            let why = status.reason.or(status.message).unwrap_or_else(|| "without a reason".to_owned());
            Some(ProbeEnd { at: None, result: Err(format!("Kubernetes ended the pod: {why}")) })
        }
        None => None,
    };
    Some(Probe {
        uid: pod.uid()?,
        created: pod.creation_timestamp()?.0,
        started: state.running.and_then(|running| running.started_at).map(|time| time.0),
        image: container.image.clone().unwrap_or_default(),
        ready: shown.is_some_and(|shown| shown.ready) && end.is_none() && pod.metadata.deletion_timestamp.is_none(),
        waiting: state.waiting.and_then(|waiting| waiting.message.or(waiting.reason)),
        plan,
        pipeline,
        end,
        pod,
    })
}

fn read_end(terminated: &ContainerStateTerminated, drill: &str) -> ProbeEnd {
    let message = terminated.message.as_deref().unwrap_or_default();
    let value: Value = serde_json::from_str(message).unwrap_or_default();
    let plausible = is_plausible(&value);
    let result = match serde_json::from_value::<ProbeResult>(value) {
        Ok(result) if result.drill == drill && plausible => Ok(Box::new(result)),
        Ok(result) if result.drill == drill => Err("the probe's result has numbers that nobody can have measured".to_owned()),
        Ok(_) => Err("the probe's result is of another drill".to_owned()),
        Err(_) => Err(format!(
            "the probe ended with code {} and left no result ({})",
            terminated.exit_code,
            terminated.reason.as_deref().unwrap_or("no reason")
        )),
    };
    ProbeEnd { at: terminated.finished_at.as_ref().map(|time| time.0), result }
}

/// What a probe says is the tenant's: with numbers beyond all measure nothing is to be reckoned.
fn is_plausible(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= MOST_MEASURED),
        Value::Array(values) => values.iter().all(is_plausible),
        Value::Object(fields) => fields.values().all(is_plausible),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// The Lease of the Aurora cluster.
#[derive(Clone, Debug)]
pub(super) enum LeaseSeen {
    /// It was not looked for: the cluster is not known.
    NotAsked,
    Read {
        lease: Option<Box<Lease>>,
        /// The drill that holds it, when it is another, is gone or has ended.
        holder_gone: bool,
    },
}

/// The Aurora cluster of the pipeline.
#[derive(Clone, Debug)]
pub(super) enum ClusterSeen {
    /// The pipeline has none, or does not exist.
    NotAsked,
    Found(AuroraCluster),
    Missing,
    Unknown(String),
}

impl ClusterSeen {
    pub(super) fn found(&self) -> Option<&AuroraCluster> {
        match self {
            Self::Found(cluster) => Some(cluster),
            Self::NotAsked | Self::Missing | Self::Unknown(_) => None,
        }
    }
}
