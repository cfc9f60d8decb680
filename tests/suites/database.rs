//! What the worker knows of PostgreSQL, held against real servers: the catalogue, the statement and what it does to values, `check` and
//! `schema`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod database {
    mod check;
    mod iam;
    mod statement;
    mod support;
    mod table;
    mod values;
}
