//! The rows of the fed tables.

use crate::support::{Database, ORDERS, USERS, kind, name, new_feeder, new_table};
use ducklake_catalog::{Catalog, CatalogOptions};
use feeder_core::control::{Control, TableTransition, migrations};
use feeder_core::{FeederErrorKind, TableState};
use pgoutput::Lsn;
use serde_json::json;

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
