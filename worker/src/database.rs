//! What the worker knows of PostgreSQL.

pub mod access;
pub mod catalogue;
pub mod durability;
mod encode;
pub mod failure;
mod fault_column;
pub mod iam;
pub mod plan;
mod probe_rows;
pub mod quote;
mod seek;
pub mod sqlstate;
pub mod tls;
pub mod writer;
