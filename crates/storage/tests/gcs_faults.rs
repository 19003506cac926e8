//! What becomes of the faults of Google Cloud Storage, by its emulator behind a proxy that makes them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may fail loudly, and say what they skip"
)]

#[path = "support/gcs.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duckfeeder_tests::proxy::{Fault, FaultProxy, Request};
use storage::{
    MultipartUpload, ObjectPath, Operation, RetryPolicy, RetryStorage, Storage, StorageError,
    StorageErrorKind,
};

use self::support::Bucket;

const MIB: usize = 1024 * 1024;

struct Setup {
    bucket: Bucket,
    proxy: FaultProxy,
    /// By way of the proxy.
    store: Arc<dyn Storage>,
    /// Beside it.
    direct: Arc<dyn Storage>,
}

async fn setup() -> Option<Setup> {
    let bucket = Bucket::create().await?;
    let backend = bucket.endpoint.strip_prefix("http://").unwrap();
    let proxy = FaultProxy::start(backend).unwrap();
    Some(Setup {
        store: bucket.store_at(&proxy.url(), "p"),
        direct: bucket.store("p"),
        bucket,
        proxy,
    })
}

macro_rules! setup {
    () => {
        match setup().await {
            Some(setup) => setup,
            None => return,
        }
    };
}

fn path(path: &str) -> ObjectPath {
    ObjectPath::parse(path).unwrap()
}

/// Bytes of which no two pieces are alike.
fn contents(length: usize) -> Bytes {
    let words = (0_u64..).flat_map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    words.take(length).collect()
}

/// A piece of an upload, or a question about one.
fn is_piece(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("upload_id=")
}

async fn assert_holds(store: &dyn Storage, object: &ObjectPath, expected: &Bytes) {
    let size = store.head(object).await.unwrap().size;
    assert_eq!(size, u64::try_from(expected.len()).unwrap());
    let read = store.get_range(object, 0..u64::MAX).await.unwrap();
    assert!(read == *expected, "{object} holds something else");
}

async fn assert_absent(store: &dyn Storage, object: &ObjectPath) {
    let error = store.head(object).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NotFound, "{error:?}");
    let page = store.list(None, None).await.unwrap();
    assert!(page.objects.iter().all(|meta| meta.path != *object));
}

/// Calls again until it succeeds, with a bound; each failure is a transient one. How many there were.
async fn insist(upload: &mut Box<dyn MultipartUpload>, part: Option<&Bytes>) -> u32 {
    const MOST: u32 = 10;
    for failures in 0..MOST {
        let outcome = match part {
            Some(part) => upload.put_part(part.clone()).await,
            None => upload.complete().await,
        };
        match outcome {
            Ok(()) => return failures,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
    panic!("{MOST} failures in a row");
}

/// Uploads `contents` in parts that fit nothing. How many calls failed.
async fn upload(store: &dyn Storage, object: &ObjectPath, contents: &Bytes) -> u32 {
    let mut upload = store.start_multipart(object).await.unwrap();
    let mut failures = 0;
    for part in contents.chunks(3_000_001) {
        failures += insist(&mut upload, Some(&contents.slice_ref(part))).await;
    }
    failures + insist(&mut upload, None).await
}

async fn operate(
    store: &dyn Storage,
    operation: Operation,
    object: &ObjectPath,
) -> Result<(), StorageError> {
    match operation {
        Operation::Put => store.put(object, "contents".into()).await,
        Operation::StartMultipart => store.start_multipart(object).await.map(drop),
        Operation::GetRange => store.get_range(object, 0..1).await.map(drop),
        Operation::Head => store.head(object).await.map(drop),
        Operation::List => store.list(None, None).await.map(drop),
        Operation::Delete => store.delete(object).await,
        operation => panic!("{operation} is not tried here"),
    }
}

const OPERATIONS: [Operation; 6] = [
    Operation::Put,
    Operation::GetRange,
    Operation::Head,
    Operation::List,
    Operation::StartMultipart,
    Operation::Delete,
];

#[tokio::test]
async fn an_outage_in_mid_upload_loses_nothing() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let (object, contents) = (path("object"), contents(40 * MIB));
    let mut upload = store.start_multipart(&object).await.unwrap();
    let mut parts = contents
        .chunks(5 * MIB)
        .map(|part| contents.slice_ref(part));
    insist(&mut upload, parts.next().as_ref()).await;

    proxy.set(Fault::status(503, "backendError"));
    let mut waiting = parts.next().unwrap();
    let mut taken = 0;
    for _ in 0..40 {
        match upload.put_part(waiting.clone()).await {
            Ok(()) => {
                taken += 1;
                waiting = parts.next().unwrap();
            }
            Err(error) => assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error:?}"),
        }
    }
    // What is in memory is bounded.
    assert!(taken <= 4, "{taken} parts of 5 MiB taken in an outage");
    assert_absent(&*direct, &object).await;

    proxy.clear();
    insist(&mut upload, Some(&waiting)).await;
    for part in parts {
        insist(&mut upload, Some(&part)).await;
    }
    insist(&mut upload, None).await;
    assert_holds(&*direct, &object, &contents).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_in_mid_piece_is_taken_up_where_it_ended() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let (object, contents) = (path("object"), contents(21 * MIB));
    let cut = |bytes: usize| Fault::Cut {
        after_body_bytes: u64::try_from(bytes).unwrap(),
    };
    proxy.next(1, is_piece, Fault::Pass);
    proxy.next(1, is_piece, cut(3 * MIB + 17));
    proxy.next(1, is_piece, cut(0));
    proxy.next(1, is_piece, Fault::Refuse);
    let failures = upload(&*store, &object, &contents).await;
    assert!(failures >= 3, "{failures} failures");
    assert_holds(&*direct, &object, &contents).await;
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_found_again() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let contents = contents(100_000);
    let lost = |request: &Request| is_piece(request);
    for (name, fault) in [
        (
            "cut",
            Fault::CutAnswer {
                after_body_bytes: 10,
            },
        ),
        (
            "replaced",
            Fault::ReplaceAnswer {
                code: 503,
                body: String::new(),
            },
        ),
    ] {
        let object = path(name);
        proxy.next(1, lost, fault);
        assert_eq!(upload(&*store, &object, &contents).await, 1, "{name}");
        assert_holds(&*direct, &object, &contents).await;
    }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_found_again_by_the_retry_layer() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let object = path("object");
    proxy.next(
        1,
        |request| request.method == "POST",
        Fault::CutAnswer {
            after_body_bytes: 0,
        },
    );
    let store = RetryStorage::new(store, RetryPolicy::default());
    store.put(&object, "contents".into()).await.unwrap();
    assert_holds(&*direct, &object, &Bytes::from_static(b"contents")).await;
}

#[tokio::test]
async fn the_wait_that_the_store_asks_for_is_handed_on() {
    let Setup { store, proxy, .. } = setup!();
    let object = path("object");
    for operation in OPERATIONS {
        for (code, kind) in [
            (429, StorageErrorKind::Unavailable),
            (503, StorageErrorKind::Unavailable),
            (408, StorageErrorKind::Timeout),
        ] {
            proxy.next(1, |_| true, Fault::retry_after(code, 7));
            let error = operate(&*store, operation, &object).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{operation:?} {code} {error:?}");
            assert_eq!(error.operation(), operation);
            let asked = error.retry_after();
            assert_eq!(asked, Some(Duration::from_secs(7)), "{operation:?} {code}");
        }
    }
}

#[tokio::test]
async fn a_slow_store_is_waited_for() {
    let Setup { store, proxy, .. } = setup!();
    proxy.set(Fault::Throttle {
        bytes_per_second: 1_000_000,
    });
    let (object, contents) = (path("object"), contents(2_000_000));
    assert_eq!(upload(&*store, &object, &contents).await, 0);
    assert_holds(&*store, &object, &contents).await;
}

/// On a clock of the test's own, from when the request has come to the proxy.
#[tokio::test]
async fn a_store_that_stalls_is_given_up_in_time() {
    let Setup { store, proxy, .. } = setup!();
    proxy.set(Fault::Hang);
    for operation in OPERATIONS {
        let before = proxy.count(|_| true);
        let store = Arc::clone(&store);
        let call = tokio::spawn(async move { operate(&*store, operation, &path("object")).await });
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while proxy.count(|_| true) == before {
            assert!(std::time::Instant::now() < deadline, "{operation:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(!call.is_finished(), "{operation:?}");
        tokio::time::advance(Duration::from_secs(20)).await;
        let error = call.await.unwrap().unwrap_err();
        tokio::time::resume();
        assert_eq!(error.kind(), StorageErrorKind::Timeout, "{error:?}");
    }
}

#[tokio::test]
async fn contents_that_were_damaged_on_the_way_make_no_object() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let contents = contents(MIB);
    let damaged = Fault::Corrupt { offset: 500_000 };

    let object = path("put");
    proxy.next(1, |request| request.method == "POST", damaged.clone());
    let error = store
        .put(&object, contents.clone().into())
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_absent(&*direct, &object).await;
    store.put(&object, contents.clone().into()).await.unwrap();
    assert_holds(&*direct, &object, &contents).await;

    let object = path("upload");
    let retrying = RetryStorage::new(store, RetryPolicy::default());
    let mut upload = retrying.start_multipart(&object).await.unwrap();
    upload.put_part(contents.clone()).await.unwrap();
    proxy.next(1, is_piece, damaged);
    let error = upload.complete().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let text = format!("{error:?}");
    assert!(text.contains("CRC32C"), "{text}");
    assert_absent(&*direct, &object).await;
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::UploadClosed, "{error:?}");
    upload.abort().await.unwrap();
}

/// The store itself would have refused them; this is the second line.
#[tokio::test]
async fn an_object_that_is_not_what_was_sent_is_not_believed() {
    let Setup { store, proxy, .. } = setup!();
    let claim = r#"{"name": "p/object", "bucket": "b", "size": "8", "generation": "17",
        "timeCreated": "2026-01-01T00:00:00Z", "crc32c": "AAAAAA=="}"#;
    let lie = || Fault::ReplaceAnswer {
        code: 200,
        body: claim.to_owned(),
    };
    let removal =
        |request: &Request| request.method == "DELETE" && request.target.contains("generation=17");
    let object = path("object");
    proxy.next(1, |request| request.method == "POST", lie());
    let error = store.put(&object, "contents".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Other, "{error:?}");
    assert_eq!(proxy.count(removal), 1);

    let mut upload = store.start_multipart(&path("other")).await.unwrap();
    upload.put_part("contents".into()).await.unwrap();
    proxy.next(1, is_piece, lie());
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Other, "{error:?}");
    let removed = proxy.count(|request| removal(request) && request.target.contains("other"));
    assert_eq!(removed, 1);
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::UploadClosed, "{error:?}");
}

#[tokio::test]
async fn a_token_that_expires_is_replaced_once() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let object = path("object");
    let expired = || Fault::status(401, "Invalid Credentials");
    for operation in OPERATIONS {
        proxy.next(1, |_| true, expired());
        operate(&*store, operation, &object)
            .await
            .unwrap_or_else(|error| {
                // The upload is begun where an object is by now.
                assert_eq!(error.kind(), StorageErrorKind::AlreadyExists, "{error:?}");
                assert_eq!(operation, Operation::StartMultipart);
            });
    }
    let contents = contents(20 * MIB);
    proxy.next(1, is_piece, Fault::Pass);
    proxy.next(1, is_piece, expired());
    assert_eq!(upload(&*store, &object, &contents).await, 0);
    assert_holds(&*direct, &object, &contents).await;

    proxy.set(expired());
    for operation in OPERATIONS {
        let before = proxy.count(|_| true);
        let error = operate(&*store, operation, &object).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::PermissionDenied);
        assert!(error.remedy().unwrap().contains("storage.credentials_file"));
        assert_eq!(proxy.count(|_| true) - before, 2, "{operation:?}");
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_with_what_to_do() {
    let Some(endpoint) = support::endpoint() else {
        return;
    };
    let store = support::open("gs://there-is-none/p", &endpoint);
    for operation in OPERATIONS {
        let error = operate(&*store, operation, &path("object"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::InvalidPath, "{error:?}");
        assert!(error.to_string().contains("bucket"), "{error}");
        assert!(error.remedy().unwrap().contains("make the bucket"));
    }
}

#[tokio::test]
async fn the_permission_that_is_missing_is_named() {
    let Setup { store, proxy, .. } = setup!();
    let body = r#"{"error": {"code": 403, "message": "x@y does not have access.",
        "errors": [{"domain": "global", "reason": "forbidden", "message": "x"}]}}"#;
    proxy.set(Fault::status(403, body));
    for (operation, permission) in [
        (Operation::Put, "storage.objects.create"),
        (Operation::StartMultipart, "storage.objects.create"),
        (Operation::GetRange, "storage.objects.get"),
        (Operation::Head, "storage.objects.get"),
        (Operation::List, "storage.objects.list"),
        (Operation::Delete, "storage.objects.delete"),
    ] {
        let error = operate(&*store, operation, &path("object"))
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            StorageErrorKind::PermissionDenied,
            "{error:?}"
        );
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains(permission), "{operation:?}: {remedy}");
        assert!(format!("{error:?}").contains("does not have access"));
    }
    for (reason, kind) in [
        ("rateLimitExceeded", StorageErrorKind::Unavailable),
        ("quotaExceeded", StorageErrorKind::NoSpace),
        ("accountDisabled", StorageErrorKind::PermissionDenied),
    ] {
        proxy.clear();
        proxy.set(Fault::status(403, body.replace("forbidden", reason)));
        let error = store.head(&path("object")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{reason}");
    }
}

#[tokio::test]
async fn an_upload_that_is_aborted_is_gone_from_the_store() {
    let Setup {
        store,
        direct,
        proxy,
        bucket,
    } = setup!();
    let object = path("object");
    let mut uploads = Vec::new();
    for length in [0, 1, 9 * MIB, 30 * MIB] {
        let mut upload = store.start_multipart(&object).await.unwrap();
        insist(&mut upload, Some(&contents(length))).await;
        uploads.push(upload);
    }
    assert_eq!(bucket.open_uploads().await, r#"{"open": 4}"#);
    for mut upload in uploads {
        proxy.next(
            1,
            |request| request.method == "DELETE",
            Fault::status(503, ""),
        );
        assert!(upload.abort().await.unwrap_err().is_transient());
        upload.abort().await.unwrap();
        upload.abort().await.unwrap();
    }
    assert_eq!(bucket.open_uploads().await, r#"{"open": 0}"#);
    assert_absent(&*direct, &object).await;
}

#[tokio::test]
async fn a_lost_session_closes_the_upload() {
    let Setup {
        store,
        direct,
        proxy,
        ..
    } = setup!();
    let object = path("object");
    let mut upload = store.start_multipart(&object).await.unwrap();
    upload.put_part(contents(100)).await.unwrap();
    proxy.next(1, is_piece, Fault::status(410, ""));
    for _ in 0..2 {
        let error = upload.complete().await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::UploadClosed, "{error:?}");
    }
    let error = upload.put_part(contents(1)).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::UploadClosed);
    upload.abort().await.unwrap();
    assert_absent(&*direct, &object).await;
}

#[tokio::test]
async fn a_store_shows_its_bucket_and_endpoint() {
    let store = support::open("gs://b/some/prefix", "http://127.0.0.1:9");
    assert_eq!(
        store.to_string(),
        "bucket gs://b/some/prefix/ (at http://127.0.0.1:9)"
    );
    assert_eq!(store.url(), "gs://b/some/prefix/");
}
