//! The operator's view of the Kubernetes cluster: one watch per kind, of what it made only, kept in memory without what nobody reads.

use std::fmt::Debug;

use durable_write_crds::DurableWritePipeline;
use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{ReconcileRequest, trigger_self, trigger_with};
use kube::runtime::reflector::store::WriterDropped;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::names::{PIPELINE_LABEL, managed_selector};

/// A pipeline, or the reason why the object could not be read as one.
pub(crate) type Guarded = DeserializeGuard<DurableWritePipeline>;
/// Pipelines that should be looked at.
pub(super) type Triggers = SelectAll<BoxStream<'static, Result<ReconcileRequest<Guarded>, watcher::Error>>>;

/// What the watches hold.
pub(super) struct Stores {
    pub(super) pipelines: Store<Guarded>,
    pub(super) deployments: Store<Deployment>,
    pub(super) replica_sets: Store<ReplicaSet>,
    pub(super) pods: Store<Pod>,
    pub(super) config_maps: Store<ConfigMap>,
    pub(super) service_accounts: Store<ServiceAccount>,
    pub(super) disruption_budgets: Store<PodDisruptionBudget>,
}

impl Stores {
    /// Watches everything; the stores fill while the stream of triggers is polled.
    pub(super) fn watch(client: &Client) -> (Self, Triggers) {
        let mut triggers = Triggers::new();
        let (pipelines, writer) = store();
        let stream = reflector(writer, watcher(Api::all(client.clone()), watcher::Config::default()));
        triggers.push(trigger_self(touched(stream, "pipelines"), ()).boxed());
        let stores = Self {
            pipelines,
            deployments: watch_children(client, "deployments", &mut triggers),
            replica_sets: watch_children(client, "replicasets", &mut triggers),
            pods: watch_children(client, "pods", &mut triggers),
            config_maps: watch_children(client, "configmaps", &mut triggers),
            service_accounts: watch_children(client, "serviceaccounts", &mut triggers),
            disruption_budgets: watch_children(client, "poddisruptionbudgets", &mut triggers),
        };
        (stores, triggers)
    }

    /// Waits until every watch has listed what is there.
    pub(super) async fn ready(&self) -> Result<(), WriterDropped> {
        self.pipelines.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.replica_sets.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.disruption_budgets.wait_until_ready().await
    }
}

fn watch_children<K>(client: &Client, kind: &'static str, triggers: &mut Triggers) -> Store<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let config = watcher::Config::default().labels(&managed_selector());
    let watched = watcher(Api::<K>::all(client.clone()), config).modify(|object| object.managed_fields_mut().clear());
    // The label only says whom to look at; what belongs to whom is read from owner references.
    let pipeline = |object: K| {
        let name = object.labels().get(PIPELINE_LABEL)?;
        Some(ObjectRef::<Guarded>::new(name).within(&object.namespace()?))
    };
    triggers.push(trigger_with(touched(reflector(writer, watched), kind), pipeline).boxed());
    reader
}

/// The objects of a watch that changed or went; errors are logged and the watch begins again after a while.
fn touched<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    kind: &'static str,
) -> impl Stream<Item = Result<K, watcher::Error>> {
    stream.default_backoff().touched_objects().filter(move |item| {
        if let Err(error) = item {
            tracing::warn!(kind, %error, "a watch failed and begins again; if it says forbidden or not found, install the chart's roles and CRDs");
        }
        std::future::ready(item.is_ok())
    })
}
