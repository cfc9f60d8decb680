//! The probe's process beside real workers, a real PostgreSQL cluster that fails over, and a real SQS server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "milliseconds of tests are small numbers")]

#[path = "probe/accuracy.rs"]
mod accuracy;
#[path = "probe/failover.rs"]
mod failover;
#[path = "probe/faults.rs"]
mod faults;
#[path = "probe/ground.rs"]
mod ground;
#[path = "worker/ground.rs"]
#[allow(dead_code, reason = "the suite of the worker uses the rest")]
mod pipelines;
#[path = "probe/refusals.rs"]
mod refusals;
