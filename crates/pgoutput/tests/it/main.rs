//! Tests of the public interface, most of them against what real servers sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail by panic"
)]

mod copy;
mod data;
mod golden;
mod malformed;
mod round_trip;
mod values_formatted;
mod values_server;
