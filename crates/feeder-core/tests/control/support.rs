//! A database of its own for each test, and what the tests say often.

use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgConnection};
use ducklake_catalog::sqlx::{self, AssertSqlSafe, Connection as _};
use ducklake_catalog::{Catalog, CatalogOptions, ChangeSet};
use feeder_core::config::FeederName;
use feeder_core::control::{
    Control, ControlError, EpochHook, Fence, NewFeeder, NewTable, migrations,
};
use feeder_core::{FeederError, FeederErrorKind};
use pgoutput::Lsn;
use serde_json::json;
use std::time::{Duration, Instant};
use uuid::Uuid;

pub(crate) const COLUMNS: &str =
    "select string_agg(format('%s.%s %s %s %s', table_name, column_name, data_type,
    is_nullable, column_default), ', ' order by table_name, ordinal_position)
    from information_schema.columns where table_schema = 'duckfeeder'";
pub(crate) const ORDERS: u32 = 4_000_000_001;
pub(crate) const USERS: u32 = 16_385;

/// Nothing is written there.
pub(crate) const DATA_PATH: &str = "/nonexistent/lake/";

pub(crate) fn name(name: &str) -> FeederName {
    FeederName::parse(name).unwrap()
}

pub(crate) fn new_feeder(checkpoint: u64) -> NewFeeder {
    NewFeeder {
        system_identifier: "7400000000000000000".to_owned(),
        timeline: 3,
        slot: "duckfeeder_shop".to_owned(),
        publication: "duckfeeder_shop".to_owned(),
        checkpoint: Lsn::new(checkpoint),
    }
}

pub(crate) fn new_table(source_oid: u32, target: &str) -> NewTable {
    NewTable {
        source_oid,
        source_schema: "public".to_owned(),
        source_table: target.to_owned(),
        target_schema: "raw".to_owned(),
        target_table: target.to_owned(),
        lake_table_id: None,
        shape: json!({}),
        publication: None,
    }
}

pub(crate) fn epoch(fence: &Fence, from: u64, to: u64) -> EpochHook {
    let (from, to) = (Lsn::new(from), Lsn::new(to));
    EpochHook::new(
        fence,
        Uuid::new_v4(),
        from,
        to,
        None,
        Vec::new(),
        Vec::new(),
    )
}

/// Some change, so that there is something to commit.
pub(crate) fn changes(schema: &str) -> ChangeSet {
    let mut changes = ChangeSet::new();
    changes.create_schema(schema);
    changes
}

pub(crate) fn wanted_schema() -> &'static str {
    "main"
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, FeederError>) -> FeederErrorKind {
    result.unwrap_err().kind()
}

/// What the hook reported, as a caller gets at it.
pub(crate) fn hook_error(error: &ducklake_catalog::CatalogError) -> &ControlError {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref())
        .unwrap_or_else(|| panic!("not an error of the hook: {error:?}"))
}

/// A database of its own.
pub(crate) struct Database {
    server: PgConnectOptions,
    pub(crate) options: PgConnectOptions,
}

impl Database {
    /// `None`, said aloud, without a server.
    pub(crate) async fn create() -> Option<Self> {
        let Ok(url) = std::env::var("DUCKFEEDER_TEST_PG_URL") else {
            assert!(
                std::env::var_os("REQUIRE_SERVICES").is_none_or(|value| value != "1"),
                "DUCKFEEDER_TEST_PG_URL is not set"
            );
            eprintln!("SKIPPED: DUCKFEEDER_TEST_PG_URL is not set");
            return None;
        };
        let server: PgConnectOptions = url.parse().expect("DUCKFEEDER_TEST_PG_URL is a URL");
        let name = format!("feeder_core_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect_with(&server)
            .await
            .expect("the server");
        execute(&mut connection, &format!("create database {name}"))
            .await
            .unwrap();
        Some(Self {
            options: server.clone().database(&name),
            server,
        })
    }

    pub(crate) async fn drop(self) {
        let name = self.options.get_database().unwrap();
        let mut connection = PgConnection::connect_with(&self.server).await.unwrap();
        execute(
            &mut connection,
            &format!("drop database {name} with (force)"),
        )
        .await
        .unwrap();
    }

    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.unwrap()
    }

    pub(crate) async fn catalog(&self) -> Catalog {
        Catalog::connect(CatalogOptions::new(self.options.clone()))
            .await
            .unwrap()
    }

    pub(crate) async fn catalog_as(&self, role: &str) -> Catalog {
        let options = self.options.clone().options([("role", role)]);
        Catalog::connect(CatalogOptions::new(options))
            .await
            .unwrap()
    }

    pub(crate) async fn migrated(&self) -> Catalog {
        let catalog = self.catalog().await;
        migrations::up(&catalog).await.unwrap();
        catalog
    }

    /// A registered feeder whose checkpoint is 100.
    pub(crate) async fn feeder(&self, name: &str) -> (Catalog, Control) {
        self.migrated().await;
        let (catalog, control) = self.connect_feeder(name).await;
        control.register(&new_feeder(100)).await.unwrap();
        (catalog, control)
    }

    /// As another process would see it.
    pub(crate) async fn connect_feeder(&self, feeder: &str) -> (Catalog, Control) {
        let catalog = self.catalog().await;
        let control = Control::new(&catalog, name(feeder));
        (catalog, control)
    }

    pub(crate) async fn try_execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        execute(&mut self.connection().await, sql).await
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap();
    }

    pub(crate) async fn scalar<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sql)
            .fetch_one(&mut self.connection().await)
            .await
            .unwrap()
    }

    pub(crate) async fn eventually(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition().await {
            assert!(Instant::now() < deadline, "{what}: not within 20 seconds");
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    // Safe: every text is of this file.
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(drop)
}
