//! What the retry layer logs. Alone in its process: another test's thread without a subscriber could make tracing
//! remember that nobody listens.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use std::io::Write;
use std::sync::{Arc, Mutex};

use storage::testing::{Fault, FaultStorage};
use storage::{
    LocalStorage, ObjectPath, Operation, RetryPolicy, RetryStorage, Storage, StorageErrorKind,
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_repetition_is_logged_without_contents() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let directory = tempfile::tempdir().unwrap();
    let local = LocalStorage::open(directory.path()).unwrap();
    let faults = FaultStorage::new(Arc::new(local));
    faults.inject(
        Operation::Put,
        2,
        Fault::refused(StorageErrorKind::Unavailable),
    );
    let store = RetryStorage::new(Arc::new(faults), RetryPolicy::default());
    let object = ObjectPath::parse("main/t/x.parquet").unwrap();
    store.put(&object, "row value".into()).await.unwrap();
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    for (line, attempt) in warnings.iter().zip(1..) {
        for part in [
            "operation=put",
            "path=\"main/t/x.parquet\"",
            &format!("attempt={attempt}"),
            "max_attempts=5",
            "delay_ms=",
            "the store is unavailable",
            "fault injected by a test",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert!(!log.contains("row value"), "{log}");
}
