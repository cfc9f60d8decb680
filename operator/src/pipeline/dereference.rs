//! All reads of a reconciliation: what the watches hold, what RDS says, and what the workers answer.

use std::sync::Arc;

use durable_write_crds::DurableWritePipeline;
use durable_write_crds::wire::Topology;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::runtime::reflector::Store;

use super::names::is_controlled_by;
use super::rivals::{self, Rivals};
use super::stores::Stores;
use super::{build, names};
use crate::aurora::{Clusters, Lookup};
use crate::workers::{Answer, Poller, Worker};

/// What was found.
pub(super) struct Found {
    pub(super) rivals: Rivals,
    /// What RDS says of the pipeline's Aurora cluster; none for other databases.
    pub(super) cluster: Option<Lookup>,
    pub(super) children: LiveChildren,
    pub(super) answers: Vec<Answer>,
}

/// The children of a pipeline that are there.
#[derive(Default)]
pub(super) struct LiveChildren {
    pub(super) deployments: Vec<Arc<Deployment>>,
    pub(super) config_maps: Vec<Arc<ConfigMap>>,
    pub(super) service_accounts: Vec<Arc<ServiceAccount>>,
    pub(super) disruption_budgets: Vec<Arc<PodDisruptionBudget>>,
    /// The ReplicaSets of the Deployments.
    pub(super) replica_sets: Vec<Arc<ReplicaSet>>,
}

impl LiveChildren {
    /// The workers' Deployment.
    pub(super) fn deployment(&self) -> Option<&Deployment> {
        self.deployments.first().map(AsRef::as_ref)
    }

    /// The topology that the workers were given last.
    pub(super) fn topology(&self, pipeline: &str) -> Option<Topology> {
        let name = names::topology(pipeline);
        self.config_maps
            .iter()
            .find(|config_map| config_map.metadata.name.as_ref() == Some(&name))
            .and_then(|found| build::read_topology(found))
    }
}

/// Reads all that the later phases need of `pipeline`.
pub(super) async fn dereference(pipeline: &DurableWritePipeline, stores: &Stores, clusters: &Clusters, poller: &Poller) -> Found {
    let uid = pipeline.uid().unwrap_or_default();
    let children = live_children(&uid, stores);
    let pods = owned_by_any(&stores.pods, children.replica_sets.iter().filter_map(|set| set.uid()).collect());
    let workers: Vec<_> = pods.iter().filter_map(|pod| worker(pod)).collect();
    let identifier = pipeline.spec.database.aurora.as_ref().map(|aurora| &aurora.cluster_identifier);
    let cluster = async {
        match identifier {
            Some(identifier) => Some(clusters.find(identifier).await),
            None => None,
        }
    };
    let (cluster, answers) = futures::join!(cluster, poller.ask(&workers));
    let all = stores.pipelines.state();
    let rivals = rivals::find(pipeline, all.iter().filter_map(|guard| guard.0.as_ref().ok()));
    Found { rivals, cluster, children, answers }
}

fn live_children(uid: &str, stores: &Stores) -> LiveChildren {
    let deployments = owned_by_any(&stores.deployments, vec![uid.to_owned()]);
    LiveChildren {
        replica_sets: owned_by_any(&stores.replica_sets, deployments.iter().filter_map(|deployment| deployment.uid()).collect()),
        config_maps: owned_by_any(&stores.config_maps, vec![uid.to_owned()]),
        service_accounts: owned_by_any(&stores.service_accounts, vec![uid.to_owned()]),
        disruption_budgets: owned_by_any(&stores.disruption_budgets, vec![uid.to_owned()]),
        deployments,
    }
}

/// By owner, never by label: labels are anyone's to set.
fn owned_by_any<K>(store: &Store<K>, owners: Vec<String>) -> Vec<Arc<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone,
{
    let mut owned = store.state_filter(|object| owners.iter().any(|uid| is_controlled_by(object.meta(), uid)));
    owned.sort_by_key(|object| object.meta().name.clone());
    owned
}

/// A pod that can be asked: it runs and is not being deleted.
fn worker(pod: &Pod) -> Option<Worker> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() || status.phase.as_deref() != Some("Running") {
        return None;
    }
    let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some(Worker { uid: pod.uid()?, address: status.pod_ip.as_ref()?.parse().ok()?, ready })
}
