//! Pipelines and answers for unit tests.

use durable_write_crds::DurableWritePipeline;
use durable_write_crds::conditions::reasons;
use durable_write_crds::wire::{Counters, DatabaseState, QueueState, Report, WorkerState};
use jiff::Timestamp;
use serde::Serialize;

use super::rivals::Rivals;
use super::validate::{Accepted, validate};
use crate::aurora::{Cluster, Lookup, Member};
use crate::settings::{Settings, WorkerEnvironment};
use crate::workers::Answer;

/// The smallest pipeline, as the API server would store it.
pub(crate) fn orders() -> DurableWritePipeline {
    parse(
        r"
apiVersion: durablewrite.dev/v1alpha1
kind: DurableWritePipeline
metadata: {name: orders, namespace: shop, uid: 11111111-2222-3333-4444-555555555555, generation: 1, creationTimestamp: 2026-11-23T12:00:00Z}
spec:
  queue: {name: orders.fifo}
  database:
    postgres: {writer: 'database:5432', instances: ['database-1:5432', 'database-2:5432']}
    name: shop
    credentials: {secretRef: {name: orders-db}}
  target:
    table: {name: orders}
    columns:
    - {name: id, from: {body: /id}}
    - {name: payload, from: {body: ''}}
  idempotency: {targetKey: {columns: [id]}}
",
    )
}

/// A pipeline on Aurora with every field set.
pub(crate) fn everything() -> DurableWritePipeline {
    parse(
        r"
apiVersion: durablewrite.dev/v1alpha1
kind: DurableWritePipeline
metadata: {name: payments, namespace: shop, uid: 66666666-2222-3333-4444-555555555555, generation: 7, creationTimestamp: 2026-11-23T12:00:00Z}
spec:
  suspend: true
  queue: {arn: 'arn:aws:sqs:eu-west-1:123456789012:payments', deadLetterQueue: {name: payments-dlq}}
  database:
    aurora: {clusterIdentifier: payments}
    name: shop
    credentials: {secretRef: {name: payments-db}}
    tls: {mode: VerifyCa, ca: {configMapKeyRef: {name: payments-ca, key: ca.pem}}}
  target:
    table: {schema: shop, name: payments}
    columns:
    - {name: id, from: {attribute: PaymentId}, whenMissing: Reject}
    - {name: sent_at, from: {system: SentTimestamp}, whenMissing: 'Null'}
  idempotency: {targetKey: {columns: [id], onConflict: Ignore}}
  batching: {maxRows: 100, maxBytes: 1Mi, maxWait: 1s}
  workers:
    replicas: 8
    connections: 2
    memoryBudget: 64Mi
    resources: {requests: {cpu: 250m}, limits: {cpu: '1'}}
    serviceAccount: {name: payments-writer}
",
    )
}

/// The Aurora cluster of [`everything`].
pub(super) fn cluster() -> Lookup {
    let member = |name: &str, zone: &str, writer| Member {
        name: name.to_owned(),
        endpoint: Some(format!("{name}.rds.example:5432")),
        zone: Some(zone.to_owned()),
        writer,
    };
    Lookup::Found(Cluster {
        endpoint: "payments.cluster.rds.example:5432".to_owned(),
        resource_id: Some("cluster-ABC".to_owned()),
        members: vec![member("payments-1", "eu-west-1a", true), member("payments-2", "eu-west-1b", false)],
    })
}

pub(super) fn accepted(pipeline: &DurableWritePipeline) -> Accepted {
    validate(pipeline, &Rivals::default(), Some(&cluster()), None).unwrap()
}

pub(crate) fn settings() -> Settings {
    let environment =
        r#"[{"name":"AWS_REGION","value":"eu-west-1"},{"name":"TOKEN","valueFrom":{"secretKeyRef":{"name":"aws","key":"token"}}}]"#;
    Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        worker_image: "registry.example/durable-write:1".to_owned(),
        worker_image_pull_policy: "IfNotPresent".to_owned(),
        worker_env: environment.parse::<WorkerEnvironment>().unwrap(),
        cluster_name: "test".to_owned(),
        drills_enabled: true,
        drills_min_interval: durable_write_crds::Duration::from_millis(0),
        drills_min_readers: 1,
        drills_max_replica_lag: durable_write_crds::Duration::from_millis(1000),
        requested_by_verified: true,
        namespace: "durable-write".to_owned(),
        identity: "operator-0".to_owned(),
    }
}

/// A moment, as minutes after the pipelines of this module were made.
pub(crate) fn minute(minutes: i64) -> Timestamp {
    "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_mins(minutes)
}

/// A worker that is well.
pub(crate) fn well() -> WorkerState {
    let good = |status| Report { status: Some(status), reason: reasons::OK.to_owned(), message: "fine".to_owned(), since: minute(0) };
    WorkerState {
        version: "0.1.0".to_owned(),
        at: minute(1),
        flowing: good(true),
        queue_ready: good(true),
        database_ready: good(true),
        stalled: good(false),
        checked: true,
        queue: QueueState {
            visible: Some(1234),
            in_flight: Some(7),
            dead_lettered: Some(1),
            retention_seconds: Some(345_600),
            oldest_seen: Some(minute(1)),
        },
        database: DatabaseState { writer: Some("database-1:5432".to_owned()) },
        counters: Counters::default(),
    }
}

/// A worker that reports an outage of the database since the minute.
pub(super) fn in_outage(since: i64) -> WorkerState {
    let outage = || Report {
        status: Some(false),
        reason: reasons::DATABASE_OUTAGE.to_owned(),
        message: "no writer is reachable".to_owned(),
        since: minute(since),
    };
    WorkerState { flowing: outage(), database_ready: outage(), database: DatabaseState::default(), ..well() }
}

/// The answer of a pod that Kubernetes calls ready.
pub(super) fn answer(state: WorkerState) -> Answer {
    Answer { ready: true, state: Ok(state) }
}

pub(crate) fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(object).unwrap()
}

fn parse(text: &str) -> DurableWritePipeline {
    serde_saphyr::from_str(text).unwrap()
}
