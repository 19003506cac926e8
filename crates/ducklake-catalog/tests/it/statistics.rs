//! Statistics that DuckDB trusts: what we write, and what becomes of it when DuckDB writes too.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Float64Array, Int32Array, StringArray};
use ducklake_catalog::{
    Catalog, ChangeSet, ColumnDef, DataFile, LakeType, NoHook, StatBounds, StatValue, TableDef,
    TableId,
};

use super::support::{FileColumn, TestDb, execute, list, text, write_file};

const STATS: &str = "select concat_ws('|', column_id, contains_null, contains_nan, min_value, max_value) \
     from ducklake_table_column_stats order by column_id";

async fn table(db: &TestDb, ty: LakeType) -> (Catalog, TableId, String) {
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_table("main", TableDef::new("t", vec![ColumnDef::new("c", ty)]));
    let id = catalog
        .commit(&changes, &mut NoHook)
        .await
        .expect("created")
        .tables[0];
    (catalog, id, format!("{}main/t/", db.data_path()))
}

async fn append(catalog: &Catalog, table: TableId, files: Vec<DataFile>) {
    let mut changes = ChangeSet::new();
    for file in files {
        changes.append_file(table, file);
    }
    catalog
        .commit(&changes, &mut NoHook)
        .await
        .expect("appended");
}

fn ints(values: Vec<Option<i32>>, bounds: StatBounds) -> FileColumn {
    FileColumn::new("c", 1, Arc::new(Int32Array::from(values)), bounds)
}

fn int_range(min: i64, max: i64) -> StatBounds {
    StatBounds::Range {
        min: StatValue::Int(min),
        max: StatValue::Int(max),
    }
}

#[tokio::test]
async fn unknown_bounds_stay_unknown_when_duckdb_inserts() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Int32).await;
    let column = ints((0..10).map(Some).collect(), StatBounds::Unknown);
    append(
        &catalog,
        t,
        vec![write_file(&directory, "1.parquet", &[column])],
    )
    .await;
    let mut connection = db.connection().await;
    assert!(list(&mut connection, STATS).await.is_empty());
    // With a row of NULLs DuckDB would narrow the range to its own rows, and 3 would be lost.
    let shown = db.duck(
        "INSERT INTO t SELECT * FROM range(100, 120); SELECT count(*) FROM t WHERE c = 3;
         SELECT min(c), max(c) FROM t; SELECT c FROM t ORDER BY c LIMIT 2;",
    );
    assert_eq!(shown, "1\n0|119\n0\n1");
    let column = ints(vec![Some(-1)], int_range(-1, -1));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "2.parquet", &[column])],
    )
    .await;
    assert!(list(&mut connection, STATS).await.is_empty());
    assert_eq!(db.duck("SELECT min(c) FROM t;"), "-1");
}

#[tokio::test]
async fn a_known_column_that_becomes_unknown_loses_its_row() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Int32).await;
    let file = |name: &str, column| write_file(&directory, name, &[column]);
    let known = file("1.parquet", ints(vec![Some(5), None], int_range(5, 5)));
    append(&catalog, t, vec![known]).await;
    let mut connection = db.connection().await;
    assert_eq!(list(&mut connection, STATS).await, ["1|t|5|5"]);
    // Of two files in one commit, one says nothing of the column at all.
    let known = file("2.parquet", ints(vec![Some(6)], int_range(6, 6)));
    let mut silent = file("3.parquet", ints(vec![Some(1000)], StatBounds::Unknown));
    silent.columns.clear();
    append(&catalog, t, vec![known, silent]).await;
    assert!(list(&mut connection, STATS).await.is_empty());
    assert_eq!(
        db.duck("SELECT max(c) FROM t; SELECT c FROM t WHERE c = 1000;"),
        "1000\n1000"
    );
}

#[tokio::test]
async fn nulls_first_and_values_later_from_both_sides() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Int32).await;
    let nulls = ints(vec![None, None], StatBounds::Empty);
    let empty = ints(Vec::new(), StatBounds::Empty);
    let files = vec![
        write_file(&directory, "0.parquet", &[empty]),
        write_file(&directory, "1.parquet", &[nulls]),
    ];
    append(&catalog, t, files).await;
    let mut connection = db.connection().await;
    assert_eq!(list(&mut connection, STATS).await, ["1|t"]);
    assert_eq!(
        db.duck("SELECT count(*), count(c) FROM t; SELECT count(*) FROM t WHERE c IS NULL;"),
        "2|0\n2"
    );
    let values = ints(vec![Some(7), Some(8)], int_range(7, 8));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "2.parquet", &[values])],
    )
    .await;
    assert_eq!(list(&mut connection, STATS).await, ["1|t|7|8"]);
    db.duck("INSERT INTO t SELECT * FROM range(100, 120);");
    assert_eq!(list(&mut connection, STATS).await, ["1|t|7|119"]);
    let shown = db.duck(
        "SELECT min(c), max(c), count(c), count(*) FROM t; SELECT c FROM t WHERE c = 7;
         SELECT count(*) FROM t WHERE c IS NULL;",
    );
    assert_eq!(shown, "7|119|22|24\n7\n2");
}

#[tokio::test]
async fn values_that_duckdb_has_no_bounds_for_are_not_forgotten() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Varchar).await;
    // DuckDB writes no bounds for strings with a NUL.
    db.duck("INSERT INTO t SELECT chr(0) || 'hidden' FROM range(20);");
    let mut connection = db.connection().await;
    let before = list(&mut connection, STATS).await;
    let column = FileColumn::new(
        "c",
        1,
        Arc::new(StringArray::from(vec!["m"])),
        StatBounds::Range {
            min: StatValue::Utf8("m".into()),
            max: StatValue::Utf8("m".into()),
        },
    );
    append(
        &catalog,
        t,
        vec![write_file(&directory, "1.parquet", &[column])],
    )
    .await;
    let shown =
        db.duck("SELECT count(*) FROM t WHERE c < 'a'; SELECT count(*) FROM t WHERE c = 'm';");
    assert_eq!(shown, "20\n1", "statistics before: {before:?}");
    assert!(list(&mut connection, STATS).await.is_empty(), "{before:?}");
}

#[tokio::test]
async fn strings_that_the_catalog_cannot_hold_have_no_bounds() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Varchar).await;
    let long = "z".repeat(20_000);
    for (index, value) in ["\0".to_owned(), long].into_iter().enumerate() {
        let column = FileColumn::new(
            "c",
            1,
            Arc::new(StringArray::from(vec![value.clone(), "m".to_owned()])),
            StatBounds::Range {
                min: StatValue::Utf8(value.clone().min("m".to_owned())),
                max: StatValue::Utf8(value.max("m".to_owned())),
            },
        );
        let file = write_file(&directory, &format!("{index}.parquet"), &[column]);
        append(&catalog, t, vec![file]).await;
    }
    let mut connection = db.connection().await;
    assert!(list(&mut connection, STATS).await.is_empty());
    let bounds = "select count(*) from ducklake_file_column_stats \
                   where value_count = 2 and min_value is null and max_value is null";
    assert_eq!(text(&mut connection, bounds).await, "2");
    let shown = db.duck(
        "SELECT count(*) FROM t WHERE c = 'm'; SELECT count(*) FROM t WHERE c > 'zz';
         SELECT count(*) FROM t WHERE c < 'a'; SELECT length(max(c)) FROM t;",
    );
    assert_eq!(shown, "2\n1\n1\n20000");
}

#[tokio::test]
async fn nan_is_in_no_range() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Float64).await;
    let column = |values: Vec<f64>, bounds| FileColumn {
        contains_nan: Some(values.iter().any(|value| value.is_nan())),
        ..FileColumn::new("c", 1, Arc::new(Float64Array::from(values)), bounds)
    };
    let range = StatBounds::Range {
        min: StatValue::Float64(1.0),
        max: StatValue::Float64(2.0),
    };
    let mixed = column(vec![1.0, f64::NAN, 2.0], range);
    append(
        &catalog,
        t,
        vec![write_file(&directory, "1.parquet", &[mixed])],
    )
    .await;
    let mut connection = db.connection().await;
    assert_eq!(list(&mut connection, STATS).await, ["1|f|t|1.0|2.0"]);
    let query = "SELECT count(*) FROM t WHERE isnan(c); SELECT count(*) FROM t WHERE c > 5;
                 SELECT c FROM t ORDER BY c; SELECT max(c) FROM t;";
    assert_eq!(db.duck(query), "1\n1\n1.0\n2.0\nnan\nnan");
    let only_nan = column(vec![f64::NAN], StatBounds::Empty);
    append(
        &catalog,
        t,
        vec![write_file(&directory, "2.parquet", &[only_nan])],
    )
    .await;
    assert!(list(&mut connection, STATS).await.is_empty());
    assert_eq!(db.duck(query), "2\n2\n1.0\n2.0\nnan\nnan\nnan");
}

#[tokio::test]
async fn foreign_text_that_is_no_number_is_thrown_away() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Int32).await;
    let column = ints(vec![Some(5)], int_range(5, 5));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "1.parquet", &[column])],
    )
    .await;
    let mut connection = db.connection().await;
    execute(
        &mut connection,
        "update ducklake_table_column_stats set min_value = 'five'",
    )
    .await;
    let column = ints(vec![Some(6)], int_range(6, 6));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "2.parquet", &[column])],
    )
    .await;
    assert!(list(&mut connection, STATS).await.is_empty());
    assert_eq!(db.duck("SELECT sum(c) FROM t;"), "11");
}

/// Waits until DuckDB's shell has come to a step.
async fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !path.try_exists().expect("the folder is there") {
        assert!(
            Instant::now() < deadline,
            "{} does not come",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// DuckDB caches statistics by `next_file_id` and definitions by `schema_version`.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_there_before_sees_every_commit() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let (catalog, t, directory) = table(&db, LakeType::Int32).await;
    let column = ints((0..10).map(Some).collect(), int_range(0, 9));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "1.parquet", &[column])],
    )
    .await;
    let db = Arc::new(db);
    let folder = db.folder.path().to_owned();
    // The program's own shell command quotes each of its arguments.
    let pause = folder.join("pause.sh");
    let commands = format!(
        "touch {0}/asked_$1\nuntil [ -e {0}/answered_$1 ]; do sleep 0.02; done\n",
        folder.display()
    );
    std::fs::write(&pause, commands).expect("written");
    let pause = |step: u32| format!("\n.shell sh {} {step}\n", pause.display());
    let script = format!(
        "SELECT count(*) FROM t WHERE c = 15; SELECT max(c) FROM t;{}\
         SELECT count(*) FROM t WHERE c = 15; SELECT max(c) FROM t;{}\
         SELECT count(*) FROM t WHERE wide IS NULL;\
         INSERT INTO t SELECT i, i FROM range(100, 120) r(i);{}\
         SELECT sum(wide), max(c), count(*), count(DISTINCT rowid) FROM t;",
        pause(1),
        pause(2),
        pause(3)
    );
    let asked = async |step: u32| wait_for(&folder.join(format!("asked_{step}"))).await;
    let answer = |step: u32| {
        std::fs::write(folder.join(format!("answered_{step}")), "").expect("answered");
    };
    let session = {
        let db = Arc::clone(&db);
        tokio::task::spawn_blocking(move || db.duck(&script))
    };
    asked(1).await;
    let column = ints((10..20).map(Some).collect(), int_range(10, 19));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "2.parquet", &[column])],
    )
    .await;
    answer(1);
    asked(2).await;
    let mut changes = ChangeSet::new();
    changes.add_column(t, ColumnDef::new("wide", LakeType::Int64));
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    answer(2);
    asked(3).await;
    let column = ints(vec![Some(500)], int_range(500, 500));
    append(
        &catalog,
        t,
        vec![write_file(&directory, "3.parquet", &[column])],
    )
    .await;
    answer(3);
    let shown = session.await.unwrap();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        ["0", "9", "1", "19", "20", "2190|500|41|41"]
    );
}
