//! What a host can rely on without any server: nothing blocks, nothing panics, errors say what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use duckfeeder::{ErrorKind, Feeder, Lsn, Outcome, Phase, Storage, Store, Table};

/// A builder with everything; nothing listens on port 1.
fn builder() -> (tempfile::TempDir, duckfeeder::Builder) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display());
    let builder = Feeder::builder()
        .source("postgres://feeder@127.0.0.1:1/shop")
        .tables(["public.*"])
        .storage(url);
    (directory, builder)
}

/// Fails instead of hanging.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("within 20 s")
}

#[test]
fn mistakes_are_found_before_anything_starts() {
    let (_directory, complete) = builder();
    complete.build().unwrap();
    let cases: Vec<(duckfeeder::Builder, &str)> = vec![
        (
            Feeder::builder().tables(["a.b"]).storage("file:///x"),
            "source is missing",
        ),
        (
            Feeder::builder()
                .source("postgres://f@h/d")
                .storage("file:///x"),
            "tables is missing",
        ),
        (
            Feeder::builder().source("postgres://f@h/d").tables(["a.b"]),
            "storage is missing",
        ),
        (
            builder().1.name("Shop!"),
            "name: `Shop!` is not a feeder name: use 1 to 40 of a-z, 0-9 and _",
        ),
        (
            builder().1.source("mysql://f@h/d"),
            "source: connection url must begin with postgres:// or postgresql://",
        ),
        (
            builder().1.catalog("mysql://f@h/d"),
            "catalog: connection url must begin with postgres:// or postgresql://",
        ),
        (
            builder().1.tables(["orders"]),
            "tables: `orders` names no schema",
        ),
        (
            builder().1.table(Table::new(".orders")),
            "tables: `.orders` names no schema",
        ),
        (
            builder().1.slot("Slot"),
            "slot: \"Slot\" is no slot name: use 1 to 63 lower-case letters, digits and underscores",
        ),
        (
            builder().1.flush_interval(Duration::ZERO),
            "flush_interval is zero",
        ),
        (builder().1.copy_workers(0), "copy_workers is zero"),
        (
            builder().1.maintenance_interval(Some(Duration::ZERO)),
            "maintenance_interval is zero",
        ),
        (
            builder().1.maintenance_grace(Duration::from_mins(59)),
            "maintenance_grace is below one hour",
        ),
    ];
    for (builder, message) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), ErrorKind::Config, "{message}");
        assert!(error.remedy().is_some(), "{message}");
        assert!(!error.is_transient(), "{message}");
    }
    let error = builder().1.storage("ftp://host/lake").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("ftp"), "{error}");
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let builder = builder()
        .1
        .source("postgres://f:hunter2@h/d")
        .catalog("postgres://f:hunter2@h/d")
        .password_provider(|| async { Ok::<_, std::io::Error>("hunter2".to_owned()) });
    assert!(!format!("{builder:?}").contains("hunter2"));
    assert!(!format!("{:?}", builder.build().unwrap()).contains("hunter2"));
}

#[test]
fn a_store_of_the_host_is_taken_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Storage> = Store::from(directory.path().to_str().unwrap())
        .open()
        .unwrap();
    builder().1.storage(store).build().unwrap();
}

#[test]
fn outside_a_runtime_the_handle_holds_the_error() {
    let handle = builder().1.build().unwrap().spawn();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let error = runtime.block_on(soon(handle.ready())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the feeder was started outside a tokio runtime"
    );
    assert!(runtime.block_on(soon(handle.wait())).is_err());
    assert!(runtime.block_on(soon(handle.shutdown())).is_err());
}

#[test]
fn a_runtime_without_drivers_is_an_error_and_no_panic_of_the_host() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = runtime
        .block_on(async { builder().1.build().unwrap().spawn().wait().await })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.to_string(), "the feeder's task panicked");
}

/// A source that cannot be reached is waited for, on any kind of runtime; a stop ends the wait.
fn unreachable_source_is_waited_for(runtime: &tokio::runtime::Runtime) {
    let (_directory, builder) = builder();
    runtime.block_on(async {
        let handle = builder.build().unwrap().spawn();
        let mut status = handle.status();
        soon(status.wait_for(|status| status.phase == Phase::Retrying))
            .await
            .unwrap();
        assert!(status.borrow().last_error.is_some());
        assert_eq!(soon(handle.shutdown()).await.unwrap(), Outcome::Stopped);
    });
}

#[test]
fn unreachable_source_on_one_thread() {
    unreachable_source_is_waited_for(
        &tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap(),
    );
}

#[test]
fn unreachable_source_on_many_threads() {
    unreachable_source_is_waited_for(
        &tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap(),
    );
}

#[tokio::test]
async fn run_ends_with_its_shutdown_future() {
    let (_directory, builder) = builder();
    let feeder = builder.build().unwrap();
    let mut status = feeder.status();
    let outcome = soon(feeder.run(async move {
        let _ = status
            .wait_for(|status| status.phase == Phase::Retrying)
            .await;
    }))
    .await;
    assert_eq!(outcome.unwrap(), Outcome::Stopped);
}

#[tokio::test]
async fn dropping_the_handle_stops_the_feeder() {
    let (_directory, builder) = builder();
    let handle = builder.build().unwrap().spawn();
    let mut status = handle.status();
    soon(status.wait_for(|status| status.phase == Phase::Retrying))
        .await
        .unwrap();
    drop(handle);
    // The sender goes with the task.
    soon(async { while status.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_disabled_feeder_is_ready_and_waits() {
    let directory = tempfile::tempdir().unwrap();
    let lake = directory.path().join("lake");
    let feeder = builder()
        .1
        .storage(format!("file://{}", lake.display()))
        .enabled(false)
        .build();
    let handle = feeder.unwrap().spawn();
    assert!(!lake.is_dir());
    assert!(!handle.is_enabled());
    soon(handle.ready()).await.unwrap();
    let error = soon(handle.wait_for_lsn(Lsn::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    tokio::select! {
        biased;
        _ = handle.wait() => panic!("a disabled feeder does not end"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(soon(handle.shutdown()).await.unwrap(), Outcome::Stopped);
}

#[tokio::test]
async fn waiting_is_possible_from_other_tasks() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let (_directory, builder) = builder();
    let handle = builder.build().unwrap().spawn();
    drop(assert_send(handle.ready()));
    drop(assert_send(handle.wait_for_lsn(Lsn::ZERO)));
    drop(assert_send(handle.wait()));
    drop(assert_send(handle.shutdown()));
}
