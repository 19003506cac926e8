//! The control tables are made, upgraded and removed.

use crate::support::{COLUMNS, DATA_PATH, Database, kind, name, new_feeder};
use feeder_core::FeederErrorKind;
use feeder_core::control::{Control, migrations};
use pgoutput::Lsn;
use uuid::Uuid;

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
