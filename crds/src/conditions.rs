//! The types and reasons of conditions, as they stand in a status. A reason is part of the interface: people write alerts on it.

pub mod drill_reasons;

/// Types of conditions of a pipeline.
pub mod types {
    /// The pipeline was accepted, its workers are available and have once checked queue and table; an outage does not touch it.
    pub const READY: &str = "Ready";
    /// Messages can be written now.
    pub const FLOWING: &str = "Flowing";
    /// The queue and its dead-letter queue can be used, as the workers' own identity sees them.
    pub const QUEUE_READY: &str = "QueueReady";
    /// The database and the table can be used, as the workers' own identity sees them.
    pub const DATABASE_READY: &str = "DatabaseReady";
    /// The oldest message that is known has lived less than half of the queue's retention.
    pub const WITHIN_RETENTION: &str = "WithinRetention";
    /// Somebody must act: retrying alone is not expected to help (kstatus reads this as failed).
    pub const STALLED: &str = "Stalled";
    /// The children are being brought to what the spec says (kstatus reads this as in progress).
    pub const RECONCILING: &str = "Reconciling";
}

/// Types of conditions of a drill, beside `Reconciling`, which is True until the end.
pub mod drill_types {
    /// Cluster, pipeline and limits allow the drill.
    pub const PREFLIGHT_PASSED: &str = "PreflightPassed";
    /// A failover was called for. True too when the call may have been made.
    pub const TRIGGERED: &str = "Triggered";
    /// Another instance takes writes.
    pub const RECOVERED: &str = "Recovered";
    /// The drill has ended, however.
    pub const COMPLETE: &str = "Complete";
    /// True for Pass, False for Fail, Unknown for every other end.
    pub const PASSED: &str = "Passed";
}

/// Reasons of conditions.
pub mod reasons {
    /// All is well.
    pub const OK: &str = "AsExpected";
    /// The pipeline is suspended by its spec.
    pub const SUSPENDED: &str = "Suspended";
    /// The pipeline has no workers by its spec.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// The workers have not yet reported.
    pub const STARTING: &str = "Starting";
    /// The children are being changed.
    pub const PROGRESSING: &str = "Progressing";
    /// A new version of the workers waits until other pipelines have rolled.
    pub const WAITING_FOR_ROLLOUTS: &str = "WaitingForRollouts";
    /// Fewer workers are available than wanted.
    pub const WORKERS_UNAVAILABLE: &str = "WorkersUnavailable";
    /// The operator cannot reach the workers' port.
    pub const WORKERS_UNREACHABLE: &str = "WorkersUnreachable";
    /// An older pipeline of this namespace uses the same queue.
    pub const QUEUE_IN_USE: &str = "QueueInUse";
    /// A pipeline of another namespace uses the same queue.
    pub const QUEUE_SHARED: &str = "QueueShared";
    /// The spec cannot be carried out as it is.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A child of the pipeline would have the name of an object that is not the pipeline's.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// No Aurora cluster of that identifier is in the operator's account and region.
    pub const CLUSTER_NOT_FOUND: &str = "ClusterNotFound";
    /// The operator cannot ask the RDS API, so it does not know the Aurora cluster's instances.
    pub const CLUSTER_UNKNOWN: &str = "ClusterUnknown";
    /// The cluster of that identifier is of another engine than Aurora PostgreSQL.
    pub const NOT_AURORA: &str = "NotAurora";
    /// The oldest message that is known has lived half of the queue's retention.
    pub const HALF_OF_RETENTION_PASSED: &str = "HalfOfRetentionPassed";
    /// The oldest message that is known has lived four fifths of the queue's retention: SQS will delete it.
    pub const RETENTION_NEARLY_OVER: &str = "RetentionNearlyOver";

    /// No writer of the database is reachable.
    pub const DATABASE_OUTAGE: &str = "DatabaseOutage";
    /// Too many messages in a row failed in the same way to believe that the messages are at fault.
    pub const TOO_MANY_BAD_MESSAGES: &str = "TooManyBadMessages";
    /// Written messages cannot be deleted from the queue.
    pub const ACKNOWLEDGE_FAILING: &str = "AcknowledgeFailing";
    /// More first receives than not were found in the table already.
    pub const TOO_MANY_DUPLICATES: &str = "TooManyDuplicates";
    /// The worker is ending.
    pub const DRAINING: &str = "Draining";

    /// The credentials Secret or one of its keys is missing.
    pub const CREDENTIALS_MISSING: &str = "CredentialsMissing";
    /// The database refused the user or the password.
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// The server's certificate was not accepted.
    pub const TLS_FAILED: &str = "TlsFailed";
    /// The database of that name does not exist.
    pub const DATABASE_MISSING: &str = "DatabaseMissing";
    /// The table does not exist.
    pub const TABLE_MISSING: &str = "TableMissing";
    /// A column of the manifest does not exist in the table.
    pub const COLUMN_MISSING: &str = "ColumnMissing";
    /// A column of the table cannot take what the manifest sends it.
    pub const COLUMN_UNSUITABLE: &str = "ColumnUnsuitable";
    /// No unique index covers exactly the key's columns.
    pub const UNIQUE_INDEX_MISSING: &str = "UniqueIndexMissing";
    /// No partition takes the rows.
    pub const PARTITION_MISSING: &str = "PartitionMissing";
    /// The database user lacks a right.
    pub const PERMISSION_DENIED: &str = "PermissionDenied";
    /// A commit is not safe on more than one machine before it is confirmed.
    pub const DURABILITY_NOT_GUARANTEED: &str = "DurabilityNotGuaranteed";
    /// The database refuses every message for another reason.
    pub const STATEMENT_FAILED: &str = "StatementFailed";

    /// The queue does not exist, or the workers may not know that it does.
    pub const QUEUE_MISSING: &str = "QueueMissing";
    /// The queue has no dead-letter queue and the manifest names none.
    pub const NO_DEAD_LETTER_QUEUE: &str = "NoDeadLetterQueue";
    /// The dead-letter queue cannot take this queue's messages.
    pub const DEAD_LETTER_QUEUE_UNSUITABLE: &str = "DeadLetterQueueUnsuitable";
    /// The dead-letter queue refused a message.
    pub const DEAD_LETTER_REFUSED: &str = "DeadLetterRefused";
    /// The workers' identity lacks a right on the queue or its key.
    pub const QUEUE_ACCESS_DENIED: &str = "QueueAccessDenied";
    /// No AWS credentials were found.
    pub const NO_AWS_CREDENTIALS: &str = "NoAwsCredentials";
    /// No AWS region is set.
    pub const NO_AWS_REGION: &str = "NoAwsRegion";
    /// SQS does not answer.
    pub const QUEUE_UNREACHABLE: &str = "QueueUnreachable";
}
