//! Support for the end-to-end tests, shared with `xtask`.
//!
//! Everything here drives real parts: a Postgres server of the test's own, the DuckDB command line with
//! its ducklake extension, and the `duckfeeder` binary. Nothing here uses the feeder's own crates, so
//! that a mistake in a decoder or a type mapping cannot hide itself.
//!
//! - [`tools`] gets the servers and programs onto the machine.
//! - [`postgres`] runs a cluster, [`duckdb`] a DuckDB session, [`feeder`] the binary under test.
//! - [`lake`] knows how to attach and inspect a lake, [`compare`] holds it against its source.
//! - [`type_matrix`] has a column of every type, with values.
//! - [`bank`] and [`shop`] are workloads: a bank whose balances must always add up, and a web shop.
#![forbid(unsafe_code)]

pub mod bank;
pub mod compare;
pub mod duckdb;
pub mod feeder;
pub mod lake;
pub mod postgres;
pub mod process;
pub mod shop;
pub mod tools;
pub mod type_matrix;

pub use crate::{
    duckdb::DuckDb,
    feeder::Feeder,
    lake::Lake,
    postgres::{Options, Postgres},
    tools::Tools,
};
