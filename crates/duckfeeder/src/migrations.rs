//! The control tables: where a feeder keeps its checkpoint and the states of its tables, beside the lake.
//!
//! A feeder makes and migrates them at start unless [`CatalogConfig::migrate`] is false.

use feeder_core::config::CatalogConfig;
use feeder_core::{control, operations};

use crate::Error;

/// Makes the control tables, or brings them up to date. Harmless when there is nothing to do.
///
/// # Errors
/// The database cannot be asked, the role may not create the schema, or a newer version made the tables.
pub async fn up(catalog: &CatalogConfig) -> Result<(), Error> {
    Ok(operations::migrate(catalog).await?)
}

/// Drops the control tables, and nothing of the lake. A feeder that is started afterwards begins anew.
///
/// # Errors
/// A feeder is running, or the database cannot be asked.
pub async fn down(catalog: &CatalogConfig) -> Result<(), Error> {
    Ok(operations::drop_control(catalog).await?)
}

/// The version of the control tables; `None` when there are none.
///
/// # Errors
/// The database cannot be asked.
pub async fn version(catalog: &CatalogConfig) -> Result<Option<i32>, Error> {
    Ok(operations::control_version(catalog).await?)
}

/// The SQL that makes the control tables or brings them up to date, for a DBA who runs it instead.
pub fn script() -> String {
    control::migrations::script()
}
