//! The feeder's row, its lease, and the right to write.

use crate::support::{
    DATA_PATH, Database, ORDERS, USERS, changes, epoch, execute, hook_error, kind, name,
    new_feeder, new_table,
};
use ducklake_catalog::{Catalog, CatalogErrorKind, CatalogOptions};
use feeder_core::control::{Control, ControlError, Look, TableTransition};
use feeder_core::{FeederError, FeederErrorKind, TableState};
use pgoutput::Lsn;
use serde_json::json;
use std::time::{Duration, Instant};
use uuid::Uuid;

#[tokio::test]
async fn a_feeder_is_registered_once_and_belongs_to_one_lake() {
    let Some(db) = Database::create().await else {
        return;
    };
    let catalog = db.migrated().await;
    let control = Control::new(&catalog, name("shop"));
    assert!(control.load_feeder().await.unwrap().is_none());
    assert_eq!(
        kind(control.acquire("here:1").await),
        FeederErrorKind::Catalog
    );
    control.register(&new_feeder(0x16_B374_D848)).await.unwrap();
    assert_eq!(
        kind(control.register(&new_feeder(5)).await),
        FeederErrorKind::Catalog
    );
    let row = control.load_feeder().await.unwrap().unwrap();
    assert_eq!(row.checkpoint, Lsn::new(0x16_B374_D848));
    assert_eq!(
        (row.system_identifier.as_str(), row.timeline),
        ("7400000000000000000", 3)
    );
    assert_eq!(
        (row.last_snapshot, row.commit_timestamp, row.attempt),
        (None, None, None)
    );
    assert!(!row.torn_down && row.owner.is_none());

    db.execute("create schema other").await;
    let mut options = CatalogOptions::new(db.options.clone());
    options.metadata_schema = "other".to_owned();
    let elsewhere = Control::new(&Catalog::connect(options).await.unwrap(), name("shop"));
    for error in [
        elsewhere.load_feeder().await.map(drop).unwrap_err(),
        elsewhere.acquire("here:1").await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), FeederErrorKind::Config);
        assert!(error.to_string().contains("`public`"), "{error}");
    }
    assert_eq!(
        kind(elsewhere.register(&new_feeder(5)).await),
        FeederErrorKind::Catalog
    );
    db.drop().await;
}

#[tokio::test]
async fn a_second_process_waits_and_is_told_who_runs() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, first) = db.feeder("shop").await;
    let (_, second) = db.connect_feeder("shop").await;
    let held = first.acquire("alpha:11").await.unwrap();

    let begun = Instant::now();
    let refused = second.acquire("beta:22").await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert_eq!(refused.kind(), FeederErrorKind::Fenced);
    assert!(refused.to_string().contains("alpha:11"), "{refused}");
    // The refusal took nothing from the first.
    first
        .advance_checkpoint(&held, Lsn::new(100), Lsn::new(101), &[])
        .await
        .unwrap();

    // Another feeder's lock is another lock.
    let (_, other) = db.connect_feeder("shop_two").await;
    other.register(&new_feeder(100)).await.unwrap();
    other.acquire("gamma:33").await.unwrap();

    let waiting = tokio::spawn(async move { second.acquire("beta:22").await });
    let generation = held.generation();
    drop(held);
    let next = waiting
        .await
        .unwrap()
        .expect("the lock became free while it waited");
    assert_eq!(next.generation().get(), generation.get() + 1);
    let row = first.load_feeder().await.unwrap().unwrap();
    assert_eq!(row.owner.as_deref(), Some("beta:22"));
    db.drop().await;
}

#[tokio::test]
async fn a_process_that_hangs_keeps_nothing_from_the_next() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control) = db.feeder("shop").await;
    // It stands still in the middle of a commit, with the lock, and its lease has run out.
    let mut lock = db.connection().await;
    execute(
        &mut lock,
        "select pg_advisory_lock(hashtextextended('duckfeeder:shop', 0))",
    )
    .await
    .unwrap();
    let (stuck, _) = db.connect_feeder("shop").await;
    let mut stuck = stuck.begin().await.unwrap();
    execute(
        &mut stuck,
        "update duckfeeder.feeders set checkpoint = '0/FFFF' where name = 'shop'",
    )
    .await
    .unwrap();
    db.execute(&format!(
        "insert into duckfeeder.leases values ('shop', '{}', 'alpha:11', clock_timestamp())",
        Uuid::new_v4()
    ))
    .await;

    let begun = Instant::now();
    let fence = control.acquire("beta:22").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited");
    assert_eq!(fence.generation().get(), 1);
    // Nothing of it can be committed any more.
    assert!(stuck.commit().await.is_err());
    assert_eq!(control.checkpoint(&fence).await.unwrap(), Lsn::new(100));
    assert!(execute(&mut lock, "select 1").await.is_err());
    // The lock is the next one's.
    let (_, third) = db.connect_feeder("shop").await;
    let look = third.claimant("gamma:33").look().await.unwrap();
    assert!(
        matches!(&look, Look::Held(Some(owner)) if owner == "beta:22"),
        "{look:?}"
    );
    db.drop().await;
}

#[tokio::test]
async fn a_lease_outlives_its_session_and_ends_when_another_takes_it() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control) = db.feeder("shop").await;
    let fence = control.acquire("alpha:11").await.unwrap();
    let (_, second) = db.connect_feeder("shop").await;
    let mut claimant = second.claimant("beta:22");
    assert!(matches!(claimant.look().await.unwrap(), Look::Held(_)));

    // The catalog was away for longer than a lease: whoever stood by leaves the holder the time to come back.
    let end_sessions = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    db.execute(end_sessions).await;
    db.execute("update duckfeeder.leases set expires_at = clock_timestamp()")
        .await;
    assert!(claimant.look().await.is_err());
    for _ in 0..30 {
        let look = claimant.look().await.unwrap();
        assert!(matches!(look, Look::Held(_)), "{look:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    db.execute(&format!(
        "update duckfeeder.leases set holder = '{}', owner = 'gamma:33'",
        Uuid::new_v4()
    ))
    .await;
    let lost = tokio::time::timeout(Duration::from_secs(20), fence.lease().lost())
        .await
        .expect("it was taken");
    let lost = FeederError::from(lost);
    assert_eq!(lost.kind(), FeederErrorKind::Fenced);
    assert!(lost.to_string().contains("gamma:33"), "{lost}");
    db.drop().await;
}

#[tokio::test]
async fn a_stale_generation_changes_nothing() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    catalog.bootstrap(DATA_PATH).await.unwrap();
    let stale = control.acquire("alpha:11").await.unwrap();
    control
        .insert_tables(&stale, &[new_table(USERS, "users")])
        .await
        .unwrap();
    control
        .declare_files(&stale, &[("a.parquet".to_owned(), 7)])
        .await
        .unwrap();

    // The lock's connection dies, and another process takes over.
    db.execute(
        "select pg_terminate_backend(pid) from pg_locks
         where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
    )
    .await;
    let fresh = control.acquire("beta:22").await.unwrap();

    let head = catalog.head().await.unwrap();
    let mut hook = epoch(&stale, 100, 200);
    let refused = catalog.commit(&changes("s1"), &mut hook).await.unwrap_err();
    assert_eq!(*refused.kind(), CatalogErrorKind::Hook);
    match hook_error(&refused) {
        ControlError::Fenced {
            held,
            current,
            owner,
            ..
        } => {
            assert_eq!((*held, *current), (stale.generation(), fresh.generation()));
            assert_eq!(owner.as_deref(), Some("beta:22"));
        }
        other => panic!("{other}"),
    }
    let (from, to) = (Lsn::new(100), Lsn::new(200));
    for result in [
        control.advance_checkpoint(&stale, from, to, &[]).await,
        control
            .declare_files(&stale, &[("b.parquet".to_owned(), 7)])
            .await,
        control
            .insert_tables(&stale, &[new_table(ORDERS, "orders")])
            .await,
        control
            .update_tables(&stale, &[TableTransition::copying(USERS)])
            .await,
        control.take_resync_requests(&stale).await.map(drop),
        control.store_publication(&stale, &json!({}), &[]).await,
        control.resolve_attempt(&stale, Uuid::nil()).await.map(drop),
        control.checkpoint(&stale).await.map(drop),
        control.tear_down(&stale).await,
    ] {
        assert_eq!(kind(result), FeederErrorKind::Fenced);
    }
    assert_eq!(catalog.head().await.unwrap().id, head.id);
    assert_eq!(control.checkpoint(&fresh).await.unwrap(), from);
    assert_eq!(control.pending_files().await.unwrap().len(), 1);
    let tables = control.tables().await.unwrap();
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].state, TableState::Pending);
    db.drop().await;
}
