//! One change set as one snapshot in one Postgres transaction.

use std::time::Duration;

use crate::{Catalog, CatalogError, ChangeSet, CommitHook, Lake, SchemaId, SnapshotId, TableId};

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

impl Catalog {
    /// Reads all live schemas, tables and views, as of one snapshot.
    pub async fn load(&self) -> Result<Lake, CatalogError> {
        todo!()
    }
    /// Commits.
    pub async fn commit(
        &self,
        changes: &ChangeSet,
        hook: &mut dyn CommitHook,
    ) -> Result<CommittedSnapshot, CatalogError> {
        let _ = (changes, hook);
        todo!()
    }
}
