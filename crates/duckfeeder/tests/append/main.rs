//! Append streams against a real Postgres, read by DuckDB.
//!
//! Needs what `cargo xtask env` names; without it each test says that it is skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]

mod feeder;
mod kills;
mod overflow;
mod readme;
mod rig;
mod rows;
mod speed;
#[cfg(feature = "tracing-layer")]
mod traces;
