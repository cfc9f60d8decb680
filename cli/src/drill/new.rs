//! From the arguments of `drill run` to the drill that is created.

use clap::Args;
use durable_write_crds::drill::{DirectPath, Load, Objectives, PipelineReference, Preflight};
use durable_write_crds::{DurableWritePipeline, Duration, FailoverDrill, FailoverDrillSpec};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cluster::name as name_of;

/// A drill's name may have so many characters.
const NAME: usize = 50;
/// A user's name that is longer does not fit `requestedBy`.
const USER: usize = 253;

/// What a drill is made of. What is left out has the default of the resource.
#[derive(Args, Clone, Debug)]
pub struct Wish {
    /// The pipeline whose Aurora cluster is failed over
    #[arg(value_parser = name_of)]
    pub pipeline: String,
    /// The drill's name; by default <pipeline>-<UTC time>
    #[arg(long, value_parser = name_of)]
    name: Option<String>,
    /// The instance that is to become the writer; by default the operator chooses
    #[arg(long)]
    target: Option<String>,
    /// Objective: the longest time without a write [default: 60s]
    #[arg(long, value_name = "DURATION")]
    recovery_time: Option<Duration>,
    /// Objective: the most confirmed writes that may be lost [default: 0]
    #[arg(long, value_name = "COUNT")]
    lost: Option<i32>,
    /// Objective: the most that may be written twice [default: 0]
    #[arg(long, value_name = "COUNT")]
    duplicated: Option<i32>,
    /// Objective: the most probe messages that may be dead-lettered [default: 0]
    #[arg(long, value_name = "COUNT")]
    dead_lettered: Option<i32>,
    /// Objective: the longest time from the recovery until all is settled [default: 5m]
    #[arg(long, value_name = "DURATION")]
    backlog_drained: Option<Duration>,
    /// Load: messages a second through the queue [default: 50]
    #[arg(long, value_name = "COUNT")]
    messages_per_second: Option<i32>,
    /// Load: how often a direct write begins [default: 100ms]
    #[arg(long, value_name = "DURATION")]
    direct_write_interval: Option<Duration>,
    /// Load: the way of direct writes, Instances or ClusterEndpoint [default: Instances]
    #[arg(long, value_name = "PATH", value_parser = direct_path)]
    direct_path: Option<DirectPath>,
    /// Load: how long the probe writes before the failover [default: 20s]
    #[arg(long, value_name = "DURATION")]
    warm_up: Option<Duration>,
    /// Load: how long it goes on after the recovery [default: 30s]
    #[arg(long, value_name = "DURATION")]
    cool_down: Option<Duration>,
    /// Preflight: the most that the target may lag; only tightens the platform's limit
    #[arg(long, value_name = "DURATION")]
    max_replica_lag: Option<Duration>,
    /// Preflight: the least readers; only tightens the platform's limit
    #[arg(long, value_name = "COUNT")]
    min_readers: Option<i32>,
    /// Preflight: the least time since the last failover; only tightens the platform's limit
    #[arg(long, value_name = "DURATION")]
    min_interval: Option<Duration>,
    /// When the drill ends at the latest, from its start [default: 15m]
    #[arg(long, value_name = "DURATION")]
    deadline: Option<Duration>,
    /// Never trigger later than this: a time (2026-11-24T06:00:00Z) or a length from now (45m)
    #[arg(long, value_name = "TIME", value_parser = until, default_value = "30m")]
    not_after: Until,
    /// Why the drill is run, for the report
    #[arg(long)]
    reason: Option<String>,
    /// The change or ticket that it belongs to, for the report
    #[arg(long)]
    change_reference: Option<String>,
}

/// A time, or a length from now.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// A time.
    At(Timestamp),
    /// A length from now.
    In(Duration),
}

impl Wish {
    /// The drill, for who asks for it and when. A user name that does not fit is left out.
    #[must_use]
    pub fn drill(&self, user: Option<&str>, now: Timestamp) -> FailoverDrill {
        let name = self.name.clone().unwrap_or_else(|| name(&self.pipeline, now));
        let (load, objectives) = (Load::default(), Objectives::default());
        let not_after = match self.not_after {
            Until::At(at) => at,
            Until::In(length) => now + length.get(),
        };
        let spec = FailoverDrillSpec {
            pipeline_ref: PipelineReference { name: self.pipeline.clone() },
            target_instance: self.target.clone(),
            load: Load {
                messages_per_second: self.messages_per_second.unwrap_or(load.messages_per_second),
                direct_write_interval: self.direct_write_interval.unwrap_or(load.direct_write_interval),
                direct_path: self.direct_path.unwrap_or(load.direct_path),
                warm_up: self.warm_up.unwrap_or(load.warm_up),
                cool_down: self.cool_down.unwrap_or(load.cool_down),
            },
            objectives: Objectives {
                recovery_time: self.recovery_time.unwrap_or(objectives.recovery_time),
                lost: self.lost.unwrap_or(objectives.lost),
                duplicated: self.duplicated.unwrap_or(objectives.duplicated),
                dead_lettered: self.dead_lettered.unwrap_or(objectives.dead_lettered),
                backlog_drained: self.backlog_drained.unwrap_or(objectives.backlog_drained),
            },
            preflight: Preflight { max_replica_lag: self.max_replica_lag, min_readers: self.min_readers, min_interval: self.min_interval },
            deadline: self.deadline.unwrap_or(Duration::from_millis(900_000)),
            not_after: Some(Time(not_after)),
            abort: false,
            requested_by: user.filter(|user| user.len() <= USER).map(str::to_owned),
            reason: self.reason.clone(),
            change_reference: self.change_reference.clone(),
        };
        FailoverDrill::new(&name, spec)
    }

    /// Which instance the operator is likely to choose, from what the pipeline's status says.
    #[must_use]
    pub fn likely_target(&self, pipeline: &DurableWritePipeline) -> String {
        if let Some(target) = &self.target {
            return target.clone();
        }
        let database = pipeline.status.clone().unwrap_or_default().database.unwrap_or_default();
        let readers: Vec<_> = database.instances.into_iter().filter(|instance| instance.role == "Reader").map(|it| it.name).collect();
        match readers.as_slice() {
            [] => "none: the pipeline's status shows no reader".to_owned(),
            [only] => only.clone(),
            several => format!("one of {}: the available one of the lowest promotion tier", several.join(", ")),
        }
    }
}

/// `<pipeline>-<UTC yyyymmdd-hhmmss>`, cut so that it is short enough for the pods that are named after it.
fn name(pipeline: &str, now: Timestamp) -> String {
    let time = now.strftime("%Y%m%d-%H%M%S").to_string();
    let kept: String = pipeline.chars().take(NAME.saturating_sub(time.len() + 1)).collect();
    format!("{}-{time}", kept.trim_end_matches('-'))
}

fn direct_path(text: &str) -> Result<DirectPath, String> {
    serde_json::from_value(text.into()).map_err(|_| "must be Instances or ClusterEndpoint".to_owned())
}

fn until(text: &str) -> Result<Until, String> {
    let length = text.parse().map(Until::In);
    length
        .or_else(|_| text.parse().map(Until::At))
        .map_err(|_| "must be a time such as 2026-11-24T06:00:00Z or a length such as 45m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        wish: Wish,
    }

    fn wish(arguments: &[&str]) -> Wish {
        <Line as clap::Parser>::try_parse_from([&["run"], arguments].concat()).unwrap().wish
    }

    fn now() -> Timestamp {
        "2026-11-24T05:06:07.9Z".parse().unwrap()
    }

    #[test]
    fn a_drill_without_options_has_the_defaults_of_the_resource_and_a_limit() {
        let drill = wish(&["orders"]).drill(Some("alice"), now());
        assert_eq!(drill.metadata.name.as_deref(), Some("orders-20261124-050607"));
        let bare: FailoverDrillSpec = serde_json::from_value(serde_json::json!({
            "pipelineRef": { "name": "orders" }, "requestedBy": "alice", "notAfter": "2026-11-24T05:36:07Z",
        }))
        .unwrap();
        let sent: FailoverDrillSpec = serde_json::from_value(serde_json::to_value(&drill.spec).unwrap()).unwrap();
        assert_eq!(sent, bare);
    }

    #[test]
    fn options_reach_the_spec_and_nonsense_is_refused() {
        let drill = wish(&["orders", "--recovery-time", "5s", "--not-after", "2026-11-24T06:00:00Z", "--direct-path", "ClusterEndpoint"]);
        let spec = drill.drill(None, now()).spec;
        assert_eq!((spec.objectives.recovery_time, spec.load.direct_path), (Duration::from_millis(5000), DirectPath::ClusterEndpoint));
        assert_eq!(spec.not_after.unwrap().0.to_string(), "2026-11-24T06:00:00Z");
        for arguments in [["orders", "--recovery-time=5"], ["orders", "--direct-path=Proxy"], ["orders", "--not-after=tomorrow"]] {
            assert!(<Line as clap::Parser>::try_parse_from(["run", arguments[0], arguments[1]]).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_name_fits_however_long_that_of_the_pipeline_is() {
        let pipeline = "a".repeat(33) + "-" + &"b".repeat(16);
        let name = name(&pipeline, now());
        assert_eq!(name, "a".repeat(33) + "-20261124-050607");
        assert!(name.len() <= NAME);
    }

    #[test]
    fn a_user_name_that_does_not_fit_is_left_out() {
        assert_eq!(wish(&["orders"]).drill(Some(&"x".repeat(254)), now()).spec.requested_by, None);
    }
}
