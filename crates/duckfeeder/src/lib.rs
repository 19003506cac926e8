//! Streams every change of a Postgres database into a DuckLake: Parquet files, their metadata in
//! Postgres, exactly once, queried by DuckDB.
//!
//! A [`Feeder`] is described by a [`Builder`], and runs as a task beside the host's own work:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use duckfeeder::{Feeder, Table};
//!
//! let feeder = Feeder::builder()
//!     .source("postgres://feeder@localhost/shop")
//!     .tables(["public.*"])
//!     .table(Table::new("public.orders").target("analytics", "order_events"))
//!     .storage("file:///srv/lake")
//!     .build()?;
//! let handle = feeder.spawn();
//! handle.ready().await?;
//! handle.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Feeder::run`] and [`Feeder::run_until_caught_up`] are the same without a task. Nothing here
//! is global to the process: several feeders in one process, and in one lake, get along. Nothing
//! blocks or panics the host: what goes wrong is the outcome of the feeder, and an [`Error`].
//!
//! What this crate does not do: it reads no files or environment variables (apart from the ones
//! that a Postgres client reads: `USER`, `HOME`, `PGPASSFILE`), sets up no logging (it emits
//! `tracing` events) and installs no signal handlers. The binary `duckfeeder` does.
#![forbid(unsafe_code)]

pub mod append;
mod builder;
mod error;
mod feeder;
mod handle;
pub mod migrations;
pub mod schema;
mod store;
mod table;
#[cfg(feature = "tracing-layer")]
pub mod telemetry;

/// What removes files that were left behind; a running feeder has one of its own. Its errors become an [`Error`]
/// with `?`.
pub use feeder_core::janitor::{self, Janitor};

/// The configuration as plain data, for hosts that build it without a [`Builder`].
pub use feeder_core::config;

/// What a feeder counts and measures, for the recorder of the crate `metrics` that the host installs, if it does.
pub use feeder_core::meters;

pub use builder::Builder;
pub use error::Error;
pub use feeder::Feeder;
pub use feeder_core::{
    FeederErrorKind as ErrorKind, FeederStatus as Status, Lsn, Outcome, Phase, RunMode, SlotStatus,
    TableState, TableStatus,
};
pub use handle::Handle;
pub use storage::{self, Storage};
pub use store::Store;
pub use table::Table;
