//! Objects in a bucket of Amazon S3, or of a store that speaks its protocol.
//!
//! One attempt per call: the SDK's own repetitions are off, because [`RetryStorage`](crate::RetryStorage) is the one
//! place that repeats.

mod body;
mod connection;
mod delete;
mod error;
mod list;
mod part;
mod quiet;
mod upload;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::DateTime;
use bytes::Bytes;

use self::connection::Connection;
use self::error::Failure;
use self::upload::S3Upload;
use crate::bucket::BucketRoot;
use crate::{
    CreateOnly, ListPage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation,
    PageToken, PutPayload, S3Options, Storage, StorageError, StorageErrorKind, UploadPage,
};

/// A store in a bucket of Amazon S3, or of a store that speaks its protocol. Cheap to clone.
///
/// Every object and every part carries its CRC32C in a header, which the store compares with what arrived.
///
/// Conditional writes, which keep an object from being replaced, need a store that knows `If-None-Match: *` for
/// `PutObject` and `CompleteMultipartUpload`; [`CreateOnly::Head`] is for those that do not.
#[derive(Clone)]
pub struct S3Storage {
    bucket: Arc<Bucket>,
}

impl S3Storage {
    /// Opens what `url` names, `s3://bucket/prefix`, with another limit of time than [`open`](crate::open) sets: one
    /// attempt may take `attempt_timeout` (30 s there), and 1 s more for each 100 KiB that it transfers.
    ///
    /// # Errors
    /// [`InvalidPath`](StorageErrorKind::InvalidPath) if `url` is no such URL or the options contradict each other.
    /// The store is not asked.
    pub fn with_attempt_timeout(
        url: &str,
        options: &S3Options,
        attempt_timeout: Duration,
    ) -> Result<Self, StorageError> {
        let rest = url.strip_prefix("s3://").ok_or_else(|| {
            let shown = crate::factory::shown(url);
            StorageError::new(StorageErrorKind::InvalidPath, Operation::Open, shown)
                .with_detail("the URL of a bucket begins with s3://")
        })?;
        Self::connect(BucketRoot::parse("s3", rest)?, options, attempt_timeout)
    }

    /// Checks the options; the store is asked at the first operation only, and so are the files, variables and
    /// services from which region and credentials come.
    pub(crate) fn open(root: BucketRoot, options: &S3Options) -> Result<Self, StorageError> {
        Self::connect(root, options, connection::ATTEMPT)
    }

    fn connect(
        root: BucketRoot,
        options: &S3Options,
        attempt_timeout: Duration,
    ) -> Result<Self, StorageError> {
        let connection = Connection::new(options, attempt_timeout).map_err(|failure| {
            failure.into_error(Operation::Open, &root.url(), root.bucket(), false)
        })?;
        let bucket = Bucket {
            root,
            connection,
            create_only: options.create_only,
        };
        Ok(Self {
            bucket: Arc::new(bucket),
        })
    }
}

/// The bucket and the way there.
struct Bucket {
    root: BucketRoot,
    connection: Connection,
    create_only: CreateOnly,
}

impl Bucket {
    fn name(&self) -> &str {
        self.root.bucket()
    }

    /// Sends one request that carries `bytes` of contents, within the time that such a request may take.
    async fn attempt<T, F>(
        &self,
        bytes: u64,
        send: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        self.attempt_within(self.connection.limit(bytes), send)
            .await
    }

    async fn attempt_within<T, F>(
        &self,
        limit: Duration,
        send: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        within(limit, async {
            let (client, generation) = self.connection.client().await?;
            // The futures of the SDK are large.
            let result = Box::pin(send(client)).await;
            if result.as_ref().is_err_and(Failure::doubts_credentials) {
                self.connection.forget(generation).await;
            }
            result
        })
        .await
    }

    fn error(&self, failure: Failure, operation: Operation, path: &str) -> StorageError {
        let renewed = self.connection.renews_credentials();
        failure.into_error(operation, path, self.name(), renewed)
    }

    /// Creates an object whose contents fit into one request.
    async fn put(
        &self,
        operation: Operation,
        path: &ObjectPath,
        payload: &PutPayload,
    ) -> Result<(), StorageError> {
        let key = self.root.key(path);
        let condition = self.condition(operation, path).await?;
        let length = payload.len();
        self.attempt(length, |client| async move {
            let request = client
                .put_object()
                .bucket(self.name())
                .key(key)
                .set_if_none_match(condition)
                .checksum_crc32_c(body::crc32c(payload))
                .content_length(i64::try_from(length).unwrap_or(i64::MAX))
                .body(body::stream(payload));
            request.send().await?;
            Ok(())
        })
        .await
        .map_err(|failure| self.error(failure, operation, path.as_str()))
    }

    /// What a write has to carry so that it replaces nothing; looks itself where the store cannot.
    async fn condition(
        &self,
        operation: Operation,
        path: &ObjectPath,
    ) -> Result<Option<String>, StorageError> {
        match self.create_only {
            CreateOnly::Conditional => Ok(Some("*".to_owned())),
            CreateOnly::Head => match self.find(path).await {
                Ok(None) => Ok(None),
                Ok(Some(_)) => {
                    let kind = StorageErrorKind::AlreadyExists;
                    Err(StorageError::new(kind, operation, path.as_str()))
                }
                Err(failure) => Err(self.error(failure, operation, path.as_str())),
            },
        }
    }

    /// What the store knows about an object, `None` if it is not there.
    async fn find(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>, Failure> {
        let key = self.root.key(path);
        let head = self
            .attempt(0, |client| async move {
                let request = client.head_object().bucket(self.name()).key(key);
                Ok(request.send().await?)
            })
            .await;
        match head {
            Ok(head) => meta(path.clone(), head.content_length(), head.last_modified()).map(Some),
            Err(failure) if failure.kind() == StorageErrorKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, Failure> {
        let key = self.root.key(path);
        let from = range.start;
        // Numbers that do not fit into 63 bits make some stores ignore the header.
        let header = match i64::try_from(range.end) {
            Ok(end) => format!("bytes={from}-{}", end.saturating_sub(1)),
            Err(_) => format!("bytes={from}-"),
        };
        let answer = self
            .attempt(0, |client| async move {
                let request = client
                    .get_object()
                    .bucket(self.name())
                    .key(key)
                    .range(header);
                Ok(request.send().await?)
            })
            .await?;
        let length = answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok())
            .ok_or_else(|| Failure::incomplete("the length of an object"))?;
        let begins = format!("bytes {from}-");
        let ranged = answer
            .content_range()
            .is_some_and(|range| range.starts_with(&begins));
        if length > range.end - from || !(ranged || from == 0) {
            return Err(Failure::range_ignored());
        }
        let body = within(self.connection.limit(length), async {
            Ok(answer.body.collect().await?.into_bytes())
        });
        let bytes = body.await?;
        if bytes.is_empty() {
            return Err(Failure::invalid_range());
        }
        Ok(bytes)
    }
}

/// Bounds one attempt in time.
async fn within<T>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(limit)))
}

fn meta(
    path: ObjectPath,
    size: Option<i64>,
    last_modified: Option<&DateTime>,
) -> Result<ObjectMeta, Failure> {
    let size = size
        .and_then(|size| u64::try_from(size).ok())
        .ok_or_else(|| Failure::incomplete("the size of an object"))?;
    Ok(ObjectMeta {
        path,
        size,
        last_modified: time(last_modified)?,
    })
}

/// In whole seconds, which is all that the headers of an object can tell, so that listings say the same.
fn time(time: Option<&DateTime>) -> Result<SystemTime, Failure> {
    time.and_then(|time| u64::try_from(time.secs()).ok())
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
        .ok_or_else(|| Failure::incomplete("the time of an object"))
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Storage")
            .field("url", &self.bucket.root.url())
            .field("connection", &self.bucket.connection)
            .field("create_only", &self.bucket.create_only)
            .finish()
    }
}

impl fmt::Display for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {}", self.bucket.root.url())?;
        match self.bucket.connection.endpoint() {
            Some(endpoint) => write!(f, " (at {endpoint})"),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Storage for S3Storage {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        self.bucket.put(Operation::Put, path, &payload).await
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        let bucket = Arc::clone(&self.bucket);
        Ok(Box::new(S3Upload::new(bucket, path.clone())))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        let result = if range.is_empty() {
            Err(Failure::invalid_range())
        } else {
            self.bucket.get_range(path, range).await
        };
        result.map_err(|failure| {
            self.bucket
                .error(failure, Operation::GetRange, path.as_str())
        })
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        match self.bucket.find(path).await {
            Ok(Some(meta)) => Ok(meta),
            Ok(None) => {
                let kind = StorageErrorKind::NotFound;
                Err(StorageError::new(kind, Operation::Head, path.as_str()))
            }
            Err(failure) => Err(self.bucket.error(failure, Operation::Head, path.as_str())),
        }
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        self.bucket.list(prefix, token).await.map_err(|failure| {
            let shown = self.bucket.shown(prefix);
            self.bucket.error(failure, Operation::List, &shown)
        })
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let result = self.bucket.delete(path).await;
        result.map_err(|failure| self.bucket.error(failure, Operation::Delete, path.as_str()))
    }

    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        self.bucket.delete_all(paths).await
    }

    async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        let page = self.bucket.list_uploads(prefix, token).await;
        page.map_err(|failure| {
            let shown = self.bucket.shown(prefix);
            self.bucket.error(failure, Operation::ListUploads, &shown)
        })
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        let path = &upload.path;
        let aborted = self.bucket.abort(path, &upload.id).await;
        aborted.map_err(|failure| {
            self.bucket
                .error(failure, Operation::AbortUpload, path.as_str())
        })
    }

    fn url(&self) -> String {
        self.bucket.root.url()
    }
}
