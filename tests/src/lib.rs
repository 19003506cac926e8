//! Support for the end-to-end tests, shared with `xtask`.
//!
//! Everything here drives real parts: a Postgres server of the test's own, the DuckDB command line with
//! its ducklake extension, and the `duckfeeder` binary. Nothing here uses the feeder's own crates, so
//! that a mistake in a decoder or a type mapping cannot hide itself.
//!
//! - [`tools`] gets the servers and programs onto the machine.
//! - [`postgres`] runs a cluster, [`duckdb`] a DuckDB session, [`feeder`] the binary under test.
//! - [`proxy`] makes the faults of an HTTP server.
//! - [`tcp_proxy`] makes those of a network, [`walsender`] is somebody else who reads a slot.
//! - [`s3`] runs an S3 server.
//! - [`store`] is a home for a lake: a directory, or a bucket.
//! - [`gcs_emulator`] runs an object store.
//! - [`lake`] knows how to attach and inspect a lake, [`compare`] holds it against its source.
//! - [`type_matrix`] has a column of every type, with values.
//! - [`ddl`] changes the schema of a source in every way.
//! - [`plot`] draws figures over time.
//! - [`bank`] and [`shop`] are workloads: a bank whose balances must always add up, and a web shop.
#![forbid(unsafe_code)]

pub mod bank;
pub mod compare;
pub mod ddl;
pub mod duckdb;
pub mod feeder;
pub mod gcs_emulator;
pub mod lake;
pub mod plot;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod shop;
pub mod store;
pub mod tcp_proxy;
pub mod tools;
pub mod type_matrix;
pub mod walsender;

pub use crate::{
    duckdb::DuckDb,
    feeder::Feeder,
    gcs_emulator::GcsEmulator,
    lake::Lake,
    postgres::{Options, Postgres},
    s3::S3Server,
    store::{Store, StoreKind},
    tools::Tools,
};

/// Makes the source's optional event trigger, as `duckfeeder check --ddl-trigger` prints it.
pub const DDL_TRIGGER: &str = include_str!("../../crates/feeder-core/src/ddl_trigger.sql");
