//! The vocabulary of durable-write: resource types with their validation rules, conditions, and the documents that parts of the system
//! exchange. No I/O and no client: the operator, the worker and the tests all speak these types.

pub mod conditions;
pub mod drill;
pub mod duration;
pub mod evidence;
pub mod layout;
pub mod pipeline;
pub mod probe;
pub mod size;
pub mod wire;

pub use drill::{FailoverDrill, FailoverDrillSpec, FailoverDrillStatus};
pub use duration::Duration;
pub use pipeline::{DurableWritePipeline, DurableWritePipelineSpec, DurableWritePipelineStatus};
pub use size::ByteSize;

/// The API group of all resources.
pub const GROUP: &str = "durablewrite.dev";
