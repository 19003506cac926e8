//! The caller's own work inside the commit transaction.

use async_trait::async_trait;
use sqlx::PgConnection;

use crate::CommittedSnapshot;

/// What a [`CommitHook`] may fail with; returned as the source of an error of kind
/// [`CatalogErrorKind::Hook`](crate::CatalogErrorKind::Hook), where it can be downcast.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Runs inside the transaction of [`Catalog::commit`](crate::Catalog::commit).
///
/// Both methods run on the committing connection, whose search path is the metadata schema alone:
/// name tables of other schemas in full. They must neither commit nor roll back. An error rolls the
/// whole commit back and is never retried. Without an error they run once per attempt: an attempt
/// that loses a race is rolled back with everything the hook did, and the next one calls both again.
#[async_trait]
pub trait CommitHook: Send {
    /// Runs first in the transaction, before `ducklake_snapshot` is locked.
    ///
    /// Rows that every writer of the same kind locks belong here, so that the lock order is always
    /// own rows, then `ducklake_snapshot`.
    async fn before_lock(&mut self, tx: &mut PgConnection) -> Result<(), HookError>;

    /// Runs after all rows of the lake are written, directly before COMMIT.
    async fn before_commit(
        &mut self,
        tx: &mut PgConnection,
        snapshot: &CommittedSnapshot,
    ) -> Result<(), HookError>;
}

/// A hook that does nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHook;

#[async_trait]
impl CommitHook for NoHook {
    async fn before_lock(&mut self, _tx: &mut PgConnection) -> Result<(), HookError> {
        Ok(())
    }

    async fn before_commit(
        &mut self,
        _tx: &mut PgConnection,
        _snapshot: &CommittedSnapshot,
    ) -> Result<(), HookError> {
        Ok(())
    }
}
