//! A cluster, a lake in a directory, and streams into it.

use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use duckfeeder::append::{AppendBuilder, AppendStream};
use duckfeeder_tests::postgres::SUPERUSER;
use duckfeeder_tests::{DuckDb, Lake, Postgres};

pub(crate) const CATALOG: &str = "lake_db";
pub(crate) const SOURCE: &str = "source_db";

/// How long anything may take that is not itself a question of time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Rig {
    pub(crate) pg: Postgres,
    pub(crate) lake: Lake,
    pub(crate) home: tempfile::TempDir,
}

impl Rig {
    /// `None` without the tools.
    pub(crate) fn new() -> Option<Self> {
        if env::var_os("DUCKFEEDER_TEST_DUCKDB").is_none() {
            assert!(
                env::var_os("REQUIRE_SERVICES").is_none(),
                "DUCKFEEDER_TEST_DUCKDB is not set"
            );
            eprintln!("SKIPPED: DUCKFEEDER_TEST_DUCKDB is not set");
            return None;
        }
        let pg = Postgres::start_default().unwrap();
        pg.create_database(CATALOG).unwrap();
        Some(Self {
            lake: Lake::new(&pg, CATALOG),
            pg,
            home: tempfile::tempdir().unwrap(),
        })
    }

    pub(crate) fn lake_dir(&self) -> PathBuf {
        self.home.path().join("lake")
    }

    pub(crate) fn storage(&self) -> String {
        format!("file://{}", self.lake_dir().display())
    }

    pub(crate) fn catalog(&self) -> String {
        self.pg.url(SUPERUSER, CATALOG)
    }

    /// A stream that commits often.
    pub(crate) fn builder(&self) -> AppendBuilder {
        AppendStream::builder()
            .catalog(self.catalog())
            .storage(self.storage())
            .flush_interval(Duration::from_millis(200))
            .durable_within(Duration::from_millis(20))
    }

    pub(crate) fn duckdb(&self) -> DuckDb {
        self.lake.open().unwrap()
    }

    pub(crate) fn pg_url(&self, database: &str) -> String {
        self.pg.url(SUPERUSER, database)
    }

    /// Makes the source's database with these tables.
    pub(crate) fn create_source(&self, sql: &str) {
        self.sql("postgres", &format!("create database {SOURCE}"));
        self.sql(SOURCE, sql);
    }

    /// Has the running feeder commit up to a position at once, as `duckfeeder wait` does.
    pub(crate) fn want(&self, feeder: &str, lsn: &str) {
        self.sql(
            CATALOG,
            &format!("update duckfeeder.feeders set wanted = '{lsn}' where name = '{feeder}'"),
        );
    }

    /// Runs SQL in a database of the cluster.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        // The client has a runtime of its own.
        thread::scope(|scope| scope.spawn(|| self.pg.sql(database, sql)).join())
            .unwrap()
            .unwrap()
    }

    /// Rows as text, `NULL` for NULL.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let rows = self.duckdb().query(sql).unwrap().rows;
        rows.into_iter()
            .map(|row| {
                row.into_iter()
                    .map(|value| value.unwrap_or_else(|| "NULL".to_owned()))
                    .collect()
            })
            .collect()
    }

    pub(crate) fn scalar(&self, sql: &str) -> String {
        self.rows(sql)[0][0].clone()
    }
}

/// Runs a test, unless the tools are lacking. The cluster is made and ended outside of the runtime.
pub(crate) fn with_rig(test: impl AsyncFnOnce(&Rig)) {
    let Some(rig) = Rig::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test(&rig));
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("within two minutes")
}
