//! Changes of tables that are stated ahead: what a coming change is, and that it may pass a strict table. A feeder, running or
//! not, follows each where the change comes in the stream, once.
//!
//! ```no_run
//! # async fn example(config: &duckfeeder::config::FeederConfig) -> Result<(), duckfeeder::Error> {
//! use duckfeeder::schema::{self, SchemaChange};
//!
//! let change = SchemaChange::RenameColumn { column: "total".into(), to: "total_cents".into() };
//! schema::state(config, "public.orders", change, Some("2026-12-orders")).await?;
//! # Ok(())
//! # }
//! ```

use feeder_core::config::FeederConfig;
use feeder_core::schema;

pub use feeder_core::schema::{SchemaChange, State, Stated};

use crate::Error;

/// States a change of `table` (`schema.table`) before it is made, or before the feeder has come to it. Returns it, and
/// whether it was not stated before: the same under the same id, or while it is pending without one, is stored once.
///
/// # Errors
/// A table that is not fed, a column or type that is not known, something else under that id, or a database that cannot be
/// asked.
pub async fn state(
    config: &FeederConfig,
    table: &str,
    change: SchemaChange,
    id: Option<&str>,
) -> Result<(Stated, bool), Error> {
    Ok(schema::state(config, table, change, id).await?)
}

/// What was stated to this feeder, in that order: what is pending, and what was applied at which LSN.
///
/// # Errors
/// No such feeder, or a catalog that cannot be asked.
pub async fn list(config: &FeederConfig) -> Result<Vec<Stated>, Error> {
    Ok(schema::list(config).await?)
}

/// Takes back what was stated and has not come.
///
/// # Errors
/// There is none of that id, the lake has followed it, or a catalog that cannot be asked.
pub async fn cancel(config: &FeederConfig, id: &str) -> Result<(), Error> {
    Ok(schema::cancel(config, id).await?)
}
