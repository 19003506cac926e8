//! Contents of objects in one go, by the vendor's client: a put, and the bytes of a range.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::Error;
use google_cloud_storage::error::WriteError;
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_resume_policy::NeverResume;
use google_cloud_storage::streaming_source::{SizeHint, StreamingSource};

use super::client::{Client, time_limit};
use super::error::Subject;
use super::json;
use crate::bucket::BucketRoot;
use crate::{PutPayload, StorageError, StorageErrorKind};

/// Creates an object in one request. Its CRC32C goes with it, for the store to check, and is compared with the one
/// that the store answers.
pub(super) async fn put(
    client: &Client,
    subject: Subject<'_>,
    root: &BucketRoot,
    key: &str,
    payload: &PutPayload,
) -> Result<(), StorageError> {
    let limit = time_limit(payload.len());
    let outcome = once_more_if_unauthorized(|| async {
        let chunks = Chunks {
            size: payload.len(),
            left: payload.chunks().iter().cloned().collect(),
        };
        let sent = async {
            let write = client
                .sdk(subject)
                .await?
                .write_object(bucket_name(root), key, chunks)
                .set_if_generation_match(0_i64)
                .with_retry_policy(NeverRetry)
                .with_resumable_upload_threshold(usize::MAX)
                .send_buffered();
            // The client's future takes tens of kilobytes.
            Ok(Box::pin(write).await.map(drop))
        };
        within(subject, limit, sent).await?
    })
    .await?;
    let Err(error) = outcome else {
        return Ok(());
    };
    let source = std::error::Error::source(&error);
    if let Some(WriteError::ChecksumMismatch { object, .. }) =
        source.and_then(|source| source.downcast_ref())
    {
        let generation = object.generation.to_string();
        return Err(json::discard(client, subject, root, key, &generation).await);
    }
    Err(subject.client(error))
}

/// The bytes of `range`, or up to the end of the object. Stored bytes, even where they are compressed.
pub(super) async fn get_range(
    client: &Client,
    subject: Subject<'_>,
    root: &BucketRoot,
    key: &str,
    range: Range<u64>,
) -> Result<Bytes, StorageError> {
    let invalid = |what: &str| {
        subject
            .error(StorageErrorKind::InvalidRange)
            .with_detail(format!(
                "the byte range {}..{} {what}",
                range.start, range.end
            ))
    };
    let length = range.end.saturating_sub(range.start);
    if length == 0 {
        return Err(invalid("is empty"));
    }
    if i64::try_from(range.start).is_err() {
        // No object is so long, and the client could not ask for it.
        return Err(invalid("begins beyond the end of every object"));
    }
    let requested = if i64::try_from(range.end).is_ok() {
        ReadRange::segment(range.start, length)
    } else {
        ReadRange::offset(range.start)
    };
    let bytes = once_more_if_unauthorized(|| async {
        let began = Instant::now();
        let sent = async {
            Ok(client
                .sdk(subject)
                .await?
                .read_object(bucket_name(root), key)
                .set_read_range(requested.clone())
                .with_retry_policy(NeverRetry)
                .with_read_resume_policy(NeverResume)
                .send()
                .await)
        };
        let mut response = match within(subject, time_limit(0), Box::pin(sent)).await?? {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        let size = u64::try_from(response.object().size).unwrap_or(0);
        let expected = size.min(range.end).saturating_sub(range.start);
        let mut bytes = BytesMut::new();
        loop {
            // The time grows with what has come, as the length may not be known before.
            let limit = time_limit(widen(bytes.len()));
            let left = limit
                .saturating_sub(began.elapsed())
                .max(Duration::from_millis(1));
            match within(subject, left, response.next()).await? {
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                Some(Err(error)) => return Ok(Err(error)),
                None if size == 0 || widen(bytes.len()) == expected => {
                    return Ok(Ok(bytes.freeze()));
                }
                None => return Err(subject.unexpected(OTHER_RANGE)),
            }
            if widen(bytes.len()) > length {
                return Err(subject.unexpected(OTHER_RANGE));
            }
        }
    })
    .await?
    .map_err(|error| {
        let error = subject.client(error);
        if error.kind() == StorageErrorKind::InvalidRange {
            invalid("begins at or beyond the end of the object")
        } else {
            error
        }
    })?;
    if bytes.is_empty() {
        return Err(invalid("begins at the end of an empty object"));
    }
    Ok(bytes)
}

/// A payload as the client wants it.
struct Chunks {
    size: u64,
    left: VecDeque<Bytes>,
}

impl StreamingSource for Chunks {
    type Error = Infallible;

    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        self.left.pop_front().map(Ok)
    }

    async fn size_hint(&self) -> Result<SizeHint, Infallible> {
        Ok(SizeHint::with_exact(self.size))
    }
}

const OTHER_RANGE: &str = "the store sent another range than was asked for";

fn widen(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn bucket_name(root: &BucketRoot) -> String {
    format!("projects/_/buckets/{}", root.bucket())
}

async fn within<T>(
    subject: Subject<'_>,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, StorageError> {
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| subject.timed_out(limit))
}

/// As [`Client::send`] does: the token may have expired on its way.
async fn once_more_if_unauthorized<T, F>(
    request: impl Fn() -> F,
) -> Result<Result<T, Error>, StorageError>
where
    F: Future<Output = Result<Result<T, Error>, StorageError>>,
{
    match request().await? {
        Err(error) if error.http_status_code() == Some(401) => request().await,
        outcome => Ok(outcome),
    }
}
