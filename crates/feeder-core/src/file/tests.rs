use std::collections::BTreeSet;

use parquet_writer::RowBatchBuilder;
use pgoutput::Datum;
use storage::testing::{Fault, FaultStorage};
use storage::{LocalStorage, Operation, StorageErrorKind};

use super::*;
use crate::encode::{Op, RowEncoder, RowHead, RowOptions};
use crate::testing::{Column, INT8, TEXT, lake_table, source_columns, text};

const COLUMNS: [Column; 2] = [("id", INT8, -1), ("body", TEXT, -1)];

/// A store in a directory that goes with it.
struct Store {
    faults: FaultStorage,
    _directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalStorage::open(directory.path()).unwrap();
        Self {
            faults: FaultStorage::new(Arc::new(local)),
            _directory: directory,
        }
    }

    fn writer(&self) -> FileWriter {
        let storage: Arc<dyn Storage> = Arc::new(self.faults.clone());
        let table = Arc::new(lake_table(1, "notes", &COLUMNS));
        let name = LakeTable::new_file_name();
        // Small row groups, so that a few rows make several parts.
        let options = EncodeOptions {
            row_group_rows: 10,
            ..EncodeOptions::default()
        };
        FileWriter::new(storage, table, name, &options).unwrap()
    }

    async fn objects(&self) -> Vec<(String, u64)> {
        let page = self.faults.list(None, None).await.unwrap();
        page.objects
            .into_iter()
            .map(|object| (object.path.as_str().to_owned(), object.size))
            .collect()
    }
}

fn batch(count: i64) -> RecordBatch {
    let columns = source_columns(&COLUMNS);
    let table = lake_table(1, "notes", &COLUMNS);
    let mut batch = RowBatchBuilder::new(&table.schema);
    let mut encoder = RowEncoder::new(&columns, &["id", "body"], RowOptions::default());
    for seq in 0..count {
        let head = RowHead {
            op: Op::Insert,
            timestamp: 1,
            lsn: 2,
            seq,
        };
        let id = seq.to_string();
        let values = [text(&id), Datum::Null].into_iter();
        encoder
            .append(
                &mut batch,
                head,
                values,
                None::<std::iter::Empty<_>>,
                None::<std::iter::Empty<_>>,
            )
            .unwrap();
    }
    batch.finish().unwrap()
}

#[tokio::test]
async fn a_small_file_is_one_object() {
    let store = Store::new();
    let mut writer = store.writer();
    writer.write(batch(3)).await.unwrap();
    assert!(
        store.objects().await.is_empty(),
        "nothing is visible before the end"
    );
    let file = writer.finish().await.unwrap();
    assert_eq!(
        store.objects().await,
        [(file.object_path.clone(), file.data.file_size_bytes)]
    );
    assert_eq!(file.object_path, format!("raw/notes/{}", file.data.path));
    assert_eq!(file.data.record_count, 3);
    assert_eq!(store.faults.calls(Operation::Put), 1);
    assert_eq!(store.faults.calls(Operation::StartMultipart), 0);
    // The leaves are our six columns, the lists by their elements, and the table's two.
    let ids: Vec<i64> = file.data.columns.iter().map(|c| c.column.get()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 6, 8, 9, 10]);
    let body = file.data.columns.last().unwrap();
    assert_eq!((body.value_count, body.null_count), (0, 3));
}

#[tokio::test]
async fn a_large_file_is_uploaded_as_it_grows() {
    let store = Store::new();
    let mut writer = store.writer();
    for _ in 0..3 {
        writer.write(batch(10)).await.unwrap();
    }
    assert_eq!(store.faults.calls(Operation::StartMultipart), 1);
    assert!(store.faults.calls(Operation::PutPart) >= 2);
    assert!(store.objects().await.is_empty());
    let file = writer.finish().await.unwrap();
    assert_eq!(file.data.record_count, 30);
    assert_eq!(
        store.objects().await,
        [(file.object_path, file.data.file_size_bytes)]
    );
    assert_eq!(store.faults.calls(Operation::Put), 0);
}

#[tokio::test]
async fn a_store_that_fails_leaves_no_object_and_says_that_it_may_pass() {
    for operation in [
        Operation::Put,
        Operation::StartMultipart,
        Operation::PutPart,
        Operation::Complete,
    ] {
        let store = Store::new();
        store
            .faults
            .inject(operation, 1, Fault::refused(StorageErrorKind::Unavailable));
        let mut writer = store.writer();
        let rows = if operation == Operation::Put { 3 } else { 25 };
        let error = match writer.write(batch(rows)).await {
            Err(error) => {
                writer.abort().await;
                error
            }
            Ok(()) => writer.finish().await.unwrap_err(),
        };
        assert_eq!(error.kind(), FeederErrorKind::Storage, "{operation:?}");
        assert!(error.is_transient(), "{operation:?}: {error}");
        assert!(store.objects().await.is_empty(), "{operation:?}");
    }
}

#[tokio::test]
async fn an_upload_that_is_lost_may_begin_again() {
    for (operation, kind) in [
        (Operation::Complete, StorageErrorKind::UploadClosed),
        (Operation::PutPart, StorageErrorKind::UploadClosed),
        (Operation::Put, StorageErrorKind::AlreadyExists),
    ] {
        let store = Store::new();
        store.faults.inject(operation, 1, Fault::refused(kind));
        let mut writer = store.writer();
        let rows = if operation == Operation::Put { 3 } else { 25 };
        let error = match writer.write(batch(rows)).await {
            Err(error) => error,
            Ok(()) => writer.finish().await.unwrap_err(),
        };
        assert!(
            error.is_transient(),
            "{operation:?}: its next name is another"
        );
        assert_eq!(error.kind(), FeederErrorKind::Storage);
    }
}

#[tokio::test]
async fn a_refused_privilege_is_permanent() {
    let store = Store::new();
    let fault = Fault::refused(StorageErrorKind::PermissionDenied);
    store.faults.inject(Operation::Put, 1, fault);
    let mut writer = store.writer();
    writer.write(batch(1)).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.remedy().is_some());
}

#[tokio::test]
async fn an_aborted_file_is_never_visible() {
    let store = Store::new();
    let mut writer = store.writer();
    writer.write(batch(25)).await.unwrap();
    writer.abort().await;
    assert!(store.objects().await.is_empty());
    assert_eq!(store.faults.calls(Operation::Abort), 1);
}

#[tokio::test]
async fn rows_of_another_table_are_refused_and_the_file_is_not_used_again() {
    let store = Store::new();
    let mut writer = store.writer();
    let other = lake_table(2, "other", &[("id", TEXT, -1)]);
    let mut rows = RowBatchBuilder::new(&other.schema);
    let error = writer.write(rows.finish().unwrap()).await;
    let error = error.expect_err("another schema");
    assert_eq!(error.kind(), FeederErrorKind::Data);
    assert!(!error.is_transient());
    assert!(error.to_string().contains("raw.notes"), "{error}");
}

#[test]
fn names_are_never_used_twice() {
    let names: BTreeSet<String> = (0..1000).map(|_| LakeTable::new_file_name()).collect();
    assert_eq!(names.len(), 1000);
    for name in &names {
        assert!(
            name.starts_with("duckfeeder-") && name.ends_with(".parquet"),
            "{name}"
        );
        assert!(ObjectPath::parse(&format!("raw/notes/{name}")).is_ok());
    }
}

#[test]
fn a_commit_expects_exactly_the_lakes_columns() {
    let table = lake_table(1, "notes", &COLUMNS);
    let expected = table.expected_columns();
    assert_eq!(expected.len(), table.columns.len());
    for ((id, name, lake_type), column) in expected.iter().zip(&table.columns) {
        assert_eq!(id.get(), column.ids.id.get());
        assert_eq!((name, lake_type), (&column.name, &column.lake_type));
    }
}

#[tokio::test]
async fn an_upload_that_cannot_be_completed_is_given_up() {
    for operation in [Operation::PutPart, Operation::Complete] {
        let store = Store::new();
        let mut writer = store.writer();
        for _ in 0..3 {
            writer.write(batch(10)).await.unwrap();
        }
        let fault = Fault::refused(StorageErrorKind::Unavailable);
        store.faults.inject(operation, 1, fault);
        let error = writer.finish().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(store.faults.calls(Operation::Abort), 1, "{operation}");
        assert!(store.objects().await.is_empty());
    }
}
