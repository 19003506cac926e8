//! The partitions of fed tables, as they were when nothing was missing (correctness rule 22).

use ducklake_catalog::sqlx;

use super::{Control, ControlError, Fence};
use crate::FeederError;

impl Control {
    /// Keeps a table's partitions as they are now, unless they are no longer kept as they were compared with: a copy that
    /// began meanwhile has its own.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn replace_partitions(
        &self,
        fence: &Fence,
        source_oid: u32,
        before: Option<&serde_json::Value>,
        now: &serde_json::Value,
    ) -> Result<(), FeederError> {
        let failed = ControlError::database("keeping the partitions of a table");
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query(
            "update duckfeeder.tables set partitions = $4, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2 and partitions is not distinct from $3",
        )
        .bind(self.feeder().as_str())
        .bind(i64::from(source_oid))
        .bind(before)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(())
    }

    /// Asks for another copy of a table that streams, unless its partitions are no longer kept as they were compared with.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), or errors of the database.
    pub async fn resync_for_partitions(
        &self,
        fence: &Fence,
        source_oid: u32,
        before: Option<&serde_json::Value>,
    ) -> Result<(), FeederError> {
        let failed = ControlError::database("requesting a resync");
        let (mut tx, _) = self.begin(fence).await?;
        sqlx::query(
            "update duckfeeder.tables set resync_requested = true, updated_at = clock_timestamp()
             where feeder = $1 and source_oid = $2 and partitions is not distinct from $3
               and state = 'streaming'",
        )
        .bind(self.feeder().as_str())
        .bind(i64::from(source_oid))
        .bind(before)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(())
    }
}
