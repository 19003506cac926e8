//! The conformance suite as a table: a row for each check, a column for each store and for each layer around one.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests may fail loudly, and the table is for people"
)]

#[cfg(feature = "gcs")]
#[path = "support/gcs.rs"]
mod gcs;
#[cfg(feature = "s3")]
#[path = "support/s3.rs"]
mod s3;

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use storage::testing::conformance::CASES;
use storage::testing::{Capabilities, Fault, FaultStorage};
use storage::{LocalStorage, Operation, RetryPolicy, RetryStorage, Storage, StorageErrorKind};

/// How often an operation is tried; all but the last attempt fail in the columns with faults.
const ATTEMPTS: u32 = 3;

const OPERATIONS: [Operation; 11] = [
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

struct Column {
    name: String,
    store: Arc<dyn Storage>,
    capabilities: Capabilities,
}

/// A store, and the layers around it.
fn columns(name: &str, store: &Arc<dyn Storage>, capabilities: &Capabilities) -> Vec<Column> {
    let retry = |inner: Arc<dyn Storage>| -> Arc<dyn Storage> {
        let policy = RetryPolicy {
            max_attempts: NonZeroU32::new(ATTEMPTS).unwrap(),
            base: Duration::from_millis(1),
            cap: Duration::from_millis(5),
        };
        Arc::new(RetryStorage::new(inner, policy))
    };
    let faults = |fault: Option<Fault>| -> Arc<dyn Storage> {
        let faults = FaultStorage::new(Arc::clone(store));
        for (operation, fault) in OPERATIONS.iter().zip(fault.iter().cycle()) {
            faults.inject_on_each_path(*operation, ATTEMPTS - 1, fault.clone());
        }
        Arc::new(faults)
    };
    let refused = Fault::refused(StorageErrorKind::Unavailable);
    let lost = Fault::answer_lost(StorageErrorKind::Timeout);
    let layers: [(&str, Arc<dyn Storage>); 5] = [
        ("", Arc::clone(store)),
        (" faults", faults(None)),
        (" retry", retry(Arc::clone(store))),
        (" retry refused", retry(faults(Some(refused)))),
        (" retry lost", retry(faults(Some(lost)))),
    ];
    layers
        .into_iter()
        .map(|(layer, store)| Column {
            name: format!("{name}{layer}"),
            store,
            capabilities: capabilities.clone(),
        })
        .collect()
}

/// What a store lacks that the check asks for.
fn lacks(check: &str, capabilities: &Capabilities) -> Option<&'static str> {
    match check {
        "objects_beside_prefixes" if !capabilities.objects_beside_prefixes => {
            Some("no a beside a/b")
        }
        "racing_puts_have_one_winner" | "racing_completes_have_one_winner"
            if !capabilities.atomic_create =>
        {
            Some("races unchecked")
        }
        "open_uploads_are_listed_and_aborted" if !capabilities.lists_uploads => Some("lists none"),
        _ => None,
    }
}

/// The results of all checks on one store, in order.
async fn check(column: &Column) -> Vec<String> {
    let mut cells = Vec::new();
    for case in CASES {
        let (store, capabilities) = (Arc::clone(&column.store), column.capabilities.clone());
        let checked =
            tokio::spawn(async move { (case.run)(store.as_ref(), &capabilities).await }).await;
        cells.push(match checked {
            Err(_) => "FAILED".to_owned(),
            Ok(()) => lacks(case.name, &column.capabilities)
                .unwrap_or("ok")
                .to_owned(),
        });
    }
    cells
}

fn draw(columns: &[Column], results: &[Vec<String>]) -> String {
    let first = CASES.iter().map(|case| case.name.len()).max().unwrap();
    let widths: Vec<usize> = columns
        .iter()
        .zip(results)
        .map(|(column, cells)| {
            let cells = cells.iter().map(String::len).max().unwrap();
            column.name.len().max(cells)
        })
        .collect();
    let mut table = format!("{:first$}", "");
    for (column, width) in columns.iter().zip(&widths) {
        write!(table, " | {:width$}", column.name).unwrap();
    }
    for (row, case) in CASES.iter().enumerate() {
        write!(table, "\n{:first$}", case.name).unwrap();
        for (cells, width) in results.iter().zip(&widths) {
            write!(table, " | {:width$}", cells.get(row).unwrap()).unwrap();
        }
    }
    table
}

async fn expect_conformance(columns: Vec<Column>) {
    let results = join_all(columns.iter().map(check)).await;
    let table = draw(&columns, &results);
    println!("{table}");
    assert!(!table.contains("FAILED"), "a store breaks the contract");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_and_every_layer_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let local: Arc<dyn Storage> = Arc::new(LocalStorage::open(directory.path()).unwrap());
    let columns = columns("local", &local, &Capabilities::file_system());
    expect_conformance(columns).await;
    expect_nothing_left(&*local).await;
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_and_every_layer_conforms() {
    use storage::{CreateOnly, S3Options};

    let Some(bucket) = s3::TestBucket::create().await else {
        return;
    };
    let direct = bucket.direct();
    let mut columns = columns("s3", &direct, &Capabilities::default());
    columns.push(Column {
        name: "s3 by head".to_owned(),
        store: bucket.open(S3Options {
            create_only: CreateOnly::Head,
            ..bucket.options()
        }),
        capabilities: Capabilities {
            atomic_create: false,
            ..Capabilities::default()
        },
    });
    expect_conformance(columns).await;
    expect_nothing_left(&*direct).await;
}

#[cfg(feature = "gcs")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_and_every_layer_conforms() {
    let Some(bucket) = gcs::Bucket::create().await else {
        return;
    };
    let capabilities = Capabilities {
        lists_uploads: false,
        ..Capabilities::default()
    };
    let store = bucket.store("some/prefix");
    let mut columns = columns("gcs", &store, &capabilities);
    columns.push(Column {
        name: "gcs whole bucket".to_owned(),
        store: bucket.store(""),
        capabilities,
    });
    expect_conformance(columns).await;
    expect_nothing_left(&*bucket.store("")).await;
}

async fn expect_nothing_left(store: &dyn Storage) {
    let objects = store.list(None, None).await.unwrap().objects;
    assert!(objects.is_empty(), "objects are left: {objects:?}");
    let uploads = store.list_uploads(None, None).await.unwrap().uploads;
    assert!(uploads.is_empty(), "uploads are left: {uploads:?}");
}
