//! What a store can do to us: outages, cuts, refusals, answers that get lost.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use duckfeeder_tests::proxy::{Fault, Request};
use storage::{OpenUpload, PageToken, RetryPolicy, RetryStorage, Storage, StorageErrorKind};

use crate::support::{TestBucket, path};

const MIB: usize = 1 << 20;

fn patient(store: Arc<dyn Storage>) -> RetryStorage {
    let policy = RetryPolicy {
        max_attempts: NonZeroU32::new(1_000).unwrap(),
        base: Duration::from_millis(1),
        cap: Duration::from_millis(20),
    };
    RetryStorage::new(store, policy)
}

fn answer(status: u16, code: &str) -> Fault {
    Fault::status(
        status,
        format!("<Error><Code>{code}</Code><Message>why</Message></Error>"),
    )
}

fn is_part(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("partNumber=")
}

fn is_completion(request: &Request) -> bool {
    request.method == "POST" && request.target.contains("uploadId=")
}

fn contents(length: usize) -> Bytes {
    (0..length).map(|i| (i / 251).to_le_bytes()[0]).collect()
}

/// Puts `whole` in pieces of 3 MiB and completes it.
async fn upload(store: &dyn Storage, name: &str, whole: &Bytes) {
    let mut upload = store.start_multipart(&path(name)).await.unwrap();
    for piece in pieces(whole) {
        upload.put_part(piece).await.unwrap();
    }
    upload.complete().await.unwrap();
}

fn pieces(whole: &Bytes) -> impl Iterator<Item = Bytes> {
    let size = 3 * MIB;
    (0..whole.len())
        .step_by(size)
        .map(move |at| whole.slice(at..whole.len().min(at + size)))
}

async fn assert_holds(bucket: &TestBucket, name: &str, whole: &Bytes) {
    let read = bucket.direct().get_range(&path(name), 0..u64::MAX).await;
    assert!(read.unwrap() == *whole, "{name} differs");
}

async fn assert_nothing(bucket: &TestBucket) {
    let store = bucket.direct();
    assert_eq!(store.list(None, None).await.unwrap().objects, []);
    assert_eq!(store.list_uploads(None, None).await.unwrap().uploads, []);
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_outage_is_waited_for() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let store = patient(bucket.store());
    let whole = contents(20 * MIB);
    for outage in [
        answer(503, "SlowDown"),
        Fault::status(500, ""),
        Fault::Refuse,
    ] {
        bucket.proxy.always(|_| true, outage);
        let before = bucket.proxy.count(|_| true);
        let name = format!("object{before}");
        let write = upload(&store, &name, &whole);
        let end = async {
            let tried = || bucket.proxy.count(|_| true) >= before + 5;
            until("it was tried again and again", tried).await;
            bucket.proxy.clear();
        };
        tokio::join!(write, end);
        assert_holds(&bucket, &name, &whole).await;
    }
}

#[tokio::test]
async fn the_wait_that_the_store_asks_for_is_kept() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    bucket.proxy.next(2, |_| true, Fault::retry_after(503, 1));
    let error = bucket
        .store()
        .put(&path("x"), "x".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    let began = Instant::now();
    let store = patient(bucket.store());
    store.put(&path("x"), "x".into()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_part_that_is_cut_is_sent_again_and_nothing_is_visible_meanwhile() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let after_body_bytes = 1_000_000;
    bucket
        .proxy
        .next(3, is_part, Fault::Cut { after_body_bytes });
    let store = patient(bucket.store());
    let whole = contents(35 * MIB);
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    for piece in pieces(&whole) {
        upload.put_part(piece).await.unwrap();
        let head = bucket.direct().head(&path("x")).await.unwrap_err();
        assert_eq!(head.kind(), StorageErrorKind::NotFound);
    }
    upload.complete().await.unwrap();
    assert_holds(&bucket, "x", &whole).await;
    // Five parts, three of them twice.
    assert_eq!(bucket.proxy.count(is_part), 8);
}

#[tokio::test]
async fn a_put_that_is_cut_leaves_nothing() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let after_body_bytes = 100_000;
    bucket
        .proxy
        .next(1, |_| true, Fault::Cut { after_body_bytes });
    let whole = contents(MIB);
    let store = bucket.store();
    let error = store
        .put(&path("x"), whole.clone().into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error:?}");
    assert_nothing(&bucket).await;
    store.put(&path("x"), whole.clone().into()).await.unwrap();
    assert_holds(&bucket, "x", &whole).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_is_no_contents() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let whole = contents(MIB);
    let store = bucket.store();
    store.put(&path("x"), whole.clone().into()).await.unwrap();
    let after_body_bytes = 100_000;
    let cut = Fault::CutAnswer { after_body_bytes };
    bucket.proxy.next(2, |request| request.method == "GET", cut);
    let error = store.get_range(&path("x"), 0..u64::MAX).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let read = patient(store).get_range(&path("x"), 5..u64::MAX).await;
    assert!(read.unwrap() == whole.slice(5..));
}

#[tokio::test]
async fn a_slow_store_is_waited_for_and_a_silent_one_is_not() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let limit = Duration::from_secs(1);
    let store = bucket.impatient(limit);
    let whole = contents(3 * MIB);
    let bytes_per_second = 1_000_000;
    bucket.proxy.set(Fault::Throttle { bytes_per_second });
    let began = Instant::now();
    store.put(&path("x"), whole.clone().into()).await.unwrap();
    assert!(began.elapsed() > limit * 2, "{:?}", began.elapsed());
    let read = store.get_range(&path("x"), 0..u64::MAX).await.unwrap();
    assert!(read == whole);

    bucket.proxy.set(Fault::Hang);
    for result in [
        store.put(&path("y"), "y".into()).await,
        store.head(&path("x")).await.map(drop),
        store.list(None, None).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Timeout, "{error:?}");
    }
    bucket.proxy.clear();
    store.put(&path("y"), "y".into()).await.unwrap();
}

#[tokio::test]
async fn a_part_with_a_bad_checksum_is_sent_again() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    for code in ["BadDigest", "XAmzContentChecksumMismatch"] {
        bucket.proxy.next(1, is_part, answer(400, code));
    }
    let whole = contents(20 * MIB);
    upload(&patient(bucket.store()), "x", &whole).await;
    assert_holds(&bucket, "x", &whole).await;
    assert_eq!(bucket.proxy.count(is_part), 5);
}

#[tokio::test]
async fn a_failed_part_is_reported_once_and_kept() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    bucket.proxy.always(is_part, answer(503, "SlowDown"));
    let store = bucket.store();
    let whole = contents(60 * MIB);
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    let mut failures = 0;
    for piece in pieces(&whole) {
        // The same call again, as the contract has it.
        while let Err(error) = upload.put_part(piece.clone()).await {
            assert_eq!(error.kind(), StorageErrorKind::Unavailable, "{error:?}");
            failures += 1;
            if failures > 10 {
                bucket.proxy.clear();
            }
        }
    }
    assert!(failures > 10);
    upload.complete().await.unwrap();
    assert_holds(&bucket, "x", &whole).await;
}

#[tokio::test]
async fn keys_that_have_expired_for_good_are_a_permanent_error() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    bucket.proxy.set(answer(400, "ExpiredToken"));
    let error = bucket
        .store()
        .put(&path("x"), "x".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::PermissionDenied);
    assert!(error.remedy().unwrap().contains("storage.session_token"));
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_named() {
    let Some(mut bucket) = TestBucket::create().await else {
        return;
    };
    bucket.name = format!("no-{}", bucket.name);
    let store = patient(bucket.store());
    let large = contents(9 * MIB);
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    for result in [
        store.put(&path("x"), "x".into()).await,
        upload.put_part(large).await,
        store.get_range(&path("x"), 0..1).await.map(drop),
        store.list(None, None).await.map(drop),
        store.delete(&path("x")).await,
        store.list_uploads(None, None).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::InvalidPath, "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("no bucket '{}'", bucket.name)),
            "{text}"
        );
        assert!(error.remedy().unwrap().contains("storage.url"));
    }
}

#[tokio::test]
async fn each_refusal_says_what_is_to_be_allowed() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let store = patient(bucket.store());
    let (x, large) = (path("x"), contents(9 * MIB));
    let mut begun = store.start_multipart(&path("begun")).await.unwrap();
    begun.put_part(large.clone()).await.unwrap();
    until("the part is stored", || bucket.proxy.count(is_part) == 1).await;
    let mut new = store.start_multipart(&path("new")).await.unwrap();
    bucket.proxy.set(answer(403, "AccessDenied"));
    let open = OpenUpload {
        path: x.clone(),
        id: "id".to_owned(),
        started: std::time::SystemTime::now(),
    };
    let batch = store.delete_all(std::slice::from_ref(&x)).await.remove(0);
    for (result, action) in [
        (store.put(&x, "x".into()).await, "s3:PutObject"),
        (new.put_part(large).await, "s3:PutObject"),
        (begun.complete().await, "s3:PutObject"),
        (begun.abort().await, "s3:AbortMultipartUpload"),
        (store.get_range(&x, 0..1).await.map(drop), "s3:GetObject"),
        (store.head(&x).await.map(drop), "s3:ListBucket"),
        (store.list(None, None).await.map(drop), "s3:ListBucket"),
        (store.delete(&x).await, "s3:DeleteObject"),
        (batch, "s3:DeleteObject"),
        (
            store.list_uploads(None, None).await.map(drop),
            "s3:ListBucketMultipartUploads",
        ),
        (store.abort_upload(&open).await, "s3:AbortMultipartUpload"),
    ] {
        let error = result.unwrap_err();
        assert_eq!(
            error.kind(),
            StorageErrorKind::PermissionDenied,
            "{error:?}"
        );
        assert!(error.remedy().unwrap().contains(action), "{error:?}");
    }
    bucket.proxy.clear();
    begun.abort().await.unwrap();
    assert_nothing(&bucket).await;
}

#[tokio::test]
async fn the_permission_to_look_at_parts_is_not_needed() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let looks = |request: &Request| request.method == "GET" && request.target.contains("uploadId=");
    bucket.proxy.always(looks, answer(403, "AccessDenied"));
    let store = bucket.store();
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    upload.put_part(contents(9 * MIB)).await.unwrap();
    upload.abort().await.unwrap();
    assert!(bucket.proxy.count(looks) > 0);
    assert_nothing(&bucket).await;
}

#[tokio::test]
async fn a_completion_with_an_error_behind_200_is_not_done() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let store = bucket.store();
    let whole = contents(20 * MIB);
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    for piece in pieces(&whole) {
        upload.put_part(piece).await.unwrap();
    }
    for (code, kind) in [
        ("InternalError", StorageErrorKind::Unavailable),
        ("SomethingNew", StorageErrorKind::Other),
        ("PreconditionFailed", StorageErrorKind::AlreadyExists),
    ] {
        bucket.proxy.next(1, is_completion, answer(200, code));
        let error = upload.complete().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        let head = store.head(&path("x")).await.unwrap_err();
        assert_eq!(head.kind(), StorageErrorKind::NotFound);
    }
    upload.complete().await.unwrap();
    assert_holds(&bucket, "x", &whole).await;
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_found_to_be_done() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    for (name, code) in [("x", 500), ("y", 200)] {
        let body = "<Error><Code>InternalError</Code></Error>".to_owned();
        let lost = Fault::ReplaceAnswer { code, body };
        bucket.proxy.next(1, is_completion, lost);
        let whole = contents(20 * MIB);
        upload(&patient(bucket.store()), name, &whole).await;
        assert_holds(&bucket, name, &whole).await;
    }
    assert_eq!(bucket.proxy.count(is_completion), 4);
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_is_found_to_be_done() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let is_put = |request: &Request| request.method == "PUT";
    for (name, code) in [("x", 500), ("y", 503)] {
        let body = String::new();
        bucket
            .proxy
            .next(1, is_put, Fault::ReplaceAnswer { code, body });
        let store = patient(bucket.store());
        store.put(&path(name), "ours".into()).await.unwrap();
        let error = store.put(&path(name), "more".into()).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
        assert_holds(&bucket, name, &Bytes::from_static(b"ours")).await;
    }
    assert_eq!(bucket.proxy.count(is_put), 6);
}

#[tokio::test]
async fn an_abort_waits_for_parts_and_leaves_nothing() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let bytes_per_second = 4_000_000;
    bucket
        .proxy
        .always(is_part, Fault::Throttle { bytes_per_second });
    let store = bucket.store();
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    upload.put_part(contents(40 * MIB)).await.unwrap();
    until("parts are on their way", || {
        bucket.proxy.count(is_part) == 4
    })
    .await;
    upload.abort().await.unwrap();
    assert_nothing(&bucket).await;
}

#[tokio::test]
async fn an_upload_that_is_still_there_is_aborted_again() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let is_abort = |request: &Request| request.method == "DELETE";
    // The store agrees, and the upload is there all the same, as with a part that was on its way.
    bucket.proxy.next(1, is_abort, Fault::status(204, ""));
    let store = bucket.store();
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    upload.put_part(contents(9 * MIB)).await.unwrap();
    until("a part is on its way", || bucket.proxy.count(is_part) == 1).await;
    upload.abort().await.unwrap();
    assert_eq!(bucket.proxy.count(is_abort), 2);
    assert_nothing(&bucket).await;
}

#[tokio::test]
async fn a_failed_completion_leaves_nothing_after_its_abort() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let store = bucket.store();
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    upload.put_part(contents(20 * MIB)).await.unwrap();
    bucket.proxy.always(is_completion, answer(503, "SlowDown"));
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unavailable);
    upload.abort().await.unwrap();
    assert_nothing(&bucket).await;
    let error = upload.complete().await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::UploadClosed);
}

#[tokio::test]
async fn an_upload_that_is_dropped_sends_no_more_and_can_be_cleaned_up() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let store = bucket.store();
    bucket.proxy.always(is_part, Fault::Hang);
    let mut upload = store.start_multipart(&path("x")).await.unwrap();
    upload.put_part(contents(40 * MIB)).await.unwrap();
    until("parts are on their way", || {
        bucket.proxy.count(is_part) == 4
    })
    .await;
    drop(upload);
    bucket.proxy.clear();
    let open = bucket.direct().list_uploads(None, None).await.unwrap();
    assert_eq!(open.uploads.len(), 1);
    store.abort_upload(&open.uploads[0]).await.unwrap();
    assert_nothing(&bucket).await;
    assert_eq!(bucket.proxy.count(is_part), 4);
}

#[tokio::test]
async fn writes_in_conflict_are_repeated() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let conflict = answer(409, "ConditionalRequestConflict");
    bucket
        .proxy
        .next(2, |request| request.method == "PUT", conflict);
    let store = patient(bucket.store());
    store.put(&path("x"), "x".into()).await.unwrap();
    assert_eq!(bucket.proxy.count(|request| request.method == "PUT"), 3);
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_named_as_such() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    bucket.proxy.set(answer(501, "NotImplemented"));
    let store = patient(bucket.store());
    let error = store.put(&path("x"), "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Unsupported);
    assert_eq!(error.remedy(), Some("set storage.create_only = \"head\""));
}

#[tokio::test]
async fn batches_are_deleted_one_by_one_where_the_store_knows_none() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let is_batch =
        |request: &Request| request.method == "POST" && request.target.contains("delete");
    let store = bucket.store();
    let names = [path("a"), path("b"), path("not there")];
    for refusal in [
        answer(501, "NotImplemented"),
        answer(400, "MissingContentMD5"),
        Fault::status(405, ""),
    ] {
        store.put(&names[0], "a".into()).await.unwrap();
        store.put(&names[1], "b".into()).await.unwrap();
        bucket.proxy.next(1, is_batch, refusal);
        let results = store.delete_all(&names).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_nothing(&bucket).await;
    }
    let partly = "<DeleteResult><Error><Key>some/lake/b</Key><Code>AccessDenied</Code></Error></DeleteResult>";
    bucket.proxy.next(1, is_batch, Fault::status(200, partly));
    let results = store.delete_all(&names).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::PermissionDenied);
    assert_eq!(error.path(), "b");
}

#[tokio::test]
async fn open_uploads_are_listed_page_by_page() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    let page = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>\
        <NextKeyMarker>some/lake/a b</NextKeyMarker><NextUploadIdMarker>id7</NextUploadIdMarker>\
        <Upload><Key>some/lake/a b</Key><UploadId>id7</UploadId><Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>\
        <Upload><Key>some/lake/dir/</Key><UploadId>id8</UploadId><Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>\
        </ListMultipartUploadsResult>";
    bucket.proxy.next(1, |_| true, Fault::status(200, page));
    let store = bucket.store();
    let page = store.list_uploads(None, None).await.unwrap();
    assert_eq!(
        page.uploads.len(),
        1,
        "the name of a directory is none of ours"
    );
    assert_eq!(page.uploads[0].path, path("a b"));
    assert_eq!(page.uploads[0].id, "id7");
    let next: PageToken = page.next.unwrap();
    store.list_uploads(None, Some(&next)).await.unwrap();
    let goes_on = |request: &Request| {
        request.target.contains("key-marker=some%2Flake%2Fa%20b")
            && request.target.contains("upload-id-marker=id7")
    };
    assert_eq!(bucket.proxy.count(goes_on), 1);
}

#[tokio::test]
async fn a_store_that_ignores_ranges_is_found_out() {
    let Some(bucket) = TestBucket::create().await else {
        return;
    };
    bucket
        .proxy
        .next(2, |_| true, Fault::status(200, "the whole object"));
    let store = bucket.store();
    for range in [4..9, 0..3] {
        let error = store.get_range(&path("x"), range).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Unsupported, "{error:?}");
    }
}
