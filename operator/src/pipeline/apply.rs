//! Brings the children to what was built: server-side apply in a stated order, then orphans are removed. A child that is already so is not
//! written, not even without effect: what was applied last and what came of it are remembered.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use durable_write_crds::conditions::reasons;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{Desired, mounted_config_maps};
use super::dereference::LiveChildren;
use super::names::{MANAGER, is_controlled_by};
use super::validate::{self, Children, Refusal};
use crate::metrics::Metrics;

/// What was applied to each child, by kind and name, and what the API server made of it, both as hashes.
pub(super) type Applied = HashMap<(String, String), (u64, u64)>;

/// Why children could not be brought to what was built.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("{kind} {name} exists and is not the pipeline's")]
    Taken { kind: String, name: String },
    #[error("{kind} {name} of a deleted pipeline of the same name is still there")]
    StillThere { kind: String, name: String },
    #[error("{kind} {name}: {source}")]
    Api { kind: String, name: String, source: Box<kube::Error> },
}

impl ApplyError {
    /// What the pipeline's owner must be told, when retrying alone will not help.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Taken { kind, name } => {
                let hint = if kind == "ServiceAccount" { "set workers.serviceAccount.name to use it, or " } else { "" };
                let message = format!("{kind} {name} exists and is not this pipeline's: {hint}give the pipeline another name");
                Some(Refusal { reason: reasons::NAME_TAKEN, message, children: Children::Keep })
            }
            Self::Api { kind, source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 422 => Some(validate::invalid(format!("{kind}: {}", status.message))),
                _ => None,
            },
            Self::StillThere { .. } => None,
        }
    }
}

/// Writes the children of one pipeline.
pub(super) struct Applier<'a> {
    pub(super) client: &'a Client,
    pub(super) metrics: &'a Metrics,
    pub(super) namespace: &'a str,
    /// The pipeline's uid.
    pub(super) owner: &'a str,
    pub(super) applied: &'a mut Applied,
}

impl Applier<'_> {
    /// Applies all children, what others need first; then removes what is no longer wanted. Returns the Deployment when it was written now:
    /// the watch does not hold it yet.
    pub(super) async fn apply(&mut self, desired: &Desired, live: &LiveChildren) -> Result<Option<Deployment>, ApplyError> {
        if let Some(account) = &desired.service_account {
            self.ensure(account, &live.service_accounts).await?;
        }
        self.ensure(&desired.manifest, &live.config_maps).await?;
        self.ensure(&desired.topology, &live.config_maps).await?;
        self.ensure(&desired.disruption_budget, &live.disruption_budgets).await?;
        let deployment = self.ensure(&desired.deployment, &live.deployments).await?;

        let mut wanted: Vec<_> = [&desired.manifest, &desired.topology].iter().map(|config_map| config_map.name_any()).collect();
        wanted.extend(mounted_by(&desired.deployment));
        wanted.extend(mounted_by_old_pods(live));
        self.remove_others(&live.config_maps, &wanted).await?;
        let wanted: Vec<_> = desired.service_account.iter().map(ResourceExt::name_any).collect();
        self.remove_others(&live.service_accounts, &wanted).await?;
        Ok(deployment)
    }

    /// Removes all children: the pipeline must not run.
    pub(super) async fn remove_all(&mut self, live: &LiveChildren) -> Result<(), ApplyError> {
        self.remove_others(&live.deployments, &[]).await?;
        self.remove_others(&live.disruption_budgets, &[]).await?;
        self.remove_others(&live.config_maps, &[]).await?;
        self.remove_others(&live.service_accounts, &[]).await
    }

    /// Returns the object when it was written now.
    async fn ensure<K>(&mut self, desired: &K, live: &[Arc<K>]) -> Result<Option<K>, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let name = desired.name_any();
        let key = (K::kind(&()).into_owned(), name.clone());
        let wanted = fingerprint(desired);
        let found = live.iter().find(|object| object.name_any() == name);
        if found.is_some_and(|found| self.applied.get(&key) == Some(&(wanted, fingerprint(found.as_ref())))) {
            return Ok(None);
        }
        let failed = |source: kube::Error| ApplyError::Api { kind: key.0.clone(), name: name.clone(), source: Box::new(source) };
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        if found.is_none() {
            self.check_owner(api.get_opt(&name).await.map_err(failed)?)?;
        }
        let result = api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(desired)).await.map_err(failed)?;
        self.metrics.count_write(&key.0);
        tracing::info!(kind = key.0, name, namespace = self.namespace, "applied");
        self.applied.insert(key, (wanted, fingerprint(&result)));
        Ok(Some(result))
    }

    /// A child that the watch does not hold may be there all the same, made by somebody else: that is never taken over.
    fn check_owner<K: Resource<DynamicType = ()>>(&self, existing: Option<K>) -> Result<(), ApplyError> {
        let Some(existing) = existing else { return Ok(()) };
        if is_controlled_by(existing.meta(), self.owner) {
            return Ok(());
        }
        let (kind, name) = (K::kind(&()).into_owned(), existing.name_any());
        let of_a_pipeline = existing.owner_references().iter().any(|owner| owner.kind == "DurableWritePipeline");
        Err(if of_a_pipeline { ApplyError::StillThere { kind, name } } else { ApplyError::Taken { kind, name } })
    }

    async fn remove_others<K>(&mut self, live: &[Arc<K>], wanted: &[String]) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    {
        let unwanted = |object: &&Arc<K>| object.meta().deletion_timestamp.is_none() && !wanted.contains(&object.name_any());
        for object in live.iter().filter(unwanted) {
            let (kind, name) = (K::kind(&()).into_owned(), object.name_any());
            let precondition = Preconditions { uid: object.uid(), resource_version: None };
            let parameters = DeleteParams::background().preconditions(precondition);
            match Api::<K>::namespaced(self.client.clone(), self.namespace).delete(&name, &parameters).await {
                Ok(_) => tracing::info!(kind, name, namespace = self.namespace, "removed"),
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(source) => return Err(ApplyError::Api { kind, name, source: Box::new(source) }),
            }
            self.metrics.count_write(&kind);
            self.applied.remove(&(kind, name));
        }
        Ok(())
    }
}

/// The ConfigMaps that new pods need: those of an older manifest while its template is kept.
fn mounted_by(deployment: &Deployment) -> impl Iterator<Item = String> {
    deployment.spec.iter().flat_map(|spec| mounted_config_maps(&spec.template)).map(str::to_owned)
}

/// The ConfigMaps that pods of older templates may still need for a restart.
fn mounted_by_old_pods(live: &LiveChildren) -> impl Iterator<Item = String> {
    live.replica_sets
        .iter()
        .filter_map(|set| set.spec.as_ref().map(|spec| (spec, set.status.as_ref().map_or(0, |status| status.replicas))))
        .filter(|(spec, pods)| spec.replicas.unwrap_or(1) > 0 || *pods > 0)
        .filter_map(|(spec, _)| spec.template.as_ref())
        .flat_map(mounted_config_maps)
        .map(str::to_owned)
}

/// A hash of what people and controllers write; what the API server keeps for itself and the status are left out.
fn fingerprint(object: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    // An object that cannot be written as JSON cannot be sent either, and sending says why.
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            metadata.retain(|key, _| !matches!(key.as_str(), "managedFields" | "resourceVersion" | "generation"));
        }
    }
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
