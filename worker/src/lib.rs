//! Moves messages from an SQS queue into PostgreSQL, each exactly one row.

pub mod aws;
pub mod check;
pub mod database;
pub mod decode;
pub mod engine;
pub mod fault;
pub mod http;
pub mod manifest;
pub mod message;
mod metrics;
pub mod probe;
pub mod problem;
pub mod queue;
pub mod run;
pub mod schema;
pub mod sink;
