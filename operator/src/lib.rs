//! The Kubernetes operator of durable-write: turns `DurableWritePipeline`s into workers and says in their status how they do, and carries out
//! `FailoverDrill`s.
//!
//! It has no database driver and no SQS client: what queue and database look like is known by the workers, under their own identity.

pub mod aurora;
mod drill;
mod http;
mod leader;
mod metrics;
mod pipeline;
mod run;
mod settings;
mod workers;

pub use run::run;
pub use settings::{Settings, WorkerEnvironment};
