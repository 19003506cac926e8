//! Columns that come, go and change, read by DuckDB at every version.

use std::sync::Arc;

use arrow_array::{Int32Array, Int64Array, StringArray};
use ducklake_catalog::{
    Catalog, CatalogErrorKind, ChangeSet, ColumnDef, ColumnId, DataFile, LakeType, NoHook,
    StatBounds, StatValue, TableDef, TableId,
};

use super::support::{FileColumn, TestDb, list, write_file};

fn ints(name: &'static str, id: i64, values: Vec<i32>) -> FileColumn {
    let bounds = StatBounds::Range {
        min: StatValue::Int(i64::from(*values.iter().min().expect("a value"))),
        max: StatValue::Int(i64::from(*values.iter().max().expect("a value"))),
    };
    FileColumn::new(name, id, Arc::new(Int32Array::from(values)), bounds)
}

fn strings(name: &'static str, id: i64, values: Vec<&'static str>) -> FileColumn {
    let bounds = StatBounds::Range {
        min: StatValue::Utf8((*values.iter().min().expect("a value")).to_owned()),
        max: StatValue::Utf8((*values.iter().max().expect("a value")).to_owned()),
    };
    FileColumn::new(name, id, Arc::new(StringArray::from(values)), bounds)
}

/// A lake with one table `t` of the given columns, and its directory.
async fn table(db: &TestDb, columns: Vec<ColumnDef>) -> (Catalog, TableId, String) {
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_table("main", TableDef::new("t", columns));
    let id = catalog
        .commit(&changes, &mut NoHook)
        .await
        .expect("created")
        .tables[0];
    (catalog, id, format!("{}main/t/", db.data_path()))
}

async fn append(catalog: &Catalog, table: TableId, file: DataFile) -> i64 {
    let mut changes = ChangeSet::new();
    changes.append_file(table, file);
    catalog
        .commit(&changes, &mut NoHook)
        .await
        .expect("appended")
        .id
        .get()
}

#[tokio::test]
async fn one_snapshot_may_hold_files_of_both_shapes() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let columns = vec![
        ColumnDef::new("a", LakeType::Int32),
        ColumnDef::new("b", LakeType::Varchar),
    ];
    let (catalog, t, directory) = table(&db, columns).await;
    let first = write_file(
        &directory,
        "1.parquet",
        &[
            ints("a", 1, vec![1, 2]),
            strings("b", 2, vec!["one", "two"]),
        ],
    );
    let before = append(&catalog, t, first).await;

    // ALTER TABLE ADD c, DROP b, RENAME a TO key, with rows before and after, in one transaction.
    let lake = catalog.load().await.unwrap();
    let next = lake.table(t).unwrap().next_column_id;
    assert_eq!(next, ColumnId::new(3));
    let mut changes = ChangeSet::new();
    changes.append_file(
        t,
        write_file(
            &directory,
            "2.parquet",
            &[ints("a", 1, vec![3]), strings("b", 2, vec!["three"])],
        ),
    );
    changes.expect_next_column_id(t, next);
    changes.add_column(t, ColumnDef::new("c", LakeType::Varchar));
    changes.drop_column(t, ColumnId::new(2));
    changes.rename_column(t, ColumnId::new(1), "key");
    changes.append_file(
        t,
        write_file(
            &directory,
            "3.parquet",
            &[ints("key", 1, vec![4]), strings("c", 3, vec!["four"])],
        ),
    );
    let after = catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!(after.id.get(), before + 1);
    let shown = db.duck(&format!(
        "SELECT * FROM t ORDER BY key; SELECT * FROM t AT (VERSION => {before}) ORDER BY a;
         SELECT key FROM t WHERE c = 'four'; SELECT count(*) FROM t WHERE c IS NULL;
         SELECT min(key), max(key), count(c) FROM t;"
    ));
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            "1|NULL", "2|NULL", "3|NULL", "4|four", "1|one", "2|two", "4", "3", "1|4|1"
        ]
    );
    let mut connection = db.connection().await;
    let stats = "select concat_ws('|', column_id, min_value, max_value) \
                   from ducklake_table_column_stats order by column_id";
    // The new column has none, for good: older files have NULLs that nobody counted.
    assert_eq!(list(&mut connection, stats).await, ["1|1|4", "2|one|two"]);
    let more = write_file(
        &directory,
        "4.parquet",
        &[ints("key", 1, vec![9]), strings("c", 3, vec!["z"])],
    );
    append(&catalog, t, more).await;
    assert_eq!(list(&mut connection, stats).await, ["1|1|9", "2|one|two"]);
    assert_eq!(db.duck("SELECT key FROM t WHERE c = 'z';"), "9");
}

#[tokio::test]
async fn a_name_that_comes_back_is_a_new_column() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let columns = vec![
        ColumnDef::new("a", LakeType::Int32),
        ColumnDef::new("b", LakeType::Varchar),
    ];
    let (catalog, t, directory) = table(&db, columns).await;
    let file = write_file(
        &directory,
        "1.parquet",
        &[ints("a", 1, vec![1]), strings("b", 2, vec!["secret"])],
    );
    let first = append(&catalog, t, file).await;
    let mut changes = ChangeSet::new();
    changes.drop_column(t, ColumnId::new(2));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    let mut changes = ChangeSet::new();
    changes.add_column(t, ColumnDef::new("B", LakeType::Int32));
    let last = catalog
        .commit(&changes, &mut NoHook)
        .await
        .unwrap()
        .id
        .get();
    let shown = db.duck(&format!(
        "SELECT * FROM t; SELECT * FROM t AT (VERSION => {first});
         SELECT column_name || ' ' || column_type FROM (DESCRIBE t);
         SELECT count(*) FROM (DESCRIBE SELECT * FROM t AT (VERSION => {}));",
        last - 1
    ));
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        ["1|NULL", "1|secret", "a INTEGER", "B INTEGER", "1"]
    );
    let column = catalog
        .load()
        .await
        .unwrap()
        .table(t)
        .unwrap()
        .find_column("b")
        .unwrap()
        .clone();
    assert_eq!(column.id, ColumnId::new(3));
}

/// DuckDB filters the values of older files before it casts them.
#[tokio::test]
async fn columns_change_only_to_types_that_filters_survive() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let decimal = |precision, scale| LakeType::Decimal { precision, scale };
    let columns = vec![
        ColumnDef::new("i", LakeType::Int32),
        ColumnDef::new("d", decimal(4, 2)),
    ];
    let (catalog, t, _) = table(&db, columns).await;
    let first = catalog.head().await.unwrap().id.get() + 1;
    db.duck("INSERT INTO t SELECT i, i + 0.5 FROM range(20) r(i);");
    for (column, ty) in [
        (1, decimal(9, 0)),
        (1, LakeType::Float64),
        (1, LakeType::Int16),
        (1, LakeType::UInt64),
        (1, decimal(20, 2)),
        (2, decimal(10, 3)),
        (2, decimal(3, 2)),
        (2, LakeType::Float64),
    ] {
        let mut changes = ChangeSet::new();
        changes.set_column_type(t, ColumnId::new(column), ty.clone());
        let error = catalog.commit(&changes, &mut NoHook).await.unwrap_err();
        assert_eq!(error.kind(), &CatalogErrorKind::InvalidChange, "{ty}");
    }
    let mut changes = ChangeSet::new();
    changes.set_column_type(t, ColumnId::new(1), LakeType::Int64);
    changes.set_column_type(t, ColumnId::new(2), decimal(12, 2));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    let filters = [
        ("i", "< 10000000000"),
        ("i", "> -10000000000"),
        ("i", "= 10000000000"),
        ("i", "IN (3, 10000000000)"),
        ("i", "<> 4294967299"),
        ("d", "< 1000.00"),
        ("d", "> -1000.00"),
        ("d", "= 1000.00"),
        ("d", "IN (3.50, 1000.00)"),
        ("d", "> 1.505"),
    ];
    // Added to zero, the column is cast before it is compared.
    let script: Vec<String> = filters
        .iter()
        .map(|(column, filter)| {
            format!(
                "SELECT (SELECT count(*) FROM t WHERE {column} {filter}) \
                      = (SELECT count(*) FROM t WHERE {column} + 0 {filter});"
            )
        })
        .collect();
    assert_eq!(
        db.duck(&script.concat()).lines().collect::<Vec<_>>(),
        ["true"; 10]
    );
    let shown = db.duck(&format!(
        "INSERT INTO t VALUES (10000000000, 1000.25); SELECT min(i), max(i), min(d), max(d) FROM t;
         SELECT typeof(i), typeof(d), max(i) FROM t AT (VERSION => {first}) GROUP BY ALL;"
    ));
    assert_eq!(shown, "0|10000000000|0.50|1000.25\nINTEGER|DECIMAL(4,2)|19");
}

#[tokio::test]
async fn a_wider_integer_keeps_its_bounds() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, vec![ColumnDef::new("i", LakeType::Int32)]).await;
    append(
        &catalog,
        t,
        write_file(&directory, "1.parquet", &[ints("i", 1, vec![5, 19])]),
    )
    .await;
    // The old shape and the new one in one change set.
    let mut changes = ChangeSet::new();
    changes.append_file(
        t,
        write_file(&directory, "2.parquet", &[ints("i", 1, vec![20])]),
    );
    changes.set_column_type(t, ColumnId::new(1), LakeType::Int64);
    let wide = FileColumn::new(
        "i",
        1,
        Arc::new(Int64Array::from(vec![1_i64 << 40])),
        StatBounds::Range {
            min: StatValue::Int(1 << 40),
            max: StatValue::Int(1 << 40),
        },
    );
    changes.append_file(t, write_file(&directory, "3.parquet", &[wide]));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!(
        db.duck("SELECT min(i), max(i), count(*) FROM t; SELECT i FROM t WHERE i = 5;"),
        "5|1099511627776|4\n5"
    );
    let mut connection = db.connection().await;
    let stats = "select concat_ws('|', min_value, max_value) from ducklake_table_column_stats";
    assert_eq!(list(&mut connection, stats).await, ["5|1099511627776"]);
}

#[tokio::test]
async fn duckdb_goes_on_inserting_after_our_changes() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let columns = vec![
        ColumnDef::new("a", LakeType::Int32),
        ColumnDef::new("b", LakeType::Varchar),
    ];
    let (catalog, t, _) = table(&db, columns).await;
    // So few rows that DuckDB keeps them in the catalog, in a table of its own making.
    db.duck("INSERT INTO t VALUES (1, 'one'); INSERT INTO t VALUES (2, 'two');");
    let mut changes = ChangeSet::new();
    changes.add_column(
        t,
        ColumnDef::new("c d", LakeType::list(LakeType::Timestamp)),
    );
    changes.rename_column(t, ColumnId::new(2), "bb");
    changes.set_column_type(t, ColumnId::new(1), LakeType::Int64);
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    db.duck(
        "INSERT INTO t VALUES (10000000000, 'three', ['2024-01-01']);
         UPDATE t SET bb = 'TWO' WHERE a = 2; DELETE FROM t WHERE a = 1;",
    );
    let mut changes = ChangeSet::new();
    changes.drop_column(t, ColumnId::new(2));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    let expected = "2|NULL\n10000000000|['2024-01-01 00:00:00']\n4|[NULL]";
    assert_eq!(
        db.duck("INSERT INTO t VALUES (4, [NULL]); SELECT * FROM t ORDER BY rowid;"),
        expected
    );
    db.duck("CALL ducklake_flush_inlined_data('lake'); CHECKPOINT lake;");
    assert_eq!(db.duck("SELECT * FROM t ORDER BY rowid;"), expected);
}

#[tokio::test]
async fn partitioned_tables_take_files_only_if_they_will_be_found() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let columns = vec![
        ColumnDef::new("a", LakeType::Int32),
        ColumnDef::new("b", LakeType::Varchar),
    ];
    let (catalog, t, directory) = table(&db, columns).await;
    db.duck("ALTER TABLE t SET PARTITIONED BY (b);");
    let file = |name: &str| {
        write_file(
            &directory,
            name,
            &[ints("a", 1, vec![1]), strings("b", 2, vec!["x"])],
        )
    };
    append(&catalog, t, file("1.parquet")).await;
    assert_eq!(db.duck("SELECT a FROM t WHERE b = 'x';"), "1");
    let mut changes = ChangeSet::new();
    changes.drop_column(t, ColumnId::new(2));
    let error = catalog.commit(&changes, &mut NoHook).await.unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::InvalidChange);
    assert!(error.to_string().contains("partitioned by it"), "{error}");

    db.duck("ALTER TABLE t SET PARTITIONED BY (bucket(4, a));");
    let mut changes = ChangeSet::new();
    changes.append_file(t, file("2.parquet"));
    let error = catalog.commit(&changes, &mut NoHook).await.unwrap_err();
    assert_eq!(error.kind(), &CatalogErrorKind::TableChanged);
    assert!(error.to_string().contains("bucket"), "{error}");
}

#[tokio::test]
async fn a_column_that_lived_for_one_transaction_does_not_come_back() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, vec![ColumnDef::new("a", LakeType::Int32)]).await;
    let mut changes = ChangeSet::new();
    changes.add_column(t, ColumnDef::new("brief", LakeType::Int32));
    changes.append_file(
        t,
        write_file(
            &directory,
            "1.parquet",
            &[ints("a", 1, vec![1]), ints("brief", 2, vec![666])],
        ),
    );
    changes.drop_column(t, ColumnId::new(2));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!(
        db.duck("SELECT * FROM t; ALTER TABLE t ADD COLUMN theirs INTEGER;"),
        "1"
    );
    let mut changes = ChangeSet::new();
    changes.expect_next_column_id(t, ColumnId::new(4));
    changes.add_column(t, ColumnDef::new("ours", LakeType::Int32));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!(db.duck("SELECT * FROM t;"), "1|NULL|NULL");
}
