//! S3Storage against a server that speaks S3, named by `DUCKFEEDER_TEST_S3_ENDPOINT`.

#![cfg(feature = "s3")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests may fail loudly"
)]

mod chain;
mod faults;
#[path = "../support/s3.rs"]
mod support;
mod wire;
