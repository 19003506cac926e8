//! Reads: ranges at their edges, heads, what is missing.

use std::ops::Range;

use bytes::Bytes;

use super::{assert_absent, below, clean, fails, ok, pattern, scratch};
use crate::{Storage, StorageErrorKind};

/// Ranges at both ends, in the middle, over the end, and those that are none.
pub async fn ranges_are_cut_at_the_end(store: &dyn Storage) {
    const LENGTH: u64 = 100_000;
    let scratch = scratch();
    let object = below(&scratch, "object.bin");
    let contents = pattern(100_000, 7);
    ok(store.put(&object, contents.clone().into()).await, "put");
    let ranges: [Range<u64>; 10] = [
        0..1,
        0..LENGTH,
        1..LENGTH - 1,
        LENGTH - 1..LENGTH,
        LENGTH - 8..LENGTH,
        50_000..50_001,
        0..LENGTH + 1,
        LENGTH - 1..LENGTH + 1_000,
        0..u64::MAX,
        LENGTH - 5..u64::MAX,
    ];
    for range in ranges {
        let read = ok(store.get_range(&object, range.clone()).await, "get a range");
        let expected = contents.slice(index(range.start)..index(range.end.min(LENGTH)));
        assert!(
            read == expected,
            "the range {range:?} of {LENGTH} bytes is wrong"
        );
    }
    let reversed = Range { start: 9, end: 3 };
    for range in [
        LENGTH..LENGTH + 1,
        LENGTH + 5..u64::MAX,
        u64::MAX - 1..u64::MAX,
        0..0,
        9..9,
        reversed,
    ] {
        let what = format!("get the range {range:?} of {LENGTH} bytes");
        fails(
            store.get_range(&object, range).await,
            StorageErrorKind::InvalidRange,
            &what,
        );
    }
    let empty = below(&scratch, "empty.bin");
    ok(
        store.put(&empty, Bytes::new().into()).await,
        "put an empty object",
    );
    let read = store.get_range(&empty, 0..1).await;
    fails(
        read,
        StorageErrorKind::InvalidRange,
        "get a range of an empty object",
    );
    clean(store, &scratch).await;
}

#[track_caller]
fn index(offset: u64) -> usize {
    match usize::try_from(offset) {
        Ok(index) => index,
        Err(error) => panic!("{offset}: {error}"),
    }
}

/// What is not there is reported so, in a missing directory, below an object, and for a directory itself.
pub async fn missing_objects_are_not_found(store: &dyn Storage) {
    let scratch = scratch();
    assert_absent(store, &below(&scratch, "nothing/at/all")).await;
    ok(
        store.put(&below(&scratch, "dir/object"), "x".into()).await,
        "put",
    );
    for absent in [
        "dir",
        "dir/objec",
        "dir/object2",
        "dir/object/below",
        "di",
        "dir/Object",
    ] {
        assert_absent(store, &below(&scratch, absent)).await;
    }
    clean(store, &scratch).await;
}
