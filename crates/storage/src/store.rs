//! The two traits of a backend, with their contract.

use std::fmt::{Debug, Display};
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ObjectPath, PutPayload, StorageError};

/// A place for immutable objects: a directory, a bucket, or anything that keeps the contract below. Implement it for
/// a store of your own, and run the suite of `storage::testing` on it (feature `testing`).
///
/// # Contract
///
/// **Atomic.** An object is visible whole or not at all. At no time, not even after a crash of the process or the
/// machine, does a reader see a part of one, be it by [`head`](Self::head), [`get_range`](Self::get_range),
/// [`list`](Self::list) or outside of this trait.
///
/// **Create-only.** [`put`](Self::put) and [`MultipartUpload::complete`] never replace an object: if there is one,
/// they leave it as it is and fail with [`AlreadyExists`](crate::StorageErrorKind::AlreadyExists). Of any number of
/// concurrent writers of one path, in any number of processes, exactly one succeeds. There is no operation that
/// changes an object.
///
/// **Durable and readable.** When `put` or `complete` has returned `Ok`, the object survives a crash, and every
/// `head`, `get_range` and `list` that begins afterwards sees it. When [`delete`](Self::delete) has returned `Ok`,
/// none of them does.
///
/// **Ordering.** Operations on different paths are not ordered among one another, except by waiting for the first
/// before starting the second.
///
/// **After an error.** A permanent error of a write (see [`StorageError::is_transient`]) means that it was not done.
/// After a transient one it may have been done, may still be done later, or not: the outcome is unknown. Whoever
/// repeats such a write meets its own object as `AlreadyExists`; [`RetryStorage`](crate::RetryStorage) resolves that.
/// The simplest way out for a caller is to write again under a new, unique path and to leave the first to a cleanup.
///
/// **Cancellation.** Every future may be dropped at any point. For a write that is the same as a transient error:
/// the outcome is unknown, the object is absent or whole, and it may still appear after the future is gone. No
/// operation leaves the store itself unusable when dropped.
///
/// **Time.** A backend over a network bounds every attempt in time and reports
/// [`Timeout`](crate::StorageErrorKind::Timeout); no operation waits for ever.
///
/// # Layers
///
/// A type that wraps another `Storage` implements every method by hand, under
/// `#[deny(clippy::missing_trait_methods)]`, so that a method that is added later cannot bypass it. `Display` names
/// the store for people, without credentials.
#[async_trait]
pub trait Storage: Debug + Display + Send + Sync + 'static {
    /// Creates the object `path` with `payload` as its contents, which may be empty. Atomic, create-only, durable.
    ///
    /// Meant for contents that are in memory anyway; longer ones go through [`start_multipart`](Self::start_multipart).
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError>;

    /// Begins an upload in parts. Nothing is visible at `path` before [`MultipartUpload::complete`].
    ///
    /// Whether an object exists at `path` already may be noticed here, and is noticed in `complete` for certain.
    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError>;

    /// The bytes of `range`, counted from 0. An end beyond the object's is taken as the object's end, so the answer
    /// may be shorter than the range, but is never empty.
    ///
    /// # Errors
    /// [`InvalidRange`](crate::StorageErrorKind::InvalidRange) if the range is empty or begins at or beyond the end
    /// of the object (so for every range of an empty object);
    /// [`NotFound`](crate::StorageErrorKind::NotFound) if there is no object.
    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// Size and time of an object.
    ///
    /// # Errors
    /// [`NotFound`](crate::StorageErrorKind::NotFound) if there is no object; a directory is none.
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError>;

    /// One page of the objects whose path lies below `prefix` ([`ObjectPath::is_below`]), at any depth; of all
    /// objects without one. `a/b` covers `a/b/c`, but neither `a/bc` nor an object named `a/b`. A prefix below which
    /// nothing lies is no error.
    ///
    /// The first page is asked for without a token, each further one with the `next` of the page before it, until
    /// that is `None`. Pages are bounded, may be empty, and come in no particular order. An object that exists during
    /// the whole listing is reported exactly once; one that is created or deleted meanwhile may be reported.
    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError>;

    /// Deletes an object. Deleting what is not there is `Ok`, so a deletion can be repeated.
    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError>;

    /// Deletes many objects, with as few requests as the store allows. One result for each path, in the order of
    /// `paths`, as [`delete`](Self::delete) would give it; what one of them meets does not keep the others.
    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>>;

    /// One page of the uploads in parts that were begun below `prefix` and neither completed nor aborted, those of
    /// this process and those of others, alive or dead. Pages as in [`list`](Self::list). A store that forgets such
    /// uploads by itself, and cannot list them, answers with an empty page.
    async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError>;

    /// Aborts an upload that [`list_uploads`](Self::list_uploads) found and frees what it occupies. Its owner, if it
    /// is alive, fails with a permanent error; so this is for uploads that are older than any that goes on. Aborting
    /// what is not there is `Ok`, so it can be repeated.
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError>;

    /// The root with a trailing `/`, as DuckLake stores it in `data_path`: an absolute directory such as `/srv/lake/`
    /// for a local store, a URL such as `s3://bucket/prefix/` otherwise. Followed by an [`ObjectPath`] it is what
    /// DuckDB opens. Never contains credentials.
    fn url(&self) -> String;
}

/// An upload in progress. The object becomes visible by [`complete`](Self::complete), and only then.
///
/// `put_part` and `complete` are not cancel safe: after one of their futures was dropped, only [`abort`](Self::abort)
/// is allowed. An upload that is dropped without `abort` leaves no object, but a remote store may keep (and bill) its
/// parts until a cleanup removes them, as after a crash.
#[async_trait]
pub trait MultipartUpload: Debug + Send {
    /// Appends `part`, of any size including zero. The backend collects parts up to the smallest size its store
    /// takes, and bounds how many are on their way: the call waits when there are too many.
    ///
    /// # Errors
    /// After a transient error nothing of `part` was taken, and the same call may be repeated; parts taken earlier
    /// are still held or stored. After a permanent error only `abort` is useful.
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError>;

    /// Makes the object visible, with all parts in the order of their calls; without parts it is empty. Atomic,
    /// create-only, durable.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::StorageErrorKind::AlreadyExists) if there is an object at the path by now. After a
    /// transient error the outcome is unknown and the call may be repeated; if the object had been made, the
    /// repeated call is `Ok` or `AlreadyExists`. [`UploadClosed`](crate::StorageErrorKind::UploadClosed) if the upload
    /// was lost to an earlier error or aborted, and has to be started again.
    async fn complete(&mut self) -> Result<(), StorageError>;

    /// Gives the upload up and frees what it occupies. May be called in every state and repeated; after a successful
    /// `complete` it does nothing, in particular it does not remove the object.
    async fn abort(&mut self) -> Result<(), StorageError>;
}

/// What a store knows about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Path below the root of the store.
    pub path: ObjectPath,
    /// Length in bytes.
    pub size: u64,
    /// When the object was written, by the clock of the store; for an upload in parts this may be any time between
    /// start and completion.
    pub last_modified: SystemTime,
}

/// A page of [`Storage::list`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The objects of this page, at most a few thousand.
    pub objects: Vec<ObjectMeta>,
    /// The token of the next page; `None` on the last.
    pub next: Option<PageToken>,
}

/// An upload in parts that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The object that it would become; where the store does not know that, as a file system does not, the place
    /// that its parts occupy.
    pub path: ObjectPath,
    /// What the store calls it; of meaning to the store only.
    pub id: String,
    /// When it was begun or was last written to, by the clock of the store.
    pub started: SystemTime,
}

/// A page of [`Storage::list_uploads`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// The uploads of this page, at most a few thousand.
    pub uploads: Vec<OpenUpload>,
    /// The token of the next page; `None` on the last.
    pub next: Option<PageToken>,
}

/// Where a listing goes on. Opaque: only the store that returned it can read it, and only for the same prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(String);

impl PageToken {
    /// Wraps a backend's own marker.
    pub fn new(marker: impl Into<String>) -> Self {
        Self(marker.into())
    }

    /// The marker, for the backend that made it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
