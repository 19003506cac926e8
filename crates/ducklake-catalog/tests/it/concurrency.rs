//! DuckDB and we write to one lake at the same time: nobody fails for good, nothing is lost.

use std::sync::Arc;

use arrow_array::Int64Array;
use ducklake_catalog::{
    Catalog, ChangeSet, ColumnDef, LakeType, NoHook, StatBounds, StatValue, TableDef, TableId,
};

use super::support::{FileColumn, TestDb, text, write_file};

const ROUNDS: i64 = 60;

/// Appends one file of two rows per commit; every tenth commit also adds a column to another table.
async fn feed(catalog: Catalog, tables: [TableId; 2], directory: String, ours: i64) {
    for round in 0..ROUNDS {
        let value = ours * 1_000_000 + round;
        let column = FileColumn::new(
            "c",
            1,
            Arc::new(Int64Array::from(vec![value, -value - 1])),
            StatBounds::Range {
                min: StatValue::Int(-value - 1),
                max: StatValue::Int(value),
            },
        );
        let file = write_file(&directory, &format!("{ours}_{round}.parquet"), &[column]);
        let mut changes = ChangeSet::new();
        changes.append_file(tables[0], file);
        if round % 10 == 0 {
            let name = format!("added_{ours}_{round}");
            changes.add_column(tables[1], ColumnDef::new(name, LakeType::Int32));
        }
        catalog
            .commit(&changes, &mut NoHook)
            .await
            .expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_beside_duckdb() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    for name in ["shared", "altered"] {
        changes.create_table(
            "main",
            TableDef::new(name, vec![ColumnDef::new("c", LakeType::Int64)]),
        );
    }
    let created = catalog.commit(&changes, &mut NoHook).await.unwrap();
    let tables = [created.tables[0], created.tables[1]];
    db.duck("CREATE TABLE theirs(i BIGINT);");
    let db = Arc::new(db);

    let directory = format!("{}main/shared/", db.data_path());
    let feeders: Vec<_> = (1..=2)
        .map(|ours| tokio::spawn(feed(catalog.clone(), tables, directory.clone(), ours)))
        .collect();
    // One session appends to our table and to its own, another merges files now and then.
    let inserts: Vec<String> = (0..ROUNDS)
        .map(|round| {
            let rows = if round % 2 == 0 { 1 } else { 30 };
            format!(
                "INSERT INTO shared SELECT {round} + 10000 * i FROM range({rows}) r(i);
                 INSERT INTO theirs SELECT {round};"
            )
        })
        .collect();
    let checkpoints = "CHECKPOINT lake;".repeat(4);
    let sessions: Vec<_> = [inserts.concat(), checkpoints]
        .into_iter()
        .map(|script| {
            let db = Arc::clone(&db);
            tokio::task::spawn_blocking(move || {
                db.try_duck(&format!("SET ducklake_max_retry_count = 100; {script}"))
            })
        })
        .collect();
    for feeder in feeders {
        feeder.await.expect("fed");
    }
    for session in sessions {
        session.await.expect("ran").expect("DuckDB is not hurt");
    }

    let shown = db.duck(
        "SELECT count(*), count(DISTINCT rowid), count(DISTINCT c) FROM shared;
         SELECT min(c), max(c) FROM shared; SELECT count(*), sum(i) FROM theirs;
         SELECT count(*) FROM shared WHERE c = 2000059; SELECT count(*) FROM (DESCRIBE altered);",
    );
    let duckdb_rows = ROUNDS / 2 * 31;
    let all = ROUNDS * 4 + duckdb_rows;
    let sum: i64 = (0..ROUNDS).sum();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            format!("{all}|{all}|{all}"),
            "-2000060|2000059".to_owned(),
            format!("{ROUNDS}|{sum}"),
            "1".to_owned(),
            "13".to_owned(),
        ]
    );
    let mut connection = db.connection().await;
    let dense = "select count(*) = max(snapshot_id) - min(snapshot_id) + 1 from ducklake_snapshot";
    assert_eq!(text(&mut connection, dense).await, "true");
    let totals = "select record_count = next_row_id from ducklake_table_stats s \
                    join ducklake_table t using (table_id) where table_name = 'shared'";
    assert_eq!(text(&mut connection, totals).await, "true");
}
