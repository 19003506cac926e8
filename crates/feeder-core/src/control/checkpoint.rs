//! Moving the checkpoint: with a lake snapshot, or alone.

use async_trait::async_trait;
use ducklake_catalog::sqlx::{self, PgConnection};
use ducklake_catalog::{CommitHook, CommittedSnapshot, HookError, TableRef};
use pgoutput::Lsn;
use uuid::Uuid;

use super::append::{self, AppendPosition};
use super::feeders::lock_feeder;
use super::{Control, ControlError, Fence, Generation, TableTransition, files, transition};
use crate::FeederError;
use crate::config::FeederName;

/// The feeder's part of a lake commit: fencing, checkpoint, table states and file declarations.
///
/// Before the lake is locked it locks the feeder's row, compares the generation (I8) and the
/// checkpoint (I3). Directly before COMMIT it writes everything that must become visible together with
/// the snapshot (I2). Its errors are [`ControlError`], boxed. It may run again with the next attempt of
/// the same commit.
///
/// When the answer to COMMIT is lost, [`Control::resolve_attempt`] tells what became of it. The row
/// remembers the last commit only, so resolve one before beginning the next (I11).
#[derive(Debug)]
pub struct EpochHook {
    feeder: FeederName,
    generation: Generation,
    attempt: Uuid,
    from: Lsn,
    to: Lsn,
    commit_timestamp: Option<i64>,
    transitions: Vec<TableTransition>,
    new_tables: Vec<(u32, TableRef)>,
    files: Vec<String>,
    positions: Vec<AppendPosition>,
    append_tables: Vec<(String, String, TableRef)>,
}

impl EpochHook {
    /// The commit of `attempt`: the checkpoint must be `from`, and becomes `to`. A commit without an
    /// epoch (a copy, new tables) gives the same position twice.
    ///
    /// `commit_timestamp` is that of the last transaction at the source, in microseconds since
    /// 1970-01-01 UTC; without it the old one stays. `transitions` are applied in order. `files` are
    /// the paths of all files of the commit as they were declared, each once.
    pub fn new(
        fence: &Fence,
        attempt: Uuid,
        from: Lsn,
        to: Lsn,
        commit_timestamp: Option<i64>,
        transitions: Vec<TableTransition>,
        files: Vec<String>,
    ) -> Self {
        Self {
            feeder: fence.feeder().clone(),
            generation: fence.generation(),
            attempt,
            from,
            to,
            commit_timestamp,
            transitions,
            new_tables: Vec::new(),
            files,
            positions: Vec::new(),
            append_tables: Vec::new(),
        }
    }

    /// Moves producers of append streams to where the rows of this commit leave them.
    #[must_use]
    pub fn with_append_positions(mut self, positions: Vec<AppendPosition>) -> Self {
        self.positions = positions;
        self
    }

    /// Notes lake tables, each with its schema and name, that this commit makes for append streams.
    #[must_use]
    pub fn with_append_tables(mut self, tables: Vec<(String, String, TableRef)>) -> Self {
        self.append_tables = tables;
        self
    }

    /// Binds source tables, by oid, to the lake tables that this commit makes for them.
    #[must_use]
    pub fn with_new_tables(mut self, tables: Vec<(u32, TableRef)>) -> Self {
        self.new_tables = tables;
        self
    }

    async fn check(&self, tx: &mut PgConnection) -> Result<(), ControlError> {
        let locked = lock_feeder(tx, &self.feeder, self.generation).await?;
        compare(&self.feeder, locked.checkpoint, self.from, self.to)
    }

    async fn write(
        &self,
        tx: &mut PgConnection,
        snapshot: &CommittedSnapshot,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "update duckfeeder.feeders
             set checkpoint = $2::text::pg_lsn, attempt = $3, last_snapshot = $4,
                 commit_timestamp = coalesce(
                     timestamptz '1970-01-01 00:00:00+00' + $5::bigint * interval '1 microsecond',
                     commit_timestamp),
                 waiting_for = null, waiting_since = null, updated_at = clock_timestamp()
             where name = $1",
        )
        .bind(self.feeder.as_str())
        .bind(self.to.to_string())
        .bind(self.attempt)
        .bind(snapshot.id.get())
        .bind(self.commit_timestamp)
        .execute(&mut *tx)
        .await
        .map_err(ControlError::database("moving the checkpoint"))?;
        for (oid, table) in &self.new_tables {
            let id = match *table {
                TableRef::Existing(id) => Some(id),
                TableRef::New(number) => snapshot.tables.get(number).copied(),
            };
            let id = id.ok_or_else(|| ControlError::NotInCommit {
                feeder: self.feeder.clone(),
                table: *oid,
            })?;
            let bound = TableTransition::lake_table(*oid, id.get());
            transition::apply(tx, &self.feeder, &bound).await?;
        }
        for transition in &self.transitions {
            transition::apply(tx, &self.feeder, transition).await?;
        }
        append::note_tables(tx, &self.feeder, &self.append_tables, snapshot).await?;
        append::move_positions(tx, &self.feeder, &self.positions, snapshot.id.get()).await?;
        files::settle(tx, &self.feeder, &self.files).await
    }
}

#[async_trait]
impl CommitHook for EpochHook {
    async fn before_lock(&mut self, tx: &mut PgConnection) -> Result<(), HookError> {
        Ok(self.check(tx).await?)
    }

    async fn before_commit(
        &mut self,
        tx: &mut PgConnection,
        snapshot: &CommittedSnapshot,
    ) -> Result<(), HookError> {
        Ok(self.write(tx, snapshot).await?)
    }
}

/// What became of a commit whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is in the lake.
    Committed {
        /// As this `ducklake_snapshot.snapshot_id`.
        snapshot: i64,
    },
    /// It is not, and never will be.
    NotCommitted,
}

impl Control {
    /// Moves the checkpoint without a snapshot, so that an idle feeder holds no WAL (I9), together with the states
    /// of tables that change there.
    ///
    /// May be called again after a lost answer: while the generation is ours, a checkpoint that is
    /// `to` already can only be our own doing.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), [`Catalog`](crate::FeederErrorKind::Catalog)
    /// when the checkpoint is neither, or errors of the database.
    pub async fn advance_checkpoint(
        &self,
        fence: &Fence,
        from: Lsn,
        to: Lsn,
        transitions: &[TableTransition],
    ) -> Result<(), FeederError> {
        let failed = ControlError::database("moving the checkpoint");
        let (mut tx, locked) = self.begin(fence).await?;
        if locked.checkpoint != to || to < from {
            compare(self.feeder(), locked.checkpoint, from, to)?;
        }
        for transition in transitions {
            transition::apply(&mut tx, self.feeder(), transition).await?;
        }
        sqlx::query(
            "update duckfeeder.feeders
             set checkpoint = $2::text::pg_lsn, waiting_for = null, waiting_since = null,
                 updated_at = clock_timestamp()
             where name = $1",
        )
        .bind(self.feeder().as_str())
        .bind(to.to_string())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// The checkpoint, read under the row's lock like everything that decides something.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn checkpoint(&self, fence: &Fence) -> Result<Lsn, FeederError> {
        let (_tx, locked) = self.begin(fence).await?;
        Ok(locked.checkpoint)
    }

    /// Tells whether the commit of `attempt` happened (I11).
    ///
    /// Waits for the row's lock, and so for a COMMIT that is still under way at the server: a plain
    /// read would miss one that becomes visible a moment later. After 30 seconds it fails with a
    /// transient error; ask again.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn resolve_attempt(
        &self,
        fence: &Fence,
        attempt: Uuid,
    ) -> Result<Resolution, FeederError> {
        let (_tx, locked) = self.begin(fence).await?;
        Ok(match locked.last_snapshot {
            Some(snapshot) if locked.attempt == Some(attempt) => Resolution::Committed { snapshot },
            _ => Resolution::NotCommitted,
        })
    }
}

/// Compare and swap, first half (I3).
fn compare(feeder: &FeederName, found: Lsn, from: Lsn, to: Lsn) -> Result<(), ControlError> {
    if to < from {
        return Err(ControlError::Backwards {
            feeder: feeder.clone(),
            from,
            to,
        });
    }
    if found != from {
        return Err(ControlError::CheckpointMoved {
            feeder: feeder.clone(),
            expected: from,
            found,
        });
    }
    Ok(())
}
