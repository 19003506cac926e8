//! What a commit carries, and that it is made once.

use crate::support::{
    DATA_PATH, Database, ORDERS, USERS, changes, epoch, hook_error, new_table, wanted_schema,
};
use ducklake_catalog::CommitHook as _;
use ducklake_catalog::sqlx::{self, Connection as _};
use ducklake_catalog::{ColumnDef, LakeType, TableDef};
use feeder_core::control::{ControlError, EpochHook, Resolution, TableError, TableTransition};
use feeder_core::{FeederError, FeederErrorKind, TableState};
use pgoutput::Lsn;
use serde_json::json;
use uuid::Uuid;

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
