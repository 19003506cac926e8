//! The declared files of all feeders of a lake, as its janitor sees them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ducklake_catalog::Catalog;
use ducklake_catalog::sqlx::{
    self, Connection as _, PgConnection, Postgres, Row as _, pool::PoolConnection, postgres::PgRow,
};

use super::ControlError;
use crate::FeederError;

/// A declared file that no commit can name any more, or that is old enough to be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredFile {
    /// Its path below the data path.
    pub path: String,
    /// How long ago it was declared, by the catalog's clock.
    pub age: Duration,
}

/// The files that feeders of one lake declared before they uploaded them.
///
/// A claim makes the janitor the owner of a declaration. A commit settles only what its own feeder still owns, in the
/// transaction of its snapshot: the row's lock decides which of the two is first, and the other one fails
/// ([`ControlError::FilesClaimed`]) or finds nothing. The row stays until [`release`](Self::release), so a janitor
/// that dies between claim and deletion loses track of nothing. No feeder's row is locked, and nobody is fenced off.
#[derive(Clone, Debug)]
pub struct DeclaredFiles {
    catalog: Catalog,
    lake: String,
}

/// The right to clean a lake up. Dropping it closes its connection, and so releases it once the server notices.
pub struct JanitorLock {
    connection: PgConnection,
}

impl JanitorLock {
    /// Releases the lock: the next janitor has it as soon as this returns.
    ///
    /// # Errors
    /// Errors of the database; the lock is released as by dropping it.
    pub async fn release(mut self) -> Result<(), FeederError> {
        let failed = ControlError::database("releasing the janitor's lock");
        sqlx::query("select pg_advisory_unlock_all()")
            .execute(&mut self.connection)
            .await
            .map_err(&failed)?;
        self.connection.close().await.map_err(failed)?;
        Ok(())
    }
}

impl fmt::Debug for JanitorLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JanitorLock").finish_non_exhaustive()
    }
}

impl DeclaredFiles {
    /// Those of the lake of `catalog`. Does not connect.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            catalog: catalog.clone(),
            lake: catalog.metadata_schema().to_owned(),
        }
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, ControlError> {
        Ok(self.catalog.acquire().await?)
    }

    /// Takes the lake's janitor lock; `None` when another janitor has it.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn lock(&self) -> Result<Option<JanitorLock>, FeederError> {
        let failed = ControlError::database("taking the janitor's lock");
        let mut connection = self.connection().await?.detach();
        // With a blank no feeder's lock can have this key.
        let locked: bool = sqlx::query_scalar(
            "select pg_try_advisory_lock(hashtextextended('duckfeeder janitor:' || $1, 0))",
        )
        .bind(&self.lake)
        .fetch_one(&mut connection)
        .await
        .map_err(&failed)?;
        Ok(locked.then_some(JanitorLock { connection }))
    }

    /// When the control tables were made: no file that a feeder of theirs uploaded is older.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn since(&self) -> Result<SystemTime, FeederError> {
        let seconds: f64 = sqlx::query_scalar(
            "select extract(epoch from min(applied_at))::float8 from duckfeeder.migrations",
        )
        .fetch_one(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database(
            "reading the age of the control tables",
        ))?;
        Ok(UNIX_EPOCH + Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    /// At most `limit` files, by path and after the path `after`, that were declared at least `age` ago or claimed
    /// before. With `claim` they are claimed when this returns: no commit can name them any more.
    ///
    /// Left out are the files of a feeder that is alive and copies a table: a copy is committed when all of it is
    /// uploaded, which may take longer than any age. It is alive while it holds its lock, and until `age` after its
    /// lease ran out: a catalog that was away for less has just come back, and so will the feeder. Left out for now is what a commit is settling.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn older_than(
        &self,
        age: Duration,
        after: &str,
        limit: u32,
        claim: bool,
    ) -> Result<Vec<DeclaredFile>, FeederError> {
        let failed = ControlError::database("claiming declared files");
        // A feeder that is in no row any more had this lake or another; its object is in this store or in none.
        let rows = sqlx::query(
            "with alive as materialized (
                 select f.name from duckfeeder.feeders f
                 where exists (
                     select from pg_catalog.pg_locks l
                     where l.locktype = 'advisory' and l.granted and l.objsubid = 1
                       and l.database = (select oid from pg_catalog.pg_database
                                         where datname = current_database())
                       and (l.classid::bigint << 32) | l.objid::bigint
                           = hashtextextended('duckfeeder:' || f.name, 0))
                 union
                 select l.feeder from duckfeeder.leases l
                 where l.expires_at > clock_timestamp() - make_interval(secs => $3)
             ), due as (
                 select p.path, p.created_at from duckfeeder.pending_files p
                 where p.path > $4
                   and (p.feeder = $1
                     or (p.created_at <= clock_timestamp() - make_interval(secs => $3)
                       and position(' ' in p.feeder) = 0
                       and not exists (select from duckfeeder.feeders f
                                       where f.name = p.feeder and f.lake <> $2)
                       and not exists (select from duckfeeder.tables t join alive a on a.name = t.feeder
                                       where t.feeder = p.feeder and t.state = 'copying')))
                 order by p.path limit $5 for update of p skip locked
             ), claimed as (
                 update duckfeeder.pending_files p set feeder = $1
                 from due where $6 and p.path = due.path and p.feeder <> $1
             )
             select path, extract(epoch from clock_timestamp() - created_at)::float8 as age
             from due order by path",
        )
        .bind(self.owner())
        .bind(&self.lake)
        .bind(age.as_secs_f64())
        .bind(after)
        .bind(i64::from(limit))
        .bind(claim)
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(&failed)?;
        let decode = |row: &PgRow| -> Result<DeclaredFile, sqlx::Error> {
            Ok(DeclaredFile {
                path: row.try_get("path")?,
                age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default(),
            })
        };
        let files: Result<Vec<_>, _> = rows.iter().map(decode).collect();
        Ok(files.map_err(failed)?)
    }

    /// Which of these paths are declared, by whichever feeder and however long ago.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn among(&self, paths: &[String]) -> Result<BTreeSet<String>, FeederError> {
        let found: Vec<String> = sqlx::query_scalar(
            "select p.path from duckfeeder.pending_files p
             join unnest($1::text[]) as wanted (path) on wanted.path = p.path",
        )
        .bind(paths)
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("reading the declared files"))?;
        Ok(found.into_iter().collect())
    }

    /// Drops the declarations of files that were claimed, once their objects are gone.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn release(&self, paths: &[String]) -> Result<(), FeederError> {
        sqlx::query(
            "delete from duckfeeder.pending_files where feeder = $1 and path = any($2::text[])",
        )
        .bind(self.owner())
        .bind(paths)
        .execute(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("releasing claimed files"))?;
        Ok(())
    }

    /// The owner of claimed files: a name that no feeder can have.
    fn owner(&self) -> String {
        format!("janitor of {}", self.lake)
    }
}
