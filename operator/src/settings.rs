//! What the platform team decides for all pipelines: the chart puts it into the operator's environment.

use std::net::SocketAddr;
use std::str::FromStr;

use clap::ArgAction;
use durable_write_crds::Duration;
use k8s_openapi::api::core::v1::EnvVar;

/// Settings for all pipelines of the Kubernetes cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Image of the workers; it holds the program durable-write-worker
    #[arg(long, env = "WORKER_IMAGE")]
    pub worker_image: String,
    /// When nodes pull the workers' image
    #[arg(long, env = "WORKER_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub worker_image_pull_policy: String,
    /// Environment of every worker, as a JSON list of Kubernetes' EnvVar
    #[arg(long, env = "WORKER_ENV", default_value = "[]")]
    pub worker_env: WorkerEnvironment,
    /// Name of this Kubernetes cluster: the owner of an Aurora cluster opens it to drills of this cluster by it
    #[arg(long, env = "CLUSTER_NAME", default_value = "")]
    pub cluster_name: String,
    /// Whether drills may call for a failover
    #[arg(long, env = "DRILLS_ENABLED", default_value_t = false, action = ArgAction::Set)]
    pub drills_enabled: bool,
    /// The shortest time between two failovers of a cluster, whatever their cause
    #[arg(long, env = "DRILLS_MIN_INTERVAL", default_value = "1h")]
    pub drills_min_interval: Duration,
    /// How many readers must be available before a drill
    #[arg(long, env = "DRILLS_MIN_READERS", default_value_t = 1)]
    pub drills_min_readers: i32,
    /// The most that a drill's target may lag behind the writer
    #[arg(long, env = "DRILLS_MAX_REPLICA_LAG", default_value = "1s")]
    pub drills_max_replica_lag: Duration,
    /// True when an admission policy makes sure that a drill's requestedBy is the user who creates it
    #[arg(long, env = "REQUESTED_BY_VERIFIED", default_value_t = false, action = ArgAction::Set)]
    pub requested_by_verified: bool,
    /// The operator's own namespace, where its Leases are
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// What tells this process from others that may lead: its pod's name
    #[arg(long, env = "POD_NAME", default_value_t = random_identity())]
    pub identity: String,
}

fn random_identity() -> String {
    format!("operator-{:016x}", rand::random::<u64>())
}

/// Environment variables that every worker gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerEnvironment(pub Vec<EnvVar>);

impl FromStr for WorkerEnvironment {
    type Err = serde_json::Error;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(json).map(Self)
    }
}
