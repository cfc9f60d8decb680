//! A drill and its world for unit tests.

use durable_write_crds::conditions::types;
use durable_write_crds::drill::{FailoverDrillSpec, Integrity};
use durable_write_crds::evidence::Claim;
use durable_write_crds::probe::{AcceptSide, ClockOffset, DepthSeen, Gap, ProbeOutcome, ProbeResult};
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::observed::{Probe, ProbeSeen};
use super::preflight::{self, Pins};
use super::rds::{AuroraCluster, Instance};
use super::{build, evidence};
use crate::pipeline::fixtures::{everything, settings};

pub(super) const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// A moment, as seconds after the drill was made.
pub(super) fn second(seconds: i64) -> Timestamp {
    millisecond(seconds * 1000)
}

pub(super) fn millisecond(milliseconds: i64) -> Timestamp {
    "2026-11-24T06:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(milliseconds)
}

/// A drill of the pipeline `payments`.
pub(super) fn drill() -> FailoverDrill {
    let spec: FailoverDrillSpec = serde_json::from_value(serde_json::json!({"pipelineRef": {"name": "payments"}})).unwrap();
    let mut drill = FailoverDrill::new("first", spec);
    drill.metadata.namespace = pipeline().metadata.namespace;
    drill.metadata.uid = Some(UID.to_owned());
    drill.metadata.generation = Some(1);
    drill.metadata.creation_timestamp = Some(Time(second(0)));
    drill
}

/// A pipeline that can be drilled.
pub(super) fn pipeline() -> DurableWritePipeline {
    let mut pipeline = everything();
    pipeline.metadata.generation = Some(4);
    pipeline.spec.suspend = false;
    let condition = |type_: &str| Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: "AsExpected".to_owned(),
        message: String::new(),
        last_transition_time: Time(second(-100)),
        observed_generation: Some(4),
    };
    pipeline.status.get_or_insert_default().conditions = vec![condition(types::READY), condition(types::FLOWING)];
    pipeline
}

pub(super) fn cluster() -> AuroraCluster {
    let instance = |name: &str, writer, tier| Instance {
        name: name.to_owned(),
        writer,
        tier: Some(tier),
        zone: Some("eu-west-1a".to_owned()),
        status: "available".to_owned(),
    };
    let identifier = pipeline().spec.database.aurora.unwrap().cluster_identifier;
    AuroraCluster {
        identifier,
        resource_id: "cluster-ABCDEF".to_owned(),
        engine: "aurora-postgresql".to_owned(),
        engine_version: "15.4".to_owned(),
        status: "available".to_owned(),
        tags: [("durablewrite.dev/drills.test".to_owned(), "@all".to_owned())].into(),
        instances: vec![instance("payments-1", true, 1), instance("payments-2", false, 1), instance("payments-3", false, 0)],
    }
}

pub(super) fn pins() -> Pins {
    let pipeline = pipeline();
    Pins {
        cluster: cluster(),
        writer: "payments-1".to_owned(),
        target: "payments-3".to_owned(),
        identity: preflight::identity(&pipeline),
        pipeline,
    }
}

/// The probe's pod as Kubernetes shows it.
pub(super) fn pod(ready: bool) -> Pod {
    let mut pod = build::pod(&drill(), &pins(), &settings(), SignedDuration::from_secs(897)).unwrap();
    pod.metadata.uid = Some("pod-uid".to_owned());
    pod.metadata.creation_timestamp = Some(Time(second(3)));
    pod.status = Some(running(ready));
    pod
}

/// The status of a probe that runs.
pub(super) fn running(ready: bool) -> PodStatus {
    status(ContainerState { running: Some(ContainerStateRunning::default()), ..ContainerState::default() }, ready)
}

/// A probe that has ended with that result.
pub(super) fn ended(result: &ProbeResult) -> Pod {
    Pod { status: Some(terminated(result)), ..pod(false) }
}

/// The status of a probe that has ended with that result.
pub(super) fn terminated(result: &ProbeResult) -> PodStatus {
    let terminated = ContainerStateTerminated {
        message: Some(serde_json::to_string(result).unwrap()),
        finished_at: Some(Time(result.ended)),
        ..ContainerStateTerminated::default()
    };
    status(ContainerState { terminated: Some(terminated), ..ContainerState::default() }, false)
}

fn status(state: ContainerState, ready: bool) -> PodStatus {
    let status = ContainerStatus { name: build::CONTAINER.to_owned(), ready, state: Some(state), ..ContainerStatus::default() };
    PodStatus { phase: Some("Running".to_owned()), container_statuses: Some(vec![status]), ..PodStatus::default() }
}

pub(super) fn probe(pod: Pod) -> Probe {
    match ProbeSeen::read(Some(pod), &drill()) {
        ProbeSeen::Ours(probe) => *probe,
        _ => panic!("not the drill's probe"),
    }
}

/// The claim, 30 s after the drill was made.
pub(super) fn claim() -> Claim {
    evidence::claim(&drill(), &pins(), &probe(pod(true)), &settings(), "nonce".to_owned(), second(30))
}

/// The result of a probe that saw a failover of 7.1 to 7.3 s, and everything well.
pub(super) fn result() -> ProbeResult {
    let channel = Integrity { sent: 1000, acknowledged: 1000, committed: 1000, ..Integrity::default() };
    ProbeResult {
        version: "0.1.0".to_owned(),
        drill: UID.to_owned(),
        outcome: ProbeOutcome::Completed,
        reason: None,
        message: None,
        started: second(5),
        ready: Some(second(25)),
        ended: second(90),
        gap: Some(Gap {
            last_good_began: millisecond(30_900),
            first_failed_ended: Some(millisecond(31_000)),
            last_failed_began: Some(millisecond(38_100)),
            first_good_ended: Some(millisecond(38_200)),
            failed_attempts: 71,
            writer_after: Some("payments-3".to_owned()),
            lower_milliseconds: 7100,
            upper_milliseconds: Some(7300),
        }),
        writer_changes: 1,
        accept: AcceptSide { attempted: 1000, acknowledged: 1000, failed: 0, acknowledged_in_gap: 365, longest_gap_milliseconds: 40 },
        queue_channel: channel.clone(),
        direct_channel: channel,
        recovered: 1,
        drained_milliseconds: Some(2500),
        queue_gap_milliseconds: Some(7600),
        depth: DepthSeen { before: Some(2), peak: Some(370), after: Some(1) },
        dead_letter_growth: Some(0),
        missed_ticks: 1,
        missed_ticks_in_gap: 0,
        clock_step_milliseconds: 2,
        clock_offsets: vec![ClockOffset { instance: "payments-1".to_owned(), milliseconds: 3, uncertainty_milliseconds: 4 }],
        instances: Vec::new(),
        delay_seconds: 0,
    }
}
