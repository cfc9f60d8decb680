//! Drills on a whole cluster, as the suite of pipelines has it: each with an Aurora that nobody else uses meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "drills/abort.rs"]
mod abort;
#[path = "drills/drill.rs"]
mod drill;
#[path = "drills/failover.rs"]
mod failover;
#[path = "whole/ground.rs"]
#[allow(dead_code, reason = "the suite of pipelines uses the rest")]
mod ground;
#[path = "drills/host_operator.rs"]
mod host_operator;
#[path = "drills/killed.rs"]
mod killed;
#[path = "drills/others.rs"]
mod others;
#[path = "drills/pass.rs"]
mod pass;
#[path = "whole/pipeline.rs"]
#[allow(dead_code, reason = "the suite of pipelines uses the rest")]
mod pipeline;
#[path = "whole/pods.rs"]
#[allow(dead_code, reason = "the suite of pipelines uses the rest")]
mod pods;
#[path = "drills/rows.rs"]
mod rows;
#[path = "drills/window.rs"]
mod window;

/// How many tests run at a time: with more probes than two cores bear, they miss their ticks.
const PLACES: u32 = 2;
/// How many Auroras there are for drills, of which each runs one at a time.
const LANES: usize = 4;
