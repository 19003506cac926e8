//! Files that no snapshot names yet, and the janitor.

use crate::support::{DATA_PATH, Database, USERS, changes, execute, hook_error, new_table};
use ducklake_catalog::sqlx::Connection as _;
use feeder_core::control::{ControlError, DeclaredFiles, EpochHook, TableTransition};
use pgoutput::Lsn;
use std::time::Duration;
use uuid::Uuid;

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
