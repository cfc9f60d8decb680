//! `DurableWritePipeline`: moves the messages of one queue into one table.

mod source;
mod status;
mod workers;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByteSize, Duration};

pub use source::{Column, ColumnSource, SystemAttribute, WhenMissing};
pub use status::{DatabaseStatus, DurableWritePipelineStatus, InstanceStatus, QueueStatus, WorkersStatus};
pub use workers::{ServiceAccount, Workers};

/// Moves each message of an SQS queue into exactly one row of an Aurora PostgreSQL table, or into the dead-letter queue with the reason.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "durablewrite.dev",
    version = "v1alpha1",
    kind = "DurableWritePipeline",
    namespaced,
    status = "DurableWritePipelineStatus",
    derive = "PartialEq",
    shortname = "dwp",
    category = "durable-write",
    cel,
    doc = "Moves each message of an SQS queue into exactly one row of an Aurora PostgreSQL table, or into the dead-letter queue with the reason.",
    scale(
        spec_replicas_path = ".spec.workers.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Flowing", type_ = "string", json_path = ".status.conditions[?(@.type=='Flowing')].status"),
    printcolumn(name = "Queue", type_ = "string", json_path = ".status.queue.name"),
    printcolumn(name = "Backlog", type_ = "integer", json_path = ".status.queue.visible"),
    printcolumn(name = "DLQ", type_ = "integer", json_path = ".status.queue.deadLettered"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.workers.ready"),
    printcolumn(name = "Writer", type_ = "string", json_path = ".status.database.writer"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 50").message("metadata.name: at most 50 characters, as names of pods are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.queue.name) ? self.queue.name : '') == (has(oldSelf.queue.name) ? oldSelf.queue.name : '') && (has(self.queue.arn) ? self.queue.arn : '') == (has(oldSelf.queue.arn) ? oldSelf.queue.arn : '')").message("queue: the queue cannot be changed, as its backlog would be stranded; create a new pipeline"))]
#[x_kube(validation = Rule::new("self.database.name == oldSelf.database.name && (has(self.database.aurora) ? self.database.aurora.clusterIdentifier : '') == (has(oldSelf.database.aurora) ? oldSelf.database.aurora.clusterIdentifier : '') && (has(self.database.postgres) ? self.database.postgres.writer : '') == (has(oldSelf.database.postgres) ? oldSelf.database.postgres.writer : '')").message("database: the database cannot be changed, as written messages would be written again; create a new pipeline"))]
#[x_kube(validation = Rule::new("self.target.table == oldSelf.target.table").message("target.table: the table cannot be changed; create a new pipeline"))]
#[x_kube(validation = Rule::new("self.idempotency == oldSelf.idempotency").message("idempotency: the key cannot be changed, as written messages would be written again; create a new pipeline"))]
#[x_kube(validation = Rule::new("self.idempotency.targetKey.columns.all(k, self.target.columns.exists(c, c.name == k))").message("idempotency.targetKey.columns: each must be one of target.columns"))]
#[x_kube(validation = Rule::new("self.target.columns.all(c, !(c.name in self.idempotency.targetKey.columns) || !has(c.from.system) || c.from.system == 'MessageGroupId')").message("idempotency.targetKey.columns: MessageId, SequenceNumber and SentTimestamp change on a redrive, so they cannot be the key; take it from the body or an attribute"))]
#[x_kube(validation = Rule::new("self.target.columns.all(c, !(c.name in self.idempotency.targetKey.columns) || !has(c.from.body) || c.from.body != '')").message("idempotency.targetKey.columns: the whole body cannot be the key; point at the field that identifies the message"))]
pub struct DurableWritePipelineSpec {
    /// Stop the workers. They finish and give back what they hold; messages stay in the queue.
    #[serde(default)]
    pub suspend: bool,
    /// The SQS queue to read. A name or ARN that ends in `.fifo` is a FIFO queue, and its order is kept within each group.
    pub queue: Queue,
    /// The database to write to.
    pub database: Database,
    /// The table and how its columns are filled from a message.
    pub target: Target,
    /// What makes the same message one row, however often it is delivered.
    pub idempotency: Idempotency,
    /// How many messages one statement writes.
    #[serde(default)]
    pub batching: Batching,
    /// The worker pods.
    #[serde(default)]
    pub workers: Workers,
}

/// A queue, by name or by ARN.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.arn)").message("exactly one of name and arn must be set"))]
pub struct Queue {
    /// The queue's name, in the workers' own account and region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,80}$|^[A-Za-z0-9_-]{1,75}\.fifo$"), length(max = 80))]
    pub name: Option<String>,
    /// The queue's ARN, also for a queue of another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^arn:[a-z0-9-]{1,20}:sqs:[a-z0-9-]{1,30}:[0-9]{12}:([A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo)$"),
        length(max = 170)
    )]
    pub arn: Option<String>,
    /// Where messages go that can never be written; by default the queue of the redrive policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_queue: Option<DeadLetterQueue>,
}

/// The dead-letter queue, by name or by ARN. It must be of the same kind (standard or FIFO) as the queue.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.arn)").message("exactly one of name and arn must be set"))]
pub struct DeadLetterQueue {
    /// The queue's name, in the workers' own account and region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,80}$|^[A-Za-z0-9_-]{1,75}\.fifo$"), length(max = 80))]
    pub name: Option<String>,
    /// The queue's ARN, also for a queue of another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^arn:[a-z0-9-]{1,20}:sqs:[a-z0-9-]{1,30}:[0-9]{12}:([A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo)$"),
        length(max = 170)
    )]
    pub arn: Option<String>,
}

impl Queue {
    /// The queue's name, whichever way it was given.
    #[must_use]
    pub fn queue_name(&self) -> &str {
        queue_name(self.name.as_deref(), self.arn.as_deref())
    }

    /// True for a FIFO queue.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.queue_name().ends_with(".fifo")
    }
}

impl DeadLetterQueue {
    /// The queue's name, whichever way it was given.
    #[must_use]
    pub fn queue_name(&self) -> &str {
        queue_name(self.name.as_deref(), self.arn.as_deref())
    }
}

fn queue_name<'a>(name: Option<&'a str>, arn: Option<&'a str>) -> &'a str {
    name.or_else(|| arn.and_then(|arn| arn.rsplit(':').next())).unwrap_or_default()
}

/// The database to write to: an Aurora cluster, or any PostgreSQL with synchronous standbys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.aurora) != has(self.postgres)").message("exactly one of aurora and postgres must be set"))]
#[x_kube(validation = Rule::new("!has(self.credentials.iam) || has(self.aurora)").message("database.credentials.iam: only Aurora takes logins by IAM; use secretRef with database.postgres"))]
pub struct Database {
    /// An Aurora PostgreSQL cluster, found by the operator through the RDS API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aurora: Option<Aurora>,
    /// Any PostgreSQL with synchronous standbys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// The name of the database.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Who the workers are to the database.
    pub credentials: Credentials,
    /// How the connection is encrypted and the server verified.
    #[serde(default)]
    pub tls: Tls,
}

/// An Aurora PostgreSQL cluster of the operator's account and region.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Aurora {
    /// The cluster's identifier (`DBClusterIdentifier`).
    #[schemars(regex(pattern = r"^[a-z][a-z0-9-]{0,62}$"), length(max = 63))]
    pub cluster_identifier: String,
}

/// The endpoints of a PostgreSQL with synchronous standbys.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// The endpoint that follows the writer, as `host:port`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,253}:[0-9]{1,5}$"), length(max = 259))]
    pub writer: String,
    /// Every server that can become the writer, as `host:port`: asked directly while the writer is sought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(regex(pattern = r"^[A-Za-z0-9_.-]{1,253}:[0-9]{1,5}$"), length(max = 259)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub instances: Vec<String>,
}

/// Who the workers are to the database: a user with a password, or one that Aurora knows by the workers' AWS identity.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.iam)").message("exactly one of secretRef and iam must be set"))]
pub struct Credentials {
    /// A Secret of this namespace with the keys `username` and `password`. It is read again on each new connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// IAM database authentication: each connection logs in with a token that the workers sign with their AWS identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<IamCredentials>,
}

/// A user of the database that logs in by IAM.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IamCredentials {
    /// The database user. It must have the role `rds_iam`, and the workers' AWS identity the right `rds-db:connect` as this user.
    // It also stands in a policy's resource, where a wildcard would give more.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.@$-]{1,63}$"), length(max = 63))]
    pub username: String,
}

/// A Secret of the pipeline's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The name of the Secret.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"), length(max = 253))]
    pub name: String,
}

/// How the connection is encrypted and the server verified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// What is verified of the server's certificate.
    #[serde(default)]
    pub mode: TlsMode,
    /// The authorities to trust, beside the platform's, instead of the built-in ones: the public ones and those of RDS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateAuthority>,
}

/// What is verified of the server's certificate.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// The chain up to a trusted authority, and the host name.
    #[default]
    VerifyFull,
    /// The chain up to a trusted authority.
    VerifyCa,
}

/// Where certificates of authorities are found, PEM encoded.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CertificateAuthority {
    /// A key of a ConfigMap of this namespace.
    pub config_map_key_ref: ConfigMapKeyReference,
}

/// A key of a ConfigMap of the pipeline's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyReference {
    /// The name of the ConfigMap.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"), length(max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,253}$"), length(max = 253))]
    pub key: String,
}

/// The table and how its columns are filled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The table.
    pub table: Table,
    /// The columns that are written, each with the part of the message that it is filled from.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub columns: Vec<Column>,
}

/// A table by schema and name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The schema, as PostgreSQL spells it.
    #[serde(default = "defaults::schema")]
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// The table's name, as PostgreSQL spells it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// What makes the same message one row.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Idempotency {
    /// A unique index of the target table.
    pub target_key: TargetKey,
}

/// The unique index of the target table that makes the same message one row.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetKey {
    /// The columns of the key. A unique index must cover exactly these.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub columns: Vec<String>,
    /// What happens when the row is there already.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// What happens when a row with the same key is there already.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// The row stays as it is; the message counts as written.
    #[default]
    Ignore,
}

/// How many messages one statement writes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.maxWait) <= duration('5s')").message("batching.maxWait: at most 5s"))]
#[x_kube(validation = Rule::new("quantity(self.maxBytes).compareTo(quantity('64Mi')) <= 0").message("batching.maxBytes: at most 64Mi"))]
pub struct Batching {
    /// The most rows of one statement.
    #[serde(default = "defaults::max_rows")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_rows: i32,
    /// The most bytes of message bodies of one statement; a single larger message is written alone.
    #[serde(default = "defaults::max_bytes")]
    pub max_bytes: ByteSize,
    /// How long a statement waits for more messages while there are more in the queue.
    #[serde(default = "defaults::max_wait")]
    pub max_wait: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_rows: defaults::max_rows(), max_bytes: defaults::max_bytes(), max_wait: defaults::max_wait() }
    }
}

/// Defaults of single fields: the schema shows them, and a manifest on a laptop gets the same.
mod defaults {
    use crate::{ByteSize, Duration};

    pub(super) fn max_rows() -> i32 {
        500
    }

    pub(super) fn max_bytes() -> ByteSize {
        ByteSize::mebibytes(4)
    }

    pub(super) fn max_wait() -> Duration {
        Duration::from_millis(20)
    }

    pub(super) fn schema() -> String {
        "public".to_owned()
    }
}
