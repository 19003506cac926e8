//! Tests of the public interface, most of them against what real servers sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "helpers of tests may fail by panic and need not be fast"
)]

mod copy;
mod data;
mod golden;
mod malformed;
mod round_trip;
mod values_awkward;
mod values_formatted;
mod values_nested;
mod values_render;
mod values_server;
