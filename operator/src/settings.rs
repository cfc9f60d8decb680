//! What the platform team decides for all pipelines: the chart puts it into the operator's environment.

use std::net::SocketAddr;
use std::str::FromStr;

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
