//! The whole product on a whole cluster: the chart installed by Helm, pipelines applied by kubectl, a local Aurora, a local SQS, and faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "end_to_end/changes.rs"]
mod changes;
#[path = "end_to_end/deletion.rs"]
mod deletion;
#[path = "end_to_end/drill.rs"]
mod drill;
#[path = "end_to_end/drill_failover.rs"]
mod drill_failover;
#[path = "end_to_end/drill_others.rs"]
mod drill_others;
#[path = "end_to_end/drill_pass.rs"]
mod drill_pass;
#[path = "end_to_end/drill_rows.rs"]
mod drill_rows;
#[path = "end_to_end/drill_window.rs"]
mod drill_window;
#[path = "end_to_end/drills_killed.rs"]
mod drills_killed;
#[path = "end_to_end/example.rs"]
mod example;
#[path = "end_to_end/faults.rs"]
mod faults;
#[path = "end_to_end/ground.rs"]
mod ground;
#[path = "end_to_end/host_operator.rs"]
mod host_operator;
#[path = "end_to_end/operator.rs"]
mod operator;
#[path = "end_to_end/pipeline.rs"]
mod pipeline;
#[path = "end_to_end/pods.rs"]
mod pods;
#[path = "end_to_end/uninstall.rs"]
mod uninstall;
