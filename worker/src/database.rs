//! What the worker knows of PostgreSQL.

pub mod catalogue;
pub mod durability;
mod encode;
pub mod failure;
mod fault_column;
pub mod plan;
mod probe_rows;
pub mod quote;
mod seek;
pub mod sqlstate;
pub mod tls;
pub mod writer;
