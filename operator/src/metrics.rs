//! The operator's own metrics. Labels have few values: never a pipeline's name.

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

/// The operator's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reconciliations: Family<OutcomeLabel, Counter>,
    seconds: Histogram,
    writes: Family<KindLabel, Counter>,
    pipelines: Family<ReadyLabel, Gauge>,
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
        Self { registry, reconciliations, seconds, writes, pipelines }
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
    pub(crate) fn encode(&self, ready: impl Iterator<Item = String>) -> String {
        self.pipelines.clear();
        for ready in ready {
            self.pipelines.get_or_create(&ReadyLabel { ready }).inc();
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics could not be written as text");
        }
        text
    }
}
