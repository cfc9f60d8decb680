//! The definitions, the chart and the operator against a real API server with its controllers. There is no node: a test plays kubelet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "api/admission.rs"]
mod admission;
#[path = "api/alerts.rs"]
mod alerts;
#[path = "api/at_rest.rs"]
mod at_rest;
#[path = "api/chart.rs"]
mod chart;
#[path = "api/children.rs"]
mod children;
#[path = "api/definitions.rs"]
mod definitions;
#[path = "api/deletion.rs"]
mod deletion;
#[path = "api/drill_definitions.rs"]
mod drill_definitions;
#[path = "api/drills.rs"]
mod drills;
#[path = "api/evidence.rs"]
mod evidence;
#[path = "api/ground.rs"]
mod ground;
#[path = "api/quiet.rs"]
mod quiet;
#[path = "api/rds.rs"]
mod rds;
#[path = "api/status.rs"]
mod status;
#[path = "api/upgrade.rs"]
mod upgrade;
#[path = "api/workers.rs"]
mod workers;
