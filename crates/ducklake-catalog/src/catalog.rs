//! The connection to the catalog.

use std::fmt;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Postgres, Row, Transaction};

use crate::connections::{ConnectProvider, Connections, label};
use crate::{CatalogError, CatalogErrorKind, SnapshotId};

/// How to reach a catalog.
#[derive(Clone)]
pub struct CatalogOptions {
    /// Where and as whom to connect.
    pub connect: PgConnectOptions,
    /// Makes the options of each new connection, in place of `connect`, which then only names the database in messages:
    /// for passwords that change. One that is refused (SQLSTATE 28P01) is fetched anew three times within five seconds
    /// before that is an error.
    pub provider: Option<ConnectProvider>,
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
            provider: None,
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
            .field("connect", &label(&self.connect))
            .field("metadata_schema", &self.metadata_schema)
            .field("max_connections", &self.max_connections)
            .field("lock_timeout", &self.lock_timeout)
            .finish_non_exhaustive()
    }
}

/// A DuckLake catalog in Postgres. Clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Catalog {
    connections: Connections,
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
        let metadata_schema = options.metadata_schema.clone();
        let lock_timeout = options.lock_timeout;
        let connections = Connections::new(options);
        // Whoever can have none learns it here.
        drop(connections.acquire().await?);
        Ok(Self {
            connections,
            metadata_schema,
            lock_timeout,
        })
    }

    /// A connection, for state of the caller's own beside the lake. It goes back to the pool when it is dropped.
    ///
    /// # Errors
    /// When none is to be had within 10 seconds, or the server refuses one.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, CatalogError> {
        self.connections.acquire().await
    }

    /// A transaction on a connection of its own, for state of the caller's own beside the lake.
    ///
    /// # Errors
    /// As [`Catalog::acquire`].
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, CatalogError> {
        let connection = self.acquire().await?;
        Transaction::begin(connection, None)
            .await
            .map_err(|error| CatalogError::from_sqlx(error, "the beginning of a transaction"))
    }

    /// Closes all connections, once those in use come back; no new one can be had.
    pub async fn close(&self) {
        self.connections.close().await;
    }

    /// The Postgres schema that holds the `ducklake_*` tables.
    pub fn metadata_schema(&self) -> &str {
        &self.metadata_schema
    }

    /// Names the database, its server and the role, for messages; nothing secret.
    pub fn label(&self) -> &str {
        self.connections.label()
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

    /// The name of the metadata schema for messages.
    pub(crate) fn object(&self) -> String {
        format!("schema {} of the catalog", self.metadata_schema)
    }
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
