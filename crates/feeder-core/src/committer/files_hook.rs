//! The feeder's part of a commit: fencing and checkpoint, and a last look at the files.

use std::time::Duration;

use async_trait::async_trait;
use ducklake_catalog::sqlx::PgConnection;
use ducklake_catalog::{CommitHook, CommittedSnapshot, HookError};
use storage::{ObjectPath, Storage, StorageErrorKind};

use super::SAFE_DELETE_OLDER_THAN;
use crate::control::EpochHook;
use crate::error::{FeederError, FeederErrorKind, from_storage};
use crate::failpoint::{self, Failpoint};
use crate::file::UploadedFile;

/// Older uncommitted files are looked at before they are committed: somebody may have cleaned them away.
const UNCOMMITTED_FILE_AGE: Duration = Duration::from_mins(10);
/// How much older than it is a cleaner may take a file to be: DuckDB counts whole seconds.
const CLEANERS_CLOCK: Duration = Duration::from_secs(2);

/// Why a file cannot be committed now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It is not what was uploaded, or not there any more.
    #[error("{0}")]
    Lost(FeederError),
    #[error("{0}")]
    Store(FeederError),
}

/// The feeder's part of a commit, and a last look at its files: somebody may have cleaned them away while the commit
/// waited for its lock (rule 16).
pub(super) struct FilesHook<'a> {
    pub(super) epoch: EpochHook,
    pub(super) files: &'a [&'a UploadedFile],
    pub(super) storage: &'a dyn Storage,
}

#[async_trait]
impl CommitHook for FilesHook<'_> {
    async fn before_lock(&mut self, tx: &mut PgConnection) -> Result<(), HookError> {
        failpoint::reach(Failpoint::CommitBeforeLock);
        self.epoch.before_lock(tx).await
    }

    async fn before_commit(
        &mut self,
        tx: &mut PgConnection,
        snapshot: &CommittedSnapshot,
    ) -> Result<(), HookError> {
        self.epoch.before_commit(tx, snapshot).await?;
        let grace = snapshot.file_deletion_grace;
        if grace < SAFE_DELETE_OLDER_THAN {
            tracing::warn!(
                delete_older_than_seconds = grace.as_secs(),
                "the lake's delete_older_than is below one day: CHECKPOINT may delete files before they are committed"
            );
        }
        let limit = UNCOMMITTED_FILE_AGE.min(grace.saturating_sub(CLEANERS_CLOCK) / 2);
        for file in self.files {
            if file.uploaded_at.elapsed() >= limit {
                head(self.storage, file).await?;
            }
        }
        failpoint::reach(Failpoint::CommitBeforeCommit);
        Ok(())
    }
}

/// With a dangerously short grace period a cleaner may have listed the files before the commit and delete them
/// after it; that cannot be prevented from here, but it must not stay unnoticed.
pub(super) async fn verify(storage: &dyn Storage, files: &[&UploadedFile], grace: Duration) {
    if grace >= SAFE_DELETE_OLDER_THAN {
        return;
    }
    for file in files {
        if let Err(FileError::Lost(error)) = head(storage, file).await {
            tracing::error!(table = %file.table.source, error = %error, "a committed file is gone; resync the table");
        }
    }
}

async fn head(storage: &dyn Storage, file: &UploadedFile) -> Result<(), FileError> {
    let lost = || {
        FileError::Lost(FeederError::transient(
            FeederErrorKind::Storage,
            format!(
                "{} disappeared from the store before its commit",
                file.object_path
            ),
        ))
    };
    let store = |error| FileError::Store(from_storage(error));
    let path = ObjectPath::parse(&file.object_path).map_err(store)?;
    match storage.head(&path).await {
        Ok(meta) if meta.size == file.data.file_size_bytes => Ok(()),
        Ok(_) => Err(lost()),
        Err(error) if error.kind() == StorageErrorKind::NotFound => Err(lost()),
        Err(error) => Err(store(error)),
    }
}
