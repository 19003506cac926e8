//! The same history written by DuckDB and by us: the catalogs are equal, table by table.

use std::path::Path;
use std::sync::Arc;

use ducklake_catalog::sqlx::postgres::PgConnection;
use ducklake_catalog::{
    Catalog, ChangeSet, ColumnDef, ColumnId, CommittedSnapshot, DataFile, FileColumnStats,
    LakeType, NoHook, StatBounds, StatValue, TableDef, TableId, ViewDef,
};

use super::support::{TestDb, rows, text};

/// Both lakes, DuckDB's and ours, and what is different between them for good reasons.
pub(super) struct Pair {
    pub(super) theirs: TestDb,
    pub(super) ours: TestDb,
    pub(super) catalog: Catalog,
}

impl Pair {
    pub(super) async fn create() -> Option<Self> {
        let theirs = TestDb::create().await?;
        let ours = TestDb::create().await?;
        let attach = theirs.attach().replace(
            "AS \"lake\";",
            &format!("AS \"lake\" (DATA_PATH '{}');", theirs.data_path()),
        );
        theirs.duck_raw(&attach).expect("DuckDB makes a lake");
        let catalog = ours.lake().await;
        Some(Self {
            theirs,
            ours,
            catalog,
        })
    }

    pub(super) async fn commit(&self, changes: ChangeSet) -> CommittedSnapshot {
        self.catalog
            .commit(&changes, &mut NoHook)
            .await
            .expect("committed")
    }

    /// Compares every table of the two catalogs, except for
    /// - uuids, times, `created_by` and the data path,
    /// - `next_file_id` and with it the ids of files: we bump it in every commit, which DuckDB
    ///   forgets for changes without files,
    /// - tables for small inserts, which DuckDB makes with every table and we leave to it.
    pub(super) async fn compare(&self, at: &str) {
        let mut theirs = self.theirs.connection().await;
        let mut ours = self.ours.connection().await;
        let tables = "select table_name from information_schema.tables \
             where table_schema = 'public' and table_name not like 'ducklake\\_inlined\\_data\\_%'";
        let names = rows(&mut theirs, tables).await;
        assert_eq!(
            sorted(names.clone()),
            sorted(rows(&mut ours, tables).await),
            "{at}: tables"
        );
        assert_eq!(names.len(), 27);
        for name in names.into_iter().flatten().flatten() {
            let query = query_of(&name);
            let expected = sorted(rows(&mut theirs, &query).await);
            let found = sorted(rows(&mut ours, &query).await);
            assert_eq!(expected, found, "{at}: {name} (DuckDB's left, ours right)");
        }
    }

    /// Both lakes say the same, in every snapshot.
    pub(super) async fn compare_contents(&self, query: &str, from: i64) {
        let head = self.catalog.head().await.expect("head").id.get();
        let script: String = (from..=head)
            .map(|version| query.replace("$V", &version.to_string()))
            .collect();
        assert_eq!(
            self.theirs.duck(&script),
            self.ours.duck(&script),
            "{query}"
        );
    }

    /// Takes the newest file of DuckDB's lake over into ours.
    async fn copy_newest_file(&self, directory: &str, columns: Vec<FileColumnStats>) -> DataFile {
        let mut theirs = self.theirs.connection().await;
        let newest = "from ducklake_data_file order by data_file_id desc limit 1";
        let path = text(&mut theirs, &format!("select path {newest}")).await;
        let target = format!("{}{directory}", self.ours.data_path());
        std::fs::create_dir_all(&target).expect("a directory");
        std::fs::copy(
            format!("{}{directory}{path}", self.theirs.data_path()),
            Path::new(&target).join(&path),
        )
        .expect("copied");
        let mut sized = Vec::new();
        for stats in columns {
            let size = text(
                &mut theirs,
                &format!(
                    "select column_size_bytes from ducklake_file_column_stats \
                      where column_id = {} order by data_file_id desc limit 1",
                    stats.column
                ),
            )
            .await;
            sized.push(FileColumnStats {
                column_size_bytes: size.parse().expect("a size"),
                ..stats
            });
        }
        DataFile {
            path,
            record_count: number(&mut theirs, &format!("select record_count {newest}")).await,
            file_size_bytes: number(&mut theirs, &format!("select file_size_bytes {newest}")).await,
            footer_size: number(&mut theirs, &format!("select footer_size {newest}")).await,
            columns: sized,
        }
    }
}

async fn number(connection: &mut PgConnection, query: &str) -> u64 {
    text(connection, query).await.parse().expect("a number")
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

fn query_of(table: &str) -> String {
    let mask = match table {
        "ducklake_snapshot" => "'snapshot_time', 'next_file_id'",
        "ducklake_schema" => "'schema_uuid'",
        "ducklake_table" => "'table_uuid'",
        "ducklake_view" => "'view_uuid'",
        "ducklake_data_file" => "'data_file_id'",
        "ducklake_metadata" => {
            return "select key, value, scope, scope_id from ducklake_metadata \
                     where key not in ('created_by', 'data_path')"
                .to_owned();
        }
        // DuckDB says NOT NULL of a field that is added to a struct, and fills it with NULL.
        "ducklake_column" => {
            return "select case when parent_column is null then to_jsonb(t) \
                                else to_jsonb(t) - array['nulls_allowed', 'default_value_type'] \
                           end as row from ducklake_column t"
                .to_owned();
        }
        "ducklake_file_column_stats" => {
            return "select f.path, s.table_id, s.column_id, s.column_size_bytes, s.value_count, \
                           s.null_count, s.min_value, s.max_value, s.contains_nan, s.extra_stats \
                      from ducklake_file_column_stats s join ducklake_data_file f using (data_file_id)"
                .to_owned();
        }
        _ => "''",
    };
    format!("select to_jsonb(t) - array[{mask}] as row from {table} t")
}

fn stats(column: i64, values: u64, nulls: u64, bounds: StatBounds) -> FileColumnStats {
    FileColumnStats {
        column: ColumnId::new(column),
        column_size_bytes: 0,
        value_count: values,
        null_count: nulls,
        contains_nan: None,
        bounds,
    }
}

fn range(min: StatValue, max: StatValue) -> StatBounds {
    StatBounds::Range { min, max }
}

const DEFINITION: &str = "a INTEGER NOT NULL, b VARCHAR, l VARCHAR[], \
     s STRUCT(x INTEGER, y STRUCT(z DOUBLE)), m MAP(VARCHAR, INTEGER), d DECIMAL(10,2), \
     f REAL, day DATE, ts TIMESTAMP, tz TIMESTAMPTZ, t TIME, u UUID, yes BOOLEAN, j JSON, \
     tiny TINYINT, big UBIGINT, none VARCHAR";

fn definition() -> TableDef {
    let inner = LakeType::Struct(vec![("z".to_owned(), LakeType::Float64)]);
    TableDef::new(
        "t",
        vec![
            ColumnDef::new("a", LakeType::Int32).not_null(),
            ColumnDef::new("b", LakeType::Varchar),
            ColumnDef::new("l", LakeType::list(LakeType::Varchar)),
            ColumnDef::new(
                "s",
                LakeType::Struct(vec![
                    ("x".to_owned(), LakeType::Int32),
                    ("y".to_owned(), inner),
                ]),
            ),
            ColumnDef::new(
                "m",
                LakeType::Map(Box::new(LakeType::Varchar), Box::new(LakeType::Int32)),
            ),
            ColumnDef::new(
                "d",
                LakeType::Decimal {
                    precision: 10,
                    scale: 2,
                },
            ),
            ColumnDef::new("f", LakeType::Float32),
            ColumnDef::new("day", LakeType::Date),
            ColumnDef::new("ts", LakeType::Timestamp),
            ColumnDef::new("tz", LakeType::TimestampTz),
            ColumnDef::new("t", LakeType::Time),
            ColumnDef::new("u", LakeType::Uuid),
            ColumnDef::new("yes", LakeType::Boolean),
            ColumnDef::new("j", LakeType::Json),
            ColumnDef::new("tiny", LakeType::Int8),
            ColumnDef::new("big", LakeType::UInt64),
            ColumnDef::new("none", LakeType::Varchar),
        ],
    )
}

/// 20 rows, and what is true of them.
const FIRST_ROWS: &str = "INSERT INTO raw.t SELECT i, 'x' || i, ['a', NULL],
     {'x': i, 'y': {'z': i + 0.5}}, MAP {'k': i}, i / 4, CASE i WHEN 0 THEN 'nan'::REAL ELSE i / 10 END,
     DATE '2024-02-29' + i::INTEGER, TIMESTAMP '2024-06-01 12:00:00.1234' + INTERVAL (i) SECOND,
     TIMESTAMPTZ '2024-01-01 00:00:00+02' + INTERVAL (i) DAY, TIME '00:00:00' + INTERVAL (i) MINUTE,
     ('00000000-0000-0000-0000-0000000000' || (10 + i))::UUID, i > 5, '{}', i - 10, i, NULL
     FROM range(20) r(i);";

fn first_stats() -> Vec<FileColumnStats> {
    let day = 86_400_000_000_i64;
    let noon = 19_875 * day + 43_200_123_400;
    let midnight = 19_722 * day + 79_200_000_000;
    let uuid = |last: u8| {
        let mut bytes = [0; 16];
        bytes[15] = last;
        StatValue::Uuid(bytes)
    };
    vec![
        stats(1, 20, 0, range(StatValue::Int(0), StatValue::Int(19))),
        stats(
            2,
            20,
            0,
            range(StatValue::Utf8("x0".into()), StatValue::Utf8("x9".into())),
        ),
        stats(
            4,
            20,
            20,
            range(StatValue::Utf8("a".into()), StatValue::Utf8("a".into())),
        ),
        stats(6, 20, 0, range(StatValue::Int(0), StatValue::Int(19))),
        FileColumnStats {
            contains_nan: Some(false),
            ..stats(
                8,
                20,
                0,
                range(StatValue::Float64(0.5), StatValue::Float64(19.5)),
            )
        },
        stats(
            10,
            20,
            0,
            range(StatValue::Utf8("k".into()), StatValue::Utf8("k".into())),
        ),
        stats(11, 20, 0, range(StatValue::Int(0), StatValue::Int(19))),
        stats(
            12,
            20,
            0,
            range(
                StatValue::Decimal { value: 0, scale: 2 },
                StatValue::Decimal {
                    value: 475,
                    scale: 2,
                },
            ),
        ),
        FileColumnStats {
            contains_nan: Some(true),
            ..stats(
                13,
                20,
                0,
                range(StatValue::Float32(0.1), StatValue::Float32(1.9)),
            )
        },
        stats(
            14,
            20,
            0,
            range(StatValue::Date(19_782), StatValue::Date(19_801)),
        ),
        stats(
            15,
            20,
            0,
            range(
                StatValue::Timestamp(noon),
                StatValue::Timestamp(noon + 19_000_000),
            ),
        ),
        stats(
            16,
            20,
            0,
            range(
                StatValue::TimestampTz(midnight),
                StatValue::TimestampTz(midnight + 19 * day),
            ),
        ),
        stats(
            17,
            20,
            0,
            range(StatValue::Time(0), StatValue::Time(19 * 60_000_000)),
        ),
        stats(18, 20, 0, range(uuid(0x10), uuid(0x29))),
        stats(
            19,
            20,
            0,
            range(StatValue::Bool(false), StatValue::Bool(true)),
        ),
        stats(
            20,
            20,
            0,
            range(StatValue::Utf8("{}".into()), StatValue::Utf8("{}".into())),
        ),
        stats(21, 20, 0, range(StatValue::Int(-10), StatValue::Int(9))),
        stats(22, 20, 0, range(StatValue::Int(0), StatValue::Int(19))),
        stats(23, 0, 20, StatBounds::Empty),
    ]
}

/// 15 rows that widen some ranges, leave some, and are NULL elsewhere.
const SECOND_ROWS: &str = "INSERT INTO raw.t BY NAME SELECT 10 + i AS a, 'a' AS b, -i AS d,
     CASE i WHEN 0 THEN '-inf'::REAL ELSE 0.25 END AS f,
     CASE i WHEN 0 THEN DATE '0044-03-15 (BC)' ELSE 'infinity'::DATE END AS day,
     'infinity'::TIMESTAMP AS ts, TIMESTAMPTZ '0044-03-15 (BC) 12:00:00+00' AS tz,
     TIME '23:59:59.999999' AS t, 'found' AS none FROM range(15) r(i);";

fn second_stats() -> Vec<FileColumnStats> {
    let ides = -735_160_i32;
    let noon = i64::from(ides) * 86_400_000_000 + 43_200_000_000;
    let empty = |column| stats(column, 0, 15, StatBounds::Empty);
    let infinity = StatValue::Timestamp(i64::MAX);
    vec![
        stats(1, 15, 0, range(StatValue::Int(10), StatValue::Int(24))),
        stats(
            2,
            15,
            0,
            range(StatValue::Utf8("a".into()), StatValue::Utf8("a".into())),
        ),
        empty(4),
        empty(6),
        FileColumnStats {
            contains_nan: Some(false),
            ..empty(8)
        },
        empty(10),
        empty(11),
        stats(
            12,
            15,
            0,
            range(
                StatValue::Decimal {
                    value: -1400,
                    scale: 2,
                },
                StatValue::Decimal { value: 0, scale: 2 },
            ),
        ),
        FileColumnStats {
            contains_nan: Some(false),
            ..stats(
                13,
                15,
                0,
                range(
                    StatValue::Float32(f32::NEG_INFINITY),
                    // With an exponent, ours lies one step outside (`Summary::file_bounds`).
                    StatValue::Float32(0.25),
                ),
            )
        },
        stats(
            14,
            15,
            0,
            range(StatValue::Date(ides), StatValue::Date(i32::MAX)),
        ),
        stats(15, 15, 0, range(infinity.clone(), infinity)),
        stats(
            16,
            15,
            0,
            range(StatValue::TimestampTz(noon), StatValue::TimestampTz(noon)),
        ),
        stats(
            17,
            15,
            0,
            range(
                StatValue::Time(86_399_999_999),
                StatValue::Time(86_399_999_999),
            ),
        ),
        empty(18),
        empty(19),
        empty(20),
        empty(21),
        empty(22),
        stats(
            23,
            15,
            0,
            range(
                StatValue::Utf8("found".into()),
                StatValue::Utf8("found".into()),
            ),
        ),
    ]
}

#[tokio::test]
async fn the_catalog_is_the_one_duckdb_writes() {
    let Some(pair) = Pair::create().await else {
        return;
    };
    pair.compare("fresh").await;

    pair.theirs.duck("CREATE SCHEMA raw;");
    let mut changes = ChangeSet::new();
    changes.create_schema("raw");
    pair.commit(changes).await;
    pair.compare("schema").await;

    pair.theirs.duck(&format!(
        "BEGIN; CREATE TABLE raw.t({DEFINITION}); COMMENT ON TABLE raw.t IS 'it''s'; COMMIT;
         BEGIN; CREATE VIEW raw.v AS SELECT a, b FROM raw.t; COMMENT ON VIEW raw.v IS 'v'; COMMIT;
         CREATE VIEW raw.w(x, \"Y y\") AS SELECT a, b FROM lake.raw.t;"
    ));
    let mut changes = ChangeSet::new();
    changes.create_table("raw", definition().with_comment("it's"));
    let table = pair.commit(changes).await.tables[0];
    let view = ViewDef::new("v", "SELECT a, b FROM raw.t").with_comment("v");
    let mut changes = ChangeSet::new();
    changes.create_or_replace_view("raw", view);
    pair.commit(changes).await;
    let mut changes = ChangeSet::new();
    changes.create_or_replace_view(
        "raw",
        ViewDef::new("w", "SELECT a, b FROM {DUCKLAKE_CATALOG}.raw.t")
            .with_column_aliases(["x", "Y y"]),
    );
    pair.commit(changes).await;
    pair.compare("tables and views").await;

    pair.theirs.duck(FIRST_ROWS);
    let mut changes = ChangeSet::new();
    changes.append_file(table, pair.copy_newest_file("raw/t/", first_stats()).await);
    pair.commit(changes).await;
    pair.compare("first rows").await;

    pair.theirs.duck(SECOND_ROWS);
    let mut changes = ChangeSet::new();
    changes.append_file(table, pair.copy_newest_file("raw/t/", second_stats()).await);
    pair.commit(changes).await;
    pair.compare("more rows").await;

    alter(&pair, table).await;

    pair.theirs.duck(
        "CREATE OR REPLACE VIEW raw.v AS SELECT a FROM raw.t; DROP VIEW raw.w;
         CALL lake.set_option('auto_compact', false, schema => 'raw', table_name => 't');",
    );
    let mut changes = ChangeSet::new();
    changes.create_or_replace_view("raw", ViewDef::new("v", "SELECT a FROM raw.t"));
    pair.commit(changes).await;
    let mut changes = ChangeSet::new();
    changes.drop_view("raw", "w");
    changes.set_table_option(table, "auto_compact", "true");
    changes.set_table_option(table, "auto_compact", "false");
    pair.commit(changes).await;
    pair.compare("views replaced and dropped").await;

    pair.compare_contents(
        "SELECT * FROM raw.t AT (VERSION => $V) ORDER BY a, rowid;",
        5,
    )
    .await;
    pair.compare_contents(
        "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM raw.t AT (VERSION => $V));",
        2,
    )
    .await;
    pair.compare_contents("SELECT count(*), min(a), max(a) FROM raw.v;", 7)
        .await;
    pair.compare_contents(
        "SELECT snapshot_id, schema_version, changes FROM lake.snapshots();",
        7,
    )
    .await;
}

/// One change of columns after the other, each in a snapshot of its own.
async fn alter(pair: &Pair, table: TableId) {
    type Step = (&'static str, Arc<dyn Fn(&mut ChangeSet)>);
    let steps: Vec<Step> = vec![
        (
            "ALTER TABLE raw.t ADD COLUMN c BIGINT",
            Arc::new(move |changes| {
                changes.add_column(table, ColumnDef::new("c", LakeType::Int64));
            }),
        ),
        (
            "ALTER TABLE raw.t ADD COLUMN n STRUCT(p INTEGER, q VARCHAR[])",
            Arc::new(move |changes| {
                changes.expect_next_column_id(table, ColumnId::new(25));
                let ty = LakeType::Struct(vec![
                    ("p".to_owned(), LakeType::Int32),
                    ("q".to_owned(), LakeType::list(LakeType::Varchar)),
                ]);
                changes.add_column(table, ColumnDef::new("n", ty));
            }),
        ),
        (
            "ALTER TABLE raw.t ALTER COLUMN a SET DATA TYPE BIGINT",
            Arc::new(move |changes| {
                changes.set_column_type(table, ColumnId::new(1), LakeType::Int64);
            }),
        ),
        (
            "ALTER TABLE raw.t ALTER COLUMN d SET DATA TYPE DECIMAL(12,2)",
            Arc::new(move |changes| {
                let wider = LakeType::Decimal {
                    precision: 12,
                    scale: 2,
                };
                changes.set_column_type(table, ColumnId::new(12), wider);
            }),
        ),
        (
            "ALTER TABLE raw.t RENAME COLUMN b TO bb",
            Arc::new(move |changes| changes.rename_column(table, ColumnId::new(2), "bb")),
        ),
        (
            "ALTER TABLE raw.t DROP COLUMN s",
            Arc::new(move |changes| changes.drop_column(table, ColumnId::new(5))),
        ),
        (
            "ALTER TABLE raw.t ALTER COLUMN a DROP NOT NULL",
            Arc::new(move |changes| changes.set_nullable(table, ColumnId::new(1), true)),
        ),
    ];
    for (sql, change) in steps {
        pair.theirs.duck(&format!("{sql};"));
        let mut changes = ChangeSet::new();
        change(&mut changes);
        pair.commit(changes).await;
        pair.compare(sql).await;
    }
}
