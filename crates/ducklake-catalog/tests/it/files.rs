//! The catalog knows every file of a lake that DuckDB made, changed and merged, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ducklake_catalog::{Catalog, CatalogErrorKind};

use super::support::{TestDb, execute};

/// All files below a directory, by their whole path.
fn stored(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(stored(&path));
        } else {
            found.insert(path.display().to_string());
        }
    }
    found
}

/// The paths of the references to these files, by whether they are scheduled for deletion.
async fn references(catalog: &Catalog, paths: &BTreeSet<String>) -> [BTreeSet<String>; 2] {
    let name = |path: &String| path.rsplit_once('/').unwrap().1.to_owned();
    let names: Vec<String> = paths.iter().map(name).collect();
    let mut found = [BTreeSet::new(), BTreeSet::new()];
    for reference in catalog.file_references(&names).await.unwrap() {
        found[usize::from(reference.scheduled)].insert(reference.path.unwrap());
    }
    found
}

#[tokio::test]
async fn every_file_of_duckdbs_is_known_by_its_whole_path() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    db.duck(
        "create schema lake.\"we ird\"; create table lake.\"we ird\".t (i int);
         call lake.set_option('data_inlining_row_limit', '0');
         insert into lake.\"we ird\".t select * from range(100);
         insert into lake.\"we ird\".t select * from range(100, 200);
         delete from lake.\"we ird\".t where i = 7;
         alter table lake.\"we ird\".t rename to u;
         create table lake.main.gone as select 1 as i; drop table lake.main.gone",
    );
    let root = PathBuf::from(db.data_path());
    let all = stored(&root);
    assert_eq!(all.len(), 4, "{all:?}");
    let [named, scheduled] = references(&catalog, &all).await;
    assert_eq!((named, scheduled.len()), (all.clone(), 0));
    let directories = catalog.table_directories().await.unwrap();
    for file in &all {
        assert!(
            directories
                .iter()
                .any(|directory| file.starts_with(directory)),
            "{file} is in none of {directories:?}"
        );
    }

    db.duck("call ducklake_expire_snapshots('lake', older_than => now())");
    let [named, scheduled] = references(&catalog, &all).await;
    assert_eq!(scheduled.len(), 1, "that of the dropped table");
    assert_eq!(named, &all - &scheduled);
    assert!(
        catalog
            .file_references(&["x".to_owned()])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn scheduled_files_come_in_pages_when_they_are_due() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    for id in 0..5 {
        execute(
            &mut db.connection().await,
            &format!(
                "insert into ducklake_files_scheduled_for_deletion
                 values ({id}, 'main/t/{}.parquet', true, now() - interval '{id} hours')",
                id / 2
            ),
        )
        .await;
    }
    let age = Duration::from_mins(90);
    let mut ids = Vec::new();
    let mut after = None;
    while let [file] = catalog
        .scheduled_files(age, after.as_ref(), 1)
        .await
        .unwrap()
        .as_slice()
    {
        assert!(file.age >= age);
        assert!(file.path.starts_with(&db.data_path()), "{file:?}");
        ids.push(file.id);
        after = Some(file.clone());
    }
    assert_eq!(ids, [2, 3, 4]);
    let due = catalog.scheduled_files(age, None, 9).await.unwrap();
    catalog.forget_scheduled_files(&due[..1]).await.unwrap();
    let left = catalog.scheduled_files(Duration::ZERO, None, 9).await;
    let left: Vec<i64> = left.unwrap().iter().map(|file| file.id).collect();
    assert_eq!(left, [0, 1, 3, 4], "another file of the same path stays");

    execute(
        &mut db.connection().await,
        "drop table ducklake_metadata, ducklake_snapshot",
    )
    .await;
    let error = catalog.table_directories().await.unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::NoLake);
}
