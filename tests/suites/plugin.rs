//! The kubectl plugin against a real API server; the test plays the operator. And its traffic against a real queue.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../../cli/tests/fixture/mod.rs"]
mod fixture;

#[path = "plugin/binary.rs"]
mod binary;
#[path = "plugin/drills.rs"]
mod drills;
#[path = "plugin/ground.rs"]
mod ground;
#[path = "plugin/traffic.rs"]
mod traffic;
