//! The operator's own metrics. Labels have few values: never a pipeline's name, but for those that can be
//! drilled, and what their last drills found.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How a look at a pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Done,
    Ended,
    Unreadable,
    ChildrenFailed,
    StatusFailed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadyLabel {
    ready: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PipelineLabel {
    pub(crate) namespace: String,
    pub(crate) pipeline: String,
}

/// What drills have found, from what is in Kubernetes, so that a restart loses nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DrillMetrics {
    /// Drills that measure now.
    pub(crate) running: usize,
    /// Drills that have ended, by verdict.
    pub(crate) verdicts: HashMap<String, i64>,
    /// Each pipeline that can be drilled.
    pub(crate) pipelines: Vec<(PipelineLabel, Drilled)>,
}

/// What is known of the drills of one pipeline; times are Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Drilled {
    /// When the pipeline was created.
    pub(crate) created: i64,
    /// When the last drill that passed ended; none: no drill of it has passed.
    pub(crate) passed: Option<i64>,
    /// The upper bound of the recovery time in that drill, in seconds.
    pub(crate) recovery: Option<f64>,
}

/// The operator's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reconciliations: Family<OutcomeLabel, Counter>,
    seconds: Histogram,
    writes: Family<KindLabel, Counter>,
    pipelines: Family<ReadyLabel, Gauge>,
    drills_running: Gauge,
    drills_concluded: Family<VerdictLabel, Gauge>,
    pipeline_created: Family<PipelineLabel, Gauge>,
    drill_passed: Family<PipelineLabel, Gauge>,
    drill_recovery: Family<PipelineLabel, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("durable_write_operator");
        let reconciliations = Family::default();
        registry.register("reconciliations", "Looks at a pipeline, by how they ended", reconciliations.clone());
        let seconds = Histogram::new([0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0]);
        registry.register("reconciliation_seconds", "How long looks at a pipeline took, with asking its workers", seconds.clone());
        let writes = Family::default();
        registry.register("kubernetes_writes", "Writes to the Kubernetes API, by kind", writes.clone());
        let pipelines = Family::default();
        registry.register("pipelines", "Pipelines, by the status of their condition Ready", pipelines.clone());
        let drills_running = Gauge::default();
        registry.register("drills_running", "Drills that measure now", drills_running.clone());
        let drills_concluded = Family::default();
        registry.register("drills_concluded", "Drills that have ended and are still there, by verdict", drills_concluded.clone());
        let pipeline_created = Family::default();
        registry.register(
            "pipeline_created_timestamp_seconds",
            "When a pipeline that can be drilled was created",
            pipeline_created.clone(),
        );
        let drill_passed = Family::default();
        registry.register(
            "drill_last_passed_timestamp_seconds",
            "When the last passed drill of a pipeline that can be drilled ended; 0 when none has passed",
            drill_passed.clone(),
        );
        let drill_recovery = Family::default();
        registry.register(
            "drill_last_passed_recovery_seconds",
            "The upper bound of the recovery time in the last passed drill of a pipeline",
            drill_recovery.clone(),
        );
        Self {
            registry,
            reconciliations,
            seconds,
            writes,
            pipelines,
            drills_running,
            drills_concluded,
            pipeline_created,
            drill_passed,
            drill_recovery,
        }
    }
}

impl Metrics {
    pub(crate) fn observe(&self, took: Duration, outcome: Outcome) {
        self.reconciliations.get_or_create(&OutcomeLabel { outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn count_write(&self, kind: &str) {
        self.writes.get_or_create(&KindLabel { kind: kind.to_owned() }).inc();
    }

    /// All metrics as text; `ready` has the status of the condition Ready of each pipeline.
    pub(crate) fn encode(&self, ready: impl IntoIterator<Item = String>, drills: DrillMetrics) -> String {
        self.pipelines.clear();
        for ready in ready {
            self.pipelines.get_or_create(&ReadyLabel { ready }).inc();
        }
        self.show(drills);
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics could not be written as text");
        }
        text
    }

    fn show(&self, drills: DrillMetrics) {
        self.drills_running.set(i64::try_from(drills.running).unwrap_or(i64::MAX));
        self.drills_concluded.clear();
        self.pipeline_created.clear();
        self.drill_passed.clear();
        self.drill_recovery.clear();
        for (verdict, count) in drills.verdicts {
            self.drills_concluded.get_or_create(&VerdictLabel { verdict }).set(count);
        }
        for (label, drilled) in drills.pipelines {
            self.pipeline_created.get_or_create(&label).set(drilled.created);
            self.drill_passed.get_or_create(&label).set(drilled.passed.unwrap_or(0));
            if let Some(recovery) = drilled.recovery {
                self.drill_recovery.get_or_create(&label).set(recovery);
            }
        }
    }
}
