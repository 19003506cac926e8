//! Repeating what failed for a passing reason.

mod policy;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::info;

use self::policy::Attempts;
pub use self::policy::RetryPolicy;
use crate::{
    ListPage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation, PageToken,
    PutPayload, Storage, StorageError, StorageErrorKind, UploadPage,
};

/// Wraps a store and repeats operations that fail with a transient error, a bounded number of times. Each repetition
/// is logged at warn level.
///
/// A repeated create-only write can meet the object that its own earlier attempt made before the answer was lost.
/// When a repetition (never a first attempt) fails with [`AlreadyExists`](StorageErrorKind::AlreadyExists) and the
/// object has the size that was written, the write therefore counts as done. Two writers of *different* objects of
/// equal size under *one* path could both be told so after an error; writers that may meet need unique paths, as file
/// names from UUIDs are.
#[derive(Debug, Clone)]
pub struct RetryStorage {
    inner: Arc<dyn Storage>,
    policy: RetryPolicy,
    observer: Option<Observer>,
}

/// Who is told of repetitions.
#[derive(Clone)]
struct Observer(Arc<dyn Fn(Operation) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl RetryStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>, policy: RetryPolicy) -> Self {
        Self {
            inner,
            policy,
            observer: None,
        }
    }

    /// Calls `observer` before each repetition, with what is repeated: for counters. It must not block.
    #[must_use]
    pub fn observed(mut self, observer: impl Fn(Operation) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    fn attempts<'a>(&'a self, operation: Operation, path: &'a str) -> Attempts<'a> {
        let observer = self.observer.as_ref().map(|observer| observer.0.as_ref());
        Attempts::new(&self.policy, observer, operation, path)
    }

    /// Decides whether the object that stands in the way is the one that we wrote ourselves.
    async fn resolve(
        &self,
        path: &ObjectPath,
        size: u64,
        exists: StorageError,
    ) -> Result<(), StorageError> {
        match self.head(path).await {
            Ok(meta) if meta.size == size => {
                info!(
                    path = path.as_str(),
                    size, "write was done by an attempt whose answer was lost"
                );
                Ok(())
            }
            Ok(_) => Err(exists),
            Err(error) if error.kind() == StorageErrorKind::NotFound => Err(exists),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for RetryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for RetryStorage {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        let mut attempts = self.attempts(Operation::Put, path.as_str());
        loop {
            match self.inner.put(path, payload.clone()).await {
                Ok(()) => return Ok(()),
                Err(error)
                    if error.kind() == StorageErrorKind::AlreadyExists
                        && attempts.outcome_unknown() =>
                {
                    return self.resolve(path, payload.len(), error).await;
                }
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        let mut attempts = self.attempts(Operation::StartMultipart, path.as_str());
        loop {
            match self.inner.start_multipart(path).await {
                Ok(inner) => {
                    return Ok(Box::new(RetryUpload {
                        inner,
                        store: self.clone(),
                        path: path.clone(),
                        size: 0,
                        outcome_unknown: false,
                        aborted: false,
                    }));
                }
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        let mut attempts = self.attempts(Operation::GetRange, path.as_str());
        loop {
            match self.inner.get_range(path, range.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        let mut attempts = self.attempts(Operation::Head, path.as_str());
        loop {
            match self.inner.head(path).await {
                Ok(meta) => return Ok(meta),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let path = prefix.map_or("", ObjectPath::as_str);
        let mut attempts = self.attempts(Operation::List, path);
        loop {
            match self.inner.list(prefix, token).await {
                Ok(page) => return Ok(page),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let mut attempts = self.attempts(Operation::Delete, path.as_str());
        loop {
            match self.inner.delete(path).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        let mut results = self.inner.delete_all(paths).await;
        let mut attempts = self.attempts(Operation::Delete, "");
        loop {
            let failed: Vec<usize> = (0..results.len())
                .filter(|at| matches!(results.get(*at), Some(Err(error)) if error.is_transient()))
                .collect();
            let Some(first) = failed.first().copied() else {
                return results;
            };
            let Some(slot) = results.get_mut(first) else {
                return results;
            };
            // The first of them stands for all: they failed together, and wait together.
            if let Err(error) = std::mem::replace(slot, Ok(()))
                && let Err(error) = attempts.failed(error).await
            {
                *slot = Err(error);
                return results;
            }
            let again: Vec<_> = failed
                .iter()
                .filter_map(|at| paths.get(*at).cloned())
                .collect();
            let repeated = self.inner.delete_all(&again).await;
            for (at, result) in failed.into_iter().zip(repeated) {
                if let Some(slot) = results.get_mut(at) {
                    *slot = result;
                }
            }
        }
    }

    async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        let path = prefix.map_or("", ObjectPath::as_str);
        let mut attempts = self.attempts(Operation::ListUploads, path);
        loop {
            match self.inner.list_uploads(prefix, token).await {
                Ok(page) => return Ok(page),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        let mut attempts = self.attempts(Operation::AbortUpload, upload.path.as_str());
        loop {
            match self.inner.abort_upload(upload).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[derive(Debug)]
struct RetryUpload {
    inner: Box<dyn MultipartUpload>,
    store: RetryStorage,
    path: ObjectPath,
    /// Bytes that the store has taken.
    size: u64,
    /// A `complete` failed in a way that may have been done all the same. Outlives one call, because the caller may
    /// repeat it too.
    outcome_unknown: bool,
    /// Aborted by the caller, as opposed to lost to an error.
    aborted: bool,
}

impl RetryUpload {
    fn refuse_aborted(&self, operation: Operation) -> Result<(), StorageError> {
        if self.aborted {
            let kind = StorageErrorKind::UploadClosed;
            return Err(StorageError::new(kind, operation, self.path.as_str()));
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for RetryUpload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        self.refuse_aborted(Operation::PutPart)?;
        let mut attempts = self.store.attempts(Operation::PutPart, self.path.as_str());
        loop {
            match self.inner.put_part(part.clone()).await {
                Ok(()) => {
                    let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
                    self.size = self.size.saturating_add(length);
                    return Ok(());
                }
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        self.refuse_aborted(Operation::Complete)?;
        let mut attempts = self.store.attempts(Operation::Complete, self.path.as_str());
        loop {
            match self.inner.complete().await {
                Ok(()) => return Ok(()),
                Err(error)
                    if error.kind() == StorageErrorKind::AlreadyExists && self.outcome_unknown =>
                {
                    return self.store.resolve(&self.path, self.size, error).await;
                }
                Err(error) => {
                    self.outcome_unknown |= error.is_transient();
                    attempts.failed(error).await?;
                }
            }
        }
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        self.aborted = true;
        let mut attempts = self.store.attempts(Operation::Abort, self.path.as_str());
        loop {
            match self.inner.abort().await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }
}
