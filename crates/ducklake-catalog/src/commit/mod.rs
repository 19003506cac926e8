//! One change set as one snapshot in one Postgres transaction.
//!
//! ```text
//! BEGIN -> hook.before_lock -> LOCK ducklake_snapshot -> read head and objects -> plan
//!       -> insert snapshot, then everything else -> hook.before_commit -> COMMIT
//! ```
//!
//! The lock makes the newest snapshot the base of the commit, so that nobody can have changed what
//! the plan was made from. DuckDB takes no such lock: a commit of its that comes meanwhile waits for
//! ours, finds its snapshot id taken, and retries by itself.

mod apply;
mod finish;
mod holder;
mod locked;
mod names;
mod plan;
mod retype;
mod struct_fields;
mod table;
mod table_stats;

use std::time::Duration;

use rand::Rng;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Catalog, CatalogError, CatalogErrorKind, ChangeSet, CommitHook, SchemaId, SnapshotId, TableId,
};

/// What a commit made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedSnapshot {
    /// The new snapshot.
    pub id: SnapshotId,
    /// The lake's schema version at it.
    pub schema_version: i64,
    /// The schemas of the change set's [`SchemaRef::New`](crate::SchemaRef::New), in order; one
    /// that was ensured may be older.
    pub schemas: Vec<SchemaId>,
    /// The tables of the change set's [`TableRef::New`](crate::TableRef::New), in order.
    pub tables: Vec<TableId>,
    /// How old a file that no snapshot names must be before DuckDB's `CHECKPOINT` deletes it; see
    /// [`LakeInfo::file_deletion_grace`](crate::LakeInfo::file_deletion_grace).
    pub file_deletion_grace: Duration,
}

/// Attempts to win races, at most, and for how long new ones are begun.
const MAX_ATTEMPTS: u32 = 30;
const RETRY_FOR: Duration = Duration::from_mins(1);

/// The wait before the second attempt, and the longest between two.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A server that does not answer for so long is taken for lost. Longer than the session's own
/// statement timeout, so that a server that is there answers first.
const WORK_TIMEOUT: Duration = Duration::from_mins(5);
const COMMIT_TIMEOUT: Duration = Duration::from_mins(1);
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);

impl Catalog {
    /// Commits a change set as the next snapshot, in one transaction, with the hook inside it.
    ///
    /// Races against other writers (lost locks, serialization failures, unique violations) are
    /// retried a bounded number of times with growing waits; the hook runs once per attempt.
    /// Dropping the future before it is done leaves it open whether the commit happens.
    ///
    /// # Errors
    /// Nothing is changed on any error, unless
    /// [`commit_outcome_unknown`](CatalogError::commit_outcome_unknown) says otherwise: an error
    /// during COMMIT itself, which is never retried.
    pub async fn commit(
        &self,
        changes: &ChangeSet,
        hook: &mut dyn CommitHook,
    ) -> Result<CommittedSnapshot, CatalogError> {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let error = match self.attempt(changes, hook).await {
                Ok(committed) => return Ok(committed),
                Err(error) if error.is_lost_race() => error,
                Err(error) => return Err(error),
            };
            let holder = match error.kind() {
                CatalogErrorKind::LockTimeout => self.lock_holder().await,
                _ => None,
            };
            let error = match holder {
                Some(holder) => error.with_detail(holder),
                None => error,
            };
            // Waiting for the lock was the patience asked for; a few times is enough.
            let patience = match error.kind() {
                CatalogErrorKind::LockTimeout => RETRY_FOR.min(self.lock_timeout() * 3),
                _ => RETRY_FOR,
            };
            if attempt >= MAX_ATTEMPTS || started.elapsed() >= patience {
                return Err(error);
            }
            let wait = backoff(attempt);
            tracing::warn!(%error, attempt, ?wait, "commit to the lake is tried again");
            sleep(wait).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        changes: &ChangeSet,
        hook: &mut dyn CommitHook,
    ) -> Result<CommittedSnapshot, CatalogError> {
        let failed = |error| CatalogError::from_sqlx(error, "the commit transaction");
        let mut connection = self.acquire().await?;
        // Read committed: each statement must see what was committed while we waited for locks.
        let mut tx = connection
            .begin_with("begin isolation level read committed read write")
            .await
            .map_err(failed)?;
        let Ok(worked) = timeout(WORK_TIMEOUT, self.work(&mut tx, changes, hook)).await else {
            drop(tx);
            connection.close_on_drop();
            return Err(no_answer());
        };
        let committed = match worked {
            Ok(committed) => committed,
            Err(error) => {
                // Dropping it would roll back too, but later: others wait for the lock.
                if !matches!(timeout(ROLLBACK_TIMEOUT, tx.rollback()).await, Ok(Ok(()))) {
                    connection.close_on_drop();
                }
                return Err(error);
            }
        };
        match timeout(COMMIT_TIMEOUT, tx.commit()).await {
            Ok(Ok(())) => Ok(committed),
            Ok(Err(error)) => Err(failed(error).during_commit()),
            Err(_) => {
                connection.close_on_drop();
                Err(no_answer().during_commit())
            }
        }
    }

    /// Everything between BEGIN and COMMIT.
    async fn work(
        &self,
        tx: &mut PgConnection,
        changes: &ChangeSet,
        hook: &mut dyn CommitHook,
    ) -> Result<CommittedSnapshot, CatalogError> {
        // What a caller acts upon after COMMIT must not be lost in a crash of the server.
        sqlx::query(
            "select set_config('lock_timeout', $1, true), \
                    case when current_setting('synchronous_commit') = 'off' \
                         then set_config('synchronous_commit', 'on', true) end",
        )
        .bind(format!("{}ms", self.lock_timeout().as_millis().max(1)))
        .execute(&mut *tx)
        .await
        .map_err(|error| CatalogError::from_sqlx(error, "the commit transaction"))?;
        hook.before_lock(tx).await.map_err(CatalogError::hook)?;
        sqlx::query("lock table ducklake_snapshot in exclusive mode")
            .execute(&mut *tx)
            .await
            .map_err(|error| CatalogError::from_sqlx(error, "ducklake_snapshot"))?;
        let locked = locked::read(tx, changes).await?;
        let plan = plan::plan(&locked, changes)?;
        apply::apply(tx, &plan, changes).await?;
        hook.before_commit(tx, &plan.committed)
            .await
            .map_err(CatalogError::hook)?;
        // COMMIT of a transaction that a swallowed error has aborted is a silent ROLLBACK.
        sqlx::query("select 1")
            .execute(&mut *tx)
            .await
            .map_err(|error| CatalogError::from_sqlx(error, "the commit transaction"))?;
        Ok(plan.committed)
    }
}

fn no_answer() -> CatalogError {
    CatalogError::new(CatalogErrorKind::Connection, "the commit transaction")
        .with_detail("the server does not answer")
}

/// The wait after so many attempts: growing, and random so that two losers do not meet again.
fn backoff(attempt: u32) -> Duration {
    let factor = 1.5_f64.powi(i32::try_from(attempt - 1).unwrap_or(i32::MAX));
    let longest = FIRST_WAIT.mul_f64(factor.min(1e6)).min(LONGEST_WAIT);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit() {
        for attempt in 1..=MAX_ATTEMPTS {
            let wait = backoff(attempt);
            assert!(
                wait >= FIRST_WAIT / 2 && wait <= LONGEST_WAIT,
                "{attempt}: {wait:?}"
            );
        }
        assert!(backoff(1) <= FIRST_WAIT);
        assert!(backoff(MAX_ATTEMPTS) >= LONGEST_WAIT / 2);
    }
}
