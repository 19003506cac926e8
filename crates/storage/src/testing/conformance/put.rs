//! Create-only puts, and that nobody sees a part of one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{join, join_all};

use super::{
    Capabilities, assert_absent, assert_holds, below, clean, fails, length_of, ok, pattern, scratch,
};
use crate::{PutPayload, Storage, StorageErrorKind};

/// What is put can be read, in one chunk, in several, and in none; it has a plausible time.
pub async fn puts_are_read_back(store: &dyn Storage) {
    /// Clocks of the store and of this machine may differ.
    const CLOCK_TOLERANCE: Duration = Duration::from_hours(1);
    let scratch = scratch();
    let began = SystemTime::now();

    let one = below(&scratch, "deep/er/one.bin");
    ok(
        store.put(&one, Bytes::from_static(b"hello").into()).await,
        "put one chunk",
    );
    assert_holds(store, &one, &Bytes::from_static(b"hello")).await;

    let chunks = vec![
        pattern(70_001, 1),
        Bytes::new(),
        pattern(1, 2),
        pattern(4_096, 3),
    ];
    let several = below(&scratch, "deep/several.bin");
    ok(
        store.put(&several, chunks.clone().into()).await,
        "put several chunks",
    );
    assert_holds(store, &several, &chunks.concat().into()).await;

    for (name, payload) in [
        ("none.bin", PutPayload::default()),
        ("empty.bin", PutPayload::from(Bytes::new())),
    ] {
        let empty = below(&scratch, name);
        ok(store.put(&empty, payload).await, "put an empty object");
        assert_holds(store, &empty, &Bytes::new()).await;
    }

    let written = ok(store.head(&one).await, "head of an object").last_modified;
    assert!(
        written + CLOCK_TOLERANCE > began && written < SystemTime::now() + CLOCK_TOLERANCE,
        "an object of just now has the time {written:?}"
    );
    clean(store, &scratch).await;
}

/// A put onto an object fails and leaves the object as it was.
pub async fn put_is_create_only(store: &dyn Storage) {
    let scratch = scratch();
    let object = below(&scratch, "object.bin");
    let first = pattern(1_000, 1);
    ok(store.put(&object, first.clone().into()).await, "put");
    for second in [
        pattern(1_000, 2),
        pattern(10, 2),
        Bytes::new(),
        first.clone(),
    ] {
        let result = store.put(&object, second.into()).await;
        fails(
            result,
            StorageErrorKind::AlreadyExists,
            "put onto an object",
        );
        assert_holds(store, &object, &first).await;
    }
    clean(store, &scratch).await;
}

/// Of many concurrent puts of one path exactly one succeeds, and the object is the one of that put. The contents
/// differ in length, by which a layer that repeats lost answers tells its own from another's.
/// Nothing is checked of a store without [`Capabilities::atomic_create`].
pub async fn racing_puts_have_one_winner(store: &dyn Storage, capabilities: &Capabilities) {
    const RACERS: u8 = 16;
    const ROUNDS: usize = 8;
    if !capabilities.atomic_create {
        return;
    }
    let scratch = scratch();
    for round in 0..ROUNDS {
        let object = &below(&scratch, &format!("new directory {round}/object.bin"));
        let results = join_all((0..RACERS).map(|racer| async move {
            let contents = pattern(10_000 + usize::from(racer), racer);
            (contents.clone(), store.put(object, contents.into()).await)
        }))
        .await;
        let mut winner = None;
        for (contents, result) in results {
            if result.is_ok() {
                assert!(winner.is_none(), "two puts of {object} succeeded");
                winner = Some(contents);
            } else {
                fails(
                    result,
                    StorageErrorKind::AlreadyExists,
                    "a put that lost the race",
                );
            }
        }
        let Some(winner) = winner else {
            panic!("no put of {object} succeeded")
        };
        assert_holds(store, object, &winner).await;
    }
    clean(store, &scratch).await;
}

/// While a large object is put, a reader sees nothing or all of it.
pub async fn put_is_atomic(store: &dyn Storage) {
    const CHUNKS: u8 = 128;
    let scratch = scratch();
    let object = below(&scratch, "object.bin");
    let chunks: Vec<Bytes> = (0..CHUNKS).map(|seed| pattern(65_537, seed)).collect();
    let contents = Bytes::from(chunks.concat());
    assert_absent(store, &object).await;

    let done = AtomicBool::new(false);
    let write = async {
        let result = store.put(&object, chunks.into()).await;
        done.store(true, Ordering::Release);
        ok(result, "put a large object");
    };
    let read = async {
        while !done.load(Ordering::Acquire) {
            match store.head(&object).await {
                Ok(meta) => {
                    assert_eq!(
                        meta.size,
                        length_of(&contents),
                        "a part of an object is visible"
                    );
                    assert_holds(store, &object, &contents).await;
                }
                Err(error) => {
                    assert_eq!(error.kind(), StorageErrorKind::NotFound, "head: {error:?}");
                }
            }
            for meta in super::list_all(store, Some(&scratch)).await {
                assert_eq!(
                    meta.path, object,
                    "something else than the object is listed"
                );
                assert_eq!(
                    meta.size,
                    length_of(&contents),
                    "a part of an object is listed"
                );
            }
        }
    };
    join(write, read).await;
    assert_holds(store, &object, &contents).await;
    clean(store, &scratch).await;
}

/// A deletion removes the object and nothing else, can be repeated, and frees the path.
pub async fn deletes_are_idempotent(store: &dyn Storage) {
    let scratch = scratch();
    let (object, neighbour) = (below(&scratch, "a/object"), below(&scratch, "a/object2"));
    ok(
        store.delete(&object).await,
        "delete in a directory that is not there",
    );
    ok(store.put(&object, "first".into()).await, "put");
    ok(store.put(&neighbour, "other".into()).await, "put beside it");
    for _ in 0..2 {
        ok(store.delete(&object).await, "delete");
        assert_absent(store, &object).await;
    }
    assert_holds(store, &neighbour, &Bytes::from_static(b"other")).await;
    ok(store.put(&object, "again".into()).await, "put after delete");
    assert_holds(store, &object, &Bytes::from_static(b"again")).await;

    ok(
        store.delete(&below(&scratch, "a")).await,
        "delete a prefix, which is no object",
    );
    ok(
        store.delete(&below(&object, "below")).await,
        "delete below an object",
    );
    assert_holds(store, &object, &Bytes::from_static(b"again")).await;
    clean(store, &scratch).await;
}

/// A batch, longer than any object store takes in one request, removes all that it names, whether it is there or not,
/// and nothing else.
pub async fn batches_are_deleted(store: &dyn Storage) {
    use futures_util::{StreamExt, stream};
    const OBJECTS: usize = 1_100;
    let scratch = &scratch();
    let names: Vec<_> = (0..OBJECTS)
        .map(|i| below(scratch, &format!("{}/{i}+&<é>.bin", i % 3)))
        .collect();
    let kept = below(scratch, "0/kept");
    // Every seventh is not there.
    let missing = |i: usize| i % 7 == 3;
    stream::iter(names.iter().enumerate().filter(|(i, _)| !missing(*i)))
        .for_each_concurrent(32, |(_, object)| async move {
            ok(store.put(object, "x".into()).await, "put");
        })
        .await;
    ok(store.put(&kept, "kept".into()).await, "put");
    for _ in 0..2 {
        let results = store.delete_all(&names).await;
        assert_eq!(results.len(), names.len(), "one result for each path");
        for (result, name) in results.into_iter().zip(&names) {
            ok(result, &format!("delete {name} in a batch"));
        }
        assert_eq!(
            super::listed_paths(store, scratch).await,
            std::slice::from_ref(&kept),
            "after a batch of deletions"
        );
    }
    assert!(
        store.delete_all(&[]).await.is_empty(),
        "the result of an empty batch"
    );
    clean(store, scratch).await;
}
