//! Moves messages from an SQS queue into PostgreSQL, each exactly one row.

pub mod aws;
pub mod check;
pub mod database;
pub mod manifest;
pub mod problem;
pub mod schema;
