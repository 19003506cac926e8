//! Each overflow strategy under a store that stands still: memory, what the producer sees, counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duckfeeder::append::{AppendBuilder, AppendCounts, AppendStream, Overflow};
use duckfeeder::storage::testing::{Fault, FaultStorage};
use duckfeeder::storage::{LocalStorage, Operation, StorageErrorKind};
use duckfeeder::{ErrorKind, Storage};
use duckfeeder_tests::process::peak_memory;
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig, soon, with_rig};

const BUDGET: u64 = 1 << 20;
/// Of 1 KiB each: many times the budget.
const ROWS: usize = 20_000;

fn row(n: usize) -> Value {
    json!({"n": n, "text": "x".repeat(1000)})
}

/// A stream whose store can be stopped.
async fn stopped(rig: &Rig, overflow: Overflow) -> (AppendStream, FaultStorage) {
    std::fs::create_dir_all(rig.lake_dir()).unwrap();
    let local: Arc<dyn Storage> = Arc::new(LocalStorage::open(&rig.lake_dir()).unwrap());
    let store = FaultStorage::new(local);
    let builder: AppendBuilder = rig.builder();
    let store_of_stream: Arc<dyn Storage> = Arc::new(store.clone());
    let stream = builder
        .storage(store_of_stream)
        .memory(BUDGET)
        .overflow(overflow)
        .spawn()
        .unwrap();
    soon(stream.append_durable("events", &json!({"n": -1, "text": ""})))
        .await
        .unwrap();
    for operation in [Operation::Put, Operation::StartMultipart] {
        let fault = Fault::refused(StorageErrorKind::Unavailable);
        store.inject(operation, u32::MAX, fault);
    }
    (stream, store)
}

fn counts(stream: &AppendStream) -> AppendCounts {
    stream.counts()[0].1
}

/// What a process holds of a budget: the rows, the memory that builders grow into, and one file being encoded.
fn expect_bounded(stream: &AppendStream, peak_before: u64) {
    let buffered = stream.buffered_bytes();
    assert!(buffered <= 2 * BUDGET, "{buffered} bytes are buffered");
    let peak = peak_memory(std::process::id()).unwrap();
    let grown = peak.saturating_sub(peak_before);
    println!("buffered {buffered} bytes, peak memory grew by {grown} bytes");
    assert!(grown < 16 * BUDGET, "{grown} bytes more than before");
}

async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn block_has_the_producer_wait_and_loses_nothing() {
    with_rig(async |rig| {
        let (stream, store) = stopped(rig, Overflow::Block).await;
        let peak = peak_memory(std::process::id()).unwrap();
        let producer = tokio::spawn({
            let stream = stream.clone();
            async move {
                for n in 0..ROWS {
                    stream.append("events", &row(n)).await.unwrap();
                }
            }
        });
        wait_for("a blocked row", || counts(&stream).blocked == 1).await;
        let accepted = counts(&stream).accepted;
        assert!(accepted < 2_000, "{accepted}");
        // What cannot wait is refused.
        let error = stream.try_append("events", &row(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overflow);
        assert!(!producer.is_finished());
        expect_bounded(&stream, peak);
        store.clear();
        soon(producer).await.unwrap();
        soon(stream.flush()).await.unwrap();
        expect_bounded(&stream, peak);
        assert_eq!(
            rig.rows(
                "select count(*), count(distinct n), max(n) from lake.raw.events where n >= 0"
            ),
            [[ROWS.to_string(), ROWS.to_string(), (ROWS - 1).to_string()]]
        );
        let counts = counts(&stream);
        assert_eq!(counts.committed, counts.accepted);
        assert_eq!((counts.dropped, counts.lost), (0, 0));
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn fail_tells_the_producer_and_the_stream_lives() {
    with_rig(async |rig| {
        let (stream, store) = stopped(rig, Overflow::Fail).await;
        let peak = peak_memory(std::process::id()).unwrap();
        let mut refused = 0;
        for n in 0..ROWS {
            match stream.append("events", &row(n)).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Overflow, "{error}");
                    assert!(error.is_transient());
                    refused += 1;
                }
            }
        }
        assert!(refused > ROWS as u64 / 2, "{refused}");
        assert_eq!(counts(&stream).refused, refused);
        expect_bounded(&stream, peak);
        store.clear();
        soon(stream.flush()).await.unwrap();
        soon(stream.append_durable("events", &row(ROWS)))
            .await
            .unwrap();
        let counts = counts(&stream);
        assert_eq!(counts.accepted, ROWS as u64 - refused + 2);
        assert_eq!(counts.committed, counts.accepted);
        assert_eq!(
            rig.scalar("select count(*) from lake.raw.events"),
            counts.accepted.to_string()
        );
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn drop_oldest_keeps_the_newest_rows_and_tells_who_waits_for_the_others() {
    with_rig(async |rig| {
        let (stream, store) = stopped(rig, Overflow::DropOldest).await;
        let peak = peak_memory(std::process::id()).unwrap();
        let mut receipts = Vec::new();
        for n in 0..ROWS {
            let receipt = stream.append("events", &row(n)).await.unwrap();
            if n % 100 == 0 {
                receipts.push(receipt);
            }
        }
        expect_bounded(&stream, peak);
        store.clear();
        soon(stream.flush()).await.unwrap();
        let counts = counts(&stream);
        assert!(counts.dropped > ROWS as u64 / 2, "{counts:?}");
        assert_eq!(counts.committed + counts.dropped, counts.accepted);
        assert_eq!(
            rig.rows("select count(*), max(n) from lake.raw.events"),
            [[counts.committed.to_string(), (ROWS - 1).to_string()]]
        );
        // A receipt tells the truth of its row.
        let kept = rig.rows("select n from lake.raw.events where n % 100 = 0");
        for (index, receipt) in receipts.into_iter().enumerate() {
            let expected = kept.contains(&vec![(index * 100).to_string()]);
            match soon(receipt.durable()).await {
                Ok(_) => assert!(expected, "row {index}"),
                Err(error) => {
                    assert!(!expected, "row {index}");
                    assert_eq!(error.kind(), ErrorKind::Overflow);
                }
            }
        }
        soon(stream.shutdown()).await.unwrap();
    });
}

#[test]
fn a_producers_rows_are_never_dropped() {
    with_rig(async |rig| {
        let (stream, store) = stopped(rig, Overflow::DropOldest).await;
        let mut producer = stream.producer("p");
        let mut taken = 0;
        let error = loop {
            match producer.append("events", taken, &row(0)).await {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Overflow);
        store.clear();
        // It comes again under its number.
        soon(stream.flush()).await.unwrap();
        soon(producer.append_durable("events", taken, &row(0)))
            .await
            .unwrap();
        assert_eq!(
            rig.rows("select count(*), max(_df_seq) from lake.raw.events where n >= 0"),
            [[(taken + 1).to_string(), taken.to_string()]]
        );
        soon(stream.shutdown()).await.unwrap();
    });
}
