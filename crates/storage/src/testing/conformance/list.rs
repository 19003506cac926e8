//! Listing: prefixes, pages, many objects.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};

use super::{below, clean, list_all, listed_paths, ok, pattern, scratch};
use crate::Storage;

/// A prefix stands for a directory: it covers everything below at any depth, no name that merely begins like it, and
/// no object of just that name.
pub async fn prefixes_are_directories(store: &dyn Storage) {
    let scratch = scratch();
    let names = [
        "a/b/1", "a/b/c/2", "a/bc/3", "a/b.x", "a/b0", "a/B/4", "ab", "b/a/b/5",
    ];
    for name in names {
        ok(store.put(&below(&scratch, name), "x".into()).await, "put");
    }
    for (prefix, expected) in [
        (
            "a",
            vec!["a/B/4", "a/b.x", "a/b/1", "a/b/c/2", "a/b0", "a/bc/3"],
        ),
        ("a/b", vec!["a/b/1", "a/b/c/2"]),
        ("a/b/c", vec!["a/b/c/2"]),
        ("a/bc", vec!["a/bc/3"]),
        ("a/b0", vec![]),
        ("a/b/1", vec![]),
        ("ab", vec![]),
        ("nothing", vec![]),
        ("a/b/1/below", vec![]),
    ] {
        let listed = listed_paths(store, &below(&scratch, prefix)).await;
        let expected: Vec<_> = expected
            .into_iter()
            .map(|name| below(&scratch, name))
            .collect();
        assert_eq!(listed, expected, "objects below {prefix}");
    }
    assert_eq!(listed_paths(store, &scratch).await.len(), names.len());

    let everything = list_all(store, None).await;
    let ours = everything
        .iter()
        .filter(|meta| meta.path.is_below(&scratch))
        .count();
    assert_eq!(ours, names.len(), "our objects in a listing of everything");
    clean(store, &scratch).await;
}

/// More objects than fit on a page of any object store: each is listed once, with its size and time.
pub async fn listing_is_complete(store: &dyn Storage) {
    const OBJECTS: usize = 1_100;
    let scratch = &scratch();
    let names: BTreeSet<_> = (0..OBJECTS)
        .map(|i| below(scratch, &format!("{}/{i}.bin", i % 7)))
        .collect();
    stream::iter(names.iter().enumerate())
        .for_each_concurrent(32, |(i, object)| async move {
            ok(store.put(object, pattern(i % 50, 0).into()).await, "put");
        })
        .await;
    let listed = list_all(store, Some(scratch)).await;
    assert_eq!(listed.len(), OBJECTS, "number of listed objects");
    for ((i, object), meta) in names.iter().enumerate().zip(&listed) {
        assert_eq!(&meta.path, object);
        assert_eq!(
            usize::try_from(meta.size),
            Ok(i % 50),
            "size of {object} by list"
        );
    }
    if let Some(meta) = listed.first() {
        let head = ok(store.head(&meta.path).await, "head of a listed object");
        assert_eq!(&head, meta, "head and list differ");
    }
    clean(store, scratch).await;
}
