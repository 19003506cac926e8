//! Everything that DDL at a source needs: written as DuckDB writes it, and read by DuckDB now and at the
//! versions before, also by one that stays attached throughout.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, StringArray, StructArray};
use arrow_schema::DataType;
use ducklake_catalog::{
    Catalog, CatalogErrorKind, ChangeSet, ColumnDef, ColumnId, DataFile, LakeType, NoHook,
    StatBounds, TableDef, TableId, ViewDef,
};

use super::differential::Pair;
use super::support::{FileColumn, TestDb, list, text, with_id, write_file};

fn id(column: i64) -> ColumnId {
    ColumnId::new(column)
}

async fn commit(catalog: &Catalog, change: impl FnOnce(&mut ChangeSet)) -> i64 {
    let mut changes = ChangeSet::new();
    change(&mut changes);
    let committed = catalog.commit(&changes, &mut NoHook).await;
    committed.expect("committed").id.get()
}

/// The kind of the error that a change set is refused with.
async fn refusal(catalog: &Catalog, change: impl FnOnce(&mut ChangeSet)) -> CatalogErrorKind {
    let mut changes = ChangeSet::new();
    change(&mut changes);
    let error = catalog.commit(&changes, &mut NoHook).await.unwrap_err();
    error.kind().clone()
}

fn ints(name: &'static str, column: i64, values: Vec<i32>) -> FileColumn {
    let array = Arc::new(Int32Array::from(values));
    FileColumn::new(name, column, array, StatBounds::Unknown)
}

fn strings(name: &'static str, column: i64, values: Vec<&'static str>) -> FileColumn {
    let array = Arc::new(StringArray::from(values));
    FileColumn::new(name, column, array, StatBounds::Unknown)
}

/// A statement for DuckDB, and the same as a change of ours.
type Step = (&'static str, Box<dyn Fn(&mut ChangeSet)>);

#[tokio::test]
async fn schema_changes_are_written_as_duckdb_writes_them() {
    let Some(pair) = Pair::create().await else {
        return;
    };
    pair.theirs.duck("CREATE SCHEMA raw; CREATE SCHEMA other;");
    for schema in ["raw", "other"] {
        let mut changes = ChangeSet::new();
        changes.create_schema(schema);
        pair.commit(changes).await;
    }
    pair.theirs.duck(
        "CREATE TABLE raw.t(a INTEGER NOT NULL, s STRUCT(x INTEGER, y STRUCT(z DOUBLE)), \
             l STRUCT(q INTEGER)[], v VARCHAR);",
    );
    let field = |name: &str, ty| (name.to_owned(), ty);
    let inner = LakeType::Struct(vec![field("z", LakeType::Float64)]);
    let def = TableDef::new(
        "t",
        vec![
            ColumnDef::new("a", LakeType::Int32).not_null(),
            ColumnDef::new(
                "s",
                LakeType::Struct(vec![field("x", LakeType::Int32), field("y", inner)]),
            ),
            ColumnDef::new(
                "l",
                LakeType::list(LakeType::Struct(vec![field("q", LakeType::Int32)])),
            ),
            ColumnDef::new("v", LakeType::Varchar),
        ],
    );
    let mut changes = ChangeSet::new();
    changes.create_table("raw", def);
    let t = pair.commit(changes).await.tables[0];
    pair.compare("created").await;

    let with_default =
        |name: &'static str, ty: LakeType, text: &'static str| -> Box<dyn Fn(&mut ChangeSet)> {
            Box::new(move |changes| {
                let column = ColumnDef::new(name, ty.clone()).with_initial_default(text);
                changes.add_column(t, column.unwrap());
            })
        };
    let decimal = LakeType::Decimal {
        precision: 10,
        scale: 3,
    };
    let steps: Vec<Step> = vec![
        (
            "ALTER TABLE raw.t ADD COLUMN c1 INTEGER DEFAULT 42",
            with_default("c1", LakeType::Int32, "42"),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN c2 VARCHAR DEFAULT 'it''s \"q\"'",
            with_default("c2", LakeType::Varchar, "it's \"q\""),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN c3 TIMESTAMPTZ DEFAULT '2024-01-01 10:00:00+00'",
            with_default("c3", LakeType::TimestampTz, "2024-01-01 12:00:00+02"),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN c4 DECIMAL(10,3) DEFAULT '1.500'",
            with_default("c4", decimal, "1.5"),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN c5 BOOLEAN DEFAULT 'true'",
            with_default("c5", LakeType::Boolean, "t"),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN c6 BLOB DEFAULT '\\x00\\xFF'",
            with_default("c6", LakeType::Blob, "\\x00ff"),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN c7 JSON DEFAULT '{\"a\": 1}'",
            with_default("c7", LakeType::Json, "{\"a\": 1}"),
        ),
        (
            "COMMENT ON COLUMN raw.t.a IS 'one'",
            Box::new(move |changes| changes.set_column_comment(t, id(1), Some("one".into()))),
        ),
        (
            "COMMENT ON COLUMN raw.t.a IS 'two'",
            Box::new(move |changes| {
                changes.set_column_comment(t, id(1), Some("gone".into()));
                changes.set_column_comment(t, id(1), Some("two".into()));
            }),
        ),
        (
            "COMMENT ON COLUMN raw.t.a IS NULL",
            Box::new(move |changes| changes.set_column_comment(t, id(1), None)),
        ),
        (
            "COMMENT ON COLUMN raw.t.v IS 'vee'",
            Box::new(move |changes| changes.set_column_comment(t, id(9), Some("vee".into()))),
        ),
        (
            "COMMENT ON TABLE raw.t IS 'T1'",
            Box::new(move |changes| changes.set_table_comment(t, Some("T1".into()))),
        ),
        (
            "COMMENT ON TABLE raw.t IS NULL",
            Box::new(move |changes| changes.set_table_comment(t, None)),
        ),
        (
            "COMMENT ON TABLE raw.t IS 'T2'",
            Box::new(move |changes| changes.set_table_comment(t, Some("T2".into()))),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN s.w INTEGER[]",
            Box::new(move |changes| {
                let field = ColumnDef::new("w", LakeType::list(LakeType::Int32));
                changes.add_struct_field(t, id(2), field);
            }),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN s.y.k VARCHAR",
            Box::new(move |changes| {
                changes.add_struct_field(t, id(4), ColumnDef::new("k", LakeType::Varchar));
            }),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN l.element.w INTEGER",
            Box::new(move |changes| {
                changes.add_struct_field(t, id(7), ColumnDef::new("w", LakeType::Int32));
            }),
        ),
        (
            "ALTER TABLE raw.t RENAME COLUMN s.x TO xx",
            Box::new(move |changes| changes.rename_struct_field(t, id(3), "xx")),
        ),
        (
            "ALTER TABLE raw.t DROP COLUMN s.y.z",
            Box::new(move |changes| changes.drop_struct_field(t, id(5))),
        ),
        (
            "ALTER TABLE raw.t DROP COLUMN c1",
            Box::new(move |changes| changes.drop_column(t, id(10))),
        ),
        (
            "ALTER TABLE raw.t RENAME TO t2",
            Box::new(move |changes| changes.rename_table(t, "t2")),
        ),
        (
            "BEGIN; ALTER TABLE raw.t2 RENAME TO t3; ALTER TABLE raw.t3 RENAME COLUMN a TO b;
             COMMENT ON TABLE raw.t3 IS 'T4'; COMMENT ON COLUMN raw.t3.b IS 'bee'; COMMIT",
            Box::new(move |changes| {
                changes.rename_table(t, "t3");
                changes.rename_column(t, id(1), "b");
                changes.set_table_comment(t, Some("T4".into()));
                changes.set_column_comment(t, id(1), Some("bee".into()));
            }),
        ),
        (
            "BEGIN; CREATE TABLE other.n(a INTEGER); COMMENT ON COLUMN other.n.a IS 'new'; COMMIT",
            Box::new(|changes| {
                let column = ColumnDef::new("a", LakeType::Int32).with_comment("new");
                changes.create_table("other", TableDef::new("n", vec![column]));
            }),
        ),
        (
            "BEGIN; DROP TABLE raw.t3; CREATE TABLE raw.T3(z INTEGER); COMMIT",
            Box::new(move |changes| {
                changes.drop_table(t);
                let column = ColumnDef::new("z", LakeType::Int32);
                changes.create_table("raw", TableDef::new("T3", vec![column]));
            }),
        ),
    ];
    for (sql, change) in steps {
        pair.theirs.duck(&format!("{sql};"));
        let mut changes = ChangeSet::new();
        change(&mut changes);
        pair.commit(changes).await;
        pair.compare(sql).await;
    }
    let head = pair.catalog.head().await.unwrap().id.get();
    let snapshots = "SELECT snapshot_id, schema_version, changes FROM lake.snapshots();";
    pair.compare_contents(snapshots, head).await;
}

/// What Postgres prints for a value, what DuckDB then reads in rows that are older than the column, and a
/// filter that must find it.
#[tokio::test]
async fn older_rows_have_the_value_that_a_new_column_began_with() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let decimal = LakeType::Decimal {
        precision: 10,
        scale: 3,
    };
    let cases: Vec<(LakeType, &str, &str, &str)> = vec![
        (LakeType::Boolean, "true", "boolean", "= true"),
        (LakeType::Int8, "-3", "smallint", "= -3"),
        (LakeType::Int16, "-32768", "smallint", "< 0"),
        (LakeType::Int32, "2147483647", "integer", "> 0"),
        (LakeType::Int64, "-9223372036854775808", "bigint", "< 0"),
        (LakeType::UInt32, "4294967295", "bigint", "> 4000000000"),
        (LakeType::UInt64, "18446744073709551615", "numeric", "> 0"),
        (LakeType::Float32, "0.1", "real", "= 0.1::FLOAT"),
        (LakeType::Float64, "-0.125", "float8", "< 0"),
        (decimal, "-12.5", "numeric(10,3)", "= -12.5"),
        (
            LakeType::Varchar,
            "it's \"q\" \\ \n NULL",
            "text",
            "LIKE 'it%'",
        ),
        (LakeType::Varchar, "", "text", "= ''"),
        (LakeType::Varchar, "NULL", "text", "= 'NULL'"),
        (
            LakeType::Json,
            "{\"a\": [1, null, \"x'y\"]}",
            "jsonb",
            "IS NOT NULL",
        ),
        (LakeType::Json, "null", "jsonb", "IS NOT NULL"),
        (LakeType::Date, "2024-02-29", "date", "= '2024-02-29'"),
        (LakeType::Date, "infinity", "date", "> '2024-02-29'"),
        (LakeType::Time, "23:59:59.5", "time", "> '12:00:00'"),
        (
            LakeType::Timestamp,
            "2024-02-29 12:00:00.123456",
            "timestamp",
            "> '2024-01-01'",
        ),
        (
            LakeType::TimestampTz,
            "-infinity",
            "timestamptz",
            "< '2024-01-01'",
        ),
        (
            LakeType::Uuid,
            "0192f0c4-0000-7000-8000-0000000000AB",
            "uuid",
            "= '0192f0c4-0000-7000-8000-0000000000ab'",
        ),
    ];
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    let table = TableDef::new("t", vec![ColumnDef::new("a", LakeType::Int32)]);
    changes.create_table("main", table);
    let t = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let directory = format!("{}main/t/", db.data_path());
    let file = write_file(&directory, "1.parquet", &[ints("a", 1, vec![1, 2])]);
    let before = commit(&catalog, |changes| changes.append_file(t, file)).await;
    let mut session = db.session();
    let mut connection = db.connection().await;
    for (index, (ty, given, postgres, filter)) in cases.iter().enumerate() {
        let name = format!("c{index}");
        let quoted = given.replace('\'', "''");
        let printed = text(&mut connection, &format!("select '{quoted}'::{postgres}")).await;
        let column = ColumnDef::new(&name, ty.clone()).with_initial_default(&printed);
        let column = column.unwrap_or_else(|error| panic!("{printed}: {error}"));
        commit(&catalog, |changes| changes.add_column(t, column)).await;
        let found = session.run(&format!(
            "SELECT count(*), count({name}) FROM t WHERE {name} {filter};"
        ));
        assert_eq!(found, ["2|2"], "{ty} {printed}");
        // Postgres reads DuckDB's text as the same value.
        let shown = session
            .run(&format!("SELECT DISTINCT {name}::VARCHAR FROM t;"))
            .join("\n")
            .replace('\'', "''");
        let same =
            format!("select '{shown}'::{postgres} is not distinct from '{quoted}'::{postgres}");
        assert_eq!(text(&mut connection, &same).await, "true", "{ty} {shown}");
    }
    let special = [
        (
            LakeType::Blob,
            "\\x00ff6127",
            "= '\\x00\\xFFa\\x27'::BLOB",
            "octet_length(X) = 4",
        ),
        (LakeType::Blob, "\\x", "= ''::BLOB", "octet_length(X) = 0"),
        (LakeType::Float64, "NaN", "= 'nan'::DOUBLE", "isnan(X)"),
        (LakeType::Float32, "-Infinity", "< 0", "isinf(X)"),
        (
            LakeType::Date,
            "0044-03-15 BC",
            "< '0001-01-01'",
            "year(X) = -43",
        ),
        (
            LakeType::Timestamp,
            "0044-03-15 12:00:00 BC",
            "< '0001-01-01'",
            "year(X) = -43",
        ),
        (
            LakeType::TimestampTz,
            "2024-01-01 00:30:00+02",
            "= '2023-12-31 22:30:00+00'::TIMESTAMPTZ",
            "year(X) = 2023",
        ),
        (LakeType::Time, "24:00:00", "> '23:59:59'", "X IS NOT NULL"),
    ];
    for (index, (ty, given, filter, check)) in special.into_iter().enumerate() {
        let name = format!("s{index}");
        let column = ColumnDef::new(&name, ty.clone()).with_initial_default(given);
        commit(&catalog, |changes| changes.add_column(t, column.unwrap())).await;
        let check = check.replace('X', &name);
        let found = session.run(&format!(
            "SELECT count(*) FROM t WHERE {name} {filter} AND {check};"
        ));
        assert_eq!(found, ["2"], "{ty} {given}");
    }
    // DuckDB goes on: its own rows take the default too, where it can say it.
    let gone_on = session.run(
        "INSERT INTO t(a) VALUES (3); SELECT count(*) FROM t a, t b WHERE a.a = 1 AND b.a = 3 \
             AND a.c0 = b.c0 AND a.c9 = b.c9 AND a.c10 = b.c10 AND a.c12 = b.c12 AND a.c13 = b.c13 \
             AND a.s0 = b.s0 AND a.s4 = b.s4; \
         ALTER TABLE t DROP COLUMN c1; ALTER TABLE t RENAME COLUMN c2 TO d2; \
         CALL ducklake_flush_inlined_data('lake'); CALL ducklake_merge_adjacent_files('lake');",
    );
    assert_eq!(gone_on[0], "1", "{gone_on:?}");
    let shown = session.run(&format!(
        "SELECT count(*), count(c0), min(c9), max(d2) FROM t;
         SELECT * FROM t AT (VERSION => {before}) ORDER BY a;"
    ));
    assert_eq!(shown, ["3|3|-12.500|-32768", "1", "2"]);
}

#[tokio::test]
async fn a_renamed_or_moved_table_keeps_its_files_and_its_past() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_schema("raw");
    changes.create_schema("other");
    let columns = || vec![ColumnDef::new("a", LakeType::Int32)];
    changes.create_table("raw", TableDef::new("t", columns()));
    changes.create_table("other", TableDef::new("taken", columns()));
    changes.create_or_replace_view("other", ViewDef::new("view", "SELECT 1"));
    let tables = catalog.commit(&changes, &mut NoHook).await.unwrap().tables;
    let (t, taken) = (tables[0], tables[1]);
    let directory = format!("{}raw/t/", db.data_path());
    let file = |name: &str, value| write_file(&directory, name, &[ints("a", 1, vec![value])]);
    let first = commit(&catalog, |changes| {
        changes.append_file(t, file("1.parquet", 1));
    })
    .await;
    let mut session = db.session();
    assert_eq!(session.run("SELECT * FROM raw.t;"), ["1"]);

    for name in ["taken", "VIEW"] {
        let kind = refusal(&catalog, |changes| {
            changes.rename_table(t, name);
            changes.move_table(t, "other");
        })
        .await;
        assert_eq!(kind, CatalogErrorKind::NameCollision, "{name}");
    }
    let renamed = commit(&catalog, |changes| changes.rename_table(t, "T2")).await;
    assert_eq!(session.run("SELECT * FROM raw.t2;"), ["1"]);
    let moved = commit(&catalog, |changes| {
        changes.move_table(t, "other");
        changes.append_file(t, file("2.parquet", 2));
    })
    .await;
    let shown = session.run(&format!(
        "SELECT * FROM other.t2 ORDER BY a; SELECT * FROM raw.t AT (VERSION => {first});
         SELECT * FROM raw.t2 AT (VERSION => {renamed});
         SELECT a FROM other.t2 AT (VERSION => {moved}) WHERE a = 2;
         INSERT INTO other.t2 VALUES (3); ALTER TABLE other.t2 ADD COLUMN b VARCHAR;
         INSERT INTO other.t2 SELECT i, 'x' FROM range(4, 40) r(i);
         SELECT count(*), max(a), count(b) FROM other.t2;"
    ));
    assert_eq!(shown, ["1", "2", "1", "1", "2", "39|39|36"]);
    let gone = session.run("SELECT * FROM raw.t2;").join("\n");
    assert!(gone.contains("does not exist"), "{gone}");

    // Its directory is still the old one, and all who look for files know it.
    let lake = catalog.load().await.unwrap();
    assert_eq!(lake.find_table("other", "t2").unwrap().path, "raw/t/");
    let directories = catalog.table_directories().await.unwrap();
    assert!(directories.contains(&directory), "{directories:?}");
    let orphans = session.run(
        "SELECT * FROM ducklake_delete_orphaned_files('lake', cleanup_all => true, dry_run => true);",
    );
    assert!(orphans.is_empty(), "{orphans:?}");
    let maintained = session.run(
        "CALL lake.set_option('delete_older_than', '0 seconds');
         CALL ducklake_flush_inlined_data('lake'); CALL ducklake_merge_adjacent_files('lake');
         CALL ducklake_cleanup_old_files('lake', cleanup_all => true);
         CALL ducklake_delete_orphaned_files('lake', cleanup_all => true);",
    );
    assert!(!maintained.join("\n").contains("Error"), "{maintained:?}");
    let shown = session.run(&format!(
        "SELECT count(*), max(a) FROM other.t2; SELECT * FROM raw.t AT (VERSION => {first});"
    ));
    assert_eq!(shown, ["39|39", "1"]);

    // Names can be swapped, and a table comes back to where it was.
    commit(&catalog, |changes| {
        changes.rename_table(t, "tmp");
        changes.rename_table(taken, "t2");
        changes.rename_table(t, "taken");
    })
    .await;
    assert_eq!(
        session.run("SELECT count(*) FROM other.t2; SELECT count(*) FROM other.taken;"),
        ["0", "39"]
    );
    commit(&catalog, |changes| changes.move_table(t, "raw")).await;
    let mut connection = db.connection().await;
    let stored = "select path || ' ' || path_is_relative from ducklake_table \
                   where end_snapshot is null order by table_id";
    assert_eq!(
        list(&mut connection, stored).await,
        ["t/ true", "taken/ true"]
    );
    assert_eq!(
        session.run("SELECT count(*) FROM raw.taken; DROP TABLE raw.taken; DROP SCHEMA raw;"),
        ["39"]
    );
    assert_eq!(
        session.run(&format!("SELECT * FROM raw.t AT (VERSION => {first});")),
        ["1"]
    );
}

#[tokio::test]
async fn a_dropped_table_is_gone_now_and_there_before() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    db.duck(
        "CREATE TABLE t(a INTEGER, v VARCHAR); INSERT INTO t SELECT i, 'v' FROM range(50) r(i);
         INSERT INTO t VALUES (1000, 'inlined'); DELETE FROM t WHERE a < 20; DELETE FROM t WHERE a = 30;
         ALTER TABLE t SET PARTITIONED BY (v); ALTER TABLE t SET SORTED BY (a);
         COMMENT ON TABLE t IS 'x'; COMMENT ON COLUMN t.a IS 'y';",
    );
    let lake = catalog.load().await.unwrap();
    let t = lake.find_table("main", "t").unwrap().id;
    let before = lake.head().id.get();
    let mut session = db.session();
    let counted = ["30|1000"];
    assert_eq!(session.run("SELECT count(*), max(a) FROM t;"), counted);
    let directory = format!("{}main/t/", db.data_path());
    let late = write_file(&directory, "late.parquet", &[ints("a", 1, vec![7])]);
    let dropped = commit(&catalog, |changes| {
        changes.append_file(t, late);
        changes.drop_table(t);
        let columns = vec![ColumnDef::new("z", LakeType::Int32)];
        changes.create_table("main", TableDef::new("T", columns));
    })
    .await;
    assert_eq!(
        refusal(&catalog, |changes| changes.drop_table(t)).await,
        CatalogErrorKind::TableChanged
    );
    assert_eq!(
        session.run(&format!(
            "SELECT count(*), max(z) FROM t; SELECT count(*), max(a) FROM t AT (VERSION => {before});
             INSERT INTO t VALUES (5); SELECT z FROM t;"
        )),
        ["0|NULL", "30|1000", "5"]
    );
    let mut connection = db.connection().await;
    for (table, key) in [
        ("ducklake_table", "table_id"),
        ("ducklake_column", "table_id"),
        ("ducklake_column_tag", "table_id"),
        ("ducklake_tag", "object_id"),
        ("ducklake_data_file", "table_id"),
        ("ducklake_delete_file", "table_id"),
        ("ducklake_partition_info", "table_id"),
        ("ducklake_sort_info", "table_id"),
    ] {
        let live = format!(
            "select (count(*) filter (where end_snapshot is null))::text || ' of ' \
                    || (count(*) filter (where end_snapshot = {dropped}) > 0)::text \
               from {table} where {key} = {t}"
        );
        assert_eq!(text(&mut connection, &live).await, "0 of true", "{table}");
    }
    // A table that comes and goes in one change set.
    commit(&catalog, |changes| {
        let brief = changes.create_table(
            "main",
            TableDef::new("brief", vec![ColumnDef::new("a", LakeType::Int32)]),
        );
        let directory = format!("{}main/brief/", db.data_path());
        let file = write_file(&directory, "1.parquet", &[ints("a", 1, vec![7])]);
        changes.append_file(brief, file);
        changes.drop_table(brief);
    })
    .await;
    // With the snapshots, its files go, also those that were never in one.
    let cleaned = session.run(
        "CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY);
         CALL ducklake_cleanup_old_files('lake', cleanup_all => true); SELECT z FROM t;",
    );
    assert_eq!(cleaned.last().map(String::as_str), Some("5"), "{cleaned:?}");
    for gone in ["main/t/late.parquet", "main/brief/1.parquet"] {
        let path = format!("{}{gone}", db.data_path());
        assert!(!std::path::Path::new(&path).exists(), "{gone}: {cleaned:?}");
    }
}

fn struct_file(directory: &str, name: &str, fields: &[(&str, i64, i32)]) -> DataFile {
    let columns: Vec<_> = fields
        .iter()
        .map(|(name, column, value)| {
            let array: ArrayRef = Arc::new(Int32Array::from(vec![*value]));
            (Arc::new(with_id(name, DataType::Int32, *column)), array)
        })
        .collect();
    let array: ArrayRef = Arc::new(StructArray::from(columns));
    let mut file = write_file(
        directory,
        name,
        &[FileColumn::new("s", 1, array, StatBounds::Unknown)],
    );
    file.columns.clear();
    file
}

#[tokio::test]
async fn fields_of_structs_come_go_and_change_their_names() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let ty = LakeType::Struct(vec![
        ("x".to_owned(), LakeType::Int32),
        ("y".to_owned(), LakeType::Int32),
    ]);
    let mut changes = ChangeSet::new();
    changes.create_table("main", TableDef::new("t", vec![ColumnDef::new("s", ty)]));
    let t = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let directory = format!("{}main/t/", db.data_path());
    let old =
        |name: &str, value| struct_file(&directory, name, &[("x", 2, value), ("y", 3, value)]);
    let first = commit(&catalog, |changes| {
        changes.append_file(t, old("1.parquet", 1));
    })
    .await;
    let mut session = db.session();
    assert_eq!(session.run("SELECT * FROM t;"), ["{'x': 1, 'y': 1}"]);
    // One snapshot with files of both shapes.
    commit(&catalog, |changes| {
        changes.append_file(t, old("2.parquet", 2));
        changes.expect_next_column_id(t, id(4));
        changes.add_struct_field(t, id(1), ColumnDef::new("z", LakeType::Int32));
        changes.rename_struct_field(t, id(2), "tmp");
        changes.rename_struct_field(t, id(3), "x");
        changes.rename_struct_field(t, id(2), "y");
        changes.append_file(
            t,
            struct_file(
                &directory,
                "3.parquet",
                &[("y", 2, 3), ("x", 3, 4), ("z", 4, 5)],
            ),
        );
    })
    .await;
    assert_eq!(
        session.run("SELECT * FROM t ORDER BY s.y;"),
        [
            "{'y': 1, 'x': 1, 'z': NULL}",
            "{'y': 2, 'x': 2, 'z': NULL}",
            "{'y': 3, 'x': 4, 'z': 5}"
        ]
    );
    commit(&catalog, |changes| {
        changes.drop_struct_field(t, id(2));
        changes.drop_struct_field(t, id(4));
        // The name comes back as another field.
        changes.add_struct_field(t, id(1), ColumnDef::new("y", LakeType::Int32));
    })
    .await;
    assert_eq!(
        session.run(&format!(
            "SELECT * FROM t ORDER BY s.x; SELECT * FROM t AT (VERSION => {first});
             ALTER TABLE t ADD COLUMN s.more VARCHAR; INSERT INTO t VALUES ({{'x': 9, 'y': 8, 'more': 'm'}});
             SELECT s FROM t WHERE s.x = 9;"
        )),
        [
            "{'x': 1, 'y': NULL}",
            "{'x': 2, 'y': NULL}",
            "{'x': 4, 'y': NULL}",
            "{'x': 1, 'y': 1}",
            "{'x': 9, 'y': 8, 'more': m}"
        ]
    );
    for (change, kind) in [
        (
            Box::new(|changes: &mut ChangeSet| changes.drop_struct_field(t, id(1)))
                as Box<dyn Fn(&mut ChangeSet)>,
            CatalogErrorKind::TableChanged,
        ),
        (
            Box::new(|changes| {
                for field in [3, 5, 6] {
                    changes.drop_struct_field(t, id(field));
                }
            }),
            CatalogErrorKind::InvalidChange,
        ),
        (
            Box::new(|changes| changes.rename_struct_field(t, id(3), "MORE")),
            CatalogErrorKind::NameCollision,
        ),
        (
            Box::new(|changes| {
                let field = ColumnDef::new("d", LakeType::Int32).with_initial_default("1");
                changes.add_struct_field(t, id(1), field.unwrap());
            }),
            CatalogErrorKind::InvalidChange,
        ),
    ] {
        assert_eq!(refusal(&catalog, change).await, kind);
    }
}

#[tokio::test]
async fn several_changes_of_one_transaction_are_one_snapshot() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    let columns = vec![
        ColumnDef::new("a", LakeType::Int32),
        ColumnDef::new("b", LakeType::Varchar),
        ColumnDef::new("c", LakeType::Varchar),
    ];
    changes.create_table("main", TableDef::new("t", columns));
    let t = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let directory = format!("{}main/t/", db.data_path());
    let old = |name: &str, value: i32| {
        write_file(
            &directory,
            name,
            &[
                ints("a", 1, vec![value]),
                strings("b", 2, vec!["b"]),
                strings("c", 3, vec!["c"]),
            ],
        )
    };
    let first = commit(&catalog, |changes| {
        changes.append_file(t, old("1.parquet", 1));
    })
    .await;
    let mut session = db.session();
    assert_eq!(session.run("SELECT * FROM t;"), ["1|b|c"]);
    let second = commit(&catalog, |changes| {
        changes.append_file(t, old("2.parquet", 2));
        // a: renamed, wider, commented. b and c: swapped. d: new, dropped; then d again, with a default.
        changes.rename_column(t, id(1), "key");
        changes.set_column_type(t, id(1), LakeType::Varchar);
        changes.set_column_comment(t, id(1), Some("the key".into()));
        changes.rename_column(t, id(2), "tmp");
        changes.rename_column(t, id(3), "b");
        changes.rename_column(t, id(2), "c");
        changes.add_column(t, ColumnDef::new("d", LakeType::Int32));
        changes.append_file(
            t,
            write_file(
                &directory,
                "3.parquet",
                &[
                    strings("key", 1, vec!["x3"]),
                    strings("c", 2, vec!["c3"]),
                    strings("b", 3, vec!["b3"]),
                    ints("d", 4, vec![3]),
                ],
            ),
        );
        changes.drop_column(t, id(4));
        changes.expect_next_column_id(t, id(5));
        let column = ColumnDef::new("d", LakeType::Varchar).with_comment("again");
        changes.add_column(t, column.with_initial_default("old").unwrap());
        changes.append_file(
            t,
            write_file(
                &directory,
                "4.parquet",
                &[
                    strings("key", 1, vec!["x4"]),
                    strings("c", 2, vec!["c4"]),
                    strings("b", 3, vec!["b4"]),
                    strings("d", 5, vec!["d4"]),
                ],
            ),
        );
    })
    .await;
    assert_eq!(second, first + 1);
    let shown = session.run(&format!(
        "SELECT key, b, c, d FROM t ORDER BY key; SELECT key FROM t WHERE key = '2';
         SELECT count(*) FROM t WHERE d = 'old'; SELECT * FROM t AT (VERSION => {first});
         SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 't' AND comment IS NOT NULL;
         INSERT INTO t(key) VALUES ('theirs'); SELECT d FROM t WHERE key = 'theirs';"
    ));
    assert_eq!(
        shown,
        [
            "1|c|b|old",
            "2|c|b|old",
            "x3|b3|c3|old",
            "x4|b4|c4|d4",
            "2",
            "3",
            "1|b|c",
            "key|the key",
            "d|again",
            "old"
        ]
    );
    let _: TableId = t;
}
