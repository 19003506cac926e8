//! Multipart uploads: parts of any size, abort, races.

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    Capabilities, assert_absent, assert_holds, below, clean, fails, listed_paths, ok, pattern,
    scratch,
};
use crate::{MultipartUpload, ObjectPath, OpenUpload, Storage, StorageErrorKind};

async fn start(store: &dyn Storage, path: &ObjectPath) -> Box<dyn MultipartUpload> {
    ok(store.start_multipart(path).await, "start an upload")
}

/// No parts, empty parts, one part, many small parts, parts above and below the 5 MiB and 8 MiB by which object
/// stores cut: the object is their concatenation.
pub async fn parts_of_any_size_are_kept_in_order(store: &dyn Storage) {
    const MIB: usize = 1024 * 1024;
    let scratch = scratch();
    let small: Vec<usize> = (0..300).map(|i| i * 7 % 31).collect();
    for (name, sizes) in [
        ("no parts", vec![]),
        ("empty parts", vec![0, 0, 0]),
        ("one byte", vec![1]),
        ("one part", vec![100_003]),
        ("small parts", small),
        (
            "around the limits",
            vec![5 * MIB - 1, 1, 5 * MIB + 1, 0, 3, 8 * MIB, 17],
        ),
        ("one large part", vec![17 * MIB + 5]),
    ] {
        let object = below(&scratch, &format!("dir/{name}.bin"));
        let parts: Vec<Bytes> = sizes
            .into_iter()
            .zip((0_u8..=255).cycle())
            .map(|(size, seed)| pattern(size, seed))
            .collect();
        let mut upload = start(store, &object).await;
        for part in &parts {
            ok(upload.put_part(part.clone()).await, "put a part");
        }
        ok(upload.complete().await, "complete");
        assert_holds(store, &object, &parts.concat().into()).await;
        // As after an answer that was lost.
        if let Err(error) = upload.complete().await {
            assert_eq!(
                error.kind(),
                StorageErrorKind::AlreadyExists,
                "complete again: {error:?}"
            );
        }
        ok(upload.abort().await, "abort after complete");
        drop(upload);
        assert_holds(store, &object, &parts.concat().into()).await;
    }
    clean(store, &scratch).await;
}

/// Between start and completion nothing is visible, however much was uploaded.
pub async fn multipart_is_atomic(store: &dyn Storage) {
    let scratch = scratch();
    let object = below(&scratch, "object.bin");
    let mut upload = start(store, &object).await;
    let mut contents = Vec::new();
    for seed in 0..6 {
        assert_absent(store, &object).await;
        assert_eq!(
            listed_paths(store, &scratch).await,
            [],
            "an open upload is listed"
        );
        let part = pattern(3_000_001, seed);
        contents.extend_from_slice(&part);
        ok(upload.put_part(part).await, "put a part");
    }
    assert_absent(store, &object).await;
    ok(upload.complete().await, "complete");
    assert_holds(store, &object, &contents.into()).await;
    assert_eq!(
        listed_paths(store, &scratch).await,
        [object],
        "after completion"
    );
    clean(store, &scratch).await;
}

/// An upload that is aborted or dropped leaves no object and does not keep the path from others; afterwards it
/// refuses to go on.
pub async fn aborted_uploads_leave_nothing(store: &dyn Storage) {
    let scratch = scratch();
    let object = below(&scratch, "object.bin");
    for parts in 0..3 {
        let mut upload = start(store, &object).await;
        for seed in 0..parts {
            ok(
                upload.put_part(pattern(6_000_000, seed)).await,
                "put a part",
            );
        }
        ok(upload.abort().await, "abort");
        ok(upload.abort().await, "abort again");
        let refused = upload.put_part(Bytes::from_static(b"late")).await;
        fails(
            refused,
            StorageErrorKind::UploadClosed,
            "put a part after abort",
        );
        fails(
            upload.complete().await,
            StorageErrorKind::UploadClosed,
            "complete after abort",
        );
        assert_absent(store, &object).await;
    }
    let mut dropped = start(store, &object).await;
    ok(dropped.put_part(pattern(6_000_000, 9)).await, "put a part");
    drop(dropped);
    assert_absent(store, &object).await;
    assert_eq!(
        listed_paths(store, &scratch).await,
        [],
        "after aborted uploads"
    );

    ok(
        store.put(&object, "free".into()).await,
        "put after aborted uploads",
    );
    assert_holds(store, &object, &Bytes::from_static(b"free")).await;
    clean(store, &scratch).await;
}

/// An upload that nobody ends is listed below its prefix, can be aborted by that, and takes nothing else along. A
/// store without [`Capabilities::lists_uploads`] lists nothing.
pub async fn open_uploads_are_listed_and_aborted(store: &dyn Storage, capabilities: &Capabilities) {
    let scratch = scratch();
    let (here, there) = (below(&scratch, "here"), below(&scratch, "there"));
    let object = below(&here, "object.bin");
    ok(store.put(&object, "kept".into()).await, "put");
    let mut uploads = Vec::new();
    for (prefix, name) in [(&here, "a.bin"), (&here, "deep/b.bin"), (&there, "c.bin")] {
        let mut upload = start(store, &below(prefix, name)).await;
        ok(upload.put_part(pattern(9_000_000, 1)).await, "put a part");
        uploads.push(upload);
    }
    let found = open_uploads(store, &here).await;
    if !capabilities.lists_uploads {
        assert_eq!(found, [], "uploads of a store that lists none");
        for mut upload in uploads {
            ok(upload.abort().await, "abort");
        }
        return clean(store, &scratch).await;
    }
    assert_eq!(found.len(), 2, "open uploads below {here}: {found:?}");
    assert!(
        found.iter().all(|upload| upload.path.is_below(&here)),
        "{found:?}"
    );
    for upload in &found {
        for _ in 0..2 {
            ok(store.abort_upload(upload).await, "abort an upload");
        }
    }
    assert_eq!(open_uploads(store, &here).await, [], "after their abort");
    assert_eq!(open_uploads(store, &there).await.len(), 1, "of others");

    let mut other = uploads.pop().into_iter();
    for mut lost in uploads {
        assert!(
            lost.complete().await.is_err(),
            "an upload was completed although it was aborted"
        );
        ok(lost.abort().await, "abort what is gone");
    }
    for mut upload in other.by_ref() {
        ok(upload.complete().await, "complete");
    }
    assert_eq!(open_uploads(store, &scratch).await, [], "of ended uploads");
    assert_eq!(
        listed_paths(store, &scratch).await,
        [object.clone(), below(&there, "c.bin")],
        "objects afterwards"
    );
    assert_holds(store, &object, &Bytes::from_static(b"kept")).await;
    clean(store, &scratch).await;
}

async fn open_uploads(store: &dyn Storage, prefix: &ObjectPath) -> Vec<OpenUpload> {
    let mut uploads = Vec::new();
    let mut token = None;
    loop {
        let page = store.list_uploads(Some(prefix), token.as_ref()).await;
        let page = ok(page, "list open uploads");
        uploads.extend(page.uploads);
        token = page.next;
        if token.is_none() {
            return uploads;
        }
    }
}

/// An upload that comes to its end after another writer made the object fails and leaves that object as it is.
pub async fn complete_is_create_only(store: &dyn Storage) {
    let scratch = scratch();
    for parts in [0_u8, 1, 3] {
        let object = below(&scratch, &format!("{parts} parts.bin"));
        let mut upload = start(store, &object).await;
        for seed in 0..parts {
            ok(
                upload.put_part(pattern(5_500_000, seed)).await,
                "put a part",
            );
        }
        ok(
            store.put(&object, "first".into()).await,
            "put while an upload is open",
        );
        let result = upload.complete().await;
        fails(
            result,
            StorageErrorKind::AlreadyExists,
            "complete onto an object",
        );
        assert_holds(store, &object, &Bytes::from_static(b"first")).await;
        ok(upload.abort().await, "abort after a refused completion");
        assert_holds(store, &object, &Bytes::from_static(b"first")).await;
    }
    clean(store, &scratch).await;
}

/// Of several uploads and puts to one path exactly one succeeds, and the object is the one of that writer.
/// Nothing is checked of a store without [`Capabilities::atomic_create`].
pub async fn racing_completes_have_one_winner(store: &dyn Storage, capabilities: &Capabilities) {
    const RACERS: u8 = 8;
    if !capabilities.atomic_create {
        return;
    }
    let scratch = scratch();
    for round in 0..4 {
        let object = &below(&scratch, &format!("{round}/object.bin"));
        let results = join_all((0..RACERS).map(|racer| async move {
            let contents = pattern(20_000 + usize::from(racer), racer);
            if racer % 2 == 0 {
                return (contents.clone(), store.put(object, contents.into()).await);
            }
            let mut upload = match store.start_multipart(object).await {
                Ok(upload) => upload,
                Err(error) => return (contents, Err(error)),
            };
            ok(upload.put_part(contents.slice(..7_000)).await, "put a part");
            ok(upload.put_part(contents.slice(7_000..)).await, "put a part");
            (contents, upload.complete().await)
        }))
        .await;
        let mut winner = None;
        for (contents, result) in results {
            if result.is_ok() {
                assert!(winner.is_none(), "two writers of {object} succeeded");
                winner = Some(contents);
            } else {
                fails(
                    result,
                    StorageErrorKind::AlreadyExists,
                    "a writer that lost the race",
                );
            }
        }
        let Some(winner) = winner else {
            panic!("no writer of {object} succeeded")
        };
        assert_holds(store, object, &winner).await;
    }
    clean(store, &scratch).await;
}
