//! The feeder's own row.

use std::fmt;

use ducklake_catalog::sqlx::{self, PgConnection, Row as _, postgres::PgRow};
use pgoutput::Lsn;
use uuid::Uuid;

use super::{Control, ControlError, Fence, parse_lsn};
use crate::FeederError;
use crate::config::FeederName;

/// Counts the processes that took a feeder over; the greatest one may write (I8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(i64);

impl Generation {
    /// Wraps the number as stored.
    pub const fn new(generation: i64) -> Self {
        Self(generation)
    }

    /// The number as stored.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A feeder that is about to be registered.
#[derive(Clone, Debug)]
pub struct NewFeeder {
    /// `IDENTIFY_SYSTEM.systemid` of the source.
    pub system_identifier: String,
    /// `IDENTIFY_SYSTEM.timeline` of the source.
    pub timeline: u32,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// The first checkpoint: the slot's consistent point, an exclusive end.
    pub checkpoint: Lsn,
}

/// A feeder's row.
#[derive(Clone, Debug)]
pub struct FeederRow {
    /// `IDENTIFY_SYSTEM.systemid` of the source.
    pub system_identifier: String,
    /// `IDENTIFY_SYSTEM.timeline` of the source.
    pub timeline: u32,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// The publications as last seen; see [`Control::store_publication`].
    pub publication_state: Option<serde_json::Value>,
    /// Generation of the process that took the feeder over last.
    pub generation: Generation,
    /// That process, as it described itself.
    pub owner: Option<String>,
    /// Exclusive end of what is in the lake: every commit below it is (I3).
    pub checkpoint: Lsn,
    /// The last commit's attempt.
    pub attempt: Option<Uuid>,
    /// `ducklake_snapshot.snapshot_id` of the last commit.
    pub last_snapshot: Option<i64>,
    /// Commit time at the source of the last transaction in the lake: microseconds since 1970-01-01
    /// UTC.
    pub commit_timestamp: Option<i64>,
    /// Whether slot and publication were dropped by `teardown`: the next start begins anew.
    pub torn_down: bool,
    /// The error that the feeder waits out, as long as nothing was committed since.
    pub waiting_for: Option<String>,
    /// Since when: microseconds since 1970-01-01 UTC.
    pub waiting_since: Option<i64>,
    /// When the row was last written, by the catalog's clock: microseconds since 1970-01-01 UTC.
    pub updated_at: i64,
}

impl Control {
    /// The feeder's row, `None` before [`Control::register`].
    ///
    /// # Errors
    /// Kind [`Config`](crate::FeederErrorKind::Config) when it speaks of another lake in the same
    /// database; otherwise errors of the database.
    pub async fn load_feeder(&self) -> Result<Option<FeederRow>, FeederError> {
        let failed = ControlError::database("reading the feeder's row");
        let row = sqlx::query(
            "select lake, system_identifier, timeline, slot, publication, publication_state, generation,
                 owner, torn_down, checkpoint::text as checkpoint, attempt, last_snapshot, waiting_for,
                 (extract(epoch from waiting_since) * 1000000)::bigint as waiting_micros,
                 (extract(epoch from commit_timestamp) * 1000000)::bigint as commit_micros,
                 (extract(epoch from updated_at) * 1000000)::bigint as updated_micros
             from duckfeeder.feeders where name = $1",
        )
        .bind(self.feeder.as_str())
        .fetch_optional(&mut *self.connection().await?)
        .await
        .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        self.expect_lake(row.try_get("lake").map_err(&failed)?)?;
        Ok(Some(decode(&row)?))
    }

    fn expect_lake(&self, lake: String) -> Result<(), ControlError> {
        if lake == self.lake {
            return Ok(());
        }
        Err(ControlError::OtherLake {
            feeder: self.feeder.clone(),
            lake,
        })
    }

    /// Inserts the feeder's row with its first checkpoint, or gives the row of one that was torn down a
    /// new start.
    ///
    /// # Errors
    /// Kind [`Catalog`](crate::FeederErrorKind::Catalog) when it has one; otherwise errors of the
    /// database.
    pub async fn register(&self, new: &NewFeeder) -> Result<(), FeederError> {
        let inserted = sqlx::query(
            "insert into duckfeeder.feeders
                 (name, lake, system_identifier, timeline, slot, publication, checkpoint)
             values ($1, $2, $3, $4, $5, $6, $7::text::pg_lsn)
             on conflict (name) do update set
                 system_identifier = excluded.system_identifier, timeline = excluded.timeline,
                 slot = excluded.slot, publication = excluded.publication,
                 publication_state = null, checkpoint = excluded.checkpoint,
                 torn_down = false, updated_at = clock_timestamp()
             where feeders.torn_down and feeders.lake = excluded.lake",
        )
        .bind(self.feeder.as_str())
        .bind(&self.lake)
        .bind(&new.system_identifier)
        .bind(i64::from(new.timeline))
        .bind(&new.slot)
        .bind(&new.publication)
        .bind(new.checkpoint.to_string())
        .execute(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("registering the feeder"))?;
        if inserted.rows_affected() == 0 {
            return Err(ControlError::FeederExists {
                feeder: self.feeder.clone(),
            }
            .into());
        }
        Ok(())
    }

    /// Stores what the publications look like: `feeder` for those as a whole (oids, flags), and per
    /// table (by oid) its entry (`pg_publication_rel.oid`, row filter, column list). One transaction.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), [`Config`](crate::FeederErrorKind::Config) for
    /// a table that is not there, or errors of the database.
    pub async fn store_publication(
        &self,
        fence: &Fence,
        feeder: &serde_json::Value,
        tables: &[(u32, serde_json::Value)],
    ) -> Result<(), FeederError> {
        let failed = ControlError::database("storing the state of the publication");
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query("update duckfeeder.feeders set publication_state = $2 where name = $1")
            .bind(self.feeder.as_str())
            .bind(feeder)
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        for (oid, entry) in tables {
            let updated = sqlx::query(
                "update duckfeeder.tables set publication = $3
                 where feeder = $1 and source_oid = $2",
            )
            .bind(self.feeder.as_str())
            .bind(i64::from(*oid))
            .bind(entry)
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
            if updated.rows_affected() != 1 {
                return Err(ControlError::UnknownTable {
                    feeder: self.feeder.clone(),
                    table: oid.to_string(),
                }
                .into());
            }
        }
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// Notes that the source goes on on a newer timeline, whose history holds the checkpoint.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn follow_timeline(&self, fence: &Fence, timeline: u32) -> Result<(), FeederError> {
        let failed = ControlError::database("noting the source's timeline");
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query(
            "update duckfeeder.feeders set timeline = $2, updated_at = clock_timestamp()
             where name = $1",
        )
        .bind(self.feeder.as_str())
        .bind(i64::from(timeline))
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// Notes for `status` which error is being waited out; the next commit, or the next start, removes the note.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn note_waiting(&self, fence: &Fence, error: &str) -> Result<(), FeederError> {
        let failed = ControlError::database("noting what is waited for");
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query(
            "update duckfeeder.feeders
             set waiting_for = $2, waiting_since = coalesce(waiting_since, clock_timestamp())
             where name = $1",
        )
        .bind(self.feeder.as_str())
        .bind(error)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// Notes that slot and publication are dropped on purpose: the next start begins anew, and every
    /// table waits for a copy. Which lake tables are the feeder's stays known.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn tear_down(&self, fence: &Fence) -> Result<(), FeederError> {
        let failed = ControlError::database("tearing the feeder down");
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query(
            "update duckfeeder.feeders
             set torn_down = true, publication_state = null, updated_at = clock_timestamp()
             where name = $1",
        )
        .bind(self.feeder.as_str())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        // Together with the mark: a start that dies halfway must not find a table that seems complete.
        sqlx::query(
            "update duckfeeder.tables
             set state = case state when 'paused' then state else 'pending' end, copy_point = null,
                 copied_rows = 0, error_lsn = null, error_seq = null, error_reason = null,
                 discarded = 0, publication = null, updated_at = clock_timestamp()
             where feeder = $1",
        )
        .bind(self.feeder.as_str())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        // What comes next is a history of its own.
        sqlx::query("delete from duckfeeder.directives where feeder = $1")
            .bind(self.feeder.as_str())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(())
    }
}

/// What every writing transaction needs of the row, read under its lock.
pub(super) struct LockedFeeder {
    pub(super) checkpoint: Lsn,
    pub(super) attempt: Option<Uuid>,
    pub(super) last_snapshot: Option<i64>,
}

/// Locks the feeder's row and compares the generation (I8), before anything else is locked.
///
/// Waits for a transaction that still holds the row, above all one whose COMMIT was not answered.
pub(super) async fn lock_feeder(
    tx: &mut PgConnection,
    feeder: &FeederName,
    held: Generation,
) -> Result<LockedFeeder, ControlError> {
    let failed = ControlError::database("locking the feeder's row");
    // A commit that a crash of the server forgets would be acknowledged to the source (I1).
    sqlx::query(
        "select set_config('synchronous_commit', 'on', true)
         where current_setting('synchronous_commit') = 'off'",
    )
    .execute(&mut *tx)
    .await
    .map_err(&failed)?;
    let row = sqlx::query(
        "select generation, owner, checkpoint::text as checkpoint, attempt, last_snapshot
         from duckfeeder.feeders where name = $1 for update",
    )
    .bind(feeder.as_str())
    .fetch_optional(tx)
    .await
    .map_err(&failed)?
    .ok_or_else(|| ControlError::UnknownFeeder {
        feeder: feeder.clone(),
    })?;
    let current = Generation::new(row.try_get("generation").map_err(&failed)?);
    if current != held {
        return Err(ControlError::Fenced {
            feeder: feeder.clone(),
            held,
            current,
            owner: row.try_get("owner").map_err(&failed)?,
        });
    }
    let checkpoint: String = row.try_get("checkpoint").map_err(&failed)?;
    Ok(LockedFeeder {
        checkpoint: parse_lsn(&checkpoint, "feeders", "checkpoint")?,
        attempt: row.try_get("attempt").map_err(&failed)?,
        last_snapshot: row.try_get("last_snapshot").map_err(&failed)?,
    })
}

fn decode(row: &PgRow) -> Result<FeederRow, ControlError> {
    let failed = ControlError::database("reading the feeder's row");
    let timeline: i64 = row.try_get("timeline").map_err(&failed)?;
    let generation = row.try_get("generation").map_err(&failed)?;
    let checkpoint: String = row.try_get("checkpoint").map_err(&failed)?;
    Ok(FeederRow {
        system_identifier: row.try_get("system_identifier").map_err(&failed)?,
        timeline: u32::try_from(timeline).map_err(|_| ControlError::Corrupt {
            table: "feeders",
            column: "timeline",
        })?,
        slot: row.try_get("slot").map_err(&failed)?,
        publication: row.try_get("publication").map_err(&failed)?,
        publication_state: row.try_get("publication_state").map_err(&failed)?,
        generation: Generation::new(generation),
        owner: row.try_get("owner").map_err(&failed)?,
        torn_down: row.try_get("torn_down").map_err(&failed)?,
        waiting_for: row.try_get("waiting_for").map_err(&failed)?,
        waiting_since: row.try_get("waiting_micros").map_err(&failed)?,
        checkpoint: parse_lsn(&checkpoint, "feeders", "checkpoint")?,
        attempt: row.try_get("attempt").map_err(&failed)?,
        last_snapshot: row.try_get("last_snapshot").map_err(&failed)?,
        commit_timestamp: row.try_get("commit_micros").map_err(&failed)?,
        updated_at: row.try_get("updated_micros").map_err(&failed)?,
    })
}
