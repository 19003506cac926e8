//! Lake tables of append streams, and how far their producers are.

use ducklake_catalog::sqlx::{self, PgConnection, Row as _};
use ducklake_catalog::{CommittedSnapshot, TableRef};

use super::{Control, ControlError, Fence};
use crate::FeederError;
use crate::config::FeederName;

/// How far a producer is in one table once a commit is in the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendPosition {
    /// Schema of the lake table.
    pub schema: String,
    /// Name of the lake table.
    pub table: String,
    /// The producer; empty for rows without one of their own.
    pub producer: String,
    /// Its greatest sequence number in the lake.
    pub position: i64,
}

/// A position as the control tables hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPosition {
    /// The position.
    pub position: AppendPosition,
    /// `ducklake_snapshot.snapshot_id` of the commit that wrote it; 0 where the rows are in plain files.
    pub snapshot: i64,
}

/// A lake table that an append stream made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendTableRow {
    /// Schema of the lake table.
    pub schema: String,
    /// Name of the lake table.
    pub table: String,
    /// `ducklake_table.table_id` of the lake table.
    pub lake_table_id: i64,
}

impl Control {
    /// The lake's tables that append streams made, of whichever feeder.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn append_tables(&self) -> Result<Vec<AppendTableRow>, FeederError> {
        let failed = ControlError::database("reading the append tables");
        let rows = sqlx::query(
            "select target_schema, target_table, lake_table_id
             from duckfeeder.append_tables where lake = $1",
        )
        .bind(self.lake())
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(&failed)?;
        rows.iter()
            .map(|row| {
                Ok(AppendTableRow {
                    schema: row.try_get("target_schema").map_err(&failed)?,
                    table: row.try_get("target_table").map_err(&failed)?,
                    lake_table_id: row.try_get("lake_table_id").map_err(&failed)?,
                })
            })
            .collect()
    }

    /// Moves producers whose rows are in no snapshot.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn move_append_positions(
        &self,
        fence: &Fence,
        positions: &[AppendPosition],
    ) -> Result<(), FeederError> {
        let (mut tx, _) = self.begin(fence).await?;
        move_positions(&mut tx, self.feeder(), positions, 0).await?;
        tx.commit()
            .await
            .map_err(ControlError::database("moving the positions of producers"))?;
        Ok(())
    }

    /// How far the feeder's producers are. Decides what is a replay, so it is read after the generation was raised.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn append_positions(&self) -> Result<Vec<StoredPosition>, FeederError> {
        let failed = ControlError::database("reading the positions of producers");
        let rows = sqlx::query(
            "select target_schema, target_table, producer, position, snapshot_id
             from duckfeeder.append_positions where feeder = $1",
        )
        .bind(self.feeder().as_str())
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(&failed)?;
        rows.iter()
            .map(|row| {
                Ok(StoredPosition {
                    position: AppendPosition {
                        schema: row.try_get("target_schema").map_err(&failed)?,
                        table: row.try_get("target_table").map_err(&failed)?,
                        producer: row.try_get("producer").map_err(&failed)?,
                        position: row.try_get("position").map_err(&failed)?,
                    },
                    snapshot: row.try_get("snapshot_id").map_err(&failed)?,
                })
            })
            .collect()
    }
}

/// Notes the tables that a commit made.
pub(super) async fn note_tables(
    tx: &mut PgConnection,
    feeder: &FeederName,
    tables: &[(String, String, TableRef)],
    snapshot: &CommittedSnapshot,
) -> Result<(), ControlError> {
    for (schema, table, reference) in tables {
        let id = match *reference {
            TableRef::Existing(id) => Some(id),
            TableRef::New(number) => snapshot.tables.get(number).copied(),
        };
        let id = id.ok_or_else(|| ControlError::AppendTableNotInCommit {
            feeder: feeder.clone(),
            target: format!("{schema}.{table}"),
        })?;
        sqlx::query(
            "insert into duckfeeder.append_tables (lake, target_schema, target_table, lake_table_id)
             select lake, $2, $3, $4 from duckfeeder.feeders where name = $1",
        )
        .bind(feeder.as_str())
        .bind(schema)
        .bind(table)
        .bind(id.get())
        .execute(&mut *tx)
        .await
        .map_err(ControlError::database("noting an append table"))?;
    }
    Ok(())
}

/// Moves producers in the transaction of the snapshot that holds their rows.
pub(super) async fn move_positions(
    tx: &mut PgConnection,
    feeder: &FeederName,
    positions: &[AppendPosition],
    snapshot: i64,
) -> Result<(), ControlError> {
    if positions.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = positions.iter().map(|moved| moved.position).collect();
    sqlx::query(
        "insert into duckfeeder.append_positions
             (feeder, target_schema, target_table, producer, position, snapshot_id)
         select $1, target_schema, target_table, producer, position, $6
         from unnest($2::text[], $3::text[], $4::text[], $5::bigint[])
             as moved (target_schema, target_table, producer, position)
         on conflict (feeder, target_schema, target_table, producer) do update
         set position = excluded.position, snapshot_id = excluded.snapshot_id,
             updated_at = clock_timestamp()",
    )
    .bind(feeder.as_str())
    .bind(column(positions, |moved| &moved.schema))
    .bind(column(positions, |moved| &moved.table))
    .bind(column(positions, |moved| &moved.producer))
    .bind(numbers)
    .bind(snapshot)
    .execute(tx)
    .await
    .map_err(ControlError::database("moving the positions of producers"))?;
    Ok(())
}

fn column<'a>(
    positions: &'a [AppendPosition],
    of: impl Fn(&'a AppendPosition) -> &'a str,
) -> Vec<&'a str> {
    positions.iter().map(of).collect()
}
