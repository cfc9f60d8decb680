//! The local Aurora behaves as Aurora does, as far as the workers and the drills can see, and loses nothing that it has acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod aurora {
    mod api;
    mod drills;
    mod endpoints;
    mod load;
    mod peer;
    mod rds;
    mod readers;
    mod roles;
    mod support;
    mod truth;
}
