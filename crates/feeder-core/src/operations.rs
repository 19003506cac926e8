//! What an operator does to a feeder from outside of its process.

use cdc_source::{Connection, SessionKind, publication, slot, tables};
use pgoutput::Lsn;

use crate::check;
use crate::config::{CatalogConfig, FeederConfig};
use crate::control::{Control, migrations};
use crate::error::{FeederError, from_source};
use crate::failpoint::{self, Failpoint};
use crate::setup::owner;
use crate::{publish, select};

/// Asks the running feeder (or the next one) to copy a table again; the others are not stopped.
///
/// # Errors
/// A name that is not `schema.table`, or a table that is not fed.
pub async fn resync(config: &FeederConfig, table: &str) -> Result<(), FeederError> {
    let (schema, name) = select::exact_name(table)?;
    let catalog = check::connect_catalog(&config.catalog).await?;
    Control::new(&catalog, config.name.clone())
        .request_resync(&schema, &name)
        .await?;
    failpoint::reach(Failpoint::ResyncRequested);
    Ok(())
}

/// Asks the running feeder to bring its checkpoint up to `position`, even if nothing of its tables changes.
///
/// # Errors
/// A catalog that cannot be asked.
pub async fn want(config: &FeederConfig, position: Lsn) -> Result<(), FeederError> {
    let catalog = check::connect_catalog(&config.catalog).await?;
    Control::new(&catalog, config.name.clone())
        .want(position)
        .await
}

/// Drops the slot and, when they are ours, the publications. The lake stays. Returns what was dropped.
///
/// # Errors
/// A feeder of that name is running, or a database that cannot be asked.
pub async fn teardown(config: &FeederConfig) -> Result<Vec<String>, FeederError> {
    let mut dropped = Vec::new();
    let catalog = check::connect_catalog(&config.catalog).await?;
    if migrations::version(&catalog).await?.is_some() {
        let control = Control::new(&catalog, config.name.clone());
        if control.load_feeder().await?.is_some() {
            let fence = control.acquire(&owner()).await?;
            control.tear_down(&fence).await?;
        }
    }
    let mut connection = Connection::connect(&config.source.endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    if slot::inspect(&mut connection, &config.source.slot)
        .await
        .map_err(from_source)?
        .is_some()
    {
        slot::drop(&mut connection, &config.source.slot)
            .await
            .map_err(from_source)?;
        dropped.push(format!("slot {}", config.source.slot.as_str()));
    }
    if config.source.manage_publication {
        for found in publish::read(&mut connection, config).await? {
            publication::drop(&mut connection, &found.name)
                .await
                .map_err(from_source)?;
            dropped.push(format!("publication {}", found.name.as_str()));
        }
    }
    connection.close().await;
    Ok(dropped)
}

/// Makes or migrates the control tables in the catalog, as [`migrations::up`].
///
/// # Errors
/// A catalog that cannot be asked or was migrated by a newer release.
pub async fn migrate(config: &CatalogConfig) -> Result<(), FeederError> {
    migrations::up(&check::connect_catalog(config).await?).await
}

/// The version of the control tables, `None` when there are none.
///
/// # Errors
/// As [`migrate`].
pub async fn control_version(config: &CatalogConfig) -> Result<Option<i32>, FeederError> {
    migrations::version(&check::connect_catalog(config).await?).await
}

/// Drops the control tables, as [`migrations::down`]. Never touches the lake.
///
/// # Errors
/// A feeder is running, or a catalog that cannot be asked.
pub async fn drop_control(config: &CatalogConfig) -> Result<(), FeederError> {
    migrations::down(&check::connect_catalog(config).await?).await
}

/// The names of the source's tables.
///
/// # Errors
/// A source that cannot be asked.
pub async fn list_source_tables(config: &FeederConfig) -> Result<Vec<String>, FeederError> {
    let mut connection = Connection::connect(&config.source.endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)?;
    let listed = tables::list_tables(&mut connection)
        .await
        .map_err(from_source)?;
    connection.close().await;
    Ok(listed
        .into_iter()
        .filter(|table| table.schema != select::CONTROL_SCHEMA)
        .filter(|table| !table.name.starts_with("ducklake_"))
        .map(|table| format!("{}.{}", table.schema, table.name))
        .collect())
}
