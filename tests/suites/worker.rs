//! The worker's binary between a real PostgreSQL cluster and a real SQS server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "worker/bad_messages.rs"]
mod bad_messages;
#[path = "worker/failovers.rs"]
mod failovers;
#[path = "worker/ground.rs"]
mod ground;
#[path = "worker/iam.rs"]
mod iam;
#[path = "worker/lost_replies.rs"]
mod lost_replies;
#[path = "worker/memory.rs"]
mod memory;
#[path = "worker/mending.rs"]
mod mending;
#[path = "worker/moves.rs"]
mod moves;
#[path = "worker/outage.rs"]
mod outage;
#[path = "worker/values.rs"]
mod values;
