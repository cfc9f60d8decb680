//! What the worker knows of PostgreSQL.

pub mod catalogue;
pub mod durability;
pub mod failure;
pub mod plan;
pub mod quote;
pub mod sqlstate;
pub mod tls;
