//! What the executor knows the world by: the Kubernetes API, the RDS API and its surroundings. Tests give it a model of them.

use std::fmt::Debug;
use std::time::Duration;

use durable_write_crds::probe::ProbeState;
use durable_write_crds::{DurableWritePipeline, FailoverDrill, FailoverDrillStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Guarded;
use super::rds::{Answer, AuroraCluster, ClusterEvent};

/// How long an answer to the call for a failover is waited for.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// An object that a drill reads or makes.
pub(super) trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

/// Why the Kubernetes API did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// An object of that name is there, or was changed since it was read.
    #[error("the object is there already or was changed meanwhile")]
    Conflict,
    #[error("the object is gone")]
    Missing,
    /// The API server has refused it.
    #[error("the Kubernetes API refused: {0}")]
    Refused(String),
    /// It may have been done.
    #[error("the Kubernetes API did not answer: {0}")]
    Unclear(String),
}

/// An Event to publish about a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// The Kubernetes API. Reads are of the API server, never of a watch.
pub(super) trait Kubernetes: Send + Sync {
    fn get<K: Object>(&self, namespace: &str, name: &str) -> impl Future<Output = Result<Option<K>, Failure>> + Send;
    /// Reads a drill, or why the object cannot be read as one: that of another version must not keep others waiting.
    fn get_drill(&self, namespace: &str, name: &str) -> impl Future<Output = Result<Option<Guarded>, Failure>> + Send;
    fn create<K: Object>(&self, object: &K) -> impl Future<Output = Result<K, Failure>> + Send;
    /// Fails with [`Failure::Conflict`] when the object was changed since it was read.
    fn replace<K: Object>(&self, object: &K) -> impl Future<Output = Result<K, Failure>> + Send;
    /// Deletes this very object, by its uid. One that is gone is no failure.
    fn delete<K: Object>(&self, object: &K) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Fails with [`Failure::Conflict`] when the drill was changed since it was read: another operator may have ended it.
    fn write_status(&self, drill: &FailoverDrill, status: &FailoverDrillStatus) -> impl Future<Output = Result<(), Failure>> + Send;
    /// The worker pods of a pipeline, and whether Kubernetes is replacing some.
    fn workers(&self, pipeline: &DurableWritePipeline) -> impl Future<Output = Result<(Vec<Pod>, bool), Failure>> + Send;
    /// Best effort.
    fn publish(&self, drill: &FailoverDrill, note: Note) -> impl Future<Output = ()> + Send;
}

/// The RDS API. The errors say what to do.
pub(super) trait Rds: Send + Sync {
    fn cluster(&self, identifier: &str) -> impl Future<Output = Result<Option<AuroraCluster>, String>> + Send;
    fn events(&self, identifier: &str, since: Timestamp) -> impl Future<Output = Result<Vec<ClusterEvent>, String>> + Send;
    /// Calls for a failover, once.
    fn fail_over(&self, identifier: &str, target: &str) -> impl Future<Output = Answer> + Send;
}

/// Clocks, the right to act, and the probe's port.
pub(super) trait Surroundings: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// The monotonic clock.
    fn instant(&self) -> Instant {
        Instant::now()
    }
    /// False when another process may take the leader's Lease before a claim made now is too old.
    fn leads(&self) -> impl Future<Output = bool> + Send;
    /// What the probe shows. Best effort: nothing is decided by it.
    fn probe_state(&self, pod: &Pod) -> impl Future<Output = Option<ProbeState>> + Send;
    /// A text that no other process has.
    fn nonce(&self) -> String;
}
