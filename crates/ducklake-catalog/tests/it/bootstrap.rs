//! Creation of lakes, and refusal of those that are not ours to write.

use ducklake_catalog::{Bootstrap, Catalog, CatalogErrorKind, ChangeSet, Finding, NoHook};

use super::support::{TestDb, execute, text};

#[tokio::test]
async fn duckdb_takes_a_fresh_lake_for_its_own() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.catalog().await;
    assert_eq!(catalog.inspect().await.unwrap(), None);
    assert_eq!(
        catalog.bootstrap(&db.data_path()).await.unwrap(),
        Bootstrap::Created
    );
    assert_eq!(
        catalog.bootstrap(&db.data_path()).await.unwrap(),
        Bootstrap::Existing
    );
    let without_slash = db.data_path().trim_end_matches('/').to_owned();
    assert_eq!(
        catalog.bootstrap(&without_slash).await.unwrap(),
        Bootstrap::Existing
    );
    let info = catalog.inspect().await.unwrap().unwrap();
    assert_eq!(info.version, "1.0");
    assert_eq!(info.data_path, db.data_path());
    assert!(!info.encrypted);
    assert!(info.options["created_by"].starts_with("duckfeeder "));

    let shown = db.duck(
        "CREATE TABLE t AS SELECT i AS id, 'x' || i AS name FROM range(100) r(i);
         INSERT INTO t VALUES (1000, 'small insert, inlined');
         UPDATE t SET name = 'changed' WHERE id = 3;
         DELETE FROM t WHERE id = 4;
         ALTER TABLE t ADD COLUMN extra INTEGER;
         INSERT INTO t SELECT i, 'y', i FROM range(2000, 2100) r(i);
         CALL ducklake_flush_inlined_data('lake');
         CALL ducklake_merge_adjacent_files('lake');
         CHECKPOINT lake;
         SELECT 'rows', count(*), sum(id), count(extra) FROM t;
         SELECT 'row', name FROM t WHERE id = 3;",
    );
    assert!(shown.contains("rows|200|210896|100"), "{shown}");
    assert!(shown.contains("row|changed"), "{shown}");
}

#[tokio::test]
async fn many_at_once_create_one_lake() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let (options, path) = (db.catalog_options(), db.data_path());
        tasks.push(tokio::spawn(async move {
            let catalog = Catalog::connect(options).await?;
            catalog.bootstrap(&path).await
        }));
    }
    let mut created = 0;
    for task in tasks {
        if task.await.unwrap().unwrap() == Bootstrap::Created {
            created += 1;
        }
    }
    assert_eq!(created, 1);
    let mut connection = db.connection().await;
    assert_eq!(
        text(&mut connection, "select count(*) from ducklake_snapshot").await,
        "1"
    );
}

#[tokio::test]
async fn a_lake_lives_in_any_metadata_schema() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let mut options = db.catalog_options();
    options.metadata_schema = "Lake \"meta\"".to_owned();
    let catalog = Catalog::connect(options).await.unwrap();
    assert_eq!(catalog.inspect().await.unwrap(), None);
    assert_eq!(
        catalog.bootstrap(&db.data_path()).await.unwrap(),
        Bootstrap::Created
    );
    let mut changes = ChangeSet::new();
    changes.create_schema("made by us");
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!(
        db.catalog().await.inspect().await.unwrap(),
        None,
        "public stays empty"
    );

    let mut plain = db.catalog_options();
    plain.metadata_schema = "lake_meta".to_owned();
    let catalog = Catalog::connect(plain).await.unwrap();
    catalog.bootstrap(&db.data_path()).await.unwrap();
    let mut changes = ChangeSet::new();
    changes.create_schema("made by us");
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    let attach = db.attach_schema("lake_meta");
    let shown = db
        .duck_raw(&format!(
            "{attach} SELECT schema_name FROM duckdb_schemas() \
              WHERE database_name = 'lake' AND schema_name LIKE 'made%'"
        ))
        .unwrap();
    assert_eq!(shown, "made by us");
}

#[tokio::test]
async fn lakes_that_differ_are_refused_unchanged() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let elsewhere = catalog.bootstrap("s3://bucket/other").await.unwrap_err();
    assert_eq!(
        elsewhere.kind(),
        &CatalogErrorKind::DataPathMismatch {
            catalog: db.data_path(),
            wanted: "s3://bucket/other/".to_owned()
        }
    );
    assert!(!elsewhere.is_transient());
    assert!(elsewhere.remedy().unwrap().contains(&db.data_path()));

    let mut connection = db.connection().await;
    execute(
        &mut connection,
        "update ducklake_metadata set value = '0.3' where key = 'version'",
    )
    .await;
    let older = catalog.bootstrap(&db.data_path()).await.unwrap_err();
    assert_eq!(
        older.kind(),
        &CatalogErrorKind::WrongVersion {
            found: "0.3".to_owned()
        }
    );
    execute(
        &mut connection,
        "update ducklake_metadata set value = '1.0' where key = 'version'; \
         update ducklake_metadata set value = 'true' where key = 'encrypted'",
    )
    .await;
    let encrypted = catalog.bootstrap(&db.data_path()).await.unwrap_err();
    assert_eq!(encrypted.kind(), &CatalogErrorKind::Encrypted);
    execute(&mut connection, "drop table ducklake_snapshot").await;
    let torn = catalog.bootstrap(&db.data_path()).await.unwrap_err();
    assert_eq!(torn.kind(), &CatalogErrorKind::InvalidCatalog);
}

#[tokio::test]
async fn no_lake_is_an_error_of_its_own() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.catalog().await;
    for error in [
        catalog.head().await.unwrap_err(),
        catalog.load().await.map(|_| ()).unwrap_err(),
        catalog.file_deletion_grace().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), &CatalogErrorKind::NoLake);
    }
    let mut nowhere = db.catalog_options();
    nowhere.connect = nowhere.connect.database("no_such_database");
    let error = Catalog::connect(nowhere).await.unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::Login);
    assert!(error.to_string().contains("no_such_database"), "{error}");
}

#[tokio::test]
async fn the_grace_before_files_are_deleted_is_what_duckdb_was_told() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    assert_eq!(
        catalog.file_deletion_grace().await.unwrap().as_secs(),
        2 * 86_400
    );
    db.duck("CALL lake.set_option('delete_older_than', '1 second')");
    assert_eq!(catalog.file_deletion_grace().await.unwrap().as_secs(), 1);
    let mut changes = ChangeSet::new();
    changes.create_schema("s");
    let committed = catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!(committed.file_deletion_grace.as_secs(), 1);
}

#[tokio::test]
async fn publications_that_break_commits_are_found() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let mut connection = db.connection().await;
    execute(
        &mut connection,
        "create publication inserts for all tables with (publish = 'insert')",
    )
    .await;
    let catalog = db.catalog().await;
    assert_eq!(catalog.checks().await.unwrap(), []);
    execute(
        &mut connection,
        "create publication everything for all tables",
    )
    .await;
    let names = |findings: &[Finding]| -> Vec<(String, usize)> {
        findings
            .iter()
            .map(|finding| match finding {
                Finding::PublishedWithoutIdentity {
                    publication,
                    tables,
                    ..
                } => (publication.clone(), tables.len()),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let before = catalog.checks().await.unwrap();
    assert_eq!(names(&before), [("everything".to_owned(), 0)]);

    catalog.bootstrap(&db.data_path()).await.unwrap();
    let findings = catalog.checks().await.unwrap();
    assert_eq!(
        names(&findings),
        [("everything".to_owned(), 23)],
        "all but five have no key"
    );

    // What the finding is about: an update of the table statistics fails.
    db.try_duck(
        "CREATE TABLE t(i INTEGER); INSERT INTO t FROM range(50); INSERT INTO t FROM range(50);",
    )
    .unwrap_err();
    let mut changes = ChangeSet::new();
    let schema = changes.ensure_schema("main");
    changes.drop_view(schema, "none");
    catalog.commit(&changes, &mut NoHook).await.unwrap();

    // DuckDB has added a table for small inserts to the list meanwhile.
    for finding in catalog.checks().await.unwrap() {
        let remedy = finding.remedy();
        execute(&mut connection, remedy.split_once("run: ").unwrap().1).await;
    }
    assert_eq!(catalog.checks().await.unwrap(), []);
    db.duck("INSERT INTO t FROM range(50);");
}
