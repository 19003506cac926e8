//! What the feeder needs of the store: to create, never replace, read, list and delete.

use bytes::Bytes;
use storage::{ObjectPath, Operation, Storage, StorageError, StorageErrorKind};

use super::Finding;
use crate::error::{FeederError, FeederErrorKind, from_storage};

const CONTENTS: Bytes = Bytes::from_static(b"probe");

/// Tries all of it with a probe of its own below the lake's path, which is gone afterwards. One finding for each thing
/// that does not work, one for all where everything does.
pub(super) async fn store(storage: &dyn Storage) -> Vec<Finding> {
    let findings = try_all(storage).await;
    if findings.is_empty() {
        let works = format!("{storage}: create-only write, read, list and delete work");
        return vec![Finding::ok("storage", works)];
    }
    findings
}

async fn try_all(storage: &dyn Storage) -> Vec<Finding> {
    let path = match probe_path() {
        Ok(path) => path,
        Err(error) => return vec![Finding::from_error("storage", &error)],
    };
    if let Err(error) = storage.put(&path, CONTENTS.into()).await {
        // Without an object there is nothing to read or to delete; a listing can still be tried.
        let mut findings = vec![failed(storage, "create an object", error)];
        findings.extend(list(storage, &path, false).await.err());
        return findings;
    }
    let mut findings = Vec::new();
    findings.extend(second_write(storage, &path).await.err());
    findings.extend(read(storage, &path).await.err());
    findings.extend(list(storage, &path, true).await.err());
    findings.extend(uploads(storage, &path).await.err());
    if let Err(error) = storage.delete(&path).await {
        findings.push(failed(
            storage,
            &format!("delete an object ({path} is left behind)"),
            error,
        ));
    }
    findings
}

async fn second_write(storage: &dyn Storage, path: &ObjectPath) -> Result<(), Finding> {
    match storage.put(path, CONTENTS.into()).await {
        Err(error) if error.kind() == StorageErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(storage, "write conditionally", error)),
        Ok(()) => Err(Finding::failed(
            "storage".to_owned(),
            FeederErrorKind::Storage,
            format!("{storage} replaces objects although it is asked not to"),
            "set storage.create_only = \"head\", if it is an S3 store without conditional writes"
                .to_owned(),
        )),
    }
}

async fn read(storage: &dyn Storage, path: &ObjectPath) -> Result<(), Finding> {
    let whole = storage
        .get_range(path, 0..u64::MAX)
        .await
        .map_err(|error| failed(storage, "read an object", error))?;
    if whole == CONTENTS {
        return Ok(());
    }
    Err(Finding::from_error("storage", &other_bytes(storage)))
}

async fn list(storage: &dyn Storage, path: &ObjectPath, exists: bool) -> Result<(), Finding> {
    let below = path.as_str().split('/').next().unwrap_or_default();
    let prefix =
        ObjectPath::parse(below).map_err(|error| failed(storage, "list objects", error))?;
    let page = storage
        .list(Some(&prefix), None)
        .await
        .map_err(|error| failed(storage, "list objects", error))?;
    if !exists || page.objects.iter().any(|object| object.path == *path) {
        return Ok(());
    }
    let unlisted = StorageError::new(StorageErrorKind::Other, Operation::List, path.as_str())
        .with_detail("the object that was just written is not listed");
    Err(failed(storage, "list objects", unlisted))
}

/// Only the clean-up needs these, so it is a warning.
async fn uploads(storage: &dyn Storage, path: &ObjectPath) -> Result<(), Finding> {
    match storage.list_uploads(Some(path), None).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Finding::warning(
            "storage",
            format!(
                "{storage}: cannot list open uploads, so those of a process that died are not cleaned up: {error}"
            ),
            error.remedy().unwrap_or_default().to_owned(),
        )),
    }
}

fn failed(storage: &dyn Storage, what: &str, error: StorageError) -> Finding {
    let error = from_storage(error);
    Finding::failed(
        "storage".to_owned(),
        error.kind(),
        format!("{storage}: cannot {what}: {error}"),
        error.remedy().unwrap_or_default().to_owned(),
    )
}

fn other_bytes(storage: &dyn Storage) -> FeederError {
    FeederError::permanent(
        FeederErrorKind::Storage,
        format!("{storage} returned other bytes than were written"),
    )
}

/// A directory of its own, so that listing it is cheap however full the lake is.
fn probe_path() -> Result<ObjectPath, FeederError> {
    let name = format!("duckfeeder-probe/{}", uuid::Uuid::now_v7());
    ObjectPath::parse(&name).map_err(from_storage)
}

/// What a start cannot do without: fails unless the store can be written, read and deleted from.
pub(crate) async fn probe(storage: &dyn Storage) -> Result<(), FeederError> {
    let path = probe_path()?;
    storage
        .put(&path, CONTENTS.into())
        .await
        .map_err(from_storage)?;
    let read = storage.get_range(&path, 0..u64::MAX).await;
    storage.delete(&path).await.map_err(from_storage)?;
    if read.map_err(from_storage)? == CONTENTS {
        return Ok(());
    }
    Err(other_bytes(storage))
}
