//! The fault proxies do to their clients what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "proxy/http.rs"]
mod http;
#[path = "proxy/tcp.rs"]
mod tcp;
