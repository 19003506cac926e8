//! An upload in parts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::error::Failure;
use super::part::{self, Collected, Part};
use super::{Bucket, body};
use crate::{MultipartUpload, ObjectPath, Operation, StorageError, StorageErrorKind};

/// How many parts are on their way at once.
const PARTS_IN_FLIGHT: usize = 4;
/// How often an upload is aborted that is still there afterwards.
const ABORTS: usize = 3;

/// Holds one part that is being filled and those that are not known to be stored; the store has the others. What is
/// shorter than a part becomes an object with one request, and the store never hears of an upload.
pub(super) struct S3Upload {
    bucket: Arc<Bucket>,
    path: ObjectPath,
    phase: Phase,
    /// What the store calls the upload, once it was begun there.
    id: Option<Arc<str>>,
    collected: Collected,
    /// Number of the part that is being filled.
    filling: i32,
    /// Parts that are to be sent, those that failed first.
    waiting: VecDeque<Part>,
    in_flight: JoinSet<(Part, Result<CompletedPart, StorageError>)>,
    stored: BTreeMap<i32, CompletedPart>,
    /// A part has failed. The next call sends it again, and waits for it before it takes more: its caller spaces the
    /// calls.
    troubled: bool,
    /// An attempt to complete failed in a way that may have been done all the same.
    outcome_unknown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Completed,
    Closed,
}

impl S3Upload {
    pub(super) fn new(bucket: Arc<Bucket>, path: ObjectPath) -> Self {
        Self {
            bucket,
            path,
            phase: Phase::Open,
            id: None,
            collected: Collected::default(),
            filling: 1,
            waiting: VecDeque::new(),
            in_flight: JoinSet::new(),
            stored: BTreeMap::new(),
            troubled: false,
            outcome_unknown: false,
        }
    }

    fn refuse(&self, kind: StorageErrorKind, operation: Operation) -> StorageError {
        StorageError::new(kind, operation, self.path.as_str())
    }

    fn error(&self, failure: Failure, operation: Operation) -> StorageError {
        self.bucket.error(failure, operation, self.path.as_str())
    }

    /// Begins the upload at the store, unless that was done.
    async fn id(&mut self, operation: Operation) -> Result<Arc<str>, StorageError> {
        if let Some(id) = &self.id {
            return Ok(Arc::clone(id));
        }
        let (bucket, key) = (&self.bucket, self.bucket.root.key(&self.path));
        let begun = bucket
            .attempt(0, |client| async move {
                let request = client
                    .create_multipart_upload()
                    .bucket(bucket.name())
                    .key(key)
                    .checksum_algorithm(ChecksumAlgorithm::Crc32C);
                let answer = request.send().await?;
                let id = answer.upload_id().map(Arc::from);
                id.ok_or_else(|| Failure::incomplete("the id of an upload"))
            })
            .await;
        let id: Arc<str> = begun.map_err(|failure| self.error(failure, operation))?;
        Ok(Arc::clone(self.id.insert(id)))
    }

    /// Sends waiting parts as long as there is room.
    fn send(&mut self, id: &Arc<str>) {
        while self.in_flight.len() < PARTS_IN_FLIGHT
            && let Some(part) = self.waiting.pop_front()
        {
            let (bucket, id) = (Arc::clone(&self.bucket), Arc::clone(id));
            let path = self.path.clone();
            self.in_flight.spawn(async move {
                let sent = bucket.put_part(&path, &id, &part).await;
                let sent = sent
                    .map_err(|failure| bucket.error(failure, Operation::PutPart, path.as_str()));
                (part, sent)
            });
        }
    }

    /// Takes note of a part that has come to its end.
    fn settle(
        &mut self,
        ended: Result<(Part, Result<CompletedPart, StorageError>), tokio::task::JoinError>,
    ) -> Result<(), StorageError> {
        match ended {
            Ok((part, Ok(stored))) => {
                self.stored.insert(part.number, stored);
                Ok(())
            }
            Ok((part, Err(error))) => {
                self.waiting.push_front(part);
                self.troubled = true;
                Err(error)
            }
            Err(lost) => {
                self.phase = Phase::Closed;
                let error = self.refuse(StorageErrorKind::UploadClosed, Operation::PutPart);
                Err(error.with_source(lost))
            }
        }
    }

    /// Waits until no part waits and no more than `in_flight` are on their way.
    ///
    /// # Errors
    /// The first failure that is noticed; its part is kept, and the others stay on their way.
    async fn flush(&mut self, in_flight: usize) -> Result<(), StorageError> {
        while let Some(ended) = self.in_flight.try_join_next() {
            self.settle(ended)?;
        }
        if let Some(id) = self.id.clone() {
            self.send(&id);
            while !self.waiting.is_empty() || self.in_flight.len() > in_flight {
                if let Some(ended) = self.in_flight.join_next().await {
                    self.settle(ended)?;
                }
                self.send(&id);
            }
        }
        Ok(())
    }

    fn cut(&mut self, size: u64) {
        let payload = self.collected.cut(size);
        self.waiting.push_back(Part {
            number: self.filling,
            payload,
        });
        self.filling = self.filling.saturating_add(1);
    }

    /// Puts the parts together at the store.
    async fn assemble(&mut self, id: &str) -> Result<(), StorageError> {
        let condition = self
            .bucket
            .condition(Operation::Complete, &self.path)
            .await?;
        let parts = self.stored.values().cloned().collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let (bucket, key) = (&self.bucket, self.bucket.root.key(&self.path));
        let limit = bucket.connection.completion_limit();
        let done = bucket
            .attempt_within(limit, |client| async move {
                let request = client
                    .complete_multipart_upload()
                    .bucket(bucket.name())
                    .key(key)
                    .upload_id(id)
                    .set_if_none_match(condition)
                    .multipart_upload(parts.build());
                request.send().await?;
                Ok(())
            })
            .await;
        let failure = match done {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        // The store forgets an upload when it has become an object, perhaps by an attempt whose answer was lost.
        if failure.kind() == StorageErrorKind::UploadClosed && self.outcome_unknown {
            return Err(match self.bucket.find(&self.path).await {
                Ok(Some(_)) => self.refuse(StorageErrorKind::AlreadyExists, Operation::Complete),
                Ok(None) => self.error(failure, Operation::Complete),
                Err(unknown) => self.error(unknown, Operation::Complete),
            });
        }
        let error = self.error(failure, Operation::Complete);
        self.outcome_unknown |= error.is_transient();
        Err(error)
    }
}

impl Bucket {
    async fn put_part(
        &self,
        path: &ObjectPath,
        id: &str,
        part: &Part,
    ) -> Result<CompletedPart, Failure> {
        let key = self.root.key(path);
        let (length, checksum) = (part.payload.len(), body::crc32c(&part.payload));
        let sent = checksum.clone();
        let answer = self
            .attempt(length, |client| async move {
                let request = client
                    .upload_part()
                    .bucket(self.name())
                    .key(key)
                    .upload_id(id)
                    .part_number(part.number)
                    .checksum_crc32_c(sent)
                    .content_length(i64::try_from(length).unwrap_or(i64::MAX))
                    .body(body::stream(&part.payload));
                Ok(request.send().await?)
            })
            .await?;
        let tag = answer
            .e_tag()
            .ok_or_else(|| Failure::incomplete("the tag of a part"))?;
        Ok(CompletedPart::builder()
            .part_number(part.number)
            .e_tag(tag)
            .checksum_crc32_c(checksum)
            .build())
    }

    /// Aborts an upload. A part that was on its way may arrive afterwards and stay, so it is aborted again until the
    /// store knows nothing of it.
    pub(super) async fn abort(&self, path: &ObjectPath, id: &str) -> Result<(), Failure> {
        for _ in 0..ABORTS {
            let key = self.root.key(path);
            let aborted = self
                .attempt(0, |client| async move {
                    let request = client
                        .abort_multipart_upload()
                        .bucket(self.name())
                        .key(key)
                        .upload_id(id);
                    request.send().await?;
                    Ok(())
                })
                .await;
            match aborted {
                Ok(()) => {}
                Err(failure) if is_gone(&failure) => return Ok(()),
                Err(failure) => return Err(failure),
            }
            if !self.remains(path, id).await? {
                return Ok(());
            }
        }
        Err(Failure::upload_remains())
    }

    async fn remains(&self, path: &ObjectPath, id: &str) -> Result<bool, Failure> {
        let key = self.root.key(path);
        let listed = self
            .attempt(0, |client| async move {
                let request = client
                    .list_parts()
                    .bucket(self.name())
                    .key(key)
                    .upload_id(id)
                    .max_parts(1);
                request.send().await?;
                Ok(true)
            })
            .await;
        match listed {
            // An answer that cannot be read is not the one that there is no such upload.
            Err(failure) if failure.kind() == StorageErrorKind::Other => Ok(true),
            Err(failure) if is_gone(&failure) => Ok(false),
            // Looking is a permission of its own, and the abort itself has been accepted.
            Err(failure) if failure.kind() == StorageErrorKind::PermissionDenied => Ok(false),
            listed => listed,
        }
    }
}

fn is_gone(failure: &Failure) -> bool {
    matches!(
        failure.kind(),
        StorageErrorKind::UploadClosed | StorageErrorKind::NotFound
    )
}

impl fmt::Debug for S3Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Upload")
            .field("path", &self.path)
            .field("phase", &self.phase)
            .field("id", &self.id)
            .field("stored", &self.stored.len())
            .field("in_flight", &self.in_flight.len())
            .field("waiting", &self.waiting.len())
            .field("collected", &self.collected.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for S3Upload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        if self.phase != Phase::Open {
            return Err(self.refuse(StorageErrorKind::UploadClosed, Operation::PutPart));
        }
        let room = if self.troubled {
            0
        } else {
            PARTS_IN_FLIGHT - 1
        };
        self.flush(room).await?;
        self.troubled = false;
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        if self.collected.len().saturating_add(length) >= part::size(self.filling) {
            self.id(Operation::PutPart).await?;
        }
        // From here on nothing fails: the part is taken.
        self.collected.push(part);
        while self.collected.len() >= part::size(self.filling) {
            self.cut(part::size(self.filling));
        }
        if let Some(id) = self.id.clone() {
            self.send(&id);
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        match self.phase {
            Phase::Open => {}
            Phase::Completed => {
                return Err(self.refuse(StorageErrorKind::AlreadyExists, Operation::Complete));
            }
            Phase::Closed => {
                return Err(self.refuse(StorageErrorKind::UploadClosed, Operation::Complete));
            }
        }
        if let Some(id) = self.id.clone() {
            if self.collected.len() > 0 {
                self.cut(u64::MAX);
            }
            self.flush(0).await?;
            self.troubled = false;
            self.assemble(&id).await?;
        } else {
            let whole = self.collected.cut(u64::MAX);
            let put = self
                .bucket
                .put(Operation::Complete, &self.path, &whole)
                .await;
            if put.is_err() {
                whole
                    .chunks()
                    .iter()
                    .cloned()
                    .for_each(|chunk| self.collected.push(chunk));
            }
            put?;
        }
        self.phase = Phase::Completed;
        Ok(())
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        if self.phase == Phase::Completed {
            return Ok(());
        }
        self.phase = Phase::Closed;
        self.collected = Collected::default();
        self.waiting.clear();
        // Until the last of them has ended.
        self.in_flight.shutdown().await;
        let Some(id) = self.id.clone() else {
            return Ok(());
        };
        let aborted = self.bucket.abort(&self.path, &id).await;
        aborted.map_err(|failure| self.error(failure, Operation::Abort))?;
        self.id = None;
        Ok(())
    }
}
