//! The control tables on a real Postgres.
//!
//! Needs `DUCKFEEDER_TEST_PG_URL`: a superuser's URL of a scratch server, in which each test makes a
//! database of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise"
)]

use std::time::{Duration, Instant};

use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgConnection};
use ducklake_catalog::sqlx::{self, AssertSqlSafe, Connection as _};
use ducklake_catalog::{
    Catalog, CatalogErrorKind, CatalogOptions, ChangeSet, ColumnDef, CommitHook as _, LakeType,
    TableDef,
};
use feeder_core::config::FeederName;
use feeder_core::control::{
    Control, ControlError, DeclaredFiles, EpochHook, Fence, Look, NewFeeder, NewTable, Resolution,
    TableError, TableTransition, migrations,
};
use feeder_core::{FeederError, FeederErrorKind, TableState};
use pgoutput::Lsn;
use serde_json::json;
use uuid::Uuid;

const COLUMNS: &str =
    "select string_agg(format('%s.%s %s %s %s', table_name, column_name, data_type,
    is_nullable, column_default), ', ' order by table_name, ordinal_position)
    from information_schema.columns where table_schema = 'duckfeeder'";
const ORDERS: u32 = 4_000_000_001;
const USERS: u32 = 16_385;

// ---- migrations ----------------------------------------------------------------------------------

#[tokio::test]
async fn migrations_run_once_however_often_and_by_however_many_they_are_asked_for() {
    let Some(db) = Database::create().await else {
        return;
    };
    let catalog = db.catalog().await;
    assert_eq!(migrations::version(&catalog).await.unwrap(), None);
    assert_eq!(
        kind(migrations::require(&catalog).await),
        FeederErrorKind::Catalog
    );

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let catalog = db.catalog().await;
        tasks.spawn(async move { migrations::up(&catalog).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().expect("every one of them succeeds");
    }
    migrations::up(&catalog).await.expect("nothing to do");
    migrations::require(&catalog).await.unwrap();
    assert_eq!(
        migrations::version(&catalog).await.unwrap(),
        Some(migrations::LATEST)
    );
    let applied: i64 = db
        .scalar("select count(*) from duckfeeder.migrations")
        .await;
    assert_eq!(applied, i64::from(migrations::LATEST));
    db.drop().await;
}

#[tokio::test]
async fn the_printed_script_makes_the_same_tables_and_can_run_again() {
    let Some(db) = Database::create().await else {
        return;
    };
    let catalog = db.catalog().await;
    migrations::up(&catalog).await.unwrap();
    let by_up: String = db.scalar(COLUMNS).await;
    migrations::down(&catalog).await.unwrap();
    assert_eq!(migrations::version(&catalog).await.unwrap(), None);

    for _ in 0..2 {
        db.execute(&migrations::script()).await;
    }
    let by_script: String = db.scalar(COLUMNS).await;
    assert_eq!(by_up, by_script);
    migrations::require(&catalog).await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_role_without_create_runs_on_tables_that_somebody_else_made() {
    let Some(db) = Database::create().await else {
        return;
    };
    let role = format!("feeder_{}", Uuid::new_v4().simple());
    db.execute(&format!("create role {role} nologin")).await;
    let plain = db.catalog_as(&role).await;

    let refused = migrations::up(&plain).await.unwrap_err();
    assert!(!refused.is_transient());
    assert!(
        refused
            .remedy()
            .is_some_and(|remedy| remedy.contains("grant"))
    );

    db.execute(&migrations::script()).await;
    let refused = migrations::up(&plain).await.unwrap_err();
    assert!(
        refused
            .remedy()
            .is_some_and(|remedy| remedy.contains("duckfeeder")),
        "{refused:?}"
    );

    db.execute(&format!(
        "grant usage on schema duckfeeder to {role};
         grant select, insert, update, delete on all tables in schema duckfeeder to {role}"
    ))
    .await;
    migrations::up(&plain)
        .await
        .expect("nothing to do, nothing refused");
    let control = Control::new(&plain, name("shop"));
    control.register(&new_feeder(100)).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    control
        .advance_checkpoint(&fence, Lsn::new(100), Lsn::new(200), &[])
        .await
        .unwrap();
    plain.close().await;
    db.execute(&format!("drop owned by {role}; drop role {role}"))
        .await;
    db.drop().await;
}

#[tokio::test]
async fn a_newer_database_is_refused_by_every_door() {
    let Some(db) = Database::create().await else {
        return;
    };
    let catalog = db.migrated().await;
    db.execute("insert into duckfeeder.migrations (version) values (9999)")
        .await;
    for result in [
        migrations::up(&catalog).await,
        migrations::require(&catalog).await,
        migrations::down(&catalog).await,
        migrations::version(&catalog).await.map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("version 9999"), "{error}");
        assert_eq!(error.remedy(), Some("upgrade duckfeeder"));
        assert!(!error.is_transient());
    }
    db.drop().await;
}

#[tokio::test]
async fn down_waits_for_no_feeder_and_never_touches_the_lake() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    catalog.bootstrap(DATA_PATH).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    let refused = migrations::down(&catalog).await.unwrap_err();
    assert_eq!(refused.kind(), FeederErrorKind::Fenced);
    assert!(refused.to_string().contains("here:1"), "{refused}");
    drop(fence);
    db.eventually("the lock is free", async || {
        migrations::down(&catalog).await.is_ok()
    })
    .await;
    assert_eq!(migrations::version(&catalog).await.unwrap(), None);
    migrations::down(&catalog).await.expect("down of nothing");
    catalog.head().await.expect("the lake is there");
    let missing = control.load_feeder().await.unwrap_err();
    assert!(!missing.is_transient());
    assert!(
        missing
            .remedy()
            .is_some_and(|remedy| remedy.contains("duckfeeder migrate"))
    );
    db.drop().await;
}

// ---- the feeder's row and the right to write -----------------------------------------------------

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

// ---- commits -------------------------------------------------------------------------------------

#[tokio::test]
async fn a_commit_carries_everything_or_nothing() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    catalog.bootstrap(DATA_PATH).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    let tables = [new_table(USERS, "users"), new_table(ORDERS, "orders")];
    control.insert_tables(&fence, &tables).await.unwrap();
    let files = ["x/1.parquet", "x/2.parquet", "x/3.parquet"].map(str::to_owned);
    let declared = files.clone().map(|path| (path, 7));
    control.declare_files(&fence, &declared).await.unwrap();

    // One file more than is declared: the janitor was faster (rule 16).
    let head = catalog.head().await.unwrap().id;
    let mut hook = EpochHook::new(
        &fence,
        Uuid::new_v4(),
        Lsn::new(100),
        Lsn::new(200),
        None,
        vec![TableTransition::copying(USERS)],
        vec![
            files[0].clone(),
            files[1].clone(),
            "x/claimed.parquet".to_owned(),
        ],
    );
    let refused = catalog.commit(&changes("s1"), &mut hook).await.unwrap_err();
    assert!(
        matches!(
            hook_error(&refused),
            ControlError::FilesClaimed {
                files: 3,
                declared: 2,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(FeederError::from(hook_error(&refused)).is_transient());
    assert_eq!(catalog.head().await.unwrap().id, head);
    assert_eq!(control.checkpoint(&fence).await.unwrap(), Lsn::new(100));
    assert_eq!(control.pending_files().await.unwrap().len(), 3);
    assert_eq!(
        control.tables().await.unwrap()[0].state,
        TableState::Pending
    );

    let attempt = Uuid::new_v4();
    let micros = 1_763_881_234_567_891;
    let mut wanted = changes("s1");
    let users = wanted.create_table(
        wanted_schema(),
        TableDef::new("users", vec![ColumnDef::new("id", LakeType::Int64)]),
    );
    let mut hook = EpochHook::new(
        &fence,
        attempt,
        Lsn::new(100),
        Lsn::new(200),
        Some(micros),
        vec![
            TableTransition::streaming(USERS, Lsn::new(90), 12),
            TableTransition::error(
                ORDERS,
                Lsn::new(150),
                4,
                "column a: out of range".to_owned(),
            ),
            TableTransition::discarded(ORDERS, 3),
            TableTransition::discarded(ORDERS, 4),
            TableTransition::shape(ORDERS, json!({"columns": ["id"]})),
        ],
        files[..2].to_vec(),
    )
    .with_new_tables(vec![(USERS, users)]);
    let committed = catalog.commit(&wanted, &mut hook).await.unwrap();

    let row = control.load_feeder().await.unwrap().unwrap();
    assert_eq!(row.checkpoint, Lsn::new(200));
    assert_eq!(row.attempt, Some(attempt));
    assert_eq!(row.last_snapshot, Some(committed.id.get()));
    assert_eq!(row.commit_timestamp, Some(micros));
    assert_eq!(
        control
            .pending_files()
            .await
            .unwrap()
            .iter()
            .map(|file| &file.path)
            .collect::<Vec<_>>(),
        [&files[2]]
    );
    let rows = control.tables().await.unwrap();
    let [orders, users] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(users.state, TableState::Streaming);
    assert_eq!(
        (users.copy_point, users.copied_rows),
        (Some(Lsn::new(90)), 12)
    );
    assert_eq!(users.lake_table_id, Some(committed.tables[0].get()));
    assert_eq!(
        (orders.source_oid, orders.state),
        (ORDERS, TableState::Error)
    );
    assert_eq!(orders.shape, json!({"columns": ["id"]}));
    let error = TableError {
        lsn: Lsn::new(150),
        seq: 4,
        reason: "column a: out of range".to_owned(),
        discarded: 7,
    };
    assert_eq!(orders.error, Some(error));

    // A later epoch without a timestamp keeps the old one.
    catalog
        .commit(&changes("s2"), &mut epoch(&fence, 200, 200))
        .await
        .unwrap();
    assert_eq!(
        control
            .load_feeder()
            .await
            .unwrap()
            .unwrap()
            .commit_timestamp,
        Some(micros)
    );
    db.drop().await;
}

#[tokio::test]
async fn an_epoch_cannot_be_committed_twice() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    catalog.bootstrap(DATA_PATH).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    let attempt = Uuid::new_v4();
    let (from, to) = (Lsn::new(100), Lsn::new(200));
    let hook = || EpochHook::new(&fence, attempt, from, to, None, Vec::new(), Vec::new());
    assert_eq!(
        control.resolve_attempt(&fence, attempt).await.unwrap(),
        Resolution::NotCommitted
    );
    let committed = catalog.commit(&changes("s1"), &mut hook()).await.unwrap();
    let replayed = catalog
        .commit(&changes("s2"), &mut hook())
        .await
        .unwrap_err();
    assert!(
        matches!(hook_error(&replayed), ControlError::CheckpointMoved { expected, found, .. }
            if (*expected, *found) == (from, to)),
        "{replayed:?}"
    );
    let snapshot = committed.id.get();
    assert_eq!(catalog.head().await.unwrap().id, committed.id);
    assert_eq!(
        control.resolve_attempt(&fence, attempt).await.unwrap(),
        Resolution::Committed { snapshot }
    );
    let other = Uuid::new_v4();
    assert_eq!(
        control.resolve_attempt(&fence, other).await.unwrap(),
        Resolution::NotCommitted
    );

    let backwards = catalog
        .commit(&changes("s2"), &mut epoch(&fence, 200, 150))
        .await
        .unwrap_err();
    assert!(
        matches!(hook_error(&backwards), ControlError::Backwards { .. }),
        "{backwards:?}"
    );
    let unknown = EpochHook::new(
        &fence,
        other,
        to,
        to,
        None,
        vec![TableTransition::copying(ORDERS)],
        Vec::new(),
    );
    let unknown = catalog
        .commit(&changes("s2"), &mut { unknown })
        .await
        .unwrap_err();
    assert!(
        matches!(hook_error(&unknown), ControlError::UnknownTable { .. }),
        "{unknown:?}"
    );
    assert_eq!(catalog.head().await.unwrap().id, committed.id);
    db.drop().await;
}

#[tokio::test]
async fn the_idle_checkpoint_compares_and_swaps() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control) = db.feeder("shop").await;
    let fence = control.acquire("here:1").await.unwrap();
    let at = Lsn::new;
    control
        .advance_checkpoint(&fence, at(100), at(200), &[])
        .await
        .unwrap();
    control
        .advance_checkpoint(&fence, at(100), at(200), &[])
        .await
        .expect("the answer was lost, so it is asked again");
    let moved = control
        .advance_checkpoint(&fence, at(150), at(300), &[])
        .await
        .unwrap_err();
    assert!(
        moved.to_string().contains("is 0/C8, expected 0/96"),
        "{moved}"
    );
    let backwards = control
        .advance_checkpoint(&fence, at(300), at(200), &[])
        .await
        .unwrap_err();
    assert_eq!(backwards.kind(), FeederErrorKind::Internal);
    assert_eq!(control.checkpoint(&fence).await.unwrap(), at(200));
    db.drop().await;
}

#[tokio::test]
async fn a_lost_answer_is_resolved_only_when_its_transaction_has_ended() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control) = db.feeder("shop").await;
    let fence = std::sync::Arc::new(control.acquire("here:1").await.unwrap());
    for ends_well in [true, false] {
        let attempt = Uuid::new_v4();
        // Stands for the session whose client died while its COMMIT was under way.
        let mut connection = db.connection().await;
        let mut zombie = connection.begin().await.unwrap();
        sqlx::query("update duckfeeder.feeders set attempt = $1, last_snapshot = 42")
            .bind(attempt)
            .execute(&mut *zombie)
            .await
            .unwrap();
        let resolving = tokio::spawn({
            let (control, fence) = (control.clone(), std::sync::Arc::clone(&fence));
            async move { control.resolve_attempt(&fence, attempt).await }
        });
        db.eventually("the resolution waits for the row", async || {
            db.scalar::<bool>(
                "select exists (select from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock')",
            )
            .await
        })
        .await;
        assert!(!resolving.is_finished());
        let expected = if ends_well {
            zombie.commit().await.unwrap();
            Resolution::Committed { snapshot: 42 }
        } else {
            zombie.rollback().await.unwrap();
            Resolution::NotCommitted
        };
        assert_eq!(resolving.await.unwrap().unwrap(), expected);
    }
    db.drop().await;
}

#[tokio::test]
async fn a_checkpoint_is_durable_whatever_the_role_prefers() {
    let Some(db) = Database::create().await else {
        return;
    };
    let database = db.options.get_database().unwrap();
    db.execute(&format!(
        "alter database {database} set synchronous_commit = off"
    ))
    .await;
    let (_, control) = db.feeder("shop").await;
    let fence = control.acquire("here:1").await.unwrap();
    let mut connection = db.connection().await;
    let mut tx = connection.begin().await.unwrap();
    let mut settings = Vec::new();
    for step in 0..2 {
        if step == 1 {
            epoch(&fence, 100, 200).before_lock(&mut tx).await.unwrap();
        }
        let setting: String = sqlx::query_scalar("select current_setting('synchronous_commit')")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        settings.push(setting);
    }
    assert_eq!(settings, ["off", "on"]);
    tx.rollback().await.unwrap();
    db.drop().await;
}

// ---- tables --------------------------------------------------------------------------------------

#[tokio::test]
async fn no_two_tables_of_a_lake_share_a_target() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, shop) = db.feeder("shop").await;
    let fence = shop.acquire("here:1").await.unwrap();
    shop.insert_tables(&fence, &[new_table(USERS, "users")])
        .await
        .unwrap();

    let (_, other) = db.connect_feeder("other").await;
    other.register(&new_feeder(1)).await.unwrap();
    let other_fence = other.acquire("here:2").await.unwrap();
    // By name, by case, by the name of the other's view, and by its own.
    for target in ["users", "USERS", "Users_Current"] {
        for (control, fence) in [(&shop, &fence), (&other, &other_fence)] {
            let refused = control
                .insert_tables(fence, &[new_table(ORDERS, target)])
                .await
                .unwrap_err();
            assert_eq!(refused.kind(), FeederErrorKind::Config, "{refused:?}");
            let text = refused.to_string();
            assert!(
                text.contains(target) && text.contains("public.users of feeder `shop`"),
                "{text}"
            );
        }
    }
    shop.insert_tables(&fence, &[new_table(ORDERS, "orders_current")])
        .await
        .unwrap();
    let refused = other
        .insert_tables(&other_fence, &[new_table(1, "ORDERS")])
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), FeederErrorKind::Config);

    // All or none.
    let both = [new_table(1, "fine"), new_table(2, "users")];
    assert_eq!(
        kind(other.insert_tables(&other_fence, &both).await),
        FeederErrorKind::Config
    );
    assert!(other.tables().await.unwrap().is_empty());
    // The index alone refuses it too.
    let raced = db
        .try_execute(
            "insert into duckfeeder.tables (feeder, lake, source_oid, source_schema, source_table,
                 target_schema, target_table, shape)
             values ('other', 'public', 1, 'public', 'x', 'Raw', 'uSERS', '{}')",
        )
        .await
        .unwrap_err();
    assert_eq!(
        raced.as_database_error().unwrap().constraint(),
        Some("tables_target_key")
    );

    // A name is free again once its table is forgotten, and in another lake it always was.
    shop.update_tables(&fence, &[TableTransition::removed(USERS)])
        .await
        .unwrap();
    other
        .insert_tables(&other_fence, &[new_table(1, "Users")])
        .await
        .unwrap();
    db.execute("create schema second").await;
    let mut options = CatalogOptions::new(db.options.clone());
    options.metadata_schema = "second".to_owned();
    let elsewhere = Control::new(&Catalog::connect(options).await.unwrap(), name("elsewhere"));
    elsewhere.register(&new_feeder(1)).await.unwrap();
    let elsewhere_fence = elsewhere.acquire("here:3").await.unwrap();
    elsewhere
        .insert_tables(&elsewhere_fence, &[new_table(1, "users")])
        .await
        .unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_resync_is_asked_for_without_a_fence_and_taken_once() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control) = db.feeder("shop").await;
    let fence = control.acquire("here:1").await.unwrap();
    let tables = [new_table(USERS, "users"), new_table(ORDERS, "orders")];
    control.insert_tables(&fence, &tables).await.unwrap();
    let states = [
        TableTransition::error(USERS, Lsn::new(5), 0, "left the publication".to_owned()),
        TableTransition::paused(ORDERS),
    ];
    control.update_tables(&fence, &states).await.unwrap();
    assert!(!control.requests().await.unwrap().resync);
    assert_eq!(
        kind(control.request_resync("public", "nope").await),
        FeederErrorKind::Config
    );

    // A paused table keeps its request, and wakes nobody.
    control.request_resync("public", "orders").await.unwrap();
    assert!(!control.requests().await.unwrap().resync);
    control.request_resync("public", "users").await.unwrap();
    assert!(control.requests().await.unwrap().resync);
    assert_eq!(control.take_resync_requests(&fence).await.unwrap(), [USERS]);
    assert_eq!(
        control.take_resync_requests(&fence).await.unwrap(),
        [] as [u32; 0]
    );
    let rows = control.tables().await.unwrap();
    let [orders, users] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert!(orders.resync_requested && orders.state == TableState::Paused);
    assert!(!users.resync_requested && users.state == TableState::Pending);
    assert_eq!(users.error, None);
    db.drop().await;
}

#[tokio::test]
async fn a_torn_down_feeder_begins_anew() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control) = db.feeder("shop").await;
    let fence = control.acquire("here:1").await.unwrap();
    let tables = [new_table(USERS, "users"), new_table(ORDERS, "orders")];
    control.insert_tables(&fence, &tables).await.unwrap();
    let states = [
        TableTransition::streaming(USERS, Lsn::new(90), 12),
        TableTransition::lake_table(USERS, 7),
        TableTransition::paused(ORDERS),
    ];
    control.update_tables(&fence, &states).await.unwrap();
    let entries = [(USERS, json!({"oid": 5}))];
    control
        .store_publication(&fence, &json!({"oid": 4}), &entries)
        .await
        .unwrap();
    let row = control.load_feeder().await.unwrap().unwrap();
    assert_eq!(row.publication_state, Some(json!({"oid": 4})));
    assert_eq!(
        control.tables().await.unwrap()[1].publication,
        Some(json!({"oid": 5}))
    );

    control.tear_down(&fence).await.unwrap();
    let row = control.load_feeder().await.unwrap().unwrap();
    assert!(row.torn_down && row.publication_state.is_none());
    let rows = control.tables().await.unwrap();
    let [orders, users] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (users.state, orders.state),
        (TableState::Pending, TableState::Paused)
    );
    assert_eq!(
        (users.copy_point, users.copied_rows, &users.publication),
        (None, 0, &None)
    );
    assert_eq!(
        users.lake_table_id,
        Some(7),
        "the lake table stays known as ours"
    );

    control
        .register(&new_feeder(50))
        .await
        .expect("a new start");
    let row = control.load_feeder().await.unwrap().unwrap();
    assert!(!row.torn_down);
    assert_eq!(row.checkpoint, Lsn::new(50));
    assert_eq!(
        row.generation,
        fence.generation(),
        "an old process stays fenced off"
    );
    db.drop().await;
}

// ---- files ---------------------------------------------------------------------------------------

#[tokio::test]
async fn the_janitor_claims_files_before_it_removes_them() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    catalog.bootstrap(DATA_PATH).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    let declare = |path: &str| [(path.to_owned(), 7)];
    control
        .declare_files(&fence, &declare("old.parquet"))
        .await
        .unwrap();
    db.execute("update duckfeeder.pending_files set created_at = created_at - interval '3 hours'")
        .await;
    control
        .declare_files(&fence, &declare("new.parquet"))
        .await
        .unwrap();
    assert!(
        control
            .declare_files(&fence, &declare("new.parquet"))
            .await
            .is_err(),
        "created once"
    );

    let hour = Duration::from_hours(1);
    let declared = DeclaredFiles::new(&catalog);
    let paths = async |after: &str, claim: bool| {
        let files = declared.older_than(hour, after, 9, claim).await.unwrap();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(paths("", false).await, ["old.parquet"]);
    assert_eq!(paths("old.parquet", false).await, [""; 0]);
    assert_eq!(
        control.pending_files().await.unwrap().len(),
        2,
        "looked at, not claimed"
    );
    assert_eq!(paths("", true).await, ["old.parquet"]);
    assert_eq!(control.pending_files().await.unwrap().len(), 1);
    assert_eq!(
        paths("", true).await,
        ["old.parquet"],
        "it stays claimed until it is released"
    );

    let commit = |path: &str| {
        let files = vec![path.to_owned()];
        let (from, to) = (Lsn::new(100), Lsn::new(200));
        EpochHook::new(&fence, Uuid::new_v4(), from, to, None, Vec::new(), files)
    };
    let refused = catalog
        .commit(&changes("s1"), &mut commit("old.parquet"))
        .await
        .unwrap_err();
    assert!(
        matches!(hook_error(&refused), ControlError::FilesClaimed { .. }),
        "{refused:?}"
    );
    let gone = ["old.parquet", "new.parquet"].map(str::to_owned);
    declared.release(&gone).await.unwrap();
    let left = declared.among(&gone).await.unwrap();
    assert_eq!(
        left.into_iter().collect::<Vec<_>>(),
        ["new.parquet"],
        "what was not claimed is not released"
    );
    catalog
        .commit(&changes("s1"), &mut commit("new.parquet"))
        .await
        .unwrap();
    assert_eq!(control.pending_files().await.unwrap(), []);
    db.drop().await;
}

#[tokio::test]
async fn a_file_that_a_commit_settles_is_left_to_it() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    let fence = control.acquire("here:1").await.unwrap();
    control
        .declare_files(&fence, &[("a.parquet".to_owned(), 7)])
        .await
        .unwrap();
    let mut settling = db.connection().await;
    let mut tx = settling.begin().await.unwrap();
    execute(&mut tx, "delete from duckfeeder.pending_files")
        .await
        .unwrap();
    let declared = DeclaredFiles::new(&catalog);
    let claim = async || {
        let files = declared.older_than(Duration::ZERO, "", 9, true).await;
        files.unwrap().len()
    };
    assert_eq!(claim().await, 0, "nobody waits for a commit");
    tx.rollback().await.unwrap();
    assert_eq!(claim().await, 1, "a commit that failed decides nothing");
    db.drop().await;
}

#[tokio::test]
async fn of_a_commit_and_a_claim_exactly_one_gets_the_file() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    catalog.bootstrap(DATA_PATH).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    let declared = DeclaredFiles::new(&db.catalog().await);
    let (mut committed, mut claimed) = (0, 0);
    for round in 0..60_u64 {
        let path = format!("{round:03}.parquet");
        control
            .declare_files(&fence, &[(path.clone(), 7)])
            .await
            .unwrap();
        let here = Lsn::new(100);
        let files = vec![path.clone()];
        let mut hook = EpochHook::new(
            &fence,
            Uuid::new_v4(),
            here,
            here,
            None,
            Vec::new(),
            files.clone(),
        );
        let changes = changes(&format!("s{round}"));
        // Either is the later one by turns, and by any part of the time that the other takes.
        let delay = Duration::from_micros(round * 200);
        let (before_commit, before_claim) = match round % 2 {
            0 => (delay, Duration::ZERO),
            _ => (Duration::ZERO, delay),
        };
        let commit = async {
            tokio::time::sleep(before_commit).await;
            catalog.commit(&changes, &mut hook).await
        };
        let claim = async {
            tokio::time::sleep(before_claim).await;
            let claimed = declared.older_than(Duration::ZERO, "", 9, true).await;
            claimed.unwrap().into_iter().any(|file| file.path == path)
        };
        let (commit, was_claimed) = tokio::join!(commit, claim);
        match commit {
            Ok(_) => {
                assert!(!was_claimed, "round {round}: both have it");
                committed += 1;
            }
            Err(error) => {
                assert!(
                    matches!(hook_error(&error), ControlError::FilesClaimed { .. }),
                    "{error:?}"
                );
                assert!(was_claimed, "round {round}: nobody has it");
                claimed += 1;
            }
        }
        declared.release(&files).await.unwrap();
        assert_eq!(declared.among(&files).await.unwrap().len(), 0);
    }
    eprintln!("{committed} committed, {claimed} claimed");
    assert!(committed > 0 && claimed > 0);
    db.drop().await;
}

#[tokio::test]
async fn a_copy_in_progress_keeps_its_files_however_long_it_takes() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control) = db.feeder("shop").await;
    let fence = control.acquire("here:1").await.unwrap();
    control
        .insert_tables(&fence, &[new_table(USERS, "users")])
        .await
        .unwrap();
    control
        .declare_files(&fence, &[("a.parquet".to_owned(), 7)])
        .await
        .unwrap();
    let declared = DeclaredFiles::new(&catalog);
    let due = async || {
        let files = declared.older_than(Duration::ZERO, "", 9, false).await;
        files.unwrap().len()
    };
    assert_eq!(due().await, 1);
    control
        .update_tables(&fence, &[TableTransition::copying(USERS)])
        .await
        .unwrap();
    assert_eq!(due().await, 0, "its feeder copies");
    drop(fence);
    let mut session = db.connection().await;
    db.eventually("the feeder's lock is free", async || {
        let free = "do $$ begin assert pg_try_advisory_lock(hashtextextended('duckfeeder:shop', 0)); perform pg_advisory_unlock(hashtextextended('duckfeeder:shop', 0)); end $$";
        execute(&mut session, free).await.is_ok()
    })
    .await;
    drop(session);
    assert_eq!(due().await, 0, "its lease lasts");
    db.execute(
        "update duckfeeder.leases set expires_at = clock_timestamp() - interval '1 hour';
         update duckfeeder.pending_files set created_at = clock_timestamp() - interval '1 day'",
    )
    .await;
    db.eventually("it is not alive", async || due().await == 1)
        .await;
    // The catalog may have been away for as long.
    let files = declared.older_than(Duration::from_hours(2), "", 9, false);
    assert_eq!(files.await.unwrap().len(), 0, "it may come back");
    db.drop().await;
}

#[tokio::test]
async fn files_of_another_lakes_feeders_are_none_of_the_janitors_business() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, _) = db.feeder("shop").await;
    db.execute(
        "insert into duckfeeder.feeders select 'other', 'other_lake', system_identifier, timeline, slot, publication,
             null, 0, null, false, checkpoint from duckfeeder.feeders;
         insert into duckfeeder.pending_files (path, feeder, lake_table_id)
             values ('a', 'other', 1), ('b', 'janitor of other_lake', 1), ('c', 'shop', 1), ('d', 'forgotten', 1)",
    )
    .await;
    let declared = DeclaredFiles::new(&catalog);
    let files = declared.older_than(Duration::ZERO, "", 9, true).await;
    let paths: Vec<String> = files.unwrap().into_iter().map(|file| file.path).collect();
    assert_eq!(paths, ["c", "d"]);
    db.drop().await;
}

#[tokio::test]
async fn a_lake_has_one_janitor_at_a_time() {
    let Some(db) = Database::create().await else {
        return;
    };
    let declared = DeclaredFiles::new(&db.migrated().await);
    let other = DeclaredFiles::new(&db.catalog().await);
    let lock = declared.lock().await.unwrap().expect("it is free");
    assert!(other.lock().await.unwrap().is_none());
    drop(lock);
    db.eventually("the lock is free", async || {
        other.lock().await.unwrap().is_some()
    })
    .await;
    db.drop().await;
}

// ---- support -------------------------------------------------------------------------------------

/// Nothing is written there.
const DATA_PATH: &str = "/nonexistent/lake/";

fn name(name: &str) -> FeederName {
    FeederName::parse(name).unwrap()
}

#[tokio::test]
async fn partitions_are_replaced_only_where_they_are_still_what_they_were() {
    let Some(db) = Database::create().await else {
        return;
    };
    let catalog = db.catalog().await;
    migrations::up(&catalog).await.unwrap();
    let control = Control::new(&catalog, name("shop"));
    control.register(&new_feeder(100)).await.unwrap();
    let fence = control.acquire("here:1").await.unwrap();
    control
        .insert_tables(&fence, &[new_table(1, "events")])
        .await
        .unwrap();
    let kept = async || {
        let rows = control.tables().await.unwrap();
        (rows[0].partitions.clone(), rows[0].truncated_by)
    };
    assert_eq!(kept().await, (None, None));

    let (first, second) = (json!([{"oid": 1}]), json!([{"oid": 2}]));
    control
        .replace_partitions(&fence, 1, None, &first)
        .await
        .unwrap();
    assert_eq!(kept().await, (Some(first.clone()), None));
    // A copy began and has its own.
    control
        .update_tables(
            &fence,
            &[
                TableTransition::partitions(1, second.clone()),
                TableTransition::truncated_by(1, u32::MAX),
            ],
        )
        .await
        .unwrap();
    for stale in [None, Some(&first)] {
        control
            .replace_partitions(&fence, 1, stale, &json!([]))
            .await
            .unwrap();
        assert_eq!(kept().await, (Some(second.clone()), Some(u32::MAX)));
    }
    control
        .replace_partitions(&fence, 1, Some(&second), &json!([]))
        .await
        .unwrap();
    assert_eq!(kept().await, (Some(json!([])), Some(u32::MAX)));
    db.drop().await;
}

fn new_feeder(checkpoint: u64) -> NewFeeder {
    NewFeeder {
        system_identifier: "7400000000000000000".to_owned(),
        timeline: 3,
        slot: "duckfeeder_shop".to_owned(),
        publication: "duckfeeder_shop".to_owned(),
        checkpoint: Lsn::new(checkpoint),
    }
}

fn new_table(source_oid: u32, target: &str) -> NewTable {
    NewTable {
        source_oid,
        source_schema: "public".to_owned(),
        source_table: target.to_owned(),
        target_schema: "raw".to_owned(),
        target_table: target.to_owned(),
        lake_table_id: None,
        shape: json!({}),
        publication: None,
    }
}

fn epoch(fence: &Fence, from: u64, to: u64) -> EpochHook {
    let (from, to) = (Lsn::new(from), Lsn::new(to));
    EpochHook::new(
        fence,
        Uuid::new_v4(),
        from,
        to,
        None,
        Vec::new(),
        Vec::new(),
    )
}

/// Some change, so that there is something to commit.
fn changes(schema: &str) -> ChangeSet {
    let mut changes = ChangeSet::new();
    changes.create_schema(schema);
    changes
}

fn wanted_schema() -> &'static str {
    "main"
}

fn kind<T: std::fmt::Debug>(result: Result<T, FeederError>) -> FeederErrorKind {
    result.unwrap_err().kind()
}

/// What the hook reported, as a caller gets at it.
fn hook_error(error: &ducklake_catalog::CatalogError) -> &ControlError {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref())
        .unwrap_or_else(|| panic!("not an error of the hook: {error:?}"))
}

/// A database of its own.
struct Database {
    server: PgConnectOptions,
    options: PgConnectOptions,
}

impl Database {
    /// `None`, said aloud, without a server.
    async fn create() -> Option<Self> {
        let Ok(url) = std::env::var("DUCKFEEDER_TEST_PG_URL") else {
            assert!(
                std::env::var_os("REQUIRE_SERVICES").is_none_or(|value| value != "1"),
                "DUCKFEEDER_TEST_PG_URL is not set"
            );
            eprintln!("SKIPPED: DUCKFEEDER_TEST_PG_URL is not set");
            return None;
        };
        let server: PgConnectOptions = url.parse().expect("DUCKFEEDER_TEST_PG_URL is a URL");
        let name = format!("feeder_core_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect_with(&server)
            .await
            .expect("the server");
        execute(&mut connection, &format!("create database {name}"))
            .await
            .unwrap();
        Some(Self {
            options: server.clone().database(&name),
            server,
        })
    }

    async fn drop(self) {
        let name = self.options.get_database().unwrap();
        let mut connection = PgConnection::connect_with(&self.server).await.unwrap();
        execute(
            &mut connection,
            &format!("drop database {name} with (force)"),
        )
        .await
        .unwrap();
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options).await.unwrap()
    }

    async fn catalog(&self) -> Catalog {
        Catalog::connect(CatalogOptions::new(self.options.clone()))
            .await
            .unwrap()
    }

    async fn catalog_as(&self, role: &str) -> Catalog {
        let options = self.options.clone().options([("role", role)]);
        Catalog::connect(CatalogOptions::new(options))
            .await
            .unwrap()
    }

    async fn migrated(&self) -> Catalog {
        let catalog = self.catalog().await;
        migrations::up(&catalog).await.unwrap();
        catalog
    }

    /// A registered feeder whose checkpoint is 100.
    async fn feeder(&self, name: &str) -> (Catalog, Control) {
        self.migrated().await;
        let (catalog, control) = self.connect_feeder(name).await;
        control.register(&new_feeder(100)).await.unwrap();
        (catalog, control)
    }

    /// As another process would see it.
    async fn connect_feeder(&self, feeder: &str) -> (Catalog, Control) {
        let catalog = self.catalog().await;
        let control = Control::new(&catalog, name(feeder));
        (catalog, control)
    }

    async fn try_execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        execute(&mut self.connection().await, sql).await
    }

    async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap();
    }

    async fn scalar<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sql)
            .fetch_one(&mut self.connection().await)
            .await
            .unwrap()
    }

    async fn eventually(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition().await {
            assert!(Instant::now() < deadline, "{what}: not within 20 seconds");
            tokio::task::yield_now().await;
        }
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    // Safe: every text is of this file.
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(drop)
}
