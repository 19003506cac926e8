//! The contract of [`Storage`] as checks: run [`conformance`] on a store of your own, on every backend and on every
//! layer around one. Each check can also be run alone.
//!
//! A check panics with what it saw when the store breaks the contract. It works below a unique prefix and removes
//! what it made when it passes, so the suite can run beside others on a shared store.

#![expect(
    clippy::panic,
    reason = "a check reports a broken contract by panicking, as assert! does"
)]

mod list;
mod multipart;
mod names;
mod put;
mod read;

use std::pin::Pin;

use bytes::Bytes;
use tracing::info;
use uuid::Uuid;

pub use self::list::{listing_is_complete, prefixes_are_directories};
pub use self::multipart::{
    aborted_uploads_leave_nothing, complete_is_create_only, multipart_is_atomic,
    open_uploads_are_listed_and_aborted, parts_of_any_size_are_kept_in_order,
    racing_completes_have_one_winner,
};
pub use self::names::{awkward_names_are_kept, objects_beside_prefixes, url_is_a_root};
pub use self::put::{
    batches_are_deleted, deletes_are_idempotent, put_is_atomic, put_is_create_only,
    puts_are_read_back, racing_puts_have_one_winner,
};
pub use self::read::{missing_objects_are_not_found, ranges_are_cut_at_the_end};
use crate::{ObjectMeta, ObjectPath, Storage, StorageError, StorageErrorKind};

/// In what stores may differ within the contract. The default is what object stores do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `a` and `a/b` can both be objects. If not, whichever comes second is refused as
    /// [`InvalidPath`](StorageErrorKind::InvalidPath).
    pub objects_beside_prefixes: bool,
    /// Uploads in parts that nobody ends can be listed. If not, the store has to forget them by itself.
    pub lists_uploads: bool,
    /// Of several writers of one path at the same moment exactly one succeeds. If not, that is not checked, and
    /// writers need unique paths; a write that comes after another one is refused all the same.
    pub atomic_create: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            objects_beside_prefixes: true,
            lists_uploads: true,
            atomic_create: true,
        }
    }
}

impl Capabilities {
    /// What a file system offers, hence [`LocalStorage`](crate::LocalStorage).
    pub fn file_system() -> Self {
        Self {
            objects_beside_prefixes: false,
            ..Self::default()
        }
    }
}

/// One check of the suite.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The name of its function.
    pub name: &'static str,
    /// Runs it; the future panics when the store breaks the contract.
    pub run: for<'a> fn(&'a dyn Storage, &'a Capabilities) -> Run<'a>,
}

/// A check on its way.
pub type Run<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($check:ident($($argument:ident),*);)*) => {
        /// All checks, in the order in which [`conformance`] runs them.
        pub const CASES: &[Case] = &[
            $(Case {
                name: stringify!($check),
                run: |store, capabilities| {
                    let _all_take_the_store = capabilities;
                    cases!(@call $check store capabilities $($argument),*)
                },
            }),*
        ];
    };
    (@call $check:ident $store:ident $capabilities:ident store) => {
        Box::pin($check($store))
    };
    (@call $check:ident $store:ident $capabilities:ident store, capabilities) => {
        Box::pin($check($store, $capabilities))
    };
}

cases! {
    url_is_a_root(store);
    puts_are_read_back(store);
    put_is_create_only(store);
    racing_puts_have_one_winner(store, capabilities);
    put_is_atomic(store);
    parts_of_any_size_are_kept_in_order(store);
    multipart_is_atomic(store);
    aborted_uploads_leave_nothing(store);
    complete_is_create_only(store);
    racing_completes_have_one_winner(store, capabilities);
    ranges_are_cut_at_the_end(store);
    missing_objects_are_not_found(store);
    prefixes_are_directories(store);
    listing_is_complete(store);
    deletes_are_idempotent(store);
    batches_are_deleted(store);
    open_uploads_are_listed_and_aborted(store, capabilities);
    awkward_names_are_kept(store);
    objects_beside_prefixes(store, capabilities);
}

/// Runs all checks on `store`, which needs to be writable and may hold other objects.
///
/// # Panics
/// At the first check that fails.
pub async fn conformance(store: &dyn Storage, capabilities: &Capabilities) {
    for case in CASES {
        info!(%store, check = case.name, "conformance");
        (case.run)(store, capabilities).await;
    }
}

/// A prefix that nobody else uses.
fn scratch() -> ObjectPath {
    path(&format!("conformance-{}", Uuid::new_v4()))
}

#[track_caller]
fn path(text: &str) -> ObjectPath {
    ok(ObjectPath::parse(text), "a clean path")
}

#[track_caller]
fn below(prefix: &ObjectPath, relative: &str) -> ObjectPath {
    ok(prefix.join(relative), "a clean path")
}

#[track_caller]
fn ok<T>(result: Result<T, StorageError>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

#[track_caller]
fn fails<T>(result: Result<T, StorageError>, kind: StorageErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what}: succeeded, but should fail with {kind:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error:?}"),
    }
}

/// `length` bytes that differ from place to place, so that a shifted or repeated part shows.
fn pattern(length: usize, seed: u8) -> Bytes {
    let bytes =
        (0_u32..).map(|i| i.wrapping_mul(2_654_435_761).rotate_left(11).to_le_bytes()[0] ^ seed);
    bytes.take(length).collect()
}

fn length_of(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// All objects below `prefix`, in the order of their paths. Bounds the number of pages, so that a store whose pages
/// never end fails instead of hanging.
async fn list_all(store: &dyn Storage, prefix: Option<&ObjectPath>) -> Vec<ObjectMeta> {
    const MOST_PAGES: usize = 10_000;
    let mut objects = Vec::new();
    let mut token = None;
    for _ in 0..MOST_PAGES {
        let page = ok(store.list(prefix, token.as_ref()).await, "list a page");
        objects.extend(page.objects);
        token = page.next;
        if token.is_none() {
            objects.sort_by(|a, b| a.path.cmp(&b.path));
            return objects;
        }
    }
    panic!("the listing of {prefix:?} does not end after {MOST_PAGES} pages");
}

async fn listed_paths(store: &dyn Storage, prefix: &ObjectPath) -> Vec<ObjectPath> {
    list_all(store, Some(prefix))
        .await
        .into_iter()
        .map(|object| object.path)
        .collect()
}

/// Asserts that `object` exists with exactly these contents, by every way of looking at it.
async fn assert_holds(store: &dyn Storage, object: &ObjectPath, contents: &Bytes) {
    let meta = ok(store.head(object).await, "head of an object");
    assert_eq!(&meta.path, object, "head reports another path");
    assert_eq!(meta.size, length_of(contents), "size of {object} by head");
    if !contents.is_empty() {
        let read = ok(
            store.get_range(object, 0..meta.size).await,
            "get the whole object",
        );
        assert!(read == *contents, "{object} does not hold what was written");
    }
}

/// Asserts that there is no such object, by every way of looking for it.
async fn assert_absent(store: &dyn Storage, object: &ObjectPath) {
    fails(
        store.head(object).await,
        StorageErrorKind::NotFound,
        "head of an absent object",
    );
    let read = store.get_range(object, 0..1).await;
    fails(
        read,
        StorageErrorKind::NotFound,
        "get range of an absent object",
    );
    let parent = object
        .as_str()
        .rsplit_once('/')
        .map(|(parent, _)| path(parent));
    let listed = list_all(store, parent.as_ref()).await;
    assert!(
        listed.iter().all(|meta| &meta.path != object),
        "{object} is listed, but absent"
    );
}

/// Removes everything below `prefix`.
async fn clean(store: &dyn Storage, prefix: &ObjectPath) {
    use futures_util::{StreamExt, stream};
    let objects = listed_paths(store, prefix).await;
    stream::iter(objects)
        .for_each_concurrent(32, |object| async move {
            ok(store.delete(&object).await, "delete an object");
        })
        .await;
    assert_eq!(
        listed_paths(store, prefix).await,
        [],
        "objects that were deleted are listed"
    );
}
