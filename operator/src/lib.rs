//! The Kubernetes operator of durable-write: turns `DurableWritePipeline`s into workers and says in their status how they do.
//!
//! It has no database driver and no SQS client: what queue and database look like is known by the workers, under their own identity.

pub mod aurora;
mod http;
mod metrics;
mod pipeline;
mod settings;
mod workers;

pub use pipeline::run;
pub use settings::{Settings, WorkerEnvironment};
