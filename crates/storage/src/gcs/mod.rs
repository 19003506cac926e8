//! Objects in a bucket of Google Cloud Storage.

mod client;
mod contents;
mod credentials;
mod error;
mod json;
mod session;
mod upload;
mod window;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use self::client::Client;
use self::error::Subject;
use self::json::Object;
use self::upload::GcsUpload;
use crate::bucket::BucketRoot;
use crate::{
    GcsOptions, ListPage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation,
    PageToken, PutPayload, Storage, StorageError, StorageErrorKind, UploadPage,
};

/// Deletions on their way at the same time. The store has no request that deletes many objects.
const PARALLEL_DELETIONS: usize = 16;

/// A store in a bucket of Google Cloud Storage. Cheap to clone.
///
/// Objects are created under the precondition that there is none (`ifGenerationMatch=0`), which the store itself
/// decides, and with their CRC32C. An upload in parts is a resumable upload: one request after the other, of 8 MiB,
/// with the next piece being filled meanwhile. No operation is repeated here, apart from one whose token was refused;
/// [`RetryStorage`](crate::RetryStorage) does that. An attempt may take 30 s and what 100 KiB/s need.
///
/// The store cannot list uploads that nobody ended: [`list_uploads`](Storage::list_uploads) finds none. It forgets
/// them by itself after a week, and does not bill them.
///
/// A process needs the permissions `storage.objects.create`, `.get`, `.list` and `.delete`.
#[derive(Debug, Clone)]
pub struct GcsStorage {
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    root: BucketRoot,
    client: Client,
}

impl GcsStorage {
    /// Opens the store without asking it anything. Credentials are loaded when they are first needed; if that fails,
    /// it is tried again by the next operation.
    ///
    /// # Errors
    /// [`InvalidPath`](StorageErrorKind::InvalidPath) for an endpoint that is no URL of a server.
    pub(crate) fn open(root: BucketRoot, options: &GcsOptions) -> Result<Self, StorageError> {
        let client = Client::new(root.url(), options)?;
        Ok(Self {
            bucket: Arc::new(Bucket { root, client }),
        })
    }
}

fn meta(
    subject: Subject<'_>,
    path: ObjectPath,
    object: &Object,
) -> Result<ObjectMeta, StorageError> {
    match (object.size(), object.written()) {
        (Some(size), Some(last_modified)) => Ok(ObjectMeta {
            path,
            size,
            last_modified,
        }),
        _ => Err(subject.unexpected("the store gives an object no size or time")),
    }
}

impl fmt::Display for GcsStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {}", self.bucket.root.url())?;
        match self.bucket.client.endpoint() {
            Some(endpoint) => write!(f, " (at {endpoint})"),
            None => Ok(()),
        }
    }
}

fn subject(operation: Operation, path: &ObjectPath) -> Subject<'_> {
    Subject {
        operation,
        path: path.as_str(),
    }
}

#[async_trait]
impl Storage for GcsStorage {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        let Bucket { client, root } = &*self.bucket;
        let subject = subject(Operation::Put, path);
        contents::put(client, subject, root, &root.key(path), &payload).await
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        let upload = GcsUpload::start(Arc::clone(&self.bucket), path.clone()).await?;
        Ok(Box::new(upload))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        let Bucket { client, root } = &*self.bucket;
        let subject = subject(Operation::GetRange, path);
        contents::get_range(client, subject, root, &root.key(path), range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        let Bucket { client, root } = &*self.bucket;
        let subject = subject(Operation::Head, path);
        let object = json::get(client, subject, root, &root.key(path)).await?;
        meta(subject, path.clone(), &object)
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let Bucket { client, root } = &*self.bucket;
        let url = root.url();
        let subject = Subject {
            operation: Operation::List,
            path: prefix.map_or(&url, ObjectPath::as_str),
        };
        let token = token.map(PageToken::as_str);
        let page = json::list(client, subject, root, &root.key_prefix(prefix), token).await?;
        let objects = page
            .items
            .iter()
            .filter_map(|object| Some((root.path(&object.name)?, object)))
            .map(|(path, object)| meta(subject, path, object));
        Ok(ListPage {
            objects: objects.collect::<Result<_, _>>()?,
            next: page.next_page_token.map(PageToken::new),
        })
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let Bucket { client, root } = &*self.bucket;
        let subject = subject(Operation::Delete, path);
        match json::delete(client, subject, root, &root.key(path), None).await {
            Err(error) if error.kind() == StorageErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        stream::iter(paths.to_vec())
            .map(|path| async move { self.delete(&path).await })
            .buffered(PARALLEL_DELETIONS)
            .collect()
            .await
    }

    /// Always an empty page: the store does not tell.
    async fn list_uploads(
        &self,
        _prefix: Option<&ObjectPath>,
        _token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        Ok(UploadPage::default())
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        Err(subject(Operation::AbortUpload, &upload.path)
            .error(StorageErrorKind::Unsupported)
            .with_detail("the store lists no open uploads, so none can be named"))
    }

    fn url(&self) -> String {
        self.bucket.root.url()
    }
}
