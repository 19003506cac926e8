//! What we register, DuckDB reads.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use ducklake_catalog::{
    ChangeSet, ColumnDef, FileColumnStats, LakeType, NoHook, StatBounds, StatValue, TableDef,
    ViewDef,
};

use super::support::{FileColumn, TestDb, execute, rows, text, with_id, write_file};

fn range(min: StatValue, max: StatValue) -> StatBounds {
    StatBounds::Range { min, max }
}

#[tokio::test]
async fn a_registered_file_of_every_type_reads_right() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let decimal = LakeType::Decimal {
        precision: 20,
        scale: 4,
    };
    let def = TableDef::new(
        "every_type",
        vec![
            ColumnDef::new("b", LakeType::Boolean),
            ColumnDef::new("i2", LakeType::Int16),
            ColumnDef::new("i4", LakeType::Int32).not_null(),
            ColumnDef::new("i8", LakeType::Int64),
            ColumnDef::new("f4", LakeType::Float32),
            ColumnDef::new("f8", LakeType::Float64),
            ColumnDef::new("num", decimal),
            ColumnDef::new("txt", LakeType::Varchar),
            ColumnDef::new("js", LakeType::Json),
            ColumnDef::new("bin", LakeType::Blob),
            ColumnDef::new("d", LakeType::Date),
            ColumnDef::new("t", LakeType::Time),
            ColumnDef::new("ts", LakeType::Timestamp),
            ColumnDef::new("tz", LakeType::TimestampTz),
            ColumnDef::new("u", LakeType::Uuid),
            ColumnDef::new("l", LakeType::list(LakeType::Varchar)),
            ColumnDef::new(
                "s",
                LakeType::Struct(vec![
                    ("x".to_owned(), LakeType::Int32),
                    ("y".to_owned(), LakeType::Varchar),
                ]),
            ),
        ],
    );
    let ids: Vec<i64> = def.column_ids().iter().map(|ids| ids.id.get()).collect();
    assert_eq!(ids[15..], [16, 18]);
    let directory = format!("{}raw/{}", db.data_path(), def.directory());

    let mut lists =
        ListBuilder::new(StringBuilder::new()).with_field(with_id("element", DataType::Utf8, 17));
    lists.append_value([Some("a"), None]);
    lists.append_null();
    lists.append_value([Some("z")]);
    let structs = StructArray::from(vec![
        (
            Arc::new(with_id("x", DataType::Int32, 19)),
            Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as ArrayRef,
        ),
        (
            Arc::new(with_id("y", DataType::Utf8, 20)),
            Arc::new(StringArray::from(vec!["p", "q", "r"])) as ArrayRef,
        ),
    ]);
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
        [Some([1_u8; 16]), None, Some([255; 16])].into_iter(),
        16,
    )
    .unwrap();
    let unknown = StatBounds::Unknown;
    let columns = [
        FileColumn::new(
            "b",
            1,
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            range(StatValue::Bool(false), StatValue::Bool(true)),
        ),
        FileColumn::new(
            "i2",
            2,
            Arc::new(Int16Array::from(vec![Some(-5), None, Some(7)])),
            range(StatValue::Int(-5), StatValue::Int(7)),
        ),
        FileColumn::new(
            "i4",
            3,
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            range(StatValue::Int(1), StatValue::Int(3)),
        ),
        FileColumn::new(
            "i8",
            4,
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
            range(StatValue::Int(i64::MIN), StatValue::Int(i64::MAX)),
        ),
        FileColumn {
            contains_nan: Some(true),
            ..FileColumn::new(
                "f4",
                5,
                Arc::new(Float32Array::from(vec![Some(0.1), None, Some(f32::NAN)])),
                range(StatValue::Float32(0.1), StatValue::Float32(0.1)),
            )
        },
        FileColumn {
            contains_nan: Some(false),
            ..FileColumn::new(
                "f8",
                6,
                Arc::new(Float64Array::from(vec![
                    Some(-1e300),
                    None,
                    Some(f64::INFINITY),
                ])),
                range(
                    StatValue::Float64(-1e300),
                    StatValue::Float64(f64::INFINITY),
                ),
            )
        },
        FileColumn::new(
            "num",
            7,
            Arc::new(
                Decimal128Array::from(vec![Some(-123_400), None, Some(99_999)])
                    .with_precision_and_scale(20, 4)
                    .unwrap(),
            ),
            range(
                StatValue::Decimal {
                    value: -123_400,
                    scale: 4,
                },
                StatValue::Decimal {
                    value: 99_999,
                    scale: 4,
                },
            ),
        ),
        FileColumn::new(
            "txt",
            8,
            Arc::new(StringArray::from(vec![Some("it's"), None, Some("ä")])),
            range(StatValue::Utf8("it's".into()), StatValue::Utf8("ä".into())),
        ),
        FileColumn::new(
            "js",
            9,
            Arc::new(StringArray::from(vec![
                Some("{\"a\": 1}"),
                None,
                Some("[]"),
            ])),
            range(
                StatValue::Utf8("[]".into()),
                StatValue::Utf8("{\"a\": 1}".into()),
            ),
        ),
        FileColumn::new(
            "bin",
            10,
            Arc::new(BinaryArray::from_opt_vec(vec![
                Some(b"\x00\xff"),
                None,
                Some(b""),
            ])),
            unknown.clone(),
        ),
        FileColumn::new(
            "d",
            11,
            Arc::new(Date32Array::from(vec![
                Some(-735_160),
                None,
                Some(i32::MAX),
            ])),
            range(StatValue::Date(-735_160), StatValue::Date(i32::MAX)),
        ),
        FileColumn::new(
            "t",
            12,
            Arc::new(Time64MicrosecondArray::from(vec![
                Some(0),
                None,
                Some(86_399_999_999),
            ])),
            range(StatValue::Time(0), StatValue::Time(86_399_999_999)),
        ),
        FileColumn::new(
            "ts",
            13,
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-i64::MAX),
                None,
                Some(1),
            ])),
            range(StatValue::Timestamp(-i64::MAX), StatValue::Timestamp(1)),
        ),
        FileColumn::new(
            "tz",
            14,
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(0), None, Some(1_700_000_000_500_000)])
                    .with_timezone("UTC"),
            ),
            range(
                StatValue::TimestampTz(0),
                StatValue::TimestampTz(1_700_000_000_500_000),
            ),
        ),
        FileColumn::new(
            "u",
            15,
            Arc::new(uuids),
            range(StatValue::Uuid([1; 16]), StatValue::Uuid([255; 16])),
        ),
        FileColumn::new("l", 16, Arc::new(lists.finish()), unknown.clone()),
        FileColumn::new("s", 18, Arc::new(structs), unknown),
    ];
    let mut file = write_file(&directory, "a.parquet", &columns);
    file.columns.retain(|stats| stats.column.get() < 16);
    file.columns.push(FileColumnStats {
        column: def.column_ids()[15].element().unwrap(),
        column_size_bytes: 0,
        value_count: 2,
        null_count: 2,
        contains_nan: None,
        bounds: range(StatValue::Utf8("a".into()), StatValue::Utf8("z".into())),
    });

    let mut changes = ChangeSet::new().with_author("test").with_message("first");
    let schema = changes.ensure_schema("raw");
    let table = changes.create_table(schema, def);
    changes.append_file(table, file);
    changes.set_table_option(table, "auto_compact", "false");
    let committed = catalog.commit(&changes, &mut NoHook).await.unwrap();
    assert_eq!((committed.id.get(), committed.schema_version), (1, 1));

    let shown = db.duck("SELECT * FROM raw.every_type ORDER BY i4;");
    let expected = [
        "true|-5|1|-9223372036854775808|0.1|-1e+300|-12.3400|it's|{\"a\": 1}|\\x00\\xFF|\
         0044-03-15 (BC)|00:00:00|-infinity|1970-01-01 00:00:00+00|\
         01010101-0101-0101-0101-010101010101|[a, NULL]|{'x': 1, 'y': p}",
        "NULL|NULL|2|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|\
         {'x': NULL, 'y': q}",
        "false|7|3|9223372036854775807|nan|inf|9.9999|ä|[]||infinity|23:59:59.999999|\
         1970-01-01 00:00:00.000001|2023-11-14 22:13:20.5+00|\
         ffffffff-ffff-ffff-ffff-ffffffffffff|[z]|{'x': 3, 'y': r}",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);

    // Each of these is answered through the statistics: by skipping files, or without reading any.
    let shown = db.duck(
        "SELECT count(*) FROM raw.every_type;
         SELECT i4 FROM raw.every_type WHERE d = '0044-03-15 (BC)'::date;
         SELECT i4 FROM raw.every_type WHERE txt = 'ä';
         SELECT i4 FROM raw.every_type WHERE tz > '2023-01-01';
         SELECT i4 FROM raw.every_type WHERE u = 'ffffffff-ffff-ffff-ffff-ffffffffffff';
         SELECT i4 FROM raw.every_type WHERE num = 9.9999;
         SELECT i4 FROM raw.every_type WHERE b IS NULL;
         SELECT min(i8), max(i8), min(i2), max(d) FROM raw.every_type;
         SELECT rowid FROM raw.every_type ORDER BY rowid;
         SELECT count(*) FROM raw.every_type WHERE i4 = 4;",
    );
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            "3",
            "1",
            "3",
            "3",
            "3",
            "3",
            "2",
            "-9223372036854775808|9223372036854775807|-5|infinity",
            "0",
            "1",
            "2",
            "0"
        ]
    );
    let shown = db.duck(
        "SELECT value FROM lake.options() WHERE option_name = 'auto_compact';
         SELECT author, commit_message, changes FROM lake.snapshots() WHERE snapshot_id = 1;",
    );
    assert_eq!(
        shown,
        "false\ntest|first|{schemas_created=[raw], tables_created=[raw.every_type], \
         tables_inserted_into=[2]}"
    );
}

#[tokio::test]
async fn views_of_ours_are_replaced_dropped_and_read() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let mut changes = ChangeSet::new();
    changes.create_schema("raw");
    changes.create_table(
        "RAW",
        TableDef::new("t", vec![ColumnDef::new("a", LakeType::Int32)]),
    );
    let sql = "SELECT a, a + 1 FROM {DUCKLAKE_CATALOG}.raw.t";
    let view = ViewDef::new("v", sql)
        .with_column_aliases(["a", "The next"])
        .with_comment("plus one");
    changes.create_or_replace_view("raw", view.clone());
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    db.duck("INSERT INTO raw.t VALUES (1), (2);");
    assert_eq!(
        db.duck("SELECT \"The next\" FROM raw.v ORDER BY a;"),
        "2\n3"
    );
    assert_eq!(
        db.duck("SELECT comment FROM duckdb_views() WHERE view_name = 'v';"),
        "plus one"
    );
    // The name under which the lake is attached does not matter.
    let elsewhere = db.attach().replace("AS \"lake\"", "AS \"other\"");
    let shown = db
        .duck_raw(&format!("{elsewhere} SELECT count(*) FROM other.raw.v;"))
        .unwrap();
    assert_eq!(shown, "2");

    let before = catalog.head().await.unwrap();
    let mut same = ChangeSet::new();
    same.create_or_replace_view("raw", view.clone());
    let committed = catalog.commit(&same, &mut NoHook).await.unwrap();
    assert_eq!(
        committed.schema_version, before.schema_version,
        "nothing to do"
    );
    let lake = catalog.load().await.unwrap();
    let first = lake.find_view("Raw", "V").unwrap().clone();
    assert_eq!(first.comment.as_deref(), Some("plus one"));

    let mut replace = ChangeSet::new();
    replace.create_or_replace_view("raw", ViewDef::new("v", "SELECT a FROM raw.t"));
    let committed = catalog.commit(&replace, &mut NoHook).await.unwrap();
    assert_eq!(committed.schema_version, before.schema_version + 1);
    assert_ne!(
        catalog
            .load()
            .await
            .unwrap()
            .find_view("raw", "v")
            .unwrap()
            .id,
        first.id
    );
    assert_eq!(db.duck("SELECT * FROM raw.v ORDER BY a;"), "1\n2");
    let old = format!(
        "SELECT * FROM raw.v AT (VERSION => {}) ORDER BY 1;",
        before.id
    );
    assert_eq!(db.duck(&old), "1|2\n2|3");

    let mut drop = ChangeSet::new();
    drop.drop_view("raw", "V");
    drop.drop_view("raw", "never there");
    catalog.commit(&drop, &mut NoHook).await.unwrap();
    assert!(
        db.try_duck("SELECT * FROM raw.v;")
            .unwrap_err()
            .contains("does not exist")
    );
    assert!(catalog.load().await.unwrap().views().is_empty());
    let mut connection = db.connection().await;
    assert_eq!(
        text(
            &mut connection,
            "select count(*) from ducklake_tag where end_snapshot is null"
        )
        .await,
        "0"
    );
}

#[tokio::test]
async fn hostile_names_survive_every_round() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    let (schema, name, column) = ("we\"ird, x", "t,\"q'", "c \"c\" 'c'");
    let def = TableDef::new(name, vec![ColumnDef::new(column, LakeType::Int32)])
        .with_comment("it's \"quoted\"");
    let mut changes = ChangeSet::new();
    let new_schema = changes.create_schema(schema);
    let schema_path = changes.schema_path(new_schema).unwrap();
    let directory = format!("{}{schema_path}{}", db.data_path(), def.directory());
    let file = write_file(
        &directory,
        "odd name, with 'quotes'.parquet",
        &[FileColumn::new(
            "x",
            1,
            Arc::new(Int32Array::from((0..20).collect::<Vec<_>>())),
            range(StatValue::Int(0), StatValue::Int(19)),
        )],
    );
    let table = changes.create_table(new_schema, def);
    changes.append_file(table, file);
    catalog.commit(&changes, &mut NoHook).await.unwrap();
    let shown = db.duck(
        "INSERT INTO \"we\"\"ird, x\".\"t,\"\"q'\" SELECT * FROM range(100, 120);
         SELECT count(*), sum(\"c \"\"c\"\" 'c'\") FROM \"we\"\"ird, x\".\"t,\"\"q'\";
         SELECT comment FROM duckdb_tables() WHERE database_name = 'lake';
         SELECT count(*) FROM lake.snapshots();
         SELECT count(*) FROM ducklake_list_files('lake', 't,\"q''', schema => 'we\"ird, x');
         CALL ducklake_delete_orphaned_files('lake', cleanup_all => true, dry_run => true);",
    );
    // Nothing follows the last count: no live file is taken for an orphan.
    assert_eq!(shown, "40|2380\nit's \"quoted\"\n3\n2");
    let lake = catalog.load().await.unwrap();
    let table = lake.find_table("WE\"IRD, X", "T,\"Q'").unwrap();
    assert_eq!(table.path, directory[db.data_path().len()..]);
    assert_eq!(table.columns[0].name, column);
}

#[tokio::test]
async fn the_loaded_lake_is_what_duckdb_made() {
    let Some(db) = TestDb::create().await else {
        return;
    };
    let catalog = db.lake().await;
    db.duck(
        "CREATE SCHEMA s; CREATE TABLE s.T(a INTEGER NOT NULL, l VARCHAR[], m MAP(VARCHAR, DECIMAL(9,3)),
           st STRUCT(x TINYINT, y STRUCT(z TIMESTAMPTZ)[]), u UBIGINT, h HUGEINT, v VARIANT, ns TIMESTAMP_NS);
         ALTER TABLE s.T DROP COLUMN a; ALTER TABLE s.T RENAME COLUMN u TO w;
         CREATE VIEW s.v AS SELECT 1 AS one; COMMENT ON VIEW s.v IS 'c'; CREATE TABLE gone(i INTEGER); DROP TABLE gone;",
    );
    let lake = catalog.load().await.unwrap();
    assert_eq!(lake.schemas().len(), 2);
    assert_eq!(lake.tables().count(), 1);
    let table = lake.find_table("S", "t").unwrap();
    assert_eq!(
        (table.schema_name.as_str(), table.path.as_str()),
        ("s", "s/T/")
    );
    assert_eq!(lake.table(table.id), Some(table));
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("{} {} {}", column.id, column.name, column.ty))
        .collect();
    assert_eq!(
        columns,
        [
            "2 l list(varchar)",
            "4 m map(varchar, decimal(9,3))",
            "7 st struct(x int8, y list(struct(z timestamptz)))",
            "12 w uint64",
            "13 h int128",
            "14 v variant",
            "15 ns timestamp_ns",
        ]
    );
    assert_eq!(table.next_column_id.get(), 16);
    assert_eq!(
        table
            .column(table.columns[0].id)
            .unwrap()
            .ids()
            .element()
            .unwrap()
            .get(),
        3
    );
    assert_eq!(
        lake.find_view("s", "V").unwrap().comment.as_deref(),
        Some("c")
    );
    assert_eq!(lake.head(), &catalog.head().await.unwrap());

    // A column that no version of ours knows hides nothing else.
    let mut connection = db.connection().await;
    execute(
        &mut connection,
        "update ducklake_column set column_type = 'hologram' where column_name = 'w'",
    )
    .await;
    let lake = catalog.load().await.unwrap();
    let column = lake
        .find_table("s", "t")
        .unwrap()
        .find_column("W")
        .unwrap()
        .clone();
    assert_eq!(column.ty, LakeType::Other("hologram".to_owned()));
    assert_eq!(
        rows(&mut connection, "select 1 as a, null as b")
            .await
            .len(),
        1
    );
}
