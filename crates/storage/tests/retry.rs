//! The retry layer: what is repeated, how often, how fast, and what a repeated write makes of its own object.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::testing::{Fault, FaultStorage};
use storage::{
    LocalStorage, MultipartUpload, ObjectPath, Operation, RetryPolicy, RetryStorage, Storage,
    StorageError, StorageErrorKind,
};
use tempfile::TempDir;
use tokio::time::Instant;

const ATTEMPTS: u32 = 4;
const BASE: Duration = Duration::from_millis(100);
/// The longest that all waits together can be: 100, 200 and 300 ms.
const LONGEST: Duration = Duration::from_millis(600);

fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: NonZeroU32::new(ATTEMPTS).unwrap(),
        base: BASE,
        cap: Duration::from_millis(300),
    }
}

struct Setup {
    _directory: TempDir,
    local: LocalStorage,
    faults: FaultStorage,
    store: RetryStorage,
}

fn setup() -> Setup {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalStorage::open(directory.path()).unwrap();
    let faults = FaultStorage::new(Arc::new(local.clone()));
    let store = RetryStorage::new(Arc::new(faults.clone()), policy());
    Setup {
        _directory: directory,
        local,
        faults,
        store,
    }
}

fn path(path: &str) -> ObjectPath {
    ObjectPath::parse(path).unwrap()
}

fn refused() -> Fault {
    Fault::refused(StorageErrorKind::Unavailable)
}

fn answer_lost() -> Fault {
    Fault::answer_lost(StorageErrorKind::Timeout)
}

const ALL: [Operation; 11] = [
    Operation::Put,
    Operation::StartMultipart,
    Operation::PutPart,
    Operation::Complete,
    Operation::Abort,
    Operation::GetRange,
    Operation::Head,
    Operation::List,
    Operation::Delete,
    Operation::ListUploads,
    Operation::AbortUpload,
];

/// Runs one operation of each kind, on an object and an upload that are there for it.
async fn run(setup: &Setup, operation: Operation) -> Result<(), StorageError> {
    let object = path("there/object");
    setup.local.delete(&object).await?;
    setup.local.put(&object, "contents".into()).await?;
    let new = path("new/object");
    setup.local.delete(&new).await?;
    let store = &setup.store;
    let mut upload = store.start_multipart(&path("new/upload")).await;
    match operation {
        Operation::Put => store.put(&new, "new".into()).await,
        Operation::StartMultipart => upload.map(|_| ()),
        Operation::PutPart => {
            upload
                .as_mut()
                .unwrap()
                .put_part(Bytes::from_static(b"x"))
                .await
        }
        Operation::Complete => {
            setup.local.delete(&path("new/upload")).await?;
            upload.as_mut().unwrap().complete().await
        }
        Operation::Abort => upload.as_mut().unwrap().abort().await,
        Operation::GetRange => store.get_range(&object, 0..1).await.map(|_| ()),
        Operation::Head => store.head(&object).await.map(|_| ()),
        Operation::List => store.list(None, None).await.map(|_| ()),
        Operation::Delete => store.delete(&object).await,
        Operation::ListUploads => store.list_uploads(None, None).await.map(|_| ()),
        Operation::AbortUpload => {
            let open = setup.local.list_uploads(None, None).await?;
            store.abort_upload(open.uploads.first().unwrap()).await
        }
        operation => panic!("{operation} is no operation of a store"),
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_only_what_failed_for_a_passing_reason_is_tried_again() {
    let setup = setup();
    let paths: Vec<_> = ["a", "b"].map(path).to_vec();
    for path in &paths {
        setup.local.put(path, "x".into()).await.unwrap();
    }
    setup
        .faults
        .inject(Operation::Delete, ATTEMPTS - 1, refused());
    for result in setup.store.delete_all(&paths).await {
        result.unwrap();
    }
    assert_eq!(setup.faults.calls(Operation::Delete), u64::from(ATTEMPTS));
    assert!(
        setup
            .local
            .list(None, None)
            .await
            .unwrap()
            .objects
            .is_empty()
    );

    setup.faults.inject(Operation::Delete, ATTEMPTS, refused());
    let results = setup.store.delete_all(&paths).await;
    assert_eq!(results.len(), 2);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error}");
    }
    let denied = Fault::refused(StorageErrorKind::PermissionDenied);
    setup.faults.inject(Operation::Delete, 1, denied);
    for result in setup.store.delete_all(&paths).await {
        assert_eq!(
            result.unwrap_err().kind(),
            StorageErrorKind::PermissionDenied
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_is_tried_until_it_succeeds() {
    for fault in [refused(), answer_lost()] {
        for operation in ALL {
            let setup = setup();
            setup.faults.inject(operation, ATTEMPTS - 1, fault.clone());
            let began = Instant::now();
            run(&setup, operation).await.unwrap();
            assert!(
                began.elapsed() <= LONGEST,
                "{operation:?} took {:?}",
                began.elapsed()
            );
            assert!(
                began.elapsed() > Duration::ZERO,
                "{operation:?} did not wait"
            );
            let calls = setup.faults.calls(operation);
            // The head that settles a lost answer comes on top, but is another operation.
            assert_eq!(
                calls,
                expected_calls(operation, &fault),
                "{operation:?} {fault:?}"
            );
        }
    }
}

/// A write whose first answer was lost meets its object in the second attempt and needs no third.
fn expected_calls(operation: Operation, fault: &Fault) -> u64 {
    let lost = format!("{fault:?}").contains("AfterWork");
    match operation {
        Operation::Put | Operation::Complete if lost => 2,
        _ => u64::from(ATTEMPTS),
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_and_their_time_are_bounded() {
    for operation in ALL {
        let setup = setup();
        setup.faults.inject(operation, u32::MAX, refused());
        let began = Instant::now();
        let error = run(&setup, operation).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{operation:?}");
        assert_eq!(error.operation(), operation);
        assert_eq!(
            setup.faults.calls(operation),
            u64::from(ATTEMPTS),
            "{operation:?}"
        );
        assert!(
            began.elapsed() <= LONGEST,
            "{operation:?} took {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn permanent_errors_are_not_repeated() {
    for operation in ALL {
        for kind in [
            StorageErrorKind::PermissionDenied,
            StorageErrorKind::InvalidPath,
            StorageErrorKind::Unsupported,
            StorageErrorKind::AlreadyExists,
            StorageErrorKind::UploadClosed,
        ] {
            let setup = setup();
            setup.faults.inject(operation, 1, Fault::refused(kind));
            let began = Instant::now();
            let error = run(&setup, operation).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{operation:?}");
            assert_eq!(setup.faults.calls(operation), 1, "{operation:?} {kind:?}");
            assert_eq!(began.elapsed(), Duration::ZERO, "{operation:?} {kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_that_a_store_asks_for_is_kept() {
    let setup = setup();
    let asked = Duration::from_secs(30);
    setup
        .faults
        .inject(Operation::Head, 2, refused().with_retry_after(asked));
    let began = Instant::now();
    run(&setup, Operation::Head).await.unwrap();
    assert!(began.elapsed() >= asked * 2, "{:?}", began.elapsed());
    assert!(
        began.elapsed() <= asked * 2 + LONGEST,
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_left_to_the_caller() {
    let setup = setup();
    let asked = Duration::from_hours(1);
    setup
        .faults
        .inject(Operation::Head, 1, refused().with_retry_after(asked));
    let began = Instant::now();
    let error = run(&setup, Operation::Head).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(asked));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(setup.faults.calls(Operation::Head), 1);
}

#[tokio::test(start_paused = true)]
async fn a_put_onto_another_object_stays_an_error_after_a_retry() {
    let setup = setup();
    let object = path("object");
    setup
        .local
        .put(&object, "somebody else's".into())
        .await
        .unwrap();
    setup.faults.inject(Operation::Put, 2, refused());
    let error = setup.store.put(&object, "ours".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    assert_eq!(setup.faults.calls(Operation::Put), 3);
    assert_eq!(setup.local.head(&object).await.unwrap().size, 15);
}

#[tokio::test(start_paused = true)]
async fn a_first_put_onto_an_object_of_equal_size_is_an_error() {
    let setup = setup();
    let object = path("object");
    setup.local.put(&object, "same".into()).await.unwrap();
    let error = setup.store.put(&object, "size".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    assert_eq!(setup.faults.calls(Operation::Head), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_that_cannot_be_resolved_stays_unknown() {
    let setup = setup();
    let object = path("object");
    setup.faults.inject(Operation::Put, 1, answer_lost());
    setup.faults.inject(Operation::Head, u32::MAX, refused());
    let error = setup.store.put(&object, "ours".into()).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(setup.faults.calls(Operation::Head), u64::from(ATTEMPTS));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_vanishes_while_its_write_is_resolved_is_not_ours() {
    let setup = setup();
    let object = path("object");
    setup.faults.inject(Operation::Put, 1, answer_lost());
    setup.faults.inject(
        Operation::Head,
        1,
        Fault::refused(StorageErrorKind::NotFound),
    );
    let error = setup.store.put(&object, "ours".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
}

async fn upload(
    setup: &Setup,
    object: &ObjectPath,
    parts: &[&'static str],
) -> Box<dyn MultipartUpload> {
    let mut upload = setup.store.start_multipart(object).await.unwrap();
    for part in parts {
        upload
            .put_part(Bytes::from_static(part.as_bytes()))
            .await
            .unwrap();
    }
    upload
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_answer_was_lost_is_found_again_by_the_next_call_too() {
    let setup = setup();
    let object = path("object");
    let mut upload = upload(&setup, &object, &["two ", "parts"]).await;
    // The first call loses its answer and then the store is down; the caller repeats the call later.
    setup.faults.inject(Operation::Complete, 1, answer_lost());
    setup
        .faults
        .inject(Operation::Complete, ATTEMPTS - 1, refused());
    assert!(upload.complete().await.unwrap_err().is_transient());
    upload.complete().await.unwrap();
    let contents = setup.local.get_range(&object, 0..99).await.unwrap();
    assert_eq!(contents, "two parts");
}

#[tokio::test(start_paused = true)]
async fn a_completion_onto_another_object_stays_an_error_after_a_retry() {
    let setup = setup();
    let object = path("object");
    let mut upload = upload(&setup, &object, &["two ", "parts"]).await;
    setup
        .local
        .put(&object, "somebody else's".into())
        .await
        .unwrap();
    setup.faults.inject(Operation::Complete, 1, refused());
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_nobody_lost_meets_another_object_of_equal_size() {
    let setup = setup();
    let object = path("object");
    let mut upload = upload(&setup, &object, &["same"]).await;
    setup.local.put(&object, "size".into()).await.unwrap();
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    assert_eq!(setup.faults.calls(Operation::Head), 0);
}

#[tokio::test(start_paused = true)]
async fn repeated_parts_are_neither_lost_nor_doubled() {
    let setup = setup();
    let object = path("object");
    setup.faults.inject(Operation::PutPart, 3, refused());
    let mut upload = upload(&setup, &object, &["a", "bb", "", "ccc"]).await;
    setup.faults.inject(Operation::PutPart, 2, answer_lost());
    upload.put_part(Bytes::from_static(b"dddd")).await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(
        setup.local.get_range(&object, 0..99).await.unwrap(),
        "abbcccdddd"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_lost_reports_the_error_that_lost_it() {
    let setup = setup();
    let mut upload = upload(&setup, &path("object"), &["x"]).await;
    setup.faults.inject(
        Operation::Complete,
        1,
        Fault::refused(StorageErrorKind::NoSpace),
    );
    setup.faults.inject(
        Operation::Complete,
        1,
        Fault::refused(StorageErrorKind::UploadClosed),
    );
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoSpace);
    assert_eq!(setup.faults.calls(Operation::Complete), 2);
}

#[test]
fn the_layers_show_the_store_below() {
    let setup = setup();
    assert_eq!(setup.store.to_string(), setup.local.to_string());
    assert_eq!(setup.store.url(), setup.local.url());
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_of_each_repetition() {
    let setup = setup();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let store = setup
        .store
        .clone()
        .observed(move |operation| noted.lock().unwrap().push(operation));
    setup.faults.inject(Operation::Put, 2, refused());
    store
        .put(&path("a"), Bytes::from_static(b"1").into())
        .await
        .unwrap();
    store.head(&path("a")).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [Operation::Put, Operation::Put]);
}
