//! The ground for tests: real parts on one machine. A local Kubernetes, a local Aurora, a local SQS, fault proxies between them and the
//! workers, and a checker that says from the history of a run what was lost, doubled or out of order.

pub mod aurora;
pub mod bench;
pub mod cluster;
pub mod demo;
pub mod environment;
pub mod history;
pub mod image;
pub mod pod_identity;
pub mod process;
pub mod progress;
pub mod proxy;
pub mod scratch;
pub mod sqs;
pub mod tools;
pub mod traffic;
pub mod wait;
pub mod worker;
