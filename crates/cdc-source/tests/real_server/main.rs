//! Against real servers: those named by `DUCKFEEDER_TEST_PG_BIN_<major>`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod authentication;
mod cluster;
mod copying;
mod inspection;
mod streaming;
mod tls;
