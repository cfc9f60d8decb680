//! The local SQS: it starts, and behaves as the worker relies on. Each test runs the unchanged SDK against ElasticMQ; where ElasticMQ differs
//! from the documented service, a test in `differences.rs` pins it, and `src/sqs/CONFORMANCE.md` lists it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "sqs/common.rs"]
mod common;

#[path = "sqs/attributes.rs"]
mod attributes;
#[path = "sqs/batches.rs"]
mod batches;
#[path = "sqs/deduplication.rs"]
mod deduplication;
#[path = "sqs/differences.rs"]
mod differences;
#[path = "sqs/fifo.rs"]
mod fifo;
#[path = "sqs/limits.rs"]
mod limits;
#[path = "sqs/redrive.rs"]
mod redrive;
#[path = "sqs/server.rs"]
mod server;
#[path = "sqs/visibility.rs"]
mod visibility;
