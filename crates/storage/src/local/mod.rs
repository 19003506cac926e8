//! Objects as files below a directory.

mod error;
mod list;
mod root;
mod temp;
mod upload;

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;

use self::error::io_error;
use self::list::Files;
use self::root::Root;
use self::temp::TempFile;
use self::upload::LocalUpload;
use crate::{
    ListPage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation, PageToken,
    PutPayload, Storage, StorageError, StorageErrorKind, UploadPage,
};

/// Each page reads the directories on its way again, so pages are larger than those of the object stores.
const PAGE_SIZE: usize = 10_000;

/// A store on a local (or mounted) file system. Cheap to clone.
///
/// An object is written to a temporary file beside its place, `.<uuid>.tmp`, synced, and then linked to its name,
/// which fails if the name is taken; file and directories are on disk when the call returns. A process that is
/// killed can leave a temporary file, which no reader mistakes for an object;
/// [`list_uploads`](Storage::list_uploads) finds it.
///
/// Files are made with mode 0644 and directories with 0755, whatever the umask, because DuckDB may run as another
/// user; to keep others out, narrow the mode of the root. Names differ from those of object stores in two points:
/// a segment has at most 255 bytes, and `a` and `a/b` cannot both be objects
/// ([`InvalidPath`](StorageErrorKind::InvalidPath)). Symbolic links below the root are not followed. Deletions leave
/// empty directories in place.
///
/// File operations run on the blocking pool of the tokio runtime.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    root: Root,
}

impl LocalStorage {
    /// Opens the store in `root`, which is made if it is missing, and checks that it can be written. Blocks for the
    /// few file operations that this takes.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        Root::open(root).map(|root| Self { root })
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        path: &ObjectPath,
        work: impl FnOnce(&Root, &ObjectPath) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (root, owned) = (self.root.clone(), path.clone());
        blocking(operation, path.as_str(), move || work(&root, &owned)).await
    }
}

/// Runs `work` where it may block. It runs to its end even if the future is dropped.
async fn blocking<T: Send + 'static>(
    operation: Operation,
    path: &str,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|stopped| {
            Err(StorageError::new(StorageErrorKind::Other, operation, path).with_source(stopped))
        })
}

impl fmt::Display for LocalStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.root.url())
    }
}

#[async_trait]
impl Storage for LocalStorage {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        self.run(Operation::Put, path, move |root, path| {
            let failed = |error| io_error(Operation::Put, path.as_str(), error);
            let target = root.prepare(Operation::Put, path)?;
            let mut temp = TempFile::create(&target.directory).map_err(failed)?;
            for chunk in payload.chunks() {
                temp.append(chunk).map_err(failed)?;
            }
            target.publish(Operation::Put, path, temp)
        })
        .await
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        let (target, temp) = self
            .run(Operation::StartMultipart, path, |root, path| {
                let target = root.prepare(Operation::StartMultipart, path)?;
                let temp = TempFile::create(&target.directory)
                    .map_err(|error| io_error(Operation::StartMultipart, path.as_str(), error))?;
                Ok((target, temp))
            })
            .await?;
        Ok(Box::new(LocalUpload::new(target, path.clone(), temp)))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.run(Operation::GetRange, path, move |root, path| {
            read(root, path, range)
        })
        .await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        self.run(Operation::Head, path, |root, path| {
            let (_, metadata) = root.existing(Operation::Head, path)?;
            let last_modified = metadata
                .modified()
                .map_err(|error| io_error(Operation::Head, path.as_str(), error))?;
            Ok(ObjectMeta {
                path: path.clone(),
                size: metadata.len(),
                last_modified,
            })
        })
        .await
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let shown = prefix.map_or(self.root.url(), ObjectPath::as_str);
        let (root, prefix, token) = (self.root.clone(), prefix.cloned(), token.cloned());
        blocking(Operation::List, shown, move || {
            list::list_page(
                &root,
                Files::Objects,
                prefix.as_ref(),
                token.as_ref(),
                PAGE_SIZE,
            )
        })
        .await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        self.run(Operation::Delete, path, Root::remove).await
    }

    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        let mut results = Vec::with_capacity(paths.len());
        for path in paths {
            results.push(self.delete(path).await);
        }
        results
    }

    /// The temporary files, by the time of their last write.
    async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        let shown = prefix.map_or(self.root.url(), ObjectPath::as_str);
        let (root, prefix, token) = (self.root.clone(), prefix.cloned(), token.cloned());
        let page = blocking(Operation::ListUploads, shown, move || {
            list::list_page(
                &root,
                Files::Temporary,
                prefix.as_ref(),
                token.as_ref(),
                PAGE_SIZE,
            )
        })
        .await?;
        let uploads = page.objects.into_iter().map(|file| OpenUpload {
            path: file.path,
            id: String::new(),
            started: file.last_modified,
        });
        Ok(UploadPage {
            uploads: uploads.collect(),
            next: page.next,
        })
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        self.run(Operation::AbortUpload, &upload.path, Root::remove_temporary)
            .await
    }

    fn url(&self) -> String {
        self.root.url().to_owned()
    }
}

fn read(root: &Root, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
    let failed = |error| io_error(Operation::GetRange, path.as_str(), error);
    let invalid = |detail: String| {
        StorageError::new(
            StorageErrorKind::InvalidRange,
            Operation::GetRange,
            path.as_str(),
        )
        .with_detail(detail)
    };
    if range.is_empty() {
        return Err(invalid(format!(
            "the byte range {}..{} is empty",
            range.start, range.end
        )));
    }
    let (file, metadata) = root.existing(Operation::GetRange, path)?;
    let size = metadata.len();
    if range.start >= size {
        return Err(invalid(format!(
            "the byte range {}..{} begins beyond the end of {size} bytes",
            range.start, range.end
        )));
    }
    let length = range.end.min(size).saturating_sub(range.start);
    let length = usize::try_from(length)
        .map_err(|_| invalid(format!("a range of {length} bytes does not fit in memory")))?;
    let file = File::open(file).map_err(failed)?;
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, range.start)
        .map_err(failed)?;
    Ok(buffer.into())
}
