//! What `kubectl dw` is made of. What decides and renders is pure; what talks to Kubernetes and SQS takes its client and its writer.

pub mod account;
pub mod arguments;
pub mod cluster;
pub mod compare;
pub mod drill;
pub mod live;
pub mod pipeline;
pub mod report;
pub mod text;
pub mod traffic;
