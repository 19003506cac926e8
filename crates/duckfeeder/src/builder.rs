//! From what the host says to a checked configuration.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    BackfillMode, CatalogConfig, ChangePolicy, FeederConfig, FeederName, FlushConfig,
    KeylessPolicy, Limits, MaintenanceConfig, NumericMapping, OnTableError, OnUnrepresentable,
    Policy, SourceConfig, TableRule,
};
use crate::config::{Endpoint, PasswordProvider, PasswordSource, PublicationName, SlotName};
use secrecy::SecretString;

use crate::append::{self, AppendOptions, AppendTable, Overflow};
use crate::{Error, Feeder, Store, Table};

/// Describes a [`Feeder`]. What is not said has the default of the binary's configuration.
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    name: Option<String>,
    source: Option<Database>,
    catalog: Option<Database>,
    source_password: Option<PasswordSource>,
    catalog_password: Option<PasswordSource>,
    slot: Option<String>,
    publication: Option<String>,
    unmanaged_publication: bool,
    keyless: KeylessPolicy,
    numeric: NumericMapping,
    backfill: BackfillMode,
    tables: Vec<TableRule>,
    metadata_schema: Option<String>,
    no_migration: bool,
    storage: Option<Store>,
    policy: Policy,
    flush: FlushConfig,
    limits: Limits,
    maintenance: MaintenanceConfig,
    disabled: bool,
    appends: Vec<AppendTable>,
    append_memory: Option<u64>,
    append_overflow: Overflow,
}

pub(crate) enum Database {
    Url(String),
    Endpoint(Box<Endpoint>),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A URL may hold a password.
            Self::Url(_) => f.write_str("Url(..)"),
            Self::Endpoint(endpoint) => endpoint.fmt(f),
        }
    }
}

impl Builder {
    /// The feeder's name, `default` unless given: 1 to 40 of `a-z`, `0-9` and `_`. Feeders of one
    /// Postgres cluster, or of one lake, need names of their own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The database whose changes are fed: a connection URI as libpq reads it.
    pub fn source(mut self, url: impl Into<String>) -> Self {
        self.source = Some(Database::Url(url.into()));
        self
    }

    /// As [`source`](Self::source), from parts.
    pub fn source_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.source = Some(Database::Endpoint(Box::new(endpoint)));
        self
    }

    /// The database that holds the lake's metadata; the source unless given.
    pub fn catalog(mut self, url: impl Into<String>) -> Self {
        self.catalog = Some(Database::Url(url.into()));
        self
    }

    /// As [`catalog`](Self::catalog), from parts.
    pub fn catalog_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.catalog = Some(Database::Endpoint(Box::new(endpoint)));
        self
    }

    /// Asks for the source's password before every connection: for passwords that rotate. The
    /// catalog's too, when it is the source.
    pub fn password_provider<F, P, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> P + Send + Sync + 'static,
        P: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.source_password = Some(provided(provider));
        self
    }

    /// Asks for the catalog's password before every connection.
    pub fn catalog_password_provider<F, P, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> P + Send + Sync + 'static,
        P: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.catalog_password = Some(provided(provider));
        self
    }

    /// Adds tables by their names: `schema.table`, with the globs `*` and `?`.
    pub fn tables<T: Into<String>>(mut self, sources: impl IntoIterator<Item = T>) -> Self {
        self.tables.extend(sources.into_iter().map(TableRule::new));
        self
    }

    /// Adds a rule of its own for one table or several.
    pub fn table(mut self, table: Table) -> Self {
        self.tables.push(table.into());
        self
    }

    /// Where the Parquet files go: a URL, or any `Arc<dyn Storage>`.
    pub fn storage(mut self, store: impl Into<Store>) -> Self {
        self.storage = Some(store.into());
        self
    }

    /// The replication slot, `duckfeeder_<name>` unless given. Made when it is missing.
    pub fn slot(mut self, slot: impl Into<String>) -> Self {
        self.slot = Some(slot.into());
        self
    }

    /// The publication, `duckfeeder_<name>` unless given.
    pub fn publication(mut self, publication: impl Into<String>) -> Self {
        self.publication = Some(publication.into());
        self
    }

    /// False uses the publication that is there instead of making and altering it.
    pub fn manage_publication(mut self, manage: bool) -> Self {
        self.unmanaged_publication = !manage;
        self
    }

    /// What to do with tables without a replica identity.
    pub fn keyless(mut self, policy: KeylessPolicy) -> Self {
        self.keyless = policy;
        self
    }

    /// How `numeric` without a precision is stored.
    pub fn numeric(mut self, mapping: NumericMapping) -> Self {
        self.numeric = mapping;
        self
    }

    /// Whether existing rows are copied.
    pub fn backfill(mut self, mode: BackfillMode) -> Self {
        self.backfill = mode;
        self
    }

    /// Schema of the `ducklake_*` tables in the catalog, `public` unless given.
    pub fn metadata_schema(mut self, schema: impl Into<String>) -> Self {
        self.metadata_schema = Some(schema.into());
        self
    }

    /// False leaves the control tables to `duckfeeder migrate`.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.no_migration = !migrate;
        self
    }

    /// What happens to a value that its lake column cannot hold.
    pub fn on_unrepresentable(mut self, policy: OnUnrepresentable) -> Self {
        self.policy.on_unrepresentable = policy;
        self
    }

    /// What DDL at the source does to the lake: by default the lake follows, keeps what was dropped, and begins a new
    /// column where a type cannot be widened.
    pub fn on_change(mut self, policy: ChangePolicy) -> Self {
        self.policy.changes = policy;
        self
    }

    /// What an error of one table does to the others.
    pub fn on_table_error(mut self, policy: OnTableError) -> Self {
        self.policy.on_table_error = policy;
        self
    }

    /// A commit at the latest this long after the first row that waits for it.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush.interval = interval;
        self
    }

    /// A commit at the latest after this many rows.
    pub fn flush_max_rows(mut self, rows: u64) -> Self {
        self.flush.max_rows = rows;
        self
    }

    /// A commit at the latest after this many bytes of rows.
    pub fn flush_max_bytes(mut self, bytes: u64) -> Self {
        self.flush.max_bytes = bytes;
        self
    }

    /// Budget in bytes for rows that are buffered or being encoded.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory = bytes;
        self
    }

    /// Bytes of waiting WAL above which the feeder calls itself unhealthy.
    pub fn max_lag_bytes(mut self, bytes: u64) -> Self {
        self.limits.max_lag_bytes = bytes;
        self
    }

    /// How long a stop waits for the last commit.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.limits.shutdown_timeout = timeout;
        self
    }

    /// Parallel connections of a first copy.
    pub fn copy_workers(mut self, workers: usize) -> Self {
        self.limits.copy_workers = workers;
        self
    }

    /// How often the running feeder cleans its lake up, see [`Janitor`](crate::Janitor); `None` for never.
    pub fn maintenance_interval(mut self, interval: Option<Duration>) -> Self {
        self.maintenance.interval = interval;
        self
    }

    /// How old something must be that nothing names before it is removed; at least
    /// [`MIN_GRACE`](MaintenanceConfig::MIN_GRACE).
    pub fn maintenance_grace(mut self, grace: Duration) -> Self {
        self.maintenance.grace = grace;
        self
    }

    /// Declares a table of the feeder's append stream, see [`Handle::append_stream`](crate::Handle::append_stream).
    pub fn append_table(mut self, table: AppendTable) -> Self {
        self.appends.push(table);
        self
    }

    /// Bytes of appended rows that may wait for their commit, beside [`memory`](Self::memory); 64 MiB unless given.
    pub fn append_memory(mut self, bytes: u64) -> Self {
        self.append_memory = Some(bytes);
        self
    }

    /// What happens to an appended row that finds them used up.
    pub fn append_overflow(mut self, overflow: Overflow) -> Self {
        self.append_overflow = overflow;
        self
    }

    /// False builds a feeder that does nothing: its handle is ready at once, and waits.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.disabled = !enabled;
        self
    }

    /// Checks the configuration. Connects to nothing; the directory of a `file://` store is made
    /// if it is missing, unless the feeder is disabled.
    ///
    /// # Errors
    /// Of kind `Config` when something is missing or wrong, of kind `Storage` when the store cannot
    /// be opened.
    pub fn build(self) -> Result<Feeder, Error> {
        let store = self.storage.clone();
        let disabled = self.disabled;
        let tables = self.appends.clone();
        let mut appends = AppendOptions {
            flush: self.flush,
            overflow: self.append_overflow,
            disabled,
            ..AppendOptions::default()
        };
        appends.memory = self.append_memory.unwrap_or(appends.memory);
        let config = self.config()?;
        append::check_options(&appends)?;
        let store = store.ok_or_else(|| missing("storage", "call storage(\"file:///...\")"))?;
        if disabled {
            return Ok(Feeder::disabled(&config.name));
        }
        Feeder::from_config(config, store.open()?).with_appends(appends, tables)
    }

    fn config(self) -> Result<FeederConfig, Error> {
        let name = self.name.as_deref().unwrap_or("default");
        let name = FeederName::parse(name)
            .map_err(|error| Error::config(format!("name: {error}"), "give it another name"))?;
        let derived = format!("duckfeeder_{name}");
        let slot = self.slot.unwrap_or_else(|| derived.clone());
        let slot = SlotName::parse(&slot).map_err(|error| {
            Error::config(format!("slot: {error}"), "use 1 to 63 of a-z, 0-9 and _")
        })?;
        let publication = self.publication.unwrap_or(derived);
        let publication = PublicationName::parse(&publication).map_err(|error| {
            Error::config(format!("publication: {error}"), "give it another name")
        })?;
        let source = self
            .source
            .ok_or_else(|| missing("source", "call source(\"postgres://user@host/database\")"))?;
        let mut source = endpoint("source", source)?;
        if let Some(password) = self.source_password {
            source.password = password;
        }
        let mut catalog = match self.catalog {
            Some(catalog) => endpoint("catalog", catalog)?,
            None => source.clone(),
        };
        if let Some(password) = self.catalog_password {
            catalog.password = password;
        }
        if !self.tables.iter().any(|rule| rule.enabled) {
            return Err(missing("tables", "call tables([\"public.*\"])"));
        }
        for rule in &self.tables {
            check_pattern(&rule.source)?;
        }
        check_limits(&self.flush, &self.limits)?;
        check_maintenance(&self.maintenance)?;
        Ok(FeederConfig {
            name,
            source: SourceConfig {
                endpoint: source,
                slot,
                publication,
                manage_publication: !self.unmanaged_publication,
                keyless: self.keyless,
                numeric: self.numeric,
                backfill: self.backfill,
            },
            tables: self.tables,
            catalog: CatalogConfig {
                endpoint: catalog,
                metadata_schema: self.metadata_schema.unwrap_or_else(|| "public".to_owned()),
                migrate: !self.no_migration,
            },
            policy: self.policy,
            flush: self.flush,
            limits: self.limits,
            maintenance: self.maintenance,
        })
    }
}

pub(crate) fn missing(what: &str, remedy: &str) -> Error {
    Error::config(format!("{what} is missing"), remedy)
}

pub(crate) fn endpoint(what: &str, database: Database) -> Result<Endpoint, Error> {
    match database {
        Database::Endpoint(endpoint) => Ok(*endpoint),
        Database::Url(url) => Endpoint::parse(&url).map_err(|error| {
            Error::config(
                format!("{what}: {error}"),
                "write postgres://user@host:5432/database, with what is special in a URL percent-encoded",
            )
        }),
    }
}

fn check_pattern(pattern: &str) -> Result<(), Error> {
    match pattern.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(()),
        _ => Err(Error::config(
            format!("tables: `{pattern}` names no schema"),
            "write schema.table, such as \"public.orders\" or \"public.*\"",
        )),
    }
}

fn check_limits(flush: &FlushConfig, limits: &Limits) -> Result<(), Error> {
    let zero = [
        ("flush_interval", flush.interval.is_zero()),
        ("flush_max_rows", flush.max_rows == 0),
        ("flush_max_bytes", flush.max_bytes == 0),
        ("memory", limits.memory == 0),
        ("max_lag_bytes", limits.max_lag_bytes == 0),
        ("shutdown_timeout", limits.shutdown_timeout.is_zero()),
        ("copy_workers", limits.copy_workers == 0),
    ];
    match zero.iter().find(|(_, zero)| *zero) {
        Some((name, _)) => Err(Error::config(
            format!("{name} is zero"),
            "give it a value above zero",
        )),
        None => Ok(()),
    }
}

pub(crate) fn check_maintenance(maintenance: &MaintenanceConfig) -> Result<(), Error> {
    if maintenance
        .interval
        .is_some_and(|interval| interval.is_zero())
    {
        return Err(Error::config(
            "maintenance_interval is zero",
            "give it a value above zero, or None",
        ));
    }
    if maintenance.grace < MaintenanceConfig::MIN_GRACE {
        return Err(Error::config(
            "maintenance_grace is below one hour",
            "give it an hour or more",
        ));
    }
    Ok(())
}

pub(crate) fn provided<F, P, E>(provider: F) -> PasswordSource
where
    F: Fn() -> P + Send + Sync + 'static,
    P: Future<Output = Result<String, E>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let provider: PasswordProvider = Arc::new(move || {
        let password = provider();
        Box::pin(async move { password.await.map(SecretString::from).map_err(Into::into) })
    });
    PasswordSource::Provider(provider)
}
