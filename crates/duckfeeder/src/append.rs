//! Append streams: rows that do not come from a source's WAL.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use feeder_core::append::{self, AppendConfig};
use serde::Serialize;
use storage::Storage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::builder::Database;
use crate::config::{
    CatalogConfig, FeederName, FlushConfig, Limits, MaintenanceConfig, PasswordSource,
};
use crate::{Error, Store, builder};

pub use feeder_core::append::{
    AppendCounts, AppendOptions, AppendTable, ColumnType, Overflow, RecordBatch,
};

/// Takes rows for append tables of a lake. Clones share one buffer.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use duckfeeder::append::{AppendStream, AppendTable, ColumnType};
///
/// let stream = AppendStream::builder()
///     .catalog("postgres://feeder@localhost/lake")
///     .storage("file:///srv/lake")
///     .table(AppendTable::new("events").column("at", ColumnType::TimestampTz))
///     .spawn()?;
/// let event = serde_json::json!({ "at": "2024-02-29T12:00:00Z", "kind": "login", "user": 7 });
/// stream.append("events", &event).await?;
/// let snapshot = stream.append_durable("events", &event).await?;
/// println!("in the lake since snapshot {snapshot}");
/// stream.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// A stream of its own, from [`builder`](Self::builder), ends with its last clone: what was taken is committed as long as
/// the runtime lives. One of a feeder, from [`Handle::append_stream`](crate::Handle::append_stream), ends with the feeder.
#[derive(Clone, Debug)]
pub struct AppendStream {
    core: append::AppendStream,
    /// `None` for the stream of a feeder.
    runner: Option<Arc<Runner>>,
}

/// What carries the rows of a stream of its own.
#[derive(Debug)]
struct Runner {
    stop: CancellationToken,
    ended: watch::Receiver<Option<Result<(), Error>>>,
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What [`AppendStream::append_all`] did.
#[derive(Debug)]
pub struct Appended {
    /// Of the last row that was appended.
    pub receipt: Receipt,
    /// The rows that did not fit, by their place, with the reason.
    pub refused: Vec<(usize, Error)>,
}

/// Tells what became of rows that were appended. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Receipt(append::Receipt);

impl Receipt {
    /// Waits until the rows are in the lake; the snapshot that holds them. Hurries nothing.
    ///
    /// # Errors
    /// They will not be: they made room for others, their table cannot be written, or the stream ended.
    pub async fn durable(self) -> Result<i64, Error> {
        Ok(self.0.durable().await?)
    }
}

impl AppendStream {
    /// Begins to describe a stream of its own.
    pub fn builder() -> AppendBuilder {
        AppendBuilder::default()
    }

    pub(crate) fn of_feeder(core: append::AppendStream) -> Self {
        Self { core, runner: None }
    }

    /// Whether this is a stream at all, and not one that takes rows and forgets them.
    pub fn is_enabled(&self) -> bool {
        self.core.is_enabled()
    }

    /// Declares a table while the stream runs, unless one of its name is there.
    ///
    /// # Errors
    /// Of kind `Config` when it cannot be.
    pub fn declare(&self, table: AppendTable) -> Result<(), Error> {
        Ok(self.core.declare(table)?)
    }

    /// Appends a row: a struct or map of anything that serde can serialize. Returns when it is buffered.
    ///
    /// # Errors
    /// Of kind `Data` when the row does not fit the table, of kind `Overflow` when the buffer is full (unless rows wait
    /// for room), of kind `Stopped` when the stream has ended, else what ended it.
    pub async fn append<T: Serialize + Sync + ?Sized>(
        &self,
        table: &str,
        row: &T,
    ) -> Result<Receipt, Error> {
        Ok(Receipt(self.core.append(table, row).await?))
    }

    /// Appends a row; returns when it is in the lake, with the snapshot that holds it. Rows that are awaited at the same
    /// time are committed together.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`Receipt::durable`].
    pub async fn append_durable<T: Serialize + Sync + ?Sized>(
        &self,
        table: &str,
        row: &T,
    ) -> Result<i64, Error> {
        Ok(self.core.append_durable(table, row).await?)
    }

    /// Appends rows. The columns of a new table are inferred from all of them.
    ///
    /// # Errors
    /// As [`append`](Self::append), but for a row that does not fit, which the others do not suffer from: rows before the
    /// error are appended.
    pub async fn append_all<T: Serialize + Sync>(
        &self,
        table: &str,
        rows: &[T],
    ) -> Result<Appended, Error> {
        let appended = self.core.append_all(table, rows).await?;
        Ok(Appended {
            receipt: Receipt(appended.receipt),
            refused: appended
                .refused
                .into_iter()
                .map(|(index, error)| (index, error.into()))
                .collect(),
        })
    }

    /// Appends an Arrow batch, whole or not at all. Its columns must have the table's types, or narrower ones.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_batch(&self, table: &str, batch: &RecordBatch) -> Result<Receipt, Error> {
        Ok(Receipt(self.core.append_batch(table, batch).await?))
    }

    /// Appends a row without waiting, from wherever.
    ///
    /// # Errors
    /// As [`append`](Self::append); of kind `Overflow` also where that would wait.
    pub fn try_append<T: Serialize + ?Sized>(
        &self,
        table: &str,
        row: &T,
    ) -> Result<Receipt, Error> {
        Ok(Receipt(self.core.try_append(table, row)?))
    }

    /// A producer that numbers its rows, so that those it sends again, after a restart or an error, are dropped.
    pub fn producer(&self, id: impl Into<String>) -> Producer {
        Producer(self.core.producer(id))
    }

    /// Waits until the stream is connected and the lake's tables are known.
    ///
    /// # Errors
    /// What ended the stream before.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.core.ready().await?)
    }

    /// Returns when everything that was appended before is in the lake.
    ///
    /// # Errors
    /// As [`Receipt::durable`].
    pub async fn flush(&self) -> Result<(), Error> {
        Ok(self.core.flush().await?)
    }

    /// What became of the rows of each table, by its name in the lake.
    pub fn counts(&self) -> Vec<(String, AppendCounts)> {
        self.core.counts()
    }

    /// Bytes of rows that wait for their commit.
    pub fn buffered_bytes(&self) -> u64 {
        self.core.buffered_bytes()
    }

    /// Takes no more rows, for all clones, and returns when those that were taken are in the lake. A feeder's stream is
    /// shut down with its handle; here it is flushed.
    ///
    /// # Errors
    /// What ended the stream, or that the last commit took too long.
    pub async fn shutdown(self) -> Result<(), Error> {
        let Some(runner) = &self.runner else {
            return self.flush().await;
        };
        runner.stop.cancel();
        self.core.close();
        let mut ended = runner.ended.clone();
        let outcome = ended.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(crate::handle::runtime_gone()))
    }
}

/// A producer that numbers its rows. It sends from one place at a time, in order; there is one of an id at a time.
///
/// The number of the last row that is in the lake is kept per table and committed with the row. A row with a number that
/// is not greater than one before is a replay: it is dropped, and durable as soon as the first one is.
#[derive(Debug)]
pub struct Producer(append::Producer);

impl Producer {
    /// Appends a row; returns when it is buffered.
    ///
    /// # Errors
    /// As [`AppendStream::append`].
    pub async fn append<T: Serialize + Sync + ?Sized>(
        &mut self,
        table: &str,
        seq: i64,
        row: &T,
    ) -> Result<Receipt, Error> {
        Ok(Receipt(self.0.append(table, seq, row).await?))
    }

    /// Appends a row; returns when it is in the lake.
    ///
    /// # Errors
    /// As [`AppendStream::append_durable`].
    pub async fn append_durable<T: Serialize + Sync + ?Sized>(
        &mut self,
        table: &str,
        seq: i64,
        row: &T,
    ) -> Result<i64, Error> {
        Ok(self.0.append_durable(table, seq, row).await?)
    }

    /// Appends an Arrow batch: its first row has the number `first_seq`, each other one the next. A batch is a replay as
    /// a whole, by its first number.
    ///
    /// # Errors
    /// As [`AppendStream::append_batch`].
    pub async fn append_batch(
        &mut self,
        table: &str,
        first_seq: i64,
        batch: &RecordBatch,
    ) -> Result<Receipt, Error> {
        Ok(Receipt(self.0.append_batch(table, first_seq, batch).await?))
    }

    /// The greatest number of this producer that is in the lake's table: where to go on after a restart.
    ///
    /// # Errors
    /// What ended the stream before.
    pub async fn position(&self, table: &str) -> Result<Option<i64>, Error> {
        Ok(self.0.position(table).await?)
    }
}

/// Describes an [`AppendStream`] of its own.
#[derive(Debug, Default)]
#[must_use]
pub struct AppendBuilder {
    name: Option<String>,
    catalog: Option<Database>,
    catalog_password: Option<PasswordSource>,
    metadata_schema: Option<String>,
    no_migration: bool,
    storage: Option<Store>,
    options: AppendOptions,
    tables: Vec<AppendTable>,
    shutdown_timeout: Option<Duration>,
    maintenance: MaintenanceConfig,
}

impl AppendBuilder {
    /// The stream's name, `append` unless given: 1 to 40 of `a-z`, `0-9` and `_`. Streams and feeders of one lake need
    /// names of their own; several processes that append to one table, too.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The database that holds the lake's metadata: a connection URI as libpq reads it.
    pub fn catalog(mut self, url: impl Into<String>) -> Self {
        self.catalog = Some(Database::Url(url.into()));
        self
    }

    /// As [`catalog`](Self::catalog), from parts.
    pub fn catalog_endpoint(mut self, endpoint: crate::config::Endpoint) -> Self {
        self.catalog = Some(Database::Endpoint(Box::new(endpoint)));
        self
    }

    /// Asks for the catalog's password before every connection.
    pub fn password_provider<F, P, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> P + Send + Sync + 'static,
        P: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.catalog_password = Some(builder::provided(provider));
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

    /// Where the Parquet files go: a URL, or any `Arc<dyn Storage>`.
    pub fn storage(mut self, store: impl Into<Store>) -> Self {
        self.storage = Some(store.into());
        self
    }

    /// Declares a table. Others are made as rows come for them, under `raw`.
    pub fn table(mut self, table: AppendTable) -> Self {
        self.tables.push(table);
        self
    }

    /// A commit at the latest this long after the first row that waits for it.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.options.flush.interval = interval;
        self
    }

    /// A commit at the latest after this many rows.
    pub fn flush_max_rows(mut self, rows: u64) -> Self {
        self.options.flush.max_rows = rows;
        self
    }

    /// A commit at the latest after this many bytes of rows.
    pub fn flush_max_bytes(mut self, bytes: u64) -> Self {
        self.options.flush.max_bytes = bytes;
        self
    }

    /// How long a row of `append_durable` waits for others that are committed with it.
    pub fn durable_within(mut self, delay: Duration) -> Self {
        self.options.durable_within = delay;
        self
    }

    /// Bytes of rows that may wait for their commit.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.options.memory = bytes;
        self
    }

    /// What happens to a row that finds them used up.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.options.overflow = overflow;
        self
    }

    /// How long the end waits for the last commit; 30 s unless given.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// How often the stream cleans its lake up, see [`Janitor`](crate::Janitor); `None` for never.
    pub fn maintenance_interval(mut self, interval: Option<Duration>) -> Self {
        self.maintenance.interval = interval;
        self
    }

    /// False makes a stream that takes rows and forgets them.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.options.disabled = !enabled;
        self
    }

    /// Checks the configuration and starts the stream as a task of the current tokio runtime, which must have its io and
    /// time drivers enabled. Returns at once; what goes wrong later, rows and [`AppendStream::ready`] tell.
    ///
    /// # Errors
    /// Of kind `Config` when something is missing or wrong, or outside a runtime; of kind `Storage` when the store cannot
    /// be opened.
    pub fn spawn(self) -> Result<AppendStream, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_outside| {
            Error::config(
                "the append stream was started outside a tokio runtime",
                "call spawn() inside one",
            )
        })?;
        let disabled = self.options.disabled;
        let stop = CancellationToken::new();
        let (report, ended) = watch::channel(None);
        let (config, store) = self.config()?;
        let (core, run) = append::run(config, store, stop.clone())?;
        if disabled {
            report.send_replace(Some(Ok(())));
        } else {
            let task = runtime.spawn(run);
            runtime.spawn(async move {
                let outcome = match task.await {
                    Ok(outcome) => outcome.map_err(Error::from),
                    Err(join) if join.is_panic() => Err(crate::handle::panicked()),
                    Err(_) => return,
                };
                report.send_replace(Some(outcome));
            });
        }
        let runner = Some(Arc::new(Runner { stop, ended }));
        Ok(AppendStream { core, runner })
    }

    fn config(self) -> Result<(AppendConfig, Arc<dyn Storage>), Error> {
        let name = self.name.as_deref().unwrap_or("append");
        let name = FeederName::parse(name)
            .map_err(|error| Error::config(format!("name: {error}"), "give it another name"))?;
        let catalog = self.catalog.ok_or_else(|| {
            builder::missing("catalog", "call catalog(\"postgres://user@host/database\")")
        })?;
        let mut endpoint = builder::endpoint("catalog", catalog)?;
        if let Some(password) = self.catalog_password {
            endpoint.password = password;
        }
        let store = self
            .storage
            .ok_or_else(|| builder::missing("storage", "call storage(\"file:///...\")"))?;
        check_options(&self.options)?;
        builder::check_maintenance(&self.maintenance)?;
        let config = AppendConfig {
            name,
            catalog: CatalogConfig {
                endpoint,
                metadata_schema: self.metadata_schema.unwrap_or_else(|| "public".to_owned()),
                migrate: !self.no_migration,
            },
            options: self.options,
            tables: self.tables,
            shutdown_timeout: self
                .shutdown_timeout
                .unwrap_or_else(|| Limits::default().shutdown_timeout),
            maintenance: self.maintenance,
        };
        Ok((config, store.open()?))
    }
}

/// That nothing is zero which must not be.
pub(crate) fn check_options(options: &AppendOptions) -> Result<(), Error> {
    let FlushConfig {
        interval,
        max_rows,
        max_bytes,
    } = options.flush;
    let zero = [
        ("flush_interval", interval.is_zero()),
        ("flush_max_rows", max_rows == 0),
        ("flush_max_bytes", max_bytes == 0),
        ("memory of the append stream", options.memory == 0),
    ];
    match zero.iter().find(|(_, zero)| *zero) {
        Some((name, _)) => Err(Error::config(
            format!("{name} is zero"),
            "give it a value above zero",
        )),
        None => Ok(()),
    }
}
