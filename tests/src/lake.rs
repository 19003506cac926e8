//! A lake as its readers see it.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    duckdb::{DuckDb, ident, literal},
    postgres::{Postgres, SUPERUSER},
    process::wait_until,
};

/// The name under which tests attach a lake.
pub const ALIAS: &str = "lake";

/// Where a lake's metadata is.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Connection parameters of the catalog as libpq writes them.
    pub libpq: String,
    /// The schema of the `ducklake_*` tables.
    pub metadata_schema: String,
    /// Parameters of the secret by which DuckDB reads the bucket, when the files are in one.
    pub bucket: Option<String>,
}

/// A snapshot of the lake that the feeder made.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The number to give to `AT (VERSION => n)`.
    pub id: i64,
    /// What the feeder says about it: `feeder`, `lsn`, `commit_timestamp`, `complete`.
    pub info: Value,
}

impl Snapshot {
    /// Whether every table was streaming, so that the snapshot is a consistent cut.
    pub fn complete(&self) -> bool {
        self.info
            .get("complete")
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }
}

impl Lake {
    /// The lake whose catalog is a database of a cluster, read as superuser.
    pub fn new(pg: &Postgres, database: &str) -> Self {
        Self {
            libpq: pg.libpq(SUPERUSER, database),
            metadata_schema: "public".to_owned(),
            bucket: None,
        }
    }

    /// The same lake with its metadata in another schema.
    #[must_use]
    pub fn in_schema(mut self, metadata_schema: &str) -> Self {
        metadata_schema.clone_into(&mut self.metadata_schema);
        self
    }

    /// The same lake with its files in a bucket.
    #[must_use]
    pub fn with_bucket(mut self, secret: &str) -> Self {
        self.bucket = Some(secret.to_owned());
        self
    }

    /// Attaches the lake to a session as [`ALIAS`].
    ///
    /// # Errors
    /// What DuckDB says about it.
    pub fn attach(&self, db: &mut DuckDb) -> Result<()> {
        if let Some(secret) = &self.bucket {
            db.load("httpfs")?;
            db.execute(&format!("create or replace secret bucket ({secret})"))?;
        }
        let target = literal(&format!("ducklake:postgres:{}", self.libpq));
        let schema = literal(&self.metadata_schema);
        db.execute(&format!(
            "attach {target} as {ALIAS} (metadata_schema {schema}, meta_schema {schema})"
        ))
    }

    /// Opens a session with the lake attached.
    ///
    /// # Errors
    /// What DuckDB says about it.
    pub fn open(&self) -> Result<DuckDb> {
        let mut db = DuckDb::open()?;
        self.attach(&mut db)?;
        Ok(db)
    }

    /// Waits until the lake exists and a query on it returns `true`, and returns the session.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn wait_for(&self, sql: &str, limit: std::time::Duration) -> Result<DuckDb> {
        let mut open: Option<DuckDb> = None;
        let mut last = String::new();
        let waited = wait_until(&format!("the lake answers true to {sql}"), limit, || {
            let mut db = match open.take() {
                Some(db) => db,
                None => match self.open() {
                    Ok(db) => db,
                    // Until the feeder has made the lake there is nothing to attach.
                    Err(error) => {
                        last = format!("{error:#}");
                        return Ok(None);
                    }
                },
            };
            match db.scalar(sql) {
                Ok(Some(value)) if value == "true" => return Ok(Some(db)),
                Ok(value) => last = format!("{value:?}"),
                Err(error) => last = format!("{error:#}"),
            }
            open = Some(db);
            Ok(None)
        });
        waited.with_context(|| format!("its last answer: {last}"))
    }
}

/// The snapshots that the feeder made, oldest first.
///
/// # Errors
/// When the lake cannot be read, or a snapshot of ours says nothing readable about itself.
pub fn snapshots(db: &mut DuckDb) -> Result<Vec<Snapshot>> {
    let sql = format!(
        "select snapshot_id, commit_extra_info from ducklake_snapshots({}) \
         where author = 'duckfeeder' order by snapshot_id",
        literal(ALIAS)
    );
    let mut found = Vec::new();
    for row in db.query(&sql)?.rows {
        let [Some(id), Some(info)] = row.as_slice() else {
            bail!("a snapshot without an id or without commit_extra_info: {row:?}");
        };
        let info = serde_json::from_str(info)
            .with_context(|| format!("commit_extra_info of snapshot {id}: {info}"))?;
        found.push(Snapshot {
            id: id.parse()?,
            info,
        });
    }
    Ok(found)
}

/// A table of the lake, quoted and with the name of the lake before it.
pub fn qualified(schema: &str, table: &str) -> String {
    format!("{ALIAS}.{}.{}", ident(schema), ident(table))
}
