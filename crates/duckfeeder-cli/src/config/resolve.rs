//! From the merged layers to what the feeder is asked to do.

use std::net::SocketAddr;

use duckfeeder::Store;
use duckfeeder::config::{
    CatalogConfig, ChangeOverrides, ChangePolicy, FeederConfig, FlushConfig, Limits,
    MaintenanceConfig, Policy, SourceConfig, TableRule,
};
use duckfeeder::config::{PublicationName, SlotName};

use super::endpoint;
use super::error::ConfigError;
use super::keys;
use super::layer::{Layer, TableEntry, given, required};
use super::store;

/// A complete configuration.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What the feeder is asked to do.
    pub(crate) feeder: FeederConfig,
    /// Where the files go; `None` when nobody said so. See [`Settings::store`].
    store: Option<Store>,
    /// Where to serve health and status.
    pub(crate) listen: Option<SocketAddr>,
    /// Whether `run` does anything.
    pub(crate) enabled: bool,
}

impl Settings {
    /// Where the files go; an error when nobody said so.
    pub(crate) fn store(&self) -> Result<&Store, ConfigError> {
        self.store.as_ref().ok_or_else(|| {
            ConfigError::new(
                "`storage.url` is missing",
                "set `storage.url` in the configuration file or the environment variable \
                 DUCKFEEDER_STORAGE__URL, or give --storage",
            )
        })
    }

    /// An error when no table is asked for.
    pub(crate) fn require_tables(&self) -> Result<(), ConfigError> {
        if self.feeder.tables.iter().any(|rule| rule.enabled) {
            return Ok(());
        }
        Err(ConfigError::new(
            "`tables` is missing: no table is asked for",
            "write [[tables]] and below it source = \"public.*\", set DUCKFEEDER_TABLES=public.*, or give --tables 'public.*'",
        ))
    }
}

/// Gives every value its type.
pub(super) fn resolve(layer: &Layer) -> Result<Settings, ConfigError> {
    let values = &layer.values;
    let name = required(values, &keys::NAME)?;
    let derived = format!("duckfeeder_{name}");
    let impossible = |what: &str| {
        ConfigError::new(
            format!("`{what}`: {derived} is not possible"),
            format!("set `{what}`"),
        )
    };
    let slot = match given(values, &keys::SOURCE_SLOT)? {
        Some(found) => found.value,
        None => SlotName::parse(&derived).map_err(|_| impossible("source.slot"))?,
    };
    let publication = match given(values, &keys::SOURCE_PUBLICATION)? {
        Some(found) => found.value,
        None => PublicationName::parse(&derived).map_err(|_| impossible("source.publication"))?,
    };
    let source = endpoint::source(values)?;
    let catalog = endpoint::catalog(values, &source)?;
    let tables = layer
        .tables
        .iter()
        .flatten()
        .map(table)
        .collect::<Result<_, _>>()?;
    let feeder = FeederConfig {
        name,
        source: SourceConfig {
            endpoint: source,
            slot,
            publication,
            manage_publication: required(values, &keys::SOURCE_MANAGE_PUBLICATION)?,
            keyless: required(values, &keys::SOURCE_KEYLESS)?,
            numeric: required(values, &keys::SOURCE_NUMERIC)?,
            backfill: required(values, &keys::SOURCE_BACKFILL)?,
        },
        tables,
        catalog: CatalogConfig {
            endpoint: catalog,
            metadata_schema: required(values, &keys::CATALOG_METADATA_SCHEMA)?,
            migrate: required(values, &keys::CATALOG_MIGRATE)?,
        },
        policy: Policy {
            on_table_error: required(values, &keys::POLICY_ON_TABLE_ERROR)?,
            on_unrepresentable: required(values, &keys::POLICY_ON_UNREPRESENTABLE)?,
            changes: ChangePolicy {
                on_schema_change: required(values, &keys::POLICY_ON_SCHEMA_CHANGE)?,
                on_drop_column: required(values, &keys::POLICY_ON_DROP_COLUMN)?,
                on_type_change: required(values, &keys::POLICY_ON_TYPE_CHANGE)?,
                on_drop_table: required(values, &keys::POLICY_ON_DROP_TABLE)?,
                on_drop_partition: required(values, &keys::POLICY_ON_DROP_PARTITION)?,
            },
        },
        flush: FlushConfig {
            interval: required(values, &keys::FLUSH_INTERVAL)?,
            max_rows: required(values, &keys::FLUSH_MAX_ROWS)?,
            max_bytes: required(values, &keys::FLUSH_MAX_BYTES)?,
        },
        limits: Limits {
            memory: required(values, &keys::LIMITS_MEMORY)?,
            max_lag_bytes: required(values, &keys::LIMITS_MAX_LAG_BYTES)?,
            shutdown_timeout: required(values, &keys::LIMITS_SHUTDOWN_TIMEOUT)?,
            copy_workers: required(values, &keys::LIMITS_COPY_WORKERS)?,
        },
        maintenance: MaintenanceConfig {
            interval: required(values, &keys::MAINTENANCE_INTERVAL)?,
            grace: required(values, &keys::MAINTENANCE_GRACE)?,
        },
    };
    Ok(Settings {
        feeder,
        store: store::store(values)?,
        listen: given(values, &keys::SERVER_LISTEN)?.map(|found| found.value),
        enabled: required(values, &keys::ENABLED)?,
    })
}

fn table(entry: &TableEntry) -> Result<TableRule, ConfigError> {
    let values = &entry.values;
    let source = required(values, &keys::TABLES_SOURCE).map_err(|error| {
        if values.contains_key(keys::TABLES_SOURCE.spec.path) {
            return error;
        }
        ConfigError::new(
            "`tables.source` is missing",
            "write source = \"schema.table\" in this [[tables]] entry",
        )
        .at(&entry.origin)
    })?;
    Ok(TableRule {
        source,
        enabled: required(values, &keys::TABLES_ENABLED)?,
        target_schema: given(values, &keys::TABLES_TARGET_SCHEMA)?.map(|found| found.value),
        target_table: given(values, &keys::TABLES_TARGET_TABLE)?.map(|found| found.value),
        exclude_columns: given(values, &keys::TABLES_EXCLUDE_COLUMNS)?
            .map_or_else(Vec::new, |found| found.value),
        row_filter: given(values, &keys::TABLES_WHERE)?.map(|found| found.value),
        backfill: given(values, &keys::TABLES_BACKFILL)?.map(|found| found.value),
        numeric: given(values, &keys::TABLES_NUMERIC)?
            .map_or_else(Default::default, |found| found.value),
        arrays: given(values, &keys::TABLES_ARRAYS)?
            .map_or_else(Default::default, |found| found.value),
        before_image: required(values, &keys::TABLES_BEFORE_IMAGE)?,
        changes: ChangeOverrides {
            on_schema_change: given(values, &keys::TABLES_ON_SCHEMA_CHANGE)?
                .map(|found| found.value),
            on_drop_column: given(values, &keys::TABLES_ON_DROP_COLUMN)?.map(|found| found.value),
            on_type_change: given(values, &keys::TABLES_ON_TYPE_CHANGE)?.map(|found| found.value),
            on_drop_table: given(values, &keys::TABLES_ON_DROP_TABLE)?.map(|found| found.value),
            on_drop_partition: given(values, &keys::TABLES_ON_DROP_PARTITION)?
                .map(|found| found.value),
        },
    })
}
