//! The conformance suite itself: each check fails on a store that breaks what it checks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use storage::testing::conformance::*;
use storage::{
    ListPage, LocalStorage, MultipartUpload, ObjectMeta, ObjectPath, OpenUpload, Operation,
    PageToken, PutPayload, Storage, StorageError, StorageErrorKind, UploadPage,
};

/// One way to break the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    PutOverwrites,
    PutShowsAPart,
    PutDropsEmptyObjects,
    UploadIsVisible,
    PartsAreReordered,
    CompleteOverwrites,
    AbortCompletes,
    RangeBeyondTheEndFails,
    EmptyRangeSucceeds,
    RangeIsShifted,
    HeadIsWrong,
    DirectoriesHaveAHead,
    PrefixIsAString,
    PrefixCoversItself,
    ListIsCut,
    ListRepeats,
    ListLacksSizes,
    DeleteOfNothingFails,
    DeleteDoesNothing,
    PlusBecomesSpace,
    CaseIsIgnored,
    UrlHasNoSlash,
    PutsRace,
    CompletesRace,
    BatchIsCut,
    UploadsAreHidden,
    UploadsOfAllAreListed,
    UploadsStay,
}

const FLAWS: [Flaw; 28] = [
    Flaw::PutOverwrites,
    Flaw::PutShowsAPart,
    Flaw::PutDropsEmptyObjects,
    Flaw::UploadIsVisible,
    Flaw::PartsAreReordered,
    Flaw::CompleteOverwrites,
    Flaw::AbortCompletes,
    Flaw::RangeBeyondTheEndFails,
    Flaw::EmptyRangeSucceeds,
    Flaw::RangeIsShifted,
    Flaw::HeadIsWrong,
    Flaw::DirectoriesHaveAHead,
    Flaw::PrefixIsAString,
    Flaw::PrefixCoversItself,
    Flaw::ListIsCut,
    Flaw::ListRepeats,
    Flaw::ListLacksSizes,
    Flaw::DeleteOfNothingFails,
    Flaw::DeleteDoesNothing,
    Flaw::PlusBecomesSpace,
    Flaw::CaseIsIgnored,
    Flaw::UrlHasNoSlash,
    Flaw::PutsRace,
    Flaw::CompletesRace,
    Flaw::BatchIsCut,
    Flaw::UploadsAreHidden,
    Flaw::UploadsOfAllAreListed,
    Flaw::UploadsStay,
];

#[derive(Debug, Clone)]
struct Flawed {
    inner: Arc<LocalStorage>,
    flaw: Flaw,
}

impl Flawed {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// Looks first and acts then, which is create-only as long as nobody else writes.
    async fn make_way(&self, path: &ObjectPath, operation: Operation) -> Result<(), StorageError> {
        if self.inner.head(path).await.is_ok() {
            let kind = StorageErrorKind::AlreadyExists;
            return Err(StorageError::new(kind, operation, path.as_str()));
        }
        // As long as a slow store would take: everybody else writes meanwhile.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.inner.delete(path).await
    }

    fn renamed(&self, path: &ObjectPath) -> ObjectPath {
        let path = match self.flaw {
            Flaw::PlusBecomesSpace => path.as_str().replace('+', " "),
            Flaw::CaseIsIgnored => path.as_str().to_lowercase(),
            _ => path.to_string(),
        };
        ObjectPath::parse(&path).unwrap()
    }
}

impl fmt::Display for Flawed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.flaw)
    }
}

#[async_trait]
impl Storage for Flawed {
    async fn put(&self, path: &ObjectPath, payload: PutPayload) -> Result<(), StorageError> {
        let path = &self.renamed(path);
        if self.has(Flaw::PutDropsEmptyObjects) && payload.is_empty() {
            return Ok(());
        }
        if self.has(Flaw::PutOverwrites) {
            self.inner.delete(path).await?;
        }
        if self.has(Flaw::PutsRace) {
            self.make_way(path, Operation::Put).await?;
        }
        if self.has(Flaw::CompletesRace) {
            // Lands between another writer's look and its act.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if self.has(Flaw::PutShowsAPart) && payload.len() > 1_000_000 {
            self.inner
                .put(path, payload.chunks()[..1].to_vec().into())
                .await?;
            // As long as writing the rest would take.
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.inner.delete(path).await?;
        }
        self.inner.put(path, payload).await
    }

    async fn start_multipart(
        &self,
        path: &ObjectPath,
    ) -> Result<Box<dyn MultipartUpload>, StorageError> {
        if self.has(Flaw::UploadIsVisible) {
            self.inner.put(path, PutPayload::default()).await?;
        }
        let inner = self.inner.start_multipart(path).await?;
        Ok(Box::new(Upload {
            inner,
            store: self.clone(),
            path: path.clone(),
            held: None,
        }))
    }

    async fn get_range(&self, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StorageError> {
        let path = &self.renamed(path);
        let size = self.inner.head(path).await?.size;
        if self.has(Flaw::RangeBeyondTheEndFails) && range.end > size {
            let kind = StorageErrorKind::InvalidRange;
            return Err(StorageError::new(kind, Operation::GetRange, path.as_str()));
        }
        if self.has(Flaw::EmptyRangeSucceeds) && range.start == range.end {
            return Ok(Bytes::new());
        }
        if self.has(Flaw::RangeIsShifted) && range.start > 1 && range.end < size {
            return self
                .inner
                .get_range(path, range.start - 1..range.end - 1)
                .await;
        }
        self.inner.get_range(path, range).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        let shown = path.clone();
        let path = &self.renamed(path);
        match self.inner.head(path).await {
            Ok(mut meta) => {
                meta.size += u64::from(self.has(Flaw::HeadIsWrong));
                Ok(ObjectMeta {
                    path: shown,
                    ..meta
                })
            }
            Err(error)
                if self.has(Flaw::DirectoriesHaveAHead)
                    && !self.inner.list(Some(path), None).await?.objects.is_empty() =>
            {
                drop(error);
                let last_modified = std::time::SystemTime::now();
                Ok(ObjectMeta {
                    path: shown,
                    size: 0,
                    last_modified,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn list(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<ListPage, StorageError> {
        let mut page = self.inner.list(None, token).await?;
        page.objects.retain(|meta| match prefix {
            None => true,
            Some(prefix) => {
                (self.has(Flaw::PrefixIsAString) && meta.path.as_str().starts_with(prefix.as_str()))
                    || (self.has(Flaw::PrefixCoversItself) && meta.path == *prefix)
                    || meta.path.is_below(prefix)
            }
        });
        if self.has(Flaw::ListIsCut) {
            page.objects.truncate(1_000);
        }
        if self.has(Flaw::ListRepeats) && page.objects.len() > 1_000 {
            page.objects.push(page.objects[0].clone());
        }
        if self.has(Flaw::ListLacksSizes) {
            page.objects.iter_mut().for_each(|meta| meta.size = 0);
        }
        Ok(page)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let path = &self.renamed(path);
        if self.has(Flaw::DeleteOfNothingFails) {
            self.inner.head(path).await?;
        }
        if self.has(Flaw::DeleteDoesNothing) {
            return Ok(());
        }
        self.inner.delete(path).await
    }

    async fn delete_all(&self, paths: &[ObjectPath]) -> Vec<Result<(), StorageError>> {
        let mut results = Vec::new();
        for path in paths {
            let skipped = self.has(Flaw::BatchIsCut) && results.len() >= 1_000;
            results.push(if skipped {
                Ok(())
            } else {
                self.delete(path).await
            });
        }
        results
    }

    async fn list_uploads(
        &self,
        prefix: Option<&ObjectPath>,
        token: Option<&PageToken>,
    ) -> Result<UploadPage, StorageError> {
        let prefix = prefix.filter(|_| !self.has(Flaw::UploadsOfAllAreListed));
        let mut page = self.inner.list_uploads(prefix, token).await?;
        if self.has(Flaw::UploadsAreHidden) {
            page.uploads.clear();
        }
        Ok(page)
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        if self.has(Flaw::UploadsStay) {
            return Ok(());
        }
        self.inner.abort_upload(upload).await
    }

    fn url(&self) -> String {
        let url = self.inner.url();
        if self.has(Flaw::UrlHasNoSlash) {
            url.trim_end_matches('/').to_owned()
        } else {
            url
        }
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    store: Flawed,
    path: ObjectPath,
    /// A part that goes behind the next one.
    held: Option<BytesMut>,
}

#[async_trait]
impl MultipartUpload for Upload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        if self.store.has(Flaw::PartsAreReordered) && self.held.is_none() {
            self.held = Some(BytesMut::from(&part[..]));
            return Ok(());
        }
        self.inner.put_part(part).await?;
        match self.held.take() {
            Some(held) => self.inner.put_part(held.freeze()).await,
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        if let Some(held) = self.held.take() {
            self.inner.put_part(held.freeze()).await?;
        }
        if self.store.has(Flaw::CompleteOverwrites) || self.store.has(Flaw::UploadIsVisible) {
            self.store.inner.delete(&self.path).await?;
        }
        if self.store.has(Flaw::CompletesRace) {
            self.store.make_way(&self.path, Operation::Complete).await?;
        }
        self.inner.complete().await
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        if self.store.has(Flaw::AbortCompletes) {
            let _ = self.inner.complete().await;
        }
        self.inner.abort().await
    }
}

/// Runs the check that is there to find `flaw`.
async fn check(store: &Flawed) {
    match store.flaw {
        Flaw::None => conformance(store, &Capabilities::file_system()).await,
        Flaw::PutOverwrites => put_is_create_only(store).await,
        Flaw::PutShowsAPart => put_is_atomic(store).await,
        Flaw::PutDropsEmptyObjects | Flaw::HeadIsWrong => puts_are_read_back(store).await,
        Flaw::UploadIsVisible => multipart_is_atomic(store).await,
        Flaw::PartsAreReordered => parts_of_any_size_are_kept_in_order(store).await,
        Flaw::CompleteOverwrites => complete_is_create_only(store).await,
        Flaw::AbortCompletes => aborted_uploads_leave_nothing(store).await,
        Flaw::RangeBeyondTheEndFails | Flaw::EmptyRangeSucceeds | Flaw::RangeIsShifted => {
            ranges_are_cut_at_the_end(store).await;
        }
        Flaw::DirectoriesHaveAHead => missing_objects_are_not_found(store).await,
        Flaw::PrefixIsAString | Flaw::PrefixCoversItself => prefixes_are_directories(store).await,
        Flaw::ListIsCut | Flaw::ListRepeats | Flaw::ListLacksSizes => {
            listing_is_complete(store).await;
        }
        Flaw::DeleteOfNothingFails | Flaw::DeleteDoesNothing => deletes_are_idempotent(store).await,
        Flaw::PlusBecomesSpace | Flaw::CaseIsIgnored => awkward_names_are_kept(store).await,
        Flaw::UrlHasNoSlash => url_is_a_root(store).await,
        Flaw::PutsRace => {
            racing_puts_have_one_winner(store, &Capabilities::file_system()).await;
        }
        Flaw::CompletesRace => {
            racing_completes_have_one_winner(store, &Capabilities::file_system()).await;
        }
        Flaw::BatchIsCut => batches_are_deleted(store).await,
        Flaw::UploadsAreHidden | Flaw::UploadsOfAllAreListed | Flaw::UploadsStay => {
            open_uploads_are_listed_and_aborted(store, &Capabilities::file_system()).await;
        }
    }
}

async fn passes(flaw: Flaw) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let inner = Arc::new(LocalStorage::open(directory.path()).unwrap());
    let store = Flawed { inner, flaw };
    match tokio::spawn(async move { check(&store).await }).await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_panic(), "{error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_a_flaw_passes() {
    assert!(passes(Flaw::None).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flaw_is_found() {
    for flaw in FLAWS {
        assert!(!passes(flaw).await, "{flaw:?} passes the suite");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_capabilities_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStorage::open(directory.path()).unwrap();
    let claims_too_much = tokio::spawn(async move {
        objects_beside_prefixes(&store, &Capabilities::default()).await;
    });
    assert!(claims_too_much.await.unwrap_err().is_panic());
}
