//! Awkward names.

use bytes::Bytes;

use super::{Capabilities, assert_holds, below, clean, fails, listed_paths, ok, scratch};
use crate::{ObjectPath, Storage, StorageErrorKind};

/// Names that a URL, a shell, a glob, XML or a file system could take for something else.
const AWKWARD: [&str; 32] = [
    "plain",
    "with space",
    " spaces around ",
    "percent%20encoded",
    "percent%2Fslash",
    "percent%",
    "100%25",
    "plus+plus",
    "key=value",
    "ünïcöde",
    "u\u{308}nicode decomposed",
    "日本語",
    "duck 🦆",
    "quote'single",
    "quote\"double",
    "semicolon;comma,",
    "question?mark",
    "hash#tag",
    "glob*[a-z]{x}",
    "tilde~",
    "and&amp;",
    "<xml>",
    "colon:at@",
    "dollar$HOME",
    "back`tick",
    "pipe|caret^",
    "(brackets)!",
    "..dots..",
    "...",
    ".hidden",
    "-dash",
    "UPPER",
];

/// Awkward names, as directory and as name of the object, are kept byte for byte.
pub async fn awkward_names_are_kept(store: &dyn Storage) {
    let scratch = scratch();
    let mut objects: Vec<ObjectPath> = AWKWARD
        .into_iter()
        .map(|name| below(&scratch, &format!("{name}/{name}.parquet")))
        .chain([below(&scratch, "upper/upper.parquet")])
        .collect();
    objects.sort();
    for object in &objects {
        // The name as contents shows when two names meet in one object.
        let contents = Bytes::from(object.as_str().to_owned());
        ok(store.put(object, contents.into()).await, object.as_str());
    }
    for object in &objects {
        assert_holds(store, object, &Bytes::from(object.as_str().to_owned())).await;
    }
    assert_eq!(listed_paths(store, &scratch).await, objects);
    for name in AWKWARD {
        let prefix = below(&scratch, name);
        let listed = listed_paths(store, &prefix).await;
        assert_eq!(listed, [below(&prefix, &format!("{name}.parquet"))]);
    }
    for object in &objects {
        ok(store.delete(object).await, object.as_str());
        fails(
            store.head(object).await,
            StorageErrorKind::NotFound,
            object.as_str(),
        );
    }
    clean(store, &scratch).await;
}

/// Whether `a` and `a/b` can both be objects is as the capabilities say; in both cases nothing is lost.
pub async fn objects_beside_prefixes(store: &dyn Storage, capabilities: &Capabilities) {
    let scratch = scratch();
    let contents = |object: &ObjectPath| Bytes::from(object.as_str().to_owned());
    for (first, second) in [("x", "x/y"), ("z/y", "z")] {
        let (first, second) = (below(&scratch, first), below(&scratch, second));
        ok(store.put(&first, contents(&first).into()).await, "put");
        let put = store.put(&second, contents(&second).into()).await;
        let upload = match store.start_multipart(&second).await {
            Ok(mut upload) => upload.complete().await,
            Err(error) => Err(error),
        };
        if capabilities.objects_beside_prefixes {
            ok(put, "put beside a prefix");
            fails(
                upload,
                StorageErrorKind::AlreadyExists,
                "complete onto an object",
            );
            assert_holds(store, &second, &contents(&second)).await;
        } else {
            fails(put, StorageErrorKind::InvalidPath, "put beside a prefix");
            fails(
                upload,
                StorageErrorKind::InvalidPath,
                "upload beside a prefix",
            );
        }
        assert_holds(store, &first, &contents(&first)).await;
    }
    clean(store, &scratch).await;
}

/// The URL can be followed by a path.
pub async fn url_is_a_root(store: &dyn Storage) {
    let url = store.url();
    assert!(url.ends_with('/'), "the root {url} does not end with '/'");
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    assert!(
        !rest.contains("//"),
        "the root {url} contains an empty segment"
    );
    assert!(
        url.starts_with('/') || url.contains("://"),
        "the root {url} is not absolute"
    );
}
