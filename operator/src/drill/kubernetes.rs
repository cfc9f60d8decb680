//! The Kubernetes API as a drill uses it. Every request has a time-out: one that hangs is as good as a lost reply.

use std::time::Duration;

use durable_write_crds::{DurableWritePipeline, FailoverDrill, FailoverDrillStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource, ResourceExt};

use super::Guarded;
use super::world::{Failure, Kubernetes, Note, Object};
use crate::metrics::Metrics;
use crate::pipeline::names::{self, MANAGER};
use crate::pipeline::rollouts::is_rolling;

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The Kubernetes API.
pub(super) struct KubernetesApi {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) metrics: std::sync::Arc<Metrics>,
}

impl KubernetesApi {
    fn api<K: Object>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn api_of<K: Object>(&self, object: &K) -> Api<K> {
        self.api(&object.namespace().unwrap_or_default())
    }

    async fn write<T>(&self, kind: &str, request: impl Future<Output = kube::Result<T>> + Send) -> Result<T, Failure> {
        self.metrics.count_write(kind);
        limited(request).await
    }
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>> + Send) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(Failure::Unclear(format!("no answer within {} s", TIMEOUT.as_secs()))),
    }
}

fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Failure::Missing,
            409 => Failure::Conflict,
            400..=499 if !matches!(status.code, 401 | 408 | 429) => Failure::Refused(status.message.clone()),
            _ => Failure::Unclear(status.message.clone()),
        },
        other => Failure::Unclear(other.to_string()),
    }
}

impl Kubernetes for KubernetesApi {
    async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<Option<K>, Failure> {
        let api = self.api::<K>(namespace);
        limited(api.get_opt(name)).await
    }

    async fn get_drill(&self, namespace: &str, name: &str) -> Result<Option<Guarded>, Failure> {
        limited(Api::<Guarded>::namespaced(self.client.clone(), namespace).get_opt(name)).await
    }

    async fn create<K: Object>(&self, object: &K) -> Result<K, Failure> {
        let (api, parameters) = (self.api_of(object), PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() });
        self.write(&K::kind(&()), api.create(&parameters, object)).await
    }

    async fn replace<K: Object>(&self, object: &K) -> Result<K, Failure> {
        let (api, parameters) = (self.api_of(object), PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() });
        let name = object.name_any();
        self.write(&K::kind(&()), api.replace(&name, &parameters, object)).await
    }

    async fn delete<K: Object>(&self, object: &K) -> Result<(), Failure> {
        let (api, name) = (self.api_of(object), object.name_any());
        let this = Preconditions { uid: object.uid(), resource_version: None };
        let parameters = DeleteParams::background().preconditions(this);
        match self.write(&K::kind(&()), api.delete(&name, &parameters)).await {
            // Gone, or another object of that name.
            Ok(_) | Err(Failure::Missing | Failure::Conflict) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn write_status(&self, drill: &FailoverDrill, status: &FailoverDrillStatus) -> Result<(), Failure> {
        let (api, name) = (self.api_of(drill), drill.name_any());
        let patch = serde_json::json!({
            "apiVersion": FailoverDrill::api_version(&()),
            "kind": FailoverDrill::kind(&()),
            "metadata": {"uid": drill.uid(), "resourceVersion": drill.resource_version()},
            "status": status,
        });
        let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&patch));
        self.write("FailoverDrill", api.patch_status(&name, &parameters, &patch)).await.map(drop)
    }

    async fn workers(&self, pipeline: &DurableWritePipeline) -> Result<(Vec<Pod>, bool), Failure> {
        let (namespace, name) = (pipeline.namespace().unwrap_or_default(), pipeline.name_any());
        let deployment = names::workers(&name);
        let (deployments, pods) = (self.api::<Deployment>(&namespace), self.api::<Pod>(&namespace));
        let selected = ListParams::default().labels(&names::selector_text(&name));
        let (found, pods) = futures::try_join!(limited(deployments.get_opt(&deployment)), limited(pods.list(&selected)))?;
        let prefix = format!("{deployment}-");
        let of_deployment = |pod: &Pod| {
            pod.owner_references()
                .iter()
                .any(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet" && owner.name.starts_with(&prefix))
        };
        Ok((pods.items.into_iter().filter(of_deployment).collect(), found.is_some_and(|found| is_rolling(&found))))
    }

    async fn publish(&self, drill: &FailoverDrill, note: Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason,
            note: Some(note.message.chars().take(1000).collect()),
            action: "Drill".to_owned(),
            secondary: None,
        };
        let reference = drill.object_ref(&());
        let request = self.recorder.publish(&event, &reference);
        if let Err(failure) = self.write("Event", request).await {
            tracing::warn!(%failure, reason = event.reason, "an event could not be published");
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_what_the_api_server_will_not_take_counts_as_refused() {
        for (code, refused) in [(400, true), (403, true), (422, true), (401, false), (408, false), (429, false), (500, false), (503, false)]
        {
            let error = kube::Error::Api(Status { code, ..Status::default() }.boxed());
            assert_eq!(matches!(failure(&error), Failure::Refused(_)), refused, "{code}");
        }
    }
}
