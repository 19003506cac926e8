//! Numbered migrations of the schema `duckfeeder`.
//!
//! No migration needs a superuser: the role that runs them needs CREATE on the catalog database, or
//! to own the schema.

use ducklake_catalog::Catalog;
use ducklake_catalog::sqlx::{self, Executor as _, PgConnection, Row as _};

use super::ControlError;
use crate::FeederError;
use crate::config::FeederName;
use crate::failpoint::{self, Failpoint};

struct Migration {
    version: i32,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: include_str!("sql/0001_control_tables.sql"),
    },
    Migration {
        version: 2,
        sql: include_str!("sql/0002_partitions.sql"),
    },
    Migration {
        version: 3,
        sql: include_str!("sql/0003_unrepresentable.sql"),
    },
    Migration {
        version: 4,
        sql: include_str!("sql/0004_waiting.sql"),
    },
    Migration {
        version: 5,
        sql: include_str!("sql/0005_lease.sql"),
    },
    Migration {
        version: 6,
        sql: include_str!("sql/0006_append.sql"),
    },
    Migration {
        version: 7,
        sql: include_str!("sql/0007_directives.sql"),
    },
];

/// Advisory lock of migrations: one at a time in a database.
const LOCK_KEY: i64 = 5_927_439_025_401;

/// The version that [`up`] leads to.
pub const LATEST: i32 = 7;

/// Creates the control tables, or brings them to [`LATEST`].
///
/// Each migration is one transaction under an advisory lock, so that concurrent calls are safe. When
/// there is nothing to do, nothing is written and SELECT on the schema is all that is needed.
///
/// # Errors
/// Kind [`Catalog`](crate::FeederErrorKind::Catalog) when a newer release migrated the database, or errors
/// of the database.
pub async fn up(catalog: &Catalog) -> Result<(), FeederError> {
    for migration in MIGRATIONS {
        // Looked at without the lock first: a role that may not create anything gets by.
        if current(catalog).await? < Some(migration.version) {
            apply(catalog, migration).await?;
        }
    }
    Ok(())
}

/// The version of the control tables, `None` when there are none.
///
/// # Errors
/// Kind [`Catalog`](crate::FeederErrorKind::Catalog) when a newer release migrated the database, or errors
/// of the database.
pub async fn version(catalog: &Catalog) -> Result<Option<i32>, FeederError> {
    Ok(current(catalog).await?)
}

/// Checks that the control tables are those of this release.
///
/// # Errors
/// Kind [`Catalog`](crate::FeederErrorKind::Catalog) when they are older, newer or absent, or errors of
/// the database.
pub async fn require(catalog: &Catalog) -> Result<(), FeederError> {
    match current(catalog).await? {
        Some(LATEST) => Ok(()),
        found => Err(ControlError::NotMigrated {
            found,
            known: LATEST,
        }
        .into()),
    }
}

/// Drops the schema `duckfeeder` with everything in it. Never touches the lake.
///
/// # Errors
/// Kind [`Fenced`](crate::FeederErrorKind::Fenced) while any feeder runs, or errors of the database.
pub async fn down(catalog: &Catalog) -> Result<(), FeederError> {
    let failed = ControlError::database("dropping the control tables");
    let mut tx = catalog.begin().await.map_err(ControlError::from)?;
    lock(&mut tx).await?;
    if read_version(&mut tx).await?.is_some() {
        // Holds every feeder's lock to the end of this transaction, so that none can start.
        let running = sqlx::query(
            "select name, owner from duckfeeder.feeders
             where not pg_try_advisory_xact_lock(hashtextextended('duckfeeder:' || name, 0))",
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(&failed)?;
        if let Some(row) = running {
            let name: String = row.try_get("name").map_err(&failed)?;
            return Err(ControlError::Running {
                feeder: FeederName::parse(&name).map_err(|_| ControlError::Corrupt {
                    table: "feeders",
                    column: "name",
                })?,
                owner: row.try_get("owner").map_err(&failed)?,
            }
            .into());
        }
    }
    sqlx::query("drop schema if exists duckfeeder cascade")
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    tx.commit().await.map_err(&failed)?;
    Ok(())
}

/// All migrations as one script that can be run again and again with any client.
pub fn script() -> String {
    let migrations: Vec<String> = MIGRATIONS
        .iter()
        .map(|Migration { version, sql }| {
            format!(
                "do $duckfeeder$ begin\n\
                 if not exists (select from duckfeeder.migrations where version = {version}) then\n\
                 {sql}\
                 insert into duckfeeder.migrations (version) values ({version});\n\
                 end if;\n\
                 end $duckfeeder$;\n"
            )
        })
        .collect();
    let migrations = migrations.concat();
    format!(
        "-- Control tables of duckfeeder. Run as the role that the feeder uses in the catalog, or grant it\n\
         -- usage on schema duckfeeder, and select, insert, update and delete on all its tables.\n\
         begin;\n\
         select pg_advisory_xact_lock({LOCK_KEY});\n\
         create schema if not exists duckfeeder;\n\
         {CREATE_VERSIONS};\n\
         {migrations}\
         commit;\n"
    )
}

const CREATE_VERSIONS: &str = "create table if not exists duckfeeder.migrations (
    version integer primary key,
    applied_at timestamptz not null default clock_timestamp()
)";

/// These read the catalog's tables: `to_regclass` answers from a cache of the session, which may be older than the lock
/// that was waited for.
const SCHEMA_EXISTS: &str =
    "select exists (select from pg_catalog.pg_namespace where nspname = 'duckfeeder')";
const VERSIONS_EXIST: &str = "select exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'duckfeeder' and c.relname = 'migrations')";

async fn apply(catalog: &Catalog, migration: &Migration) -> Result<(), ControlError> {
    let failed = ControlError::database("migrating the control tables");
    let mut tx = catalog.begin().await?;
    lock(&mut tx).await?;
    // Another process may have done it while this one waited.
    if read_version(&mut tx).await? >= Some(migration.version) {
        return Ok(());
    }
    // IF NOT EXISTS alone would ask for CREATE on the database even when the schema is there.
    let exists: bool = sqlx::query_scalar(SCHEMA_EXISTS)
        .fetch_one(&mut *tx)
        .await
        .map_err(&failed)?;
    if !exists {
        tx.execute("create schema duckfeeder")
            .await
            .map_err(&failed)?;
    }
    tx.execute(CREATE_VERSIONS).await.map_err(&failed)?;
    sqlx::raw_sql(migration.sql)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    sqlx::query("insert into duckfeeder.migrations (version) values ($1)")
        .bind(migration.version)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    failpoint::reach(Failpoint::MigrationBeforeCommit);
    tx.commit().await.map_err(&failed)?;
    failpoint::reach(Failpoint::MigrationCommitted);
    Ok(())
}

/// Released with the transaction.
async fn lock(tx: &mut PgConnection) -> Result<(), ControlError> {
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(LOCK_KEY)
        .execute(tx)
        .await
        .map_err(ControlError::database("locking the control tables"))?;
    Ok(())
}

async fn current(catalog: &Catalog) -> Result<Option<i32>, ControlError> {
    let mut connection = catalog.acquire().await?;
    read_version(&mut connection).await
}

async fn read_version(connection: &mut PgConnection) -> Result<Option<i32>, ControlError> {
    let failed = ControlError::database("reading the version of the control tables");
    let exists: bool = sqlx::query_scalar(VERSIONS_EXIST)
        .fetch_one(&mut *connection)
        .await
        .map_err(&failed)?;
    if !exists {
        return Ok(None);
    }
    let found: Option<i32> = sqlx::query_scalar("select max(version) from duckfeeder.migrations")
        .fetch_one(connection)
        .await
        .map_err(&failed)?;
    match found {
        Some(found) if found > LATEST => Err(ControlError::NewerSchema {
            found,
            known: LATEST,
        }),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_dense_and_end_at_the_latest() {
        let versions: Vec<i32> = MIGRATIONS
            .iter()
            .map(|migration| migration.version)
            .collect();
        assert_eq!(versions, (1..=LATEST).collect::<Vec<_>>());
    }

    #[test]
    fn every_object_is_named_with_its_schema() {
        for migration in MIGRATIONS {
            for line in migration
                .sql
                .lines()
                .filter(|line| line.starts_with("create table"))
            {
                assert!(line.starts_with("create table duckfeeder."), "{line}");
            }
        }
        assert!(script().contains("create table duckfeeder.feeders"));
    }
}
