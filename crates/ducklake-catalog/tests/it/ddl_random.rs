//! Random sequences of schema changes and rows against a model: DuckDB reads each snapshot as it was.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray};
use ducklake_catalog::{
    ChangeSet, ColumnDef, ColumnId, LakeType, NoHook, StatBounds, StatValue, TableDef, TableId,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::{FileColumn, TestDb, write_file};

const SCHEMAS: [&str; 2] = ["main", "raw"];

#[derive(Clone)]
struct ModelColumn {
    id: i64,
    name: String,
    ty: LakeType,
    default: Option<String>,
}

/// A table as it should be; rows are texts by column id, the first column is the row's key.
#[derive(Clone)]
struct Model {
    schema: &'static str,
    name: String,
    columns: Vec<ModelColumn>,
    next_id: i64,
    rows: Vec<Vec<(i64, Option<String>)>>,
}

impl Model {
    /// The rows as DuckDB prints them, by key.
    fn lines(&self) -> Vec<String> {
        self.rows
            .iter()
            .map(|row| {
                let values: Vec<String> = self
                    .columns
                    .iter()
                    .map(|column| {
                        let found = row.iter().find(|(id, _)| *id == column.id);
                        let value = found.map_or(&column.default, |(_, value)| value);
                        value.clone().unwrap_or_else(|| "NULL".to_owned())
                    })
                    .collect();
                values.join("|")
            })
            .collect()
    }

    fn read(&self, version: i64) -> String {
        format!(
            "SELECT * FROM {}.{} AT (VERSION => {version}) ORDER BY k;",
            self.schema, self.name
        )
    }
}

struct Case {
    rng: StdRng,
    model: Model,
    table: TableId,
    directory: String,
    files: u32,
    names: u32,
}

impl Case {
    fn fresh_name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// One of the columns besides the key, if there is one.
    fn some_column(&mut self) -> Option<usize> {
        let count = self.model.columns.len();
        (count > 1).then(|| self.rng.random_range(1..count))
    }

    fn change(&mut self, changes: &mut ChangeSet) {
        let table = self.table;
        match self.rng.random_range(0..12) {
            0 | 1 => {
                let name = self.fresh_name("c");
                let (ty, default) = match self.rng.random_range(0..4) {
                    0 => (LakeType::Int32, None),
                    1 => (LakeType::Int32, Some("42")),
                    2 => (LakeType::Varchar, None),
                    _ => (LakeType::Varchar, Some("it's")),
                };
                let mut column = ColumnDef::new(&name, ty.clone());
                if let Some(default) = default {
                    column = column.with_initial_default(default).expect("a default");
                }
                changes.expect_next_column_id(table, ColumnId::new(self.model.next_id));
                changes.add_column(table, column);
                self.model.columns.push(ModelColumn {
                    id: self.model.next_id,
                    name,
                    ty,
                    default: default.map(str::to_owned),
                });
                self.model.next_id += 1;
            }
            2 => {
                if let Some(index) = self.some_column() {
                    let column = self.model.columns.remove(index);
                    changes.drop_column(table, ColumnId::new(column.id));
                }
            }
            3 => {
                if let Some(index) = self.some_column() {
                    let name = self.fresh_name("r");
                    let column = &mut self.model.columns[index];
                    changes.rename_column(table, ColumnId::new(column.id), &name);
                    column.name = name;
                }
            }
            4 => {
                // Two names are swapped.
                if let (Some(a), Some(b)) = (self.some_column(), self.some_column())
                    && a != b
                {
                    let (left, right) =
                        (self.model.columns[a].clone(), self.model.columns[b].clone());
                    changes.rename_column(table, ColumnId::new(left.id), "tmp");
                    changes.rename_column(table, ColumnId::new(right.id), &left.name);
                    changes.rename_column(table, ColumnId::new(left.id), &right.name);
                    self.model.columns[a].name = right.name;
                    self.model.columns[b].name = left.name;
                }
            }
            5 => {
                if let Some(index) = self.some_column() {
                    let column = &mut self.model.columns[index];
                    let wider = match column.ty {
                        LakeType::Int32 => LakeType::Int64,
                        _ => LakeType::Varchar,
                    };
                    changes.set_column_type(table, ColumnId::new(column.id), wider.clone());
                    column.ty = wider;
                }
            }
            6 => {
                let name = self.fresh_name("t");
                changes.rename_table(table, &name);
                self.model.name = name;
            }
            7 => {
                let schema = SCHEMAS[self.rng.random_range(0..2)];
                changes.move_table(table, schema);
                self.model.schema = schema;
            }
            8 => {
                let comment = self.rng.random_bool(0.7).then(|| self.fresh_name("say "));
                changes.set_table_comment(table, comment);
            }
            _ => self.append(changes),
        }
    }

    /// A file of the table's shape at this point.
    fn append(&mut self, changes: &mut ChangeSet) {
        let count = self.rng.random_range(1..4);
        let first = self.model.rows.len();
        let mut rows: Vec<Vec<(i64, Option<String>)>> = (first..first + count)
            .map(|key| vec![(1, Some(key.to_string()))])
            .collect();
        let mut columns = Vec::new();
        for column in self.model.columns.clone() {
            let ints: Vec<Option<i64>> = rows
                .iter_mut()
                .map(|row| {
                    if column.id == 1 {
                        return row[0].1.as_ref().map(|key| key.parse().expect("a key"));
                    }
                    let value = self.rng.random_range(-9..1000_i64);
                    let value = self.rng.random_bool(0.8).then_some(value);
                    row.push((column.id, value.map(|value| value.to_string())));
                    value
                })
                .collect();
            let known: Vec<i64> = ints.iter().copied().flatten().collect();
            let narrow = |value: i64| i32::try_from(value).expect("small");
            let texts: Vec<Option<String>> =
                ints.iter().map(|v| v.map(|v| v.to_string())).collect();
            let array: ArrayRef = match column.ty {
                LakeType::Int32 => {
                    Arc::new(ints.iter().map(|v| v.map(narrow)).collect::<Int32Array>())
                }
                LakeType::Int64 => Arc::new(Int64Array::from(ints)),
                _ => Arc::new(StringArray::from(texts.clone())),
            };
            let bounds = match column.ty {
                LakeType::Int32 | LakeType::Int64 => known
                    .iter()
                    .min()
                    .zip(known.iter().max())
                    .map(|(min, max)| (StatValue::Int(*min), StatValue::Int(*max))),
                _ => {
                    let texts = texts.into_iter().flatten();
                    let (min, max) = (texts.clone().min(), texts.max());
                    min.zip(max)
                        .map(|(min, max)| (StatValue::Utf8(min), StatValue::Utf8(max)))
                }
            };
            let bounds = bounds.map_or(StatBounds::Empty, |(min, max)| StatBounds::Range {
                min,
                max,
            });
            let name: &'static str = Box::leak(column.name.into_boxed_str());
            columns.push(FileColumn::new(name, column.id, array, bounds));
        }
        self.files += 1;
        let name = format!("{}.parquet", self.files);
        changes.append_file(self.table, write_file(&self.directory, &name, &columns));
        self.model.rows.append(&mut rows);
    }
}

#[tokio::test]
async fn every_snapshot_reads_as_it_was() {
    let seed = match std::env::var("DUCKFEEDER_TEST_SEED") {
        Ok(seed) => seed.parse().expect("DUCKFEEDER_TEST_SEED is a number"),
        Err(_) => rand::rng().random::<u64>() >> 1,
    };
    let cases: u64 = match std::env::var("DUCKFEEDER_TEST_CASES") {
        Ok(cases) => cases.parse().expect("DUCKFEEDER_TEST_CASES is a number"),
        Err(_) => 2,
    };
    for seed in (0..cases).map(|case| seed + case) {
        eprintln!("DUCKFEEDER_TEST_SEED={seed}");
        let Some(db) = TestDb::create().await else {
            return;
        };
        run(&db, seed).await;
    }
}

async fn run(db: &TestDb, seed: u64) {
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_schema("raw");
    let columns = vec![ColumnDef::new("k", LakeType::Int32)];
    changes.create_table("main", TableDef::new("t", columns.clone()));
    let table = catalog.commit(&changes, &mut NoHook).await.unwrap().tables[0];
    let mut case = Case {
        rng: StdRng::seed_from_u64(seed),
        model: Model {
            schema: "main",
            name: "t".to_owned(),
            columns: vec![ModelColumn {
                id: 1,
                name: "k".to_owned(),
                ty: LakeType::Int32,
                default: None,
            }],
            next_id: 2,
            rows: Vec::new(),
        },
        table,
        directory: format!("{}main/t/", db.data_path()),
        files: 0,
        names: 0,
    };
    let mut session = db.session();
    let mut history: Vec<(i64, Model)> = Vec::new();
    for step in 0..16 {
        if step % 6 == 0 {
            // DuckDB itself writes: rows with the columns' defaults. The first ones come before all changes:
            // DuckDB 1.5.5 registers its table for small inserts without a row in ducklake_schema_versions,
            // and then looks at the table as it was when it was made.
            let key = case.model.rows.len();
            let (schema, name) = (case.model.schema, case.model.name.clone());
            let written = session.run(&format!("INSERT INTO {schema}.{name}(k) VALUES ({key});"));
            assert!(written.is_empty(), "seed {seed}: {written:?}");
            let mut row = vec![(1, Some(key.to_string()))];
            let others = case.model.columns.iter().skip(1);
            row.extend(others.map(|column| (column.id, column.default.clone())));
            case.model.rows.push(row);
        } else {
            let mut changes = ChangeSet::new();
            for _ in 0..case.rng.random_range(1..5) {
                case.change(&mut changes);
            }
            if changes.is_empty() {
                continue;
            }
            let committed = catalog.commit(&changes, &mut NoHook).await;
            committed.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
        }
        let head = catalog.head().await.unwrap().id.get();
        let (schema, name) = (case.model.schema, &case.model.name);
        let found = session.run(&format!("SELECT * FROM {schema}.{name} ORDER BY k;"));
        assert_eq!(found, case.model.lines(), "seed {seed}, step {step}");
        for column in &case.model.columns {
            // Each value is found by a filter.
            let quoted = &column.name;
            let lost = session.run(&format!(
                "CREATE OR REPLACE TEMP TABLE m AS FROM {schema}.{name}; SELECT x.{quoted} FROM \
                 (SELECT {quoted} FROM m WHERE {quoted} IS NOT NULL ORDER BY k DESC LIMIT 1) x \
                 WHERE NOT EXISTS (FROM {schema}.{name} t WHERE t.{quoted} = x.{quoted}); \
                 SELECT 'bounds' WHERE (SELECT (min({quoted}), max({quoted})) FROM m) IS DISTINCT FROM \
                     (SELECT (min({quoted}), max({quoted})) FROM {schema}.{name});"
            ));
            assert!(
                lost.is_empty(),
                "seed {seed}, step {step}, {quoted}: {lost:?}"
            );
        }
        history.push((head, case.model.clone()));
    }
    let mut fresh = db.session();
    for (version, model) in &history {
        for session in [&mut session, &mut fresh] {
            let found = session.run(&model.read(*version));
            assert_eq!(found, model.lines(), "seed {seed}, version {version}");
        }
    }
    // A table of DuckDB's own maintenance: nothing changes.
    let maintained = fresh.run(
        "CALL ducklake_flush_inlined_data('lake'); CALL ducklake_merge_adjacent_files('lake'); \
         CALL ducklake_cleanup_old_files('lake', cleanup_all => true); \
         CALL ducklake_delete_orphaned_files('lake', cleanup_all => true);",
    );
    assert!(
        !maintained.join("\n").contains("Error"),
        "seed {seed}: {maintained:?}"
    );
    for (version, model) in &history {
        let found = fresh.run(&model.read(*version));
        assert_eq!(
            found,
            model.lines(),
            "seed {seed}, version {version}, maintained"
        );
    }
}
