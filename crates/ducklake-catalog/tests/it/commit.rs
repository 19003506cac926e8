//! The commit transaction: the hook inside it, races, expectations, and what a failure leaves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ducklake_catalog::sqlx::postgres::PgConnection;
use ducklake_catalog::sqlx::{self, Connection, Row};
use ducklake_catalog::{
    Catalog, CatalogErrorKind, ChangeSet, ColumnDef, ColumnId, CommitHook, CommittedSnapshot,
    DataFile, HookError, LakeType, NoHook, SchemaId, SchemaRef, TableDef, TableId, TableRef,
    ViewDef,
};

use super::support::{TestDb, execute, list, text};

/// Adds to a change set what is to be refused.
type Change = Box<dyn Fn(&mut ChangeSet)>;

fn one_schema(name: &str) -> ChangeSet {
    let mut changes = ChangeSet::new();
    changes.create_schema(name);
    changes
}

fn table_def(name: &str) -> TableDef {
    TableDef::new(
        name,
        vec![
            ColumnDef::new("a", LakeType::Int32),
            ColumnDef::new("b", LakeType::Varchar),
        ],
    )
}

/// A file that is only registered, never read.
fn file(path: &str, record_count: u64) -> DataFile {
    DataFile {
        path: path.to_owned(),
        record_count,
        file_size_bytes: 100,
        footer_size: 10,
        columns: Vec::new(),
    }
}

/// Notes what it sees, and does as it is told.
#[derive(Default)]
struct Witness {
    attempts: u32,
    settings: Vec<String>,
    locks_before: Vec<String>,
    locks_after: Vec<String>,
    statement: Option<&'static str>,
    swallow: bool,
    fail: bool,
    release: Option<(u32, PgConnection)>,
}

async fn locks(tx: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select mode from pg_locks where pid = pg_backend_pid() \
            and relation = 'ducklake_snapshot'::regclass",
    )
    .fetch_all(tx)
    .await
}

#[derive(Debug, thiserror::Error)]
#[error("fenced")]
struct Fenced;

#[async_trait]
impl CommitHook for Witness {
    async fn before_lock(&mut self, tx: &mut PgConnection) -> Result<(), HookError> {
        self.attempts += 1;
        self.locks_before = locks(tx).await?;
        let row = sqlx::query(
            "select array[current_setting('synchronous_commit'), current_setting('lock_timeout'), \
                current_setting('transaction_isolation'), current_setting('search_path'), \
                current_setting('application_name'), current_setting('statement_timeout')]",
        )
        .fetch_one(tx)
        .await?;
        self.settings = row.try_get(0)?;
        if let Some((attempt, _)) = self.release
            && attempt == self.attempts
            && let Some((_, connection)) = self.release.take()
        {
            connection.close().await?;
        }
        Ok(())
    }

    async fn before_commit(
        &mut self,
        tx: &mut PgConnection,
        snapshot: &CommittedSnapshot,
    ) -> Result<(), HookError> {
        self.locks_after = locks(tx).await?;
        if let Some(statement) = self.statement {
            let result = sqlx::query(statement)
                .bind(snapshot.id.get())
                .execute(tx)
                .await;
            if !self.swallow {
                result?;
            }
        }
        if self.fail {
            return Err(Box::new(Fenced));
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_hook_is_in_the_transaction_and_before_the_lock() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let mut connection = db.connection().await;
    execute(
        &mut connection,
        "create table checkpoint (snapshot_id bigint)",
    )
    .await;
    let catalog = db.lake().await;
    let statement = Some("insert into public.checkpoint values ($1)");

    let mut hook = Witness {
        statement,
        ..Witness::default()
    };
    let committed = catalog.commit(&one_schema("a"), &mut hook).await.unwrap();
    assert_eq!(
        text(&mut connection, "select snapshot_id from checkpoint").await,
        "1"
    );
    assert_eq!((committed.id.get(), committed.schemas.len()), (1, 1));
    assert!(hook.locks_before.is_empty());
    assert!(
        hook.locks_after.contains(&"ExclusiveLock".to_owned()),
        "{:?}",
        hook.locks_after
    );

    let mut hook = Witness {
        statement,
        fail: true,
        ..Witness::default()
    };
    let error = catalog
        .commit(&one_schema("b"), &mut hook)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::Hook);
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .downcast_ref::<Fenced>()
            .is_some()
    );
    assert!(error.is_transient() && !error.commit_outcome_unknown());
    assert_eq!(hook.attempts, 1, "a hook's error is not retried");
    assert_eq!(
        text(&mut connection, "select count(*) from checkpoint").await,
        "1"
    );
    assert_eq!(catalog.head().await.unwrap().id.get(), 1);

    // A hook that hides an error has lost the transaction: that is no success.
    let statement = Some("insert into public.no_such_table values ($1)");
    let mut hook = Witness {
        statement,
        swallow: true,
        ..Witness::default()
    };
    let error = catalog
        .commit(&one_schema("c"), &mut hook)
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("25P02"));
    assert!(!error.commit_outcome_unknown());
    assert_eq!(catalog.head().await.unwrap().id.get(), 1);
}

#[tokio::test]
async fn settings_of_role_and_database_do_not_reach_the_commit() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    db.lake().await;
    let mut connection = db.connection().await;
    let name = db.options.get_database().unwrap();
    for setting in [
        "synchronous_commit = off",
        "statement_timeout = '1s'",
        "lock_timeout = '1ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "search_path = pg_temp",
        "idle_in_transaction_session_timeout = '1ms'",
    ] {
        execute(
            &mut connection,
            &format!("alter database {name} set {setting}"),
        )
        .await;
    }
    let catalog = db.catalog().await;
    let mut hook = Witness::default();
    catalog.commit(&one_schema("s"), &mut hook).await.unwrap();
    assert_eq!(
        hook.settings,
        [
            "on",
            "10s",
            "read committed",
            "\"public\"",
            "duckfeeder",
            "2min"
        ]
    );
    assert_eq!(catalog.load().await.unwrap().schemas().len(), 2);
}

#[tokio::test]
async fn lost_races_are_run_again_hook_included() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut connection = db.connection().await;
    execute(
        &mut connection,
        "create sequence tries; \
         create function lose() returns trigger language plpgsql as $$ \
         begin \
             case nextval('public.tries') \
                 when 1 then raise exception 'lost' using errcode = '40001'; \
                 when 2 then raise exception 'lost' using errcode = '40P01'; \
                 when 3 then raise exception 'lost' using errcode = '23505'; \
                 else return new; \
             end case; \
         end $$; \
         create trigger lose before insert on ducklake_snapshot for each row execute function lose()",
    )
    .await;
    let mut hook = Witness::default();
    let committed = catalog.commit(&one_schema("s"), &mut hook).await.unwrap();
    assert_eq!((hook.attempts, committed.id.get()), (4, 1));

    // Any other error is the caller's.
    execute(
        &mut connection,
        "create or replace function lose() returns trigger language plpgsql as $$ \
         begin raise exception 'no' using errcode = '22000'; end $$",
    )
    .await;
    let mut hook = Witness::default();
    let error = catalog
        .commit(&one_schema("t"), &mut hook)
        .await
        .unwrap_err();
    assert_eq!((error.sqlstate(), hook.attempts), (Some("22000"), 1));
    assert_eq!(error.kind(), &CatalogErrorKind::Database);
    assert!(error.is_transient());
}

async fn hold_lock(db: &TestDb) -> PgConnection {
    let options = db.options.clone().application_name("somebody else");
    let mut holder = PgConnection::connect_with(&options).await.unwrap();
    execute(
        &mut holder,
        "begin; lock table ducklake_snapshot in row exclusive mode",
    )
    .await;
    holder
}

#[tokio::test]
async fn a_lock_that_is_let_go_is_waited_for() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    db.lake().await;
    let mut options = db.catalog_options();
    options.lock_timeout = Duration::from_millis(300);
    let catalog = Catalog::connect(options).await.unwrap();
    let mut hook = Witness {
        release: Some((2, hold_lock(&db).await)),
        ..Witness::default()
    };
    catalog.commit(&one_schema("s"), &mut hook).await.unwrap();
    assert!(hook.attempts >= 2);
}

#[tokio::test]
async fn a_lock_that_is_not_let_go_is_reported_with_its_holder() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    db.lake().await;
    let mut options = db.catalog_options();
    options.lock_timeout = Duration::from_millis(100);
    let catalog = Catalog::connect(options).await.unwrap();
    let holder = hold_lock(&db).await;
    let error = catalog
        .commit(&one_schema("s"), &mut NoHook)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::LockTimeout);
    assert!(error.is_transient() && !error.commit_outcome_unknown());
    let message = error.to_string();
    assert!(message.contains("somebody else"), "{message}");
    assert!(message.contains("idle in transaction"), "{message}");
    // A reader does not mind us, nor we it.
    drop(holder);
    let mut reader = db.connection().await;
    execute(
        &mut reader,
        "begin; lock table ducklake_snapshot in access share mode",
    )
    .await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = catalog.commit(&one_schema("s"), &mut NoHook).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
}

#[tokio::test]
async fn an_error_during_commit_is_an_unknown_outcome() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut connection = db.connection().await;
    for (action, sqlstate) in [
        (
            "raise exception 'late' using errcode = '40001';",
            Some("40001"),
        ),
        (
            "perform pg_terminate_backend(pg_backend_pid());",
            Some("57P01"),
        ),
    ] {
        execute(
            &mut connection,
            &format!(
                "create or replace function late() returns trigger language plpgsql as $$ \
                 begin {action} return null; end $$; \
                 drop trigger if exists late on ducklake_snapshot_changes; \
                 create constraint trigger late after insert on ducklake_snapshot_changes \
                     deferrable initially deferred for each row execute function late()"
            ),
        )
        .await;
        let mut hook = Witness::default();
        let error = catalog
            .commit(&one_schema("s"), &mut hook)
            .await
            .unwrap_err();
        assert!(error.commit_outcome_unknown(), "{error}");
        assert_eq!(
            (error.sqlstate(), hook.attempts),
            (sqlstate, 1),
            "never retried"
        );
        assert!(error.remedy().unwrap().contains("read back"));
    }
    execute(
        &mut connection,
        "drop trigger late on ducklake_snapshot_changes",
    )
    .await;
    assert_eq!(
        catalog
            .commit(&one_schema("s"), &mut NoHook)
            .await
            .unwrap()
            .id
            .get(),
        1
    );
}

#[tokio::test]
async fn a_refused_update_says_that_the_table_is_published() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    let table = changes.create_table("main", table_def("t"));
    changes.append_file(table, file("a.parquet", 1));
    let id = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let mut connection = db.connection().await;
    execute(&mut connection, "create publication p for all tables").await;
    let mut changes = ChangeSet::new();
    changes.append_file(id, file("b.parquet", 1));
    let error = catalog.commit(&changes, &mut NoHook).await.unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::Published);
    assert!(error.remedy().unwrap().contains("REPLICA IDENTITY FULL"));
    assert!(!error.is_transient());
}

/// Commits what `change` makes, and returns the kind and text of the error it must give.
async fn refused(
    catalog: &Catalog,
    change: impl FnOnce(&mut ChangeSet),
) -> (CatalogErrorKind, String) {
    let before = catalog.head().await.unwrap();
    let mut changes = ChangeSet::new();
    change(&mut changes);
    let error = catalog.commit(&changes, &mut NoHook).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert_eq!(catalog.head().await.unwrap(), before);
    (error.kind().clone(), error.to_string())
}

#[tokio::test]
async fn what_others_changed_is_noticed_under_the_lock() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_table("main", table_def("t"));
    changes.create_table("main", table_def("u"));
    changes.create_schema("s");
    let committed = catalog.commit(&changes, &mut NoHook).await.unwrap();
    let (t, u, s) = (
        committed.tables[0],
        committed.tables[1],
        committed.schemas[0],
    );
    let expected = |second: &str, ty: LakeType| {
        vec![
            (ColumnId::new(2), second.to_owned(), ty),
            (ColumnId::new(1), "a".to_owned(), LakeType::Int32),
        ]
    };
    let mut fine = ChangeSet::new();
    fine.expect_columns(t, expected("b", LakeType::Varchar));
    fine.expect_next_column_id(t, ColumnId::new(3));
    catalog.commit(&fine, &mut NoHook).await.unwrap();

    for (columns, detail) in [
        (
            expected("b", LakeType::Json),
            "column 2 is b varchar, not b json",
        ),
        (
            expected("B", LakeType::Varchar),
            "column 2 is b varchar, not B varchar",
        ),
        (
            expected("b", LakeType::Varchar)[..1].to_vec(),
            "column 1 (a) is new",
        ),
    ] {
        let (kind, message) = refused(&catalog, |changes| changes.expect_columns(t, columns)).await;
        assert_eq!(kind, CatalogErrorKind::TableChanged);
        assert!(
            message.contains("table main.t") && message.contains(detail),
            "{message}"
        );
    }

    db.duck("ALTER TABLE t DROP COLUMN b; DROP TABLE u; DROP SCHEMA s;");
    let changed = |detail: &'static str| (CatalogErrorKind::TableChanged, detail);
    let cases: Vec<((CatalogErrorKind, &str), Change)> = vec![
        (
            changed("column 2 (b) is gone"),
            Box::new(move |c| {
                c.expect_columns(t, vec![(ColumnId::new(2), "b".into(), LakeType::Varchar)]);
            }),
        ),
        (
            changed("no top-level column 2"),
            Box::new(move |c| c.rename_column(t, ColumnId::new(2), "x")),
        ),
        (
            changed("no top-level column 2"),
            Box::new(move |c| c.drop_column(t, ColumnId::new(2))),
        ),
        (
            changed("no top-level column 2"),
            Box::new(move |c| c.set_nullable(t, ColumnId::new(2), false)),
        ),
        (
            changed("the next column id is 3, not 4"),
            Box::new(move |c| c.expect_next_column_id(t, ColumnId::new(4))),
        ),
        (
            changed("not in the lake any more"),
            Box::new(move |c| c.append_file(u, file("a.parquet", 1))),
        ),
        (
            (CatalogErrorKind::SchemaChanged, "schema s"),
            Box::new(|c| {
                c.create_table("s", table_def("x"));
            }),
        ),
        (
            (CatalogErrorKind::SchemaChanged, "not in the lake"),
            Box::new(move |c| {
                c.create_table(s, table_def("x"));
            }),
        ),
    ];
    for ((expected_kind, detail), change) in cases {
        let (kind, message) = refused(&catalog, change).await;
        assert_eq!(kind, expected_kind, "{message}");
        assert!(message.contains(detail), "{message}");
    }
    assert_eq!(db.duck("SELECT count(*) FROM t;"), "0");
}

#[tokio::test]
async fn names_that_readers_cannot_tell_apart_are_refused() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_schema("S");
    changes.create_table("S", table_def("Tbl"));
    changes.create_or_replace_view("S", ViewDef::new("Vw", "SELECT 1"));
    let table = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let cases: Vec<Change> = vec![
        Box::new(|c| {
            c.create_schema("s");
        }),
        Box::new(|c| {
            c.create_table("s", table_def("TBL"));
        }),
        Box::new(|c| {
            c.create_table("s", table_def("vW"));
        }),
        Box::new(|c| c.create_or_replace_view("s", ViewDef::new("tbl", "SELECT 1"))),
        Box::new(|c| {
            c.create_table("s", table_def("new"));
            c.create_table("s", table_def("NEW"));
        }),
        Box::new(|c| {
            c.create_or_replace_view("s", ViewDef::new("new", "SELECT 1"));
            c.create_table("s", table_def("NEW"));
        }),
        Box::new(|c| {
            c.create_schema("x");
            c.create_schema("X");
        }),
        Box::new(move |c| c.add_column(table, ColumnDef::new("A", LakeType::Int32))),
        Box::new(move |c| c.rename_column(table, ColumnId::new(1), "B")),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let (kind, message) = refused(&catalog, case).await;
        assert_eq!(kind, CatalogErrorKind::NameCollision, "{index}: {message}");
    }
    let mut fine = ChangeSet::new();
    fine.rename_column(table, ColumnId::new(1), "A");
    let ensured = fine.ensure_schema("s");
    fine.create_table(ensured, table_def("vw2"));
    fine.drop_view("s", "vw");
    fine.create_table(ensured, table_def("vw"));
    let committed = catalog.commit(&fine, &mut NoHook).await.unwrap();
    let lake = catalog.load().await.unwrap();
    assert_eq!(committed.schemas, [lake.find_schema("S").unwrap().id]);
    assert_eq!(lake.find_table("S", "VW").unwrap().id, committed.tables[1]);
    assert_eq!(db.duck("SELECT count(*) FROM s.vw, s.vw2, s.tbl;"), "0");
}

#[tokio::test]
async fn what_no_reader_could_bear_is_refused() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_table("main", table_def("t"));
    let t = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let with = |ty: LakeType| TableDef::new("x", vec![ColumnDef::new("c", ty)]);
    let decimal = |precision, scale| LakeType::Decimal { precision, scale };
    let table = |def: TableDef| -> Change {
        Box::new(move |c| {
            c.create_table("main", def.clone());
        })
    };
    let twice = LakeType::Struct(vec![
        ("f".into(), LakeType::Int8),
        ("F".into(), LakeType::Int8),
    ]);
    let cases: Vec<Change> = vec![
        Box::new(|_| {}),
        table(TableDef::new("x", Vec::new())),
        table(TableDef::new("", vec![ColumnDef::new("c", LakeType::Int8)])),
        table(TableDef::new("x", vec![ColumnDef::new("", LakeType::Int8)])),
        table(with(LakeType::Other("inet".into()))),
        table(with(LakeType::Int128)),
        table(with(decimal(39, 0))),
        table(with(decimal(0, 0))),
        table(with(decimal(5, 6))),
        table(with(LakeType::Struct(Vec::new()))),
        table(with(LakeType::list(twice))),
        Box::new(move |c| c.set_column_type(t, ColumnId::new(1), LakeType::Int16)),
        Box::new(move |c| c.set_column_type(t, ColumnId::new(2), LakeType::Int32)),
        Box::new(move |c| {
            c.drop_column(t, ColumnId::new(1));
            c.drop_column(t, ColumnId::new(2));
        }),
        Box::new(move |c| c.append_file(t, file("./a.parquet", 1))),
        Box::new(move |c| c.append_file(t, file("/a.parquet", 1))),
        Box::new(move |c| c.append_file(t, file("a//b.parquet", 1))),
        Box::new(move |c| c.append_file(t, file("a.parquet", u64::MAX))),
        Box::new(move |c| {
            c.append_file(t, file("a.parquet", 1));
            c.append_file(t, file("a.parquet", 1));
        }),
        Box::new(move |c| {
            c.append_file(t, file("a.parquet", i64::MAX as u64));
            c.append_file(t, file("b.parquet", 1));
        }),
        Box::new(|c| c.append_file(TableRef::New(0), file("a.parquet", 1))),
        Box::new(|c| {
            c.create_table(SchemaRef::New(3), table_def("x"));
        }),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let (kind, message) = refused(&catalog, case).await;
        assert_eq!(kind, CatalogErrorKind::InvalidChange, "{index}: {message}");
    }
    let (kind, _) = refused(&catalog, |c| c.append_file(TableId::new(77), file("a", 1))).await;
    assert_eq!(kind, CatalogErrorKind::TableChanged);
    let (kind, _) = refused(&catalog, |c| {
        c.create_table(SchemaId::new(77), table_def("x"));
    })
    .await;
    assert_eq!(kind, CatalogErrorKind::SchemaChanged);
}

#[tokio::test]
async fn an_ensured_schema_that_lies_elsewhere_takes_no_files() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    // A name that no path can have: the directory is the uuid of whoever came first.
    catalog
        .commit(&one_schema("odd name"), &mut NoHook)
        .await
        .unwrap();
    let (kind, message) = refused(&catalog, |changes| {
        let schema = changes.ensure_schema("odd name");
        let table = changes.create_table(schema, table_def("t"));
        changes.append_file(table, file("a.parquet", 1));
    })
    .await;
    assert_eq!(kind, CatalogErrorKind::TableChanged, "{message}");
    let mut without_files = ChangeSet::new();
    let schema = without_files.ensure_schema("odd name");
    without_files.create_table(schema, table_def("t"));
    catalog.commit(&without_files, &mut NoHook).await.unwrap();
}

#[tokio::test]
async fn one_commit_counts_everything_once() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new().with_extra_info("{\"lsn\": 1}");
    let schema = changes.create_schema("s");
    let t = changes.create_table(schema, table_def("t"));
    let u = changes.create_table("s", table_def("u"));
    changes.append_file(t, file("1.parquet", 5));
    changes.append_file(u, file("2.parquet", 7));
    changes.append_file(t, file("3.parquet", 0));
    changes.append_file(t, file("4.parquet", 6));
    let committed = catalog.commit(&changes, &mut NoHook).await.unwrap();
    let mut more = ChangeSet::new();
    more.append_file(committed.tables[0], file("5.parquet", 2));
    catalog.commit(&more, &mut NoHook).await.unwrap();
    let mut connection = db.connection().await;
    let snapshots = "select concat_ws('|', snapshot_id, schema_version, next_catalog_id, next_file_id) \
                       from ducklake_snapshot order by snapshot_id";
    assert_eq!(
        list(&mut connection, snapshots).await,
        ["0|0|1|0", "1|1|4|4", "2|1|4|5"]
    );
    let files = "select concat_ws('|', path, table_id, row_id_start, begin_snapshot) \
                   from ducklake_data_file order by data_file_id";
    assert_eq!(
        list(&mut connection, files).await,
        [
            "1.parquet|2|0|1",
            "3.parquet|2|5|1",
            "4.parquet|2|5|1",
            "2.parquet|3|0|1",
            "5.parquet|2|11|2"
        ]
    );
    let stats = "select concat_ws('|', table_id, record_count, next_row_id, file_size_bytes) \
                   from ducklake_table_stats order by table_id";
    assert_eq!(
        list(&mut connection, stats).await,
        ["2|13|13|400", "3|7|7|100"]
    );
    assert_eq!(
        text(
            &mut connection,
            "select changes_made || ' ' || commit_extra_info \
               from ducklake_snapshot_changes where snapshot_id = 1"
        )
        .await,
        "created_schema:\"s\",created_table:\"s\".\"t\",created_table:\"s\".\"u\",\
         inserted_into_table:2,inserted_into_table:3 {\"lsn\": 1}"
    );
    // Nothing is known of the columns, so that nothing is claimed.
    assert_eq!(
        text(
            &mut connection,
            "select count(*) from ducklake_table_column_stats"
        )
        .await,
        "0"
    );
    // A catalog whose totals are lost cannot be appended to: row ids would repeat.
    execute(&mut connection, "delete from ducklake_table_stats").await;
    let t = committed.tables[0];
    let (kind, message) = refused(&catalog, |c| c.append_file(t, file("6.parquet", 1))).await;
    assert_eq!(kind, CatalogErrorKind::InvalidCatalog, "{message}");
}

#[tokio::test]
async fn commits_of_many_tasks_are_one_after_the_other() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = Arc::new(db.lake().await);
    let mut tasks = Vec::new();
    for task in 0..4 {
        let catalog = Arc::clone(&catalog);
        tasks.push(tokio::spawn(async move {
            for round in 0..10 {
                let mut changes = one_schema(&format!("s_{task}_{round}"));
                changes.ensure_schema(format!("shared_{round}"));
                catalog.commit(&changes, &mut NoHook).await?;
            }
            Ok::<_, ducklake_catalog::CatalogError>(())
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(catalog.head().await.unwrap().id.get(), 40);
    assert_eq!(catalog.load().await.unwrap().schemas().len(), 1 + 40 + 10);
}

/// The runtime of this test does nothing while the test itself does not wait for it.
#[tokio::test]
async fn a_failed_commit_holds_no_lock() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut connection = db.connection().await;
    let mut hook = Witness {
        fail: true,
        ..Witness::default()
    };
    catalog
        .commit(&one_schema("s"), &mut hook)
        .await
        .unwrap_err();
    let held = "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
                 where d.datname = current_database() and l.pid <> pg_backend_pid()";
    assert_eq!(text(&mut connection, held).await, "0");
    refused(&catalog, |changes| {
        changes.create_schema("main");
    })
    .await;
    assert_eq!(text(&mut connection, held).await, "0");
}
