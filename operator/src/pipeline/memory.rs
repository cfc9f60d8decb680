//! What the operator remembers of each pipeline from one look to the next. All of it may be lost: a restart then writes each child once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use durable_write_crds::DurableWritePipelineStatus;
use tokio::time::Instant;

use super::apply::Applied;

/// What is remembered of one pipeline.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) applied: Applied,
    /// The pod template that the last look held back, as a hash.
    pub(super) held_back: Option<String>,
    /// The status that was written last, and the resource version of the pipeline that it was made from: until the watch shows a newer
    /// one, this is the status.
    pub(super) written: Option<(Option<String>, DurableWritePipelineStatus)>,
    /// When numbers were last written into the status.
    pub(super) numbers_at: Option<Instant>,
    /// How often in a row a look has failed.
    pub(super) failures: u32,
    /// The last complaint about an object that cannot be read, so that it is told once.
    pub(super) unreadable: Option<String>,
}

/// What is remembered of all pipelines, by uid.
#[derive(Default)]
pub(super) struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// Takes the memory of a pipeline out; a pipeline is looked at by one task at a time.
    pub(super) fn take(&self, uid: &str) -> Memory {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid).unwrap_or_default()
    }

    /// Puts the memory of a pipeline back.
    pub(super) fn put(&self, uid: &str, memory: Memory) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), memory);
    }

    /// Counts a failed look and gives the number of failures in a row.
    pub(super) fn count_failure(&self, uid: &str) -> u32 {
        let mut memories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(uid.to_owned()).or_default();
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    }

    /// Forgets all pipelines but those.
    pub(super) fn keep(&self, exists: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| exists(uid));
    }
}
