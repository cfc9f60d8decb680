//! The local SQS: it starts, and behaves as the worker relies on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "sqs/server.rs"]
mod server;
