//! Reasons of a drill's conditions and of its end. Each verdict comes with one.

/// Every objective was met.
pub const OBJECTIVES_MET: &str = "ObjectivesMet";
/// At least one objective was missed.
pub const OBJECTIVE_MISSED: &str = "ObjectiveMissed";
/// Something is under way.
pub const PROGRESSING: &str = "Progressing";

// Fail, beside missed objectives.

/// RDS promoted the previous writer again.
pub const PREVIOUS_WRITER_PROMOTED: &str = "PreviousWriterPromoted";
/// RDS says that the failover failed.
pub const FAILOVER_FAILED: &str = "FailoverFailed";

// Inconclusive.

/// The measured interval reaches over the objective.
pub const AMBIGUOUS_INTERVAL: &str = "AmbiguousInterval";
/// Too little was tried around the outage.
pub const NO_LOAD: &str = "NoLoad";
/// The probe missed its own ticks in the outage.
pub const MISSED_TICKS: &str = "MissedTicks";
/// The probe's pod was lost, or its result cannot be read.
pub const PROBE_LOST: &str = "ProbeLost";
/// The pipeline was edited, suspended, deleted or its pods were replaced while it was measured.
pub const PIPELINE_CHANGED: &str = "PipelineChanged";
/// Another failover than this drill's was in the window.
pub const ANOTHER_FAILOVER: &str = "AnotherFailover";
/// A clock was set while it was measured.
pub const CLOCK_STEPPED: &str = "ClockStepped";
/// The clocks differ by more than a tenth of the objective.
pub const CLOCKS_UNCERTAIN: &str = "ClocksUncertain";
/// The drill's deadline passed before it was measured.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// Messages were still in the queue when the time for the drain was over.
pub const BACKLOG_NOT_DRAINED: &str = "BacklogNotDrained";
/// Whether messages of the probe went to the dead-letter queue cannot be told.
pub const DEAD_LETTERS_UNKNOWN: &str = "DeadLettersUnknown";

// Aborted.

/// `spec.abort` was set.
pub const ABORTED: &str = "AbortRequested";
/// The drill was deleted.
pub const DRILL_DELETED: &str = "DrillDeleted";

// Error: nothing was triggered, or nobody can know what became of it.

/// The platform team has switched drills off.
pub const DRILLS_DISABLED: &str = "DrillsDisabled";
/// `spec.notAfter` has passed.
pub const TOO_LATE: &str = "NotAfterPassed";
/// The pipeline does not exist.
pub const PIPELINE_MISSING: &str = "PipelineMissing";
/// The pipeline is suspended, has no workers, or is not ready.
pub const PIPELINE_NOT_READY: &str = "PipelineNotReady";
/// The pipeline's database is no Aurora PostgreSQL cluster.
pub const NOT_AURORA: &str = "NotAurora";
/// No cluster of that identifier is in the operator's account and region.
pub const CLUSTER_NOT_FOUND: &str = "ClusterNotFound";
/// The RDS API cannot be asked.
pub const CLUSTER_UNKNOWN: &str = "ClusterUnknown";
/// The cluster is not in the state `available`.
pub const CLUSTER_NOT_AVAILABLE: &str = "ClusterNotAvailable";
/// The cluster's owner has not opened it to this namespace of this Kubernetes cluster.
pub const NOT_OPENED: &str = "ClusterNotOpened";
/// The cluster has fewer available readers than the limit asks for.
pub const NO_READER: &str = "NotEnoughReaders";
/// The target is the writer, is not of the cluster, or is not available.
pub const TARGET_UNSUITABLE: &str = "TargetUnsuitable";
/// The target lags too far behind the writer.
pub const REPLICA_LAGS: &str = "ReplicaLags";
/// The last failover of the cluster is too near.
pub const TOO_SOON: &str = "TooSoon";
/// Another drill runs on this Aurora cluster.
pub const ANOTHER_DRILL: &str = "AnotherDrillRuns";
/// The probe could not start, or could not make its baseline steady.
pub const BASELINE_UNSTEADY: &str = "BaselineUnsteady";
/// The tables of the probe are not in the pipeline's database.
pub const PROBE_TABLES_MISSING: &str = "ProbeTablesMissing";
/// Messages of the probe do not arrive: somebody else reads the queue.
pub const ANOTHER_CONSUMER: &str = "AnotherConsumer";
/// Writes of the baseline land on another instance than the pinned writer.
pub const WRITER_DIFFERS: &str = "WriterDiffers";
/// The cluster or the pipeline changed between the preflight and the trigger.
pub const CHANGED_BEFORE_TRIGGER: &str = "ChangedBeforeTrigger";
/// The Kubernetes API refused what the drill needs: its message says what.
pub const KUBERNETES_REFUSED: &str = "KubernetesRefused";
/// The claim was made too late, so the RDS API was not called.
pub const NOT_CALLED: &str = "FailoverNotCalled";
/// The RDS API refused the failover.
pub const REFUSED: &str = "FailoverRefused";
/// Whether the failover was called for cannot be known, and none was seen.
pub const TRIGGER_UNKNOWN: &str = "TriggerUnknown";
/// The failover was accepted and no other instance became the writer.
pub const NO_FAILOVER_SEEN: &str = "NoFailoverSeen";
/// A drill of this name has run before.
pub const NAME_USED_BEFORE: &str = "NameUsedBefore";
/// The claim was deleted while the drill ran.
pub const EVIDENCE_MISSING: &str = "EvidenceMissing";
/// The evidence of a drill of this name is of a form that this version of the operator does not know.
pub const EVIDENCE_UNREADABLE: &str = "EvidenceUnreadable";
/// A ConfigMap with the name of the drill's evidence is somebody else's.
pub const EVIDENCE_NAME_TAKEN: &str = "EvidenceNameTaken";
