//! The store that fails on demand.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use storage::testing::{Fault, FaultStorage, Moment};
use storage::{LocalStorage, ObjectPath, Operation, Storage, StorageErrorKind};
use tempfile::TempDir;
use tokio::time::Instant;

#[allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]
fn setup() -> (TempDir, LocalStorage, FaultStorage, ObjectPath) {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalStorage::open(directory.path()).unwrap();
    let faults = FaultStorage::new(Arc::new(local.clone()));
    (
        directory,
        local,
        faults,
        ObjectPath::parse("a/object").unwrap(),
    )
}

#[tokio::test]
async fn faults_strike_in_the_order_of_their_injection_and_then_end() {
    let (_directory, local, faults, object) = setup();
    faults.inject(Operation::Put, 2, Fault::refused(StorageErrorKind::NoSpace));
    faults.inject(
        Operation::Put,
        1,
        Fault::answer_lost(StorageErrorKind::Timeout),
    );
    for kind in [
        StorageErrorKind::NoSpace,
        StorageErrorKind::NoSpace,
        StorageErrorKind::Timeout,
    ] {
        assert!(local.head(&object).await.is_err());
        let error = faults.put(&object, "x".into()).await.unwrap_err();
        assert_eq!((error.kind(), error.path()), (kind, "a/object"));
    }
    assert_eq!(
        local.head(&object).await.unwrap().size,
        1,
        "only the answer was lost"
    );
    let error = faults.put(&object, "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::AlreadyExists);
    assert_eq!(faults.calls(Operation::Put), 4);
    assert_eq!(faults.calls(Operation::Head), 0);
}

#[tokio::test]
async fn a_clone_is_the_remote_control_and_clear_ends_everything() {
    let (_directory, _local, faults, object) = setup();
    let control = faults.clone();
    control.inject(
        Operation::Put,
        u32::MAX,
        Fault::refused(StorageErrorKind::Unavailable),
    );
    faults.put(&object, "x".into()).await.unwrap_err();
    control.clear();
    faults.put(&object, "x".into()).await.unwrap();
    assert_eq!(control.calls(Operation::Put), 2);
}

#[tokio::test]
async fn a_call_is_held_before_or_after_its_work() {
    for (moment, done) in [(Moment::BeforeWork, false), (Moment::AfterWork, true)] {
        let (_directory, local, faults, object) = setup();
        let hold = faults.hold(Operation::Put, moment);
        let put = tokio::spawn({
            let (faults, object) = (faults.clone(), object.clone());
            async move { faults.put(&object, "x".into()).await }
        });
        hold.arrived(1).await;
        assert!(hold.arrived(2).now_or_never().is_none());
        assert!(!put.is_finished());
        assert_eq!(local.head(&object).await.is_ok(), done, "{moment:?}");
        hold.release();
        put.await.unwrap().unwrap();
        assert!(local.head(&object).await.is_ok());
    }
}

#[tokio::test]
async fn a_dropped_hold_lets_everything_pass() {
    let (_directory, _local, faults, object) = setup();
    drop(faults.hold(Operation::Put, Moment::BeforeWork));
    faults.put(&object, "x".into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delay_lasts_as_long_as_it_says() {
    let (_directory, _local, faults, object) = setup();
    faults.delay(Operation::Put, Duration::from_secs(9));
    let began = Instant::now();
    faults.put(&object, "x".into()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(9));
    let began = Instant::now();
    faults.head(&object).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}
