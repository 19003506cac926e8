//! The connection to the catalog.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{PgPool, Row};
use tokio::time::timeout;

use crate::{CatalogError, CatalogErrorKind, SnapshotId};

/// How to reach a catalog.
#[derive(Clone)]
pub struct CatalogOptions {
    /// Where and as whom to connect.
    pub connect: PgConnectOptions,
    /// The Postgres schema that holds the `ducklake_*` tables: `public` by default, as in DuckDB.
    pub metadata_schema: String,
    /// Most connections to hold at once; 4 by default.
    pub max_connections: u32,
    /// How long a commit waits for a lock that another session holds; 10 s by default.
    pub lock_timeout: Duration,
}

impl CatalogOptions {
    /// The default options for a catalog at `connect`.
    pub fn new(connect: PgConnectOptions) -> Self {
        Self {
            connect,
            metadata_schema: "public".to_owned(),
            max_connections: 4,
            lock_timeout: Duration::from_secs(10),
        }
    }
}

/// Without the password.
impl fmt::Debug for CatalogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogOptions")
            .field("connect", &endpoint(&self.connect))
            .field("metadata_schema", &self.metadata_schema)
            .field("max_connections", &self.max_connections)
            .field("lock_timeout", &self.lock_timeout)
            .finish()
    }
}

/// Names a database for messages, without anything secret.
fn endpoint(connect: &PgConnectOptions) -> String {
    let database = connect
        .get_database()
        .unwrap_or_else(|| connect.get_username());
    format!(
        "database {database} at {}:{}",
        connect.get_host(),
        connect.get_port()
    )
}

/// A DuckLake catalog in Postgres. Clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: PgPool,
    metadata_schema: String,
    lock_timeout: Duration,
}

/// A row of `ducklake_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// When it was committed, by the catalog's clock: RFC 3339, UTC, with microseconds.
    pub time: String,
    /// The lake-wide counter of changes to the definitions of objects.
    pub schema_version: i64,
    /// The id that the next schema, table or view gets.
    pub next_catalog_id: i64,
    /// The id that the next file gets.
    pub next_file_id: i64,
}

impl Catalog {
    /// Connects; creates nothing.
    ///
    /// Every connection has the metadata schema as its only search path, the name `duckfeeder`
    /// unless `connect` names another, and its own timeouts instead of the role's.
    pub async fn connect(options: CatalogOptions) -> Result<Self, CatalogError> {
        let object = endpoint(&options.connect);
        let connect = match options.connect.get_application_name() {
            Some(_) => options.connect,
            None => options.connect.application_name("duckfeeder"),
        };
        let schema = options.metadata_schema.clone();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // In place of the ping: a session that began while the database was read-only stays so, a new one may not.
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(async move { can_write(connection).await }))
            .after_connect(move |connection, _| {
                let search_path = crate::changes_made::quote(&schema);
                Box::pin(async move { set_up_session(connection, &search_path).await })
            })
            .connect_with(connect)
            .await
            .map_err(|error| CatalogError::from_sqlx(error, object))?;
        Ok(Self {
            pool,
            metadata_schema: options.metadata_schema,
            lock_timeout: options.lock_timeout,
        })
    }

    /// The pool of connections, for state of the caller's own beside the lake.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The Postgres schema that holds the `ducklake_*` tables.
    pub fn metadata_schema(&self) -> &str {
        &self.metadata_schema
    }

    pub(crate) fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// [`CatalogErrorKind::NoLake`] when there is no lake.
    pub async fn head(&self) -> Result<Snapshot, CatalogError> {
        let mut connection = self.acquire().await?;
        read_head(&mut connection).await
    }

    pub(crate) async fn acquire(
        &self,
    ) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, CatalogError> {
        self.pool
            .acquire()
            .await
            .map_err(|error| CatalogError::from_sqlx(error, "the catalog"))
    }

    /// The name of the metadata schema for messages.
    pub(crate) fn object(&self) -> String {
        format!("schema {} of the catalog", self.metadata_schema)
    }
}

/// How long to wait for a connection, a new one included.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection of the pool may take to answer before it is used.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

async fn set_up_session(
    connection: &mut PgConnection,
    search_path: &str,
) -> Result<(), sqlx::Error> {
    // The role's own settings must not cut a commit short. What bounds it: no statement of ours
    // takes long, and a session that stops in mid-transaction (a stopped process) would otherwise
    // block every other writer of the lake for ever. transaction_timeout exists from Postgres 17 on.
    sqlx::query(
        "select set_config('search_path', $1, false), \
                set_config('timezone', 'UTC', false), \
                set_config('statement_timeout', '120s', false), \
                set_config('idle_in_transaction_session_timeout', '60s', false), \
                (select count(set_config(name, '0', false)) from pg_catalog.pg_settings \
                  where name in ('transaction_timeout', 'idle_session_timeout'))",
    )
    .bind(search_path)
    .execute(connection)
    .await?;
    Ok(())
}

/// One that does not answer in time may have died without a word, and another is taken.
async fn can_write(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar("select current_setting('transaction_read_only') = 'off'")
        .fetch_one(connection);
    timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Ok(false))
}

pub(crate) async fn read_head(connection: &mut PgConnection) -> Result<Snapshot, CatalogError> {
    let object = "the newest snapshot";
    let row = sqlx::query(
        "select snapshot_id, \
                to_char(snapshot_time at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                schema_version, next_catalog_id, next_file_id \
           from ducklake_snapshot order by snapshot_id desc limit 1",
    )
    .fetch_optional(connection)
    .await
    .map_err(|error| CatalogError::from_sqlx(error, object))?
    .ok_or_else(|| CatalogError::new(CatalogErrorKind::InvalidCatalog, object))?;
    let decode = || -> Result<Snapshot, sqlx::Error> {
        Ok(Snapshot {
            id: SnapshotId::new(row.try_get(0)?),
            time: row.try_get(1)?,
            schema_version: row.try_get(2)?,
            next_catalog_id: row.try_get(3)?,
            next_file_id: row.try_get(4)?,
        })
    };
    decode().map_err(|error| CatalogError::from_sqlx(error, object))
}
