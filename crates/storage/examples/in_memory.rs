//! A store of one's own: the smallest `Storage` that keeps the contract, in memory, and the conformance suite run on
//! it. `cargo run -p storage --example in_memory`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use storage::testing::{Capabilities, conformance};
use storage::{
    ListPage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation, PageToken,
    PutPayload, Storage, StorageError, StorageErrorKind, UploadPage,
};

const PAGE_SIZE: usize = 100;

/// Objects by path; clones share them.
#[derive(Clone, Default)]
struct InMemory {
    objects: Arc<Mutex<BTreeMap<ObjectPath, Object>>>,
}

#[derive(Clone)]
struct Object {
    contents: Bytes,
    last_modified: SystemTime,
}

impl InMemory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectPath, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one place where objects come into being: under the lock, so atomic and create-only.
    fn create(
        &self,
        operation: Operation,
        path: &ObjectPath,
        contents: Bytes,
    ) -> Result<(), StorageError> {
        let mut objects = self.lock();
        if objects.contains_key(path) {
            return Err(error(StorageErrorKind::AlreadyExists, operation, path));
        }
        objects.insert(
            path.clone(),
            Object {
                contents,
                last_modified: SystemTime::now(),
            },
        );
        Ok(())
    }

    fn find(&self, operation: Operation, path: &ObjectPath) -> Result<Object, StorageError> {
        let found = self.lock().get(path).cloned();
        found.ok_or_else(|| error(StorageErrorKind::NotFound, operation, path))
    }
}

fn error(kind: StorageErrorKind, operation: Operation, path: &ObjectPath) -> StorageError {
    StorageError::new(kind, operation, path.as_str())
}

/// `Debug` and `Display` name the store; neither shows contents of objects.
impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory")
            .field("objects", &self.lock().len())
            .finish()
    }
}

impl fmt::Display for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory of this process")
    }
}

#[async_trait]
impl Storage for InMemory {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        self.create(Operation::Put, path, payload.chunks().concat().into())
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        let (store, path) = (self.clone(), path.clone());
        Ok(Box::new(Upload {
            store,
            path,
            parts: Some(BytesMut::new()),
        }))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        let invalid = || error(StorageErrorKind::InvalidRange, Operation::GetRange, path);
        if range.is_empty() {
            return Err(invalid());
        }
        let contents = self.find(Operation::GetRange, path)?.contents;
        let start = usize::try_from(range.start).map_err(|_| invalid())?;
        let end = usize::try_from(range.end)
            .unwrap_or(usize::MAX)
            .min(contents.len());
        if start >= end {
            return Err(invalid());
        }
        Ok(contents.slice(start..end))
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        Ok(meta(path, &self.find(Operation::Head, path)?))
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let after = token
            .map(|token| ObjectPath::parse(token.as_str()))
            .transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let objects = self.lock();
        let mut rest = objects
            .range((start, Bound::Unbounded))
            .filter(|(path, _)| prefix.is_none_or(|prefix| path.is_below(prefix)))
            .map(|(path, object)| meta(path, object));
        let objects: Vec<_> = rest.by_ref().take(PAGE_SIZE).collect();
        let last = objects.last().filter(|_| rest.next().is_some());
        let next = last.map(|last| PageToken::new(last.path.as_str()));
        Ok(ListPage { objects, next })
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        self.lock().remove(path);
        Ok(())
    }

    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        let mut objects = self.lock();
        let delete = |path| {
            objects.remove(path);
            Ok(())
        };
        paths.iter().map(delete).collect()
    }

    /// An upload lives in its handle alone and ends with it, so there is never one to clean up.
    async fn list_uploads(
        &self,
        _prefix: Option<&ObjectPath>,
        _token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        Ok(UploadPage::default())
    }

    async fn abort_upload(&self, _upload: &OpenUpload) -> Result<(), StorageError> {
        Ok(())
    }

    fn url(&self) -> String {
        "memory://example/".to_owned()
    }
}

fn meta(path: &ObjectPath, object: &Object) -> ObjectMeta {
    ObjectMeta {
        path: path.clone(),
        size: u64::try_from(object.contents.len()).unwrap_or(u64::MAX),
        last_modified: object.last_modified,
    }
}

struct Upload {
    store: InMemory,
    path: ObjectPath,
    /// `None` once aborted.
    parts: Option<BytesMut>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        match &mut self.parts {
            Some(parts) => {
                parts.extend_from_slice(&part);
                Ok(())
            }
            None => Err(error(
                StorageErrorKind::UploadClosed,
                Operation::PutPart,
                &self.path,
            )),
        }
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        match &self.parts {
            // The parts stay, so a repeated call finds the object of the first one: `AlreadyExists`.
            Some(parts) => {
                self.store
                    .create(Operation::Complete, &self.path, parts.clone().freeze())
            }
            None => Err(error(
                StorageErrorKind::UploadClosed,
                Operation::Complete,
                &self.path,
            )),
        }
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        self.parts = None;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let store = InMemory::default();
    let capabilities = Capabilities {
        lists_uploads: false,
        ..Capabilities::default()
    };
    conformance(&store, &capabilities).await;
    let mut out = std::io::stdout().lock();
    let _ = std::io::Write::write_all(&mut out, b"the store keeps the contract\n");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_conforms() {
        super::main();
    }
}
