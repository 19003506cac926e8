//! Files that were, or are about to be, uploaded and that no snapshot names yet (I7).

use ducklake_catalog::sqlx::{self, PgConnection, Row as _, postgres::PgRow};

use super::{Control, ControlError, Fence};
use crate::FeederError;
use crate::config::FeederName;
use crate::failpoint::{self, Failpoint};

/// A file that no snapshot names yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingFile {
    /// Its path, as it was declared.
    pub path: String,
    /// `ducklake_table.table_id` of the table that it is for.
    pub lake_table_id: i64,
}

impl Control {
    /// The feeder's declared files, oldest first.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn pending_files(&self) -> Result<Vec<PendingFile>, FeederError> {
        let rows = sqlx::query(
            "select path, lake_table_id from duckfeeder.pending_files
             where feeder = $1 order by created_at, path",
        )
        .bind(self.feeder().as_str())
        .fetch_all(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database("reading the declared files"))?;
        Ok(rows.iter().map(decode).collect::<Result<_, _>>()?)
    }

    /// Declares files, each with its path and `ducklake_table.table_id`. Committed when this returns,
    /// so call it before the first byte is uploaded.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn declare_files(
        &self,
        fence: &Fence,
        files: &[(String, i64)],
    ) -> Result<(), FeederError> {
        if files.is_empty() {
            return Ok(());
        }
        let failed = ControlError::database("declaring files");
        let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        let tables: Vec<i64> = files.iter().map(|(_, table)| *table).collect();
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query(
            "insert into duckfeeder.pending_files (path, feeder, lake_table_id)
             select path, $1, lake_table_id
             from unnest($2::text[], $3::bigint[]) as declared (path, lake_table_id)",
        )
        .bind(self.feeder().as_str())
        .bind(paths)
        .bind(tables)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        failpoint::reach(Failpoint::FileDeclared);
        Ok(())
    }
}

/// Removes the declarations of files that a commit names; all of them must still be there.
pub(super) async fn settle(
    tx: &mut PgConnection,
    feeder: &FeederName,
    paths: &[String],
) -> Result<(), ControlError> {
    if paths.is_empty() {
        return Ok(());
    }
    let declared = sqlx::query(
        "delete from duckfeeder.pending_files where feeder = $1 and path = any($2::text[])",
    )
    .bind(feeder.as_str())
    .bind(paths)
    .execute(tx)
    .await
    .map_err(ControlError::database("settling declared files"))?
    .rows_affected();
    let files = u64::try_from(paths.len()).unwrap_or(u64::MAX);
    if declared == files {
        Ok(())
    } else {
        Err(ControlError::FilesClaimed {
            feeder: feeder.clone(),
            files,
            declared,
        })
    }
}

fn decode(row: &PgRow) -> Result<PendingFile, ControlError> {
    let failed = ControlError::database("reading the declared files");
    Ok(PendingFile {
        path: row.try_get("path").map_err(&failed)?,
        lake_table_id: row.try_get("lake_table_id").map_err(&failed)?,
    })
}
