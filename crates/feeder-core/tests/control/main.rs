//! The control tables on a real Postgres.
//!
//! Needs `DUCKFEEDER_TEST_PG_URL`: a superuser's URL of a scratch server, in which each test makes a
//! database of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise"
)]

mod commits;
mod feeders;
mod files;
mod migrations;
mod support;
mod tables;
