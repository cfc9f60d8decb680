//! The model of the API server.

use std::borrow::Cow;
use std::sync::Arc;

use durable_write_crds::evidence::{CLAIM_KEY, Claim, EVIDENCE_KEY};
use durable_write_crds::{DurableWritePipeline, FailoverDrill, FailoverDrillStatus};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use tokio::time::Instant;

use super::probe;
use super::world::{Claimed, State, World};
use crate::drill::Guarded;
use crate::drill::lease::{self, Holder};
use crate::drill::step::has_ended;
use crate::drill::world::{Failure, Kubernetes, Note, Object};

fn kind<K: Object>() -> &'static str {
    match K::kind(&()) {
        Cow::Borrowed(kind) => kind,
        Cow::Owned(_) => "object",
    }
}

fn lost<T>(reply: Option<Result<T, Failure>>) -> Result<T, Failure> {
    reply.unwrap_or_else(|| Err(Failure::Unclear("lost".to_owned())))
}

impl Kubernetes for World {
    async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<Option<K>, Failure> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let found = self.request(("get", kind::<K>()), move |world| Ok(world.with(|state| state.store.get::<K>(&namespace, &name)))).await;
        Ok(lost(found)?.map(Arc::unwrap_or_clone))
    }

    async fn get_drill(&self, namespace: &str, name: &str) -> Result<Option<Guarded>, Failure> {
        Ok(self.get::<FailoverDrill>(namespace, name).await?.map(|drill| DeserializeGuard(Ok(drill))))
    }

    async fn create<K: Object>(&self, object: &K) -> Result<K, Failure> {
        let (object, process, began) = (object.clone(), self.process.as_ref().map_or(0, |process| process.id), Instant::now());
        let was_over = self.with(|state| is_over(state, &object));
        let create = move |world: &Self| {
            if world.with(|state| state.store.same(&object).is_some()) {
                return Err(Failure::Conflict);
            }
            let made = world.put(object);
            if !was_over && world.with(|state| is_over(state, &made)) {
                world.with(|state| state.late_leases.extend(made.uid()));
            }
            let any: &dyn std::any::Any = &made;
            if let Some(claim) = any.downcast_ref::<ConfigMap>() {
                world.with(|state| claimed(state, claim, process, began));
            }
            if let Some(pod) = any.downcast_ref::<Pod>() {
                tokio::spawn(probe::run(world.clone(), pod.clone()));
            }
            Ok(made)
        };
        lost(self.request(("create", kind::<K>()), create).await)
    }

    async fn replace<K: Object>(&self, object: &K) -> Result<K, Failure> {
        let object = object.clone();
        let replace = move |world: &Self| match world.with(|state| state.store.same(&object)) {
            None => Err(Failure::Missing),
            Some(found) if found.resource_version() != object.resource_version() => Err(Failure::Conflict),
            Some(found) if is_immutable(&*found) => Err(Failure::Refused("field is immutable".to_owned())),
            Some(_) => Ok(world.put(object)),
        };
        lost(self.request(("replace", kind::<K>()), replace).await)
    }

    async fn delete<K: Object>(&self, object: &K) -> Result<(), Failure> {
        let object = object.clone();
        let delete = move |world: &Self| {
            if world.with(|state| state.store.same(&object)).is_some_and(|found| found.uid() == object.uid()) {
                world.remove(&object);
            }
            Ok(())
        };
        lost(self.request(("delete", kind::<K>()), delete).await)
    }

    async fn write_status(&self, drill: &FailoverDrill, status: &FailoverDrillStatus) -> Result<(), Failure> {
        let (drill, status) = (drill.clone(), status.clone());
        let write = move |world: &Self| {
            let found = world.with(|state| state.store.same(&drill)).ok_or(Failure::Missing)?;
            if found.resource_version() != drill.resource_version() {
                return Err(Failure::Conflict);
            }
            world.put(FailoverDrill { status: Some(status), ..Arc::unwrap_or_clone(found) });
            Ok(())
        };
        lost(self.request(("write", "status"), write).await)
    }

    async fn workers(&self, _: &DurableWritePipeline) -> Result<(Vec<Pod>, bool), Failure> {
        lost(self.request(("list", "workers"), |_| Ok((Vec::new(), false))).await)
    }

    async fn publish(&self, _: &FailoverDrill, _: Note) {
        self.point("before", ("publish", "Event")).await;
    }
}

fn is_immutable<K: Object>(object: &K) -> bool {
    let object: &dyn std::any::Any = object;
    object.downcast_ref::<ConfigMap>().is_some_and(|config_map| config_map.immutable == Some(true))
}

/// True for a Lease whose drill has ended.
fn is_over<K: Object>(state: &State, object: &K) -> bool {
    let object: &dyn std::any::Any = object;
    let holder = object.downcast_ref::<Lease>().and_then(lease::holder);
    let held = |holder: Holder<'_>| state.store.get::<FailoverDrill>(holder.namespace, holder.name);
    holder.and_then(held).is_some_and(|drill| has_ended(&drill))
}

/// What a claim says.
pub(super) fn read_claim(config_map: &ConfigMap) -> Claim {
    serde_json::from_str(&config_map.data.as_ref().unwrap()[CLAIM_KEY]).unwrap()
}

/// Notes who made the claim and when it began to; a claim beside that of another drill, which has not ended, must not be.
fn claimed(state: &mut State, made: &ConfigMap, process: u64, began: Instant) {
    let is_open = |other: &ConfigMap| other.uid() != made.uid() && other.data.as_ref().is_none_or(|data| !data.contains_key(EVIDENCE_KEY));
    let open: Vec<_> = state.store.all::<ConfigMap>().filter(|other| is_open(other)).map(|other| read_claim(&other).drill).collect();
    for other in open {
        let there = state.store.get::<FailoverDrill>(&other.namespace, &other.name).is_some_and(|drill| drill.uid() == Some(other.uid));
        if there {
            state.broken.push(format!("{} was claimed while the drill {} was measured", made.name_any(), other.name));
        }
    }
    let nonce = read_claim(made).nonce;
    state.claims.push(Claimed { nonce, process, began, called: false, effect: None });
}
