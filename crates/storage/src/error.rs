//! The one error of this crate.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What kind of failure a [`StorageError`] is, independent of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// There is no object at this path.
    NotFound,
    /// A create-only write found an object at this path.
    AlreadyExists,
    /// The store refuses this operation to these credentials or to this user.
    PermissionDenied,
    /// The path or URL cannot name an object or a store.
    InvalidPath,
    /// The byte range is empty, reversed, or begins at or beyond the end of the object.
    InvalidRange,
    /// The multipart upload was aborted, or was lost to an earlier error; it has to be started again.
    UploadClosed,
    /// The store is full or a quota is used up.
    NoSpace,
    /// The store did not answer in time. A write may have been done all the same.
    Timeout,
    /// The store is overloaded, restarting or out of reach. A write may have been done all the same.
    Unavailable,
    /// The store, or this build, cannot do this at all.
    Unsupported,
    /// Anything else; not proven permanent, so it counts as transient.
    Other,
}

impl StorageErrorKind {
    /// True unless the failure is proven permanent: the same call may succeed later although nobody changes the
    /// request or the configuration. A full store is transient, because space is freed without the help of the
    /// process that waits for it.
    pub fn is_transient(self) -> bool {
        match self {
            Self::NoSpace | Self::Timeout | Self::Unavailable | Self::Other => true,
            Self::NotFound
            | Self::AlreadyExists
            | Self::PermissionDenied
            | Self::InvalidPath
            | Self::InvalidRange
            | Self::UploadClosed
            | Self::Unsupported => false,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NotFound => "object not found",
            Self::AlreadyExists => "object already exists",
            Self::PermissionDenied => "permission denied",
            Self::InvalidPath => "invalid path",
            Self::InvalidRange => "invalid byte range",
            Self::UploadClosed => "multipart upload is closed",
            Self::NoSpace => "no space left in the store",
            Self::Timeout => "the store did not answer in time",
            Self::Unavailable => "the store is unavailable",
            Self::Unsupported => "not supported",
            Self::Other => "unexpected error of the store",
        }
    }

    fn remedy(self) -> Option<&'static str> {
        match self {
            Self::PermissionDenied => Some(
                "let the user or role of this process read, write, list and delete in the store",
            ),
            Self::NoSpace => {
                Some("free space or raise the quota; interrupted work can then be repeated")
            }
            Self::Unavailable | Self::Timeout => {
                Some("check that the store is running, mounted and reachable from this machine")
            }
            _ => None,
        }
    }
}

impl fmt::Display for StorageErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a store.
    Open,
    /// Parsing an [`ObjectPath`](crate::ObjectPath).
    ParsePath,
    /// [`Storage::put`](crate::Storage::put).
    Put,
    /// [`Storage::start_multipart`](crate::Storage::start_multipart).
    StartMultipart,
    /// [`MultipartUpload::put_part`](crate::MultipartUpload::put_part).
    PutPart,
    /// [`MultipartUpload::complete`](crate::MultipartUpload::complete).
    Complete,
    /// [`MultipartUpload::abort`](crate::MultipartUpload::abort).
    Abort,
    /// [`Storage::get_range`](crate::Storage::get_range).
    GetRange,
    /// [`Storage::head`](crate::Storage::head).
    Head,
    /// [`Storage::list`](crate::Storage::list).
    List,
    /// [`Storage::delete`](crate::Storage::delete).
    Delete,
    /// [`Storage::list_uploads`](crate::Storage::list_uploads).
    ListUploads,
    /// [`Storage::abort_upload`](crate::Storage::abort_upload).
    AbortUpload,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open store",
            Self::ParsePath => "parse path",
            Self::Put => "put",
            Self::StartMultipart => "start multipart upload of",
            Self::PutPart => "put part of",
            Self::Complete => "complete",
            Self::Abort => "abort",
            Self::GetRange => "get range of",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::ListUploads => "list open uploads below",
            Self::AbortUpload => "abort open upload of",
        })
    }
}

/// Failure of one operation on one object or on a whole store.
///
/// The message names operation and object; the cause is in [`source`](Error::source) and is not repeated. No field
/// carries credentials or contents of objects; a backend keeps them out of what it puts in.
pub struct StorageError {
    inner: Box<Inner>,
}

struct Inner {
    kind: StorageErrorKind,
    operation: Operation,
    path: String,
    detail: Option<Cow<'static, str>>,
    remedy: Option<&'static str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StorageError {
    /// An error of `operation` on `path`: an object's path, or the root of the store where the operation has none.
    pub fn new(kind: StorageErrorKind, operation: Operation, path: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                operation,
                path: path.into(),
                detail: None,
                remedy: None,
                retry_after: None,
                source: None,
            }),
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Says more precisely what is wrong, in place of the general words of the kind.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.inner.detail = Some(detail.into());
        self
    }

    /// Says what the operator can do, in place of the general advice of the kind.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &'static str) -> Self {
        self.inner.remedy = Some(remedy);
        self
    }

    /// Adds how long the store asked to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.inner.retry_after = Some(delay);
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> StorageErrorKind {
        self.inner.kind
    }

    /// The operation that failed.
    pub fn operation(&self) -> Operation {
        self.inner.operation
    }

    /// The object's path, or the root of the store where the operation has no object.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// True unless the failure is proven permanent; see [`StorageErrorKind::is_transient`].
    pub fn is_transient(&self) -> bool {
        self.inner.kind.is_transient()
    }

    /// How long the store asked to be left alone before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// What the operator can do about it, as a short imperative sentence.
    pub fn remedy(&self) -> Option<&'static str> {
        self.inner.remedy.or_else(|| self.inner.kind.remedy())
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            operation,
            path,
            kind,
            detail,
            ..
        } = &*self.inner;
        match detail {
            Some(detail) => write!(f, "{operation} '{path}': {detail}"),
            None => write!(f, "{operation} '{path}': {kind}"),
        }
    }
}

impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        f.debug_struct("StorageError")
            .field("kind", &inner.kind)
            .field("operation", &inner.operation)
            .field("path", &inner.path)
            .field("detail", &inner.detail)
            .field("retry_after", &inner.retry_after)
            .field("source", &inner.source)
            .finish()
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_operation_and_object_and_leaves_the_cause_to_source() {
        let error = StorageError::new(
            StorageErrorKind::NoSpace,
            Operation::Put,
            "main/t/x.parquet",
        )
        .with_source(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(
            error.to_string(),
            "put 'main/t/x.parquet': no space left in the store"
        );
        assert_eq!(error.source().unwrap().to_string(), "no storage space");
        assert!(error.remedy().unwrap().contains("free space"));
    }

    #[test]
    fn detail_and_remedy_replace_the_general_words() {
        let error = StorageError::new(StorageErrorKind::Unavailable, Operation::Open, "/x/")
            .with_detail("the root directory is gone")
            .with_remedy("mount it");
        assert_eq!(
            error.to_string(),
            "open store '/x/': the root directory is gone"
        );
        assert_eq!(error.remedy(), Some("mount it"));
    }

    #[test]
    fn only_proven_failures_are_permanent() {
        use StorageErrorKind as K;
        for kind in [K::NoSpace, K::Timeout, K::Unavailable, K::Other] {
            assert!(kind.is_transient(), "{kind:?}");
        }
        for kind in [
            K::NotFound,
            K::AlreadyExists,
            K::PermissionDenied,
            K::InvalidPath,
            K::InvalidRange,
            K::UploadClosed,
            K::Unsupported,
        ] {
            assert!(!kind.is_transient(), "{kind:?}");
        }
    }

    #[test]
    fn error_is_one_pointer_wide() {
        assert_eq!(size_of::<StorageError>(), size_of::<usize>());
    }
}
