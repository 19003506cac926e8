//! End-to-end tests: a real Postgres, the real binary, DuckDB as the reader.
//!
//! The short sizes are for every change; `cargo xtask test --long` runs those of the release. A random
//! test prints its seed, and `DUCKFEEDER_TEST_SEED` plays it again.
#![expect(
    clippy::print_stdout,
    reason = "seeds and figures belong into the report of a test"
)]

mod bad_input;
mod catalog_faults;
mod commands;
mod consumers;
mod crash;
mod crash_matrix;
mod directives;
mod encodings;
mod evolution;
mod flow;
mod generated;
mod idle;
mod isolation;
mod keyless;
mod large;
mod lifecycle;
mod load;
mod maintain;
mod neighbours;
mod newcomers;
mod observability;
mod partitions;
mod privileges;
mod publication;
mod rig;
mod rows;
mod same_database;
mod schema_changes;
mod soak;
mod standby;
mod stores;
mod tls;
mod types;
