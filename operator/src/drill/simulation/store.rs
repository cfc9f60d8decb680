//! The objects of the model's API server, as they are: nothing is written as JSON and read again.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::drill::world::Object;

type Key = (TypeId, String, String);

#[derive(Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<dyn Any + Send + Sync>>,
    version: u64,
}

fn key<K: Object>(namespace: &str, name: &str) -> Key {
    (TypeId::of::<K>(), namespace.to_owned(), name.to_owned())
}

fn key_of<K: Object>(object: &K) -> Key {
    key::<K>(&object.namespace().unwrap_or_default(), &object.name_any())
}

impl Store {
    pub(super) fn get<K: Object>(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        Arc::downcast(Arc::clone(self.objects.get(&key::<K>(namespace, name))?)).ok()
    }

    /// The object of the same kind, namespace and name.
    pub(super) fn same<K: Object>(&self, object: &K) -> Option<Arc<K>> {
        self.get(&object.namespace().unwrap_or_default(), &object.name_any())
    }

    pub(super) fn all<K: Object>(&self) -> impl Iterator<Item = Arc<K>> {
        self.objects.values().filter_map(|object| Arc::downcast(Arc::clone(object)).ok())
    }

    pub(super) fn put<K: Object>(&mut self, mut object: K, now: Timestamp) -> K {
        self.version += 1;
        let version = self.version;
        let metadata = object.meta_mut();
        metadata.resource_version = Some(version.to_string());
        metadata.uid.get_or_insert_with(|| format!("00000000-0000-0000-0000-{version:012}"));
        metadata.creation_timestamp.get_or_insert_with(|| Time(Timestamp::from_second(now.as_second()).unwrap()));
        self.objects.insert(key_of(&object), Arc::new(object.clone()));
        object
    }

    pub(super) fn remove<K: Object>(&mut self, object: &K) {
        self.objects.remove(&key_of(object));
    }
}
