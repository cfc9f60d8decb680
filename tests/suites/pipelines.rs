//! Pipelines on a whole cluster: the chart installed by Helm, manifests applied by kubectl, a local Aurora, a local SQS, and faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "pipelines/changes.rs"]
mod changes;
#[path = "pipelines/deletion.rs"]
mod deletion;
#[path = "pipelines/example.rs"]
mod example;
#[path = "pipelines/faults.rs"]
mod faults;
#[path = "whole/ground.rs"]
#[allow(dead_code, reason = "the suite of drills uses the rest")]
mod ground;
#[path = "pipelines/operator.rs"]
mod operator;
#[path = "whole/pipeline.rs"]
#[allow(dead_code, reason = "the suite of drills uses the rest")]
mod pipeline;
#[path = "whole/pods.rs"]
mod pods;
#[path = "pipelines/uninstall.rs"]
mod uninstall;

/// How many tests run at a time, unless one needs the ground for itself.
const PLACES: u32 = 2;
/// Everybody's Aurora will do.
const LANES: usize = 0;
