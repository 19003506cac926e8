//! The fed tables and their states.

use std::collections::BTreeSet;

use ducklake_catalog::sqlx::{self, PgConnection, Row as _, postgres::PgRow};
use pgoutput::Lsn;

use super::transition::{TableTransition, apply};
use super::{Control, ControlError, Fence, parse_lsn};
use crate::{FeederError, TableState};

/// A table that is about to be fed, in state [`TableState::Pending`].
#[derive(Clone, Debug)]
pub struct NewTable {
    /// The table's oid at the source.
    pub source_oid: u32,
    /// Its schema at the source.
    pub source_schema: String,
    /// Its name at the source.
    pub source_table: String,
    /// Its schema in the lake.
    pub target_schema: String,
    /// Its name in the lake.
    pub target_table: String,
    /// `ducklake_table.table_id`, where it exists already.
    pub lake_table_id: Option<i64>,
    /// Its columns, key and identity.
    pub shape: serde_json::Value,
    /// Its entry in the publication.
    pub publication: Option<serde_json::Value>,
}

/// A fed table.
#[derive(Clone, Debug)]
pub struct TableRow {
    /// The table's oid at the source.
    pub source_oid: u32,
    /// Its schema at the source.
    pub source_schema: String,
    /// Its name at the source.
    pub source_table: String,
    /// Its schema in the lake.
    pub target_schema: String,
    /// Its name in the lake.
    pub target_table: String,
    /// `ducklake_table.table_id`, once it exists.
    pub lake_table_id: Option<i64>,
    /// Its state.
    pub state: TableState,
    /// Consistent point of the copy that the lake holds.
    pub copy_point: Option<Lsn>,
    /// Its columns, key and identity, as last known.
    pub shape: serde_json::Value,
    /// Its entry in the publication, as last seen.
    pub publication: Option<serde_json::Value>,
    /// Its partitions, as of the copy or a later look; `None` before the first.
    pub partitions: Option<serde_json::Value>,
    /// The last transaction in the lake that truncated it.
    pub truncated_by: Option<u32>,
    /// Why it is in state [`TableState::Error`], and since when.
    pub error: Option<TableError>,
    /// Whether somebody asked for a new copy.
    pub resync_requested: bool,
    /// Rows of the copy that the lake holds.
    pub copied_rows: u64,
    /// Values since that copy, and in it, that their lake column could not hold.
    pub unrepresentable: u64,
}

/// Why a table is in error (correctness rule 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// Commit position of the first transaction that is not in the lake.
    pub lsn: Lsn,
    /// The change in it that failed, by its order in the transaction.
    pub seq: i64,
    /// The reason; never holds row values.
    pub reason: String,
    /// Changes that were not recorded since.
    pub discarded: u64,
}

/// What was asked of a feeder from outside of its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Somebody waits for a resync that has not begun.
    pub resync: bool,
    /// Somebody waits for the checkpoint to reach this position.
    pub wanted: Option<Lsn>,
}

impl Control {
    /// All tables of the feeder, by name.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn tables(&self) -> Result<Vec<TableRow>, FeederError> {
        let rows = sqlx::query(
            "select source_oid, source_schema, source_table, target_schema, target_table,
                 lake_table_id, state, copy_point::text as copy_point, shape, publication,
                 partitions, truncated_by, error_lsn::text as error_lsn, error_seq, error_reason, discarded,
                 resync_requested, copied_rows, unrepresentable
             from duckfeeder.tables where feeder = $1
             order by source_schema, source_table, source_oid",
        )
        .bind(self.feeder().as_str())
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("reading the tables"))?;
        Ok(rows.iter().map(decode).collect::<Result<_, _>>()?)
    }

    /// Asks whichever process runs the feeder to copy a table again. Needs no [`Fence`].
    ///
    /// # Errors
    /// Kind [`Config`](crate::FeederErrorKind::Config) for a table that is not there, or errors of the
    /// database.
    pub async fn request_resync(&self, schema: &str, table: &str) -> Result<(), FeederError> {
        let updated = sqlx::query(
            "update duckfeeder.tables set resync_requested = true, updated_at = clock_timestamp()
             where feeder = $1 and source_schema = $2 and source_table = $3",
        )
        .bind(self.feeder().as_str())
        .bind(schema)
        .bind(table)
        .execute(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("requesting a resync"))?;
        if updated.rows_affected() == 0 {
            return Err(ControlError::UnknownTable {
                feeder: self.feeder().clone(),
                table: format!("{schema}.{table}"),
            }
            .into());
        }
        Ok(())
    }

    /// The tables of a feeder that was not torn down, by source OID. Reads what every version of the control tables has.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn registered(&self) -> Result<BTreeSet<u32>, FeederError> {
        let oids: Vec<i64> = sqlx::query_scalar(
            "select t.source_oid from duckfeeder.tables t
             join duckfeeder.feeders f on f.name = t.feeder
             where f.name = $1 and not f.torn_down",
        )
        .bind(self.feeder().as_str())
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("reading the registered tables"))?;
        Ok(oids.into_iter().map(decode_oid).collect::<Result<_, _>>()?)
    }

    /// What was asked of the feeder from outside of its process.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn requests(&self) -> Result<Requests, FeederError> {
        let failed = ControlError::database("looking for requests");
        let row = sqlx::query(
            "select f.wanted::text as wanted, exists (select from duckfeeder.tables t
                 where t.feeder = f.name and t.resync_requested and t.state <> 'paused') as resync
             from duckfeeder.feeders f where f.name = $1",
        )
        .bind(self.feeder().as_str())
        .fetch_optional(&mut *self.connection().await?)
        .await
        .map_err(&failed)?;
        let Some(row) = row else {
            return Ok(Requests::default());
        };
        let wanted: Option<String> = row.try_get("wanted").map_err(&failed)?;
        Ok(Requests {
            resync: row.try_get("resync").map_err(&failed)?,
            wanted: wanted
                .map(|text| parse_lsn(&text, "feeders", "wanted"))
                .transpose()?,
        })
    }

    /// Asks whichever process runs the feeder to bring the checkpoint up to `position`, even if nothing of
    /// its tables changes. Needs no [`Fence`].
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn want(&self, position: Lsn) -> Result<(), FeederError> {
        sqlx::query(
            "update duckfeeder.feeders set wanted = $2::text::pg_lsn
             where name = $1 and (wanted is null or wanted < $2::text::pg_lsn)",
        )
        .bind(self.feeder().as_str())
        .bind(position.to_string())
        .execute(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("asking for a position"))?;
        Ok(())
    }

    /// Adds tables, all or none. Targets, and the names of their `_current` views, must be unlike
    /// those of every other table of the lake, of whichever feeder, when case is ignored.
    ///
    /// # Errors
    /// Kind [`Config`](crate::FeederErrorKind::Config) for a target that is taken,
    /// [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn insert_tables(
        &self,
        fence: &Fence,
        tables: &[NewTable],
    ) -> Result<(), FeederError> {
        let failed = ControlError::database("adding tables");
        let (mut tx, _) = self.begin(fence).await?;
        // The unique index knows nothing of views: one feeder at a time looks and inserts.
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(TARGETS_LOCK_KEY)
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        for table in tables {
            refuse_taken_target(&mut tx, &self.lake, table).await?;
            sqlx::query(
                "insert into duckfeeder.tables (feeder, lake, source_oid, source_schema,
                     source_table, target_schema, target_table, lake_table_id, shape, publication)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(self.feeder().as_str())
            .bind(&self.lake)
            .bind(i64::from(table.source_oid))
            .bind(&table.source_schema)
            .bind(&table.source_table)
            .bind(&table.target_schema)
            .bind(&table.target_table)
            .bind(table.lake_table_id)
            .bind(&table.shape)
            .bind(&table.publication)
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        }
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// Changes tables in a transaction of its own, in order, all or none. What belongs to a lake
    /// commit goes into its [`EpochHook`](super::EpochHook) instead.
    ///
    /// # Errors
    /// Kind [`Config`](crate::FeederErrorKind::Config) for a table that is not there,
    /// [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn update_tables(
        &self,
        fence: &Fence,
        transitions: &[TableTransition],
    ) -> Result<(), FeederError> {
        let failed = ControlError::database("changing the state of tables");
        let (mut tx, _) = self.begin(fence).await?;
        for transition in transitions {
            apply(&mut tx, self.feeder(), transition).await?;
        }
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// Turns requests for a resync into [`TableChange::Pending`](super::TableChange::Pending) and says which tables it hit. A
    /// crash right afterwards loses nothing: the tables wait for their copy. Paused tables keep
    /// their requests.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn take_resync_requests(&self, fence: &Fence) -> Result<Vec<u32>, FeederError> {
        let failed = ControlError::database("taking requests for a resync");
        let (mut tx, _) = self.begin(fence).await?;
        let requested: Vec<i64> = sqlx::query_scalar(
            "select source_oid from duckfeeder.tables
             where feeder = $1 and resync_requested and state <> 'paused'
             order by source_oid for update",
        )
        .bind(self.feeder().as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        let mut taken = Vec::with_capacity(requested.len());
        for oid in requested {
            let source_oid = decode_oid(oid)?;
            apply(
                &mut tx,
                self.feeder(),
                &TableTransition::pending(source_oid),
            )
            .await?;
            taken.push(source_oid);
        }
        tx.commit().await.map_err(failed)?;
        Ok(taken)
    }
}

/// Advisory lock of [`Fence::insert_tables`], released with its transaction.
const TARGETS_LOCK_KEY: i64 = 5_927_439_025_402;

/// Looks for a table whose target, or whose view, has a name of `table` or of its view.
async fn refuse_taken_target(
    tx: &mut PgConnection,
    lake: &str,
    table: &NewTable,
) -> Result<(), ControlError> {
    let failed = ControlError::database("comparing the targets of tables");
    let taken = sqlx::query(
        "select feeder, source_schema, source_table from duckfeeder.tables
         where lake = $1
           and lower(target_schema collate \"C\") = lower($2::text collate \"C\")
           and lower(target_table collate \"C\") in (
               lower($3::text collate \"C\"),
               lower($3::text collate \"C\") || '_current',
               regexp_replace(lower($3::text collate \"C\"), '_current$', ''))
         limit 1",
    )
    .bind(lake)
    .bind(&table.target_schema)
    .bind(&table.target_table)
    .fetch_optional(tx)
    .await
    .map_err(&failed)?;
    let Some(row) = taken else { return Ok(()) };
    let feeder: String = row.try_get("feeder").map_err(&failed)?;
    let schema: String = row.try_get("source_schema").map_err(&failed)?;
    let name: String = row.try_get("source_table").map_err(&failed)?;
    Err(ControlError::TargetTaken {
        target: format!("{}.{}", table.target_schema, table.target_table),
        table: format!("{}.{}", table.source_schema, table.source_table),
        other: format!("{schema}.{name} of feeder `{feeder}`"),
    })
}

fn decode_oid(oid: i64) -> Result<u32, ControlError> {
    u32::try_from(oid).map_err(|_| ControlError::Corrupt {
        table: "tables",
        column: "source_oid",
    })
}

fn decode_state(state: &str) -> Result<TableState, ControlError> {
    [
        TableState::Pending,
        TableState::Copying,
        TableState::Streaming,
        TableState::Paused,
        TableState::Error,
    ]
    .into_iter()
    .find(|known| known.as_str() == state)
    .ok_or(ControlError::Corrupt {
        table: "tables",
        column: "state",
    })
}

fn decode_count(count: i64, column: &'static str) -> Result<u64, ControlError> {
    u64::try_from(count).map_err(|_| ControlError::Corrupt {
        table: "tables",
        column,
    })
}

fn decode(row: &PgRow) -> Result<TableRow, ControlError> {
    let failed = ControlError::database("reading the tables");
    let lsn = |column: &'static str| -> Result<Option<Lsn>, ControlError> {
        let text: Option<String> = row.try_get(column).map_err(&failed)?;
        text.map(|text| parse_lsn(&text, "tables", column))
            .transpose()
    };
    let state: String = row.try_get("state").map_err(&failed)?;
    let reason: Option<String> = row.try_get("error_reason").map_err(&failed)?;
    let discarded = row.try_get("discarded").map_err(&failed)?;
    let copied_rows = row.try_get("copied_rows").map_err(&failed)?;
    let unrepresentable = row.try_get("unrepresentable").map_err(&failed)?;
    let truncated_by: Option<i64> = row.try_get("truncated_by").map_err(&failed)?;
    let truncated_by = truncated_by
        .map(u32::try_from)
        .transpose()
        .map_err(|_too_large| ControlError::Corrupt {
            table: "tables",
            column: "truncated_by",
        })?;
    let error = match reason {
        Some(reason) => Some(TableError {
            lsn: lsn("error_lsn")?.ok_or(ControlError::Corrupt {
                table: "tables",
                column: "error_lsn",
            })?,
            seq: row.try_get("error_seq").map_err(&failed)?,
            reason,
            discarded: decode_count(discarded, "discarded")?,
        }),
        None => None,
    };
    Ok(TableRow {
        source_oid: decode_oid(row.try_get("source_oid").map_err(&failed)?)?,
        source_schema: row.try_get("source_schema").map_err(&failed)?,
        source_table: row.try_get("source_table").map_err(&failed)?,
        target_schema: row.try_get("target_schema").map_err(&failed)?,
        target_table: row.try_get("target_table").map_err(&failed)?,
        lake_table_id: row.try_get("lake_table_id").map_err(&failed)?,
        state: decode_state(&state)?,
        copy_point: lsn("copy_point")?,
        shape: row.try_get("shape").map_err(&failed)?,
        publication: row.try_get("publication").map_err(&failed)?,
        partitions: row.try_get("partitions").map_err(&failed)?,
        truncated_by,
        error,
        resync_requested: row.try_get("resync_requested").map_err(&failed)?,
        copied_rows: decode_count(copied_rows, "copied_rows")?,
        unrepresentable: decode_count(unrepresentable, "unrepresentable")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip_and_nothing_else_passes() {
        for state in [
            TableState::Pending,
            TableState::Copying,
            TableState::Streaming,
            TableState::Paused,
            TableState::Error,
        ] {
            assert_eq!(decode_state(state.as_str()).unwrap(), state);
        }
        assert!(decode_state("Streaming").is_err());
        assert!(decode_state("").is_err());
    }

    #[test]
    fn an_oid_is_32_bits() {
        assert_eq!(decode_oid(4_294_967_295).unwrap(), u32::MAX);
        assert!(decode_oid(4_294_967_296).is_err());
        assert!(decode_oid(-1).is_err());
    }
}
