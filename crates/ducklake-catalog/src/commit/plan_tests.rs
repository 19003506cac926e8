use std::collections::BTreeSet;
use std::time::Duration;

use super::super::locked::LockedTable;
use super::*;
use crate::{
    ColumnDef, DataFile, FileColumnStats, LakeType, Schema, Snapshot, StatBounds, StatValue, Table,
    TableDef, View,
};

fn lake() -> Locked {
    Locked {
        head: Snapshot {
            id: SnapshotId::new(7),
            time: String::new(),
            schema_version: 3,
            next_catalog_id: 10,
            next_file_id: 20,
        },
        file_deletion_grace: Duration::from_hours(48),
        schemas: vec![Schema {
            id: SchemaId::new(0),
            name: "Main".into(),
            path: "main/".into(),
        }],
        data_path: "/lake/".into(),
        table_names: vec![(T, SchemaId::new(0), "t".into())],
        views: vec![View {
            id: ViewId::new(5),
            schema: SchemaId::new(0),
            name: "v".into(),
            sql: "SELECT 1".into(),
            column_aliases: String::new(),
            comment: None,
        }],
        tables: BTreeMap::from([(T, table())]),
    }
}

const T: TableId = TableId::new(1);

/// `t (a int32 not null, l list(varchar))`, without rows.
fn table() -> LockedTable {
    let row = |id: i64, name: &str, ty: &str, parent: Option<i64>| ColumnRow {
        id: ColumnId::new(id),
        order: id,
        name: name.into(),
        type_name: ty.into(),
        initial_default: Some("initial".into()),
        default_value: Some("NULL".into()),
        nullable: id != 1,
        parent: parent.map(ColumnId::new),
        default_value_type: Some("literal".into()),
        default_value_dialect: Some("duckdb".into()),
    };
    let columns = vec![
        row(1, "a", "int32", None),
        row(2, "l", "list", None),
        row(3, "element", "varchar", Some(2)),
    ];
    LockedTable {
        table: Table {
            id: T,
            uuid: Uuid::nil(),
            schema: SchemaId::new(0),
            schema_name: "main".into(),
            name: "t".into(),
            path: "main/t/".into(),
            columns: crate::read::column_tree(&columns, None),
            next_column_id: ColumnId::new(6),
        },
        stored_path: ("t/".into(), true),
        comment: None,
        columns,
        column_comments: BTreeMap::new(),
        stats: None,
        column_stats: BTreeMap::new(),
        hides_values: BTreeSet::new(),
        has_files: false,
        partitioned_by: Vec::new(),
        is_inlined: false,
    }
}

fn file(path: &str, rows: u64, columns: Vec<FileColumnStats>) -> DataFile {
    DataFile {
        path: path.into(),
        record_count: rows,
        file_size_bytes: 100,
        footer_size: 10,
        columns,
    }
}

fn ints(column: i64, min: i64, max: i64) -> FileColumnStats {
    FileColumnStats {
        column: ColumnId::new(column),
        column_size_bytes: 8,
        value_count: 2,
        null_count: 0,
        contains_nan: Some(false),
        bounds: StatBounds::Range {
            min: StatValue::Int(min),
            max: StatValue::Int(max),
        },
    }
}

fn stats_row(min: &str, max: &str) -> ColumnStatsRow {
    ColumnStatsRow {
        contains_null: Some(false),
        contains_nan: None,
        min: Some(min.into()),
        max: Some(max.into()),
    }
}

fn planned(locked: &Locked, change: impl FnOnce(&mut ChangeSet)) -> Plan {
    let mut changes = ChangeSet::new();
    change(&mut changes);
    plan(locked, &changes).unwrap()
}

fn refused(locked: &Locked, change: impl FnOnce(&mut ChangeSet)) -> CatalogError {
    let mut changes = ChangeSet::new();
    change(&mut changes);
    match plan(locked, &changes) {
        Ok(plan) => panic!("planned {}", plan.changes_made),
        Err(error) => error,
    }
}

#[test]
fn files_alone_do_not_change_the_schema_version() {
    let plan = planned(&lake(), |changes| {
        changes.append_file(T, file("a.parquet", 5, vec![ints(1, 1, 5)]));
        changes.append_file(T, file("b.parquet", 3, vec![ints(1, -2, 3)]));
    });
    assert_eq!(plan.committed.id.get(), 8);
    assert_eq!(plan.committed.schema_version, 3);
    assert_eq!((plan.next_catalog_id, plan.next_file_id), (10, 22));
    assert_eq!(plan.changes_made, "inserted_into_table:1");
    let files: Vec<_> = plan
        .files
        .iter()
        .map(|row| (row.id.get(), row.row_id_start))
        .collect();
    assert_eq!(files, [(20, 0), (21, 5)]);
    let totals = TableStats {
        record_count: 8,
        next_row_id: 8,
        file_size_bytes: 200,
    };
    assert_eq!(plan.new_table_stats, [(T, totals)]);
    assert!(plan.changed_table_stats.is_empty() && plan.restructured.is_empty());
    // Known of `a`; nothing was said of the list's element.
    assert_eq!(plan.new_column_stats.len(), 1);
    let (_, column, row) = &plan.new_column_stats[0];
    assert_eq!(column.get(), 1);
    assert!(*row == stats_row("-2", "5"));
}

#[test]
fn every_commit_moves_the_next_file_id() {
    let plan = planned(&lake(), |changes| {
        changes.ensure_schema("MAIN");
    });
    assert_eq!(plan.next_file_id, 21);
    assert_eq!(plan.committed.schema_version, 3, "nothing was created");
    assert_eq!(plan.changes_made, "");
    assert_eq!(plan.committed.schemas, [SchemaId::new(0)]);
    let plan = planned(&lake(), |changes| {
        changes.add_column(T, ColumnDef::new("b", LakeType::Int8));
    });
    assert_eq!((plan.next_file_id, plan.committed.schema_version), (21, 4));
}

#[test]
fn later_rows_widen_what_is_there_and_invent_nothing() {
    let mut locked = lake();
    let table = locked.tables.get_mut(&T).unwrap();
    table.stats = Some(TableStats {
        record_count: 10,
        next_row_id: 40,
        file_size_bytes: 7,
    });
    table
        .column_stats
        .insert(ColumnId::new(3), stats_row("a", "b"));
    let plan = planned(&locked, |changes| {
        changes.append_file(T, file("a.parquet", 2, vec![ints(1, 1, 5)]));
    });
    assert_eq!(plan.files[0].row_id_start, 40);
    let totals = TableStats {
        record_count: 12,
        next_row_id: 42,
        file_size_bytes: 107,
    };
    assert_eq!(plan.changed_table_stats, [(T, totals)]);
    assert!(plan.new_column_stats.is_empty(), "once absent, never again");
    assert_eq!(
        plan.deleted_column_stats,
        [(T, ColumnId::new(3))],
        "nothing is said of it"
    );

    locked.tables.get_mut(&T).unwrap().column_stats =
        BTreeMap::from([(ColumnId::new(1), stats_row("2", "3"))]);
    let plan = planned(&locked, |changes| {
        changes.append_file(T, file("a.parquet", 0, Vec::new()));
        changes.append_file(T, file("b.parquet", 2, vec![ints(1, 1, 3)]));
    });
    assert_eq!(plan.changed_column_stats.len(), 1);
    assert!(plan.changed_column_stats[0].2 == stats_row("1", "3"));
    // NaN is a matter of floating point columns.
    assert_eq!(plan.file_stats[0].contains_nan, None);
}

#[test]
fn a_column_changed_twice_is_one_new_row() {
    let plan = planned(&lake(), |changes| {
        changes.rename_column(T, ColumnId::new(1), "b");
        changes.set_column_type(T, ColumnId::new(1), LakeType::Int64);
        changes.rename_column(T, ColumnId::new(1), "c");
        changes.set_nullable(T, ColumnId::new(1), true);
    });
    assert_eq!(plan.ended_columns, [(T, ColumnId::new(1))]);
    assert!(plan.dropped_columns.is_empty());
    let [(_, row)] = plan.columns.as_slice() else {
        panic!("{:?}", plan.columns)
    };
    assert_eq!((row.name.as_str(), row.type_name.as_str()), ("c", "int64"));
    assert!(row.nullable);
    // What the change does not speak of stays.
    assert_eq!(row.initial_default.as_deref(), Some("initial"));
    assert_eq!(plan.changes_made, "altered_table:1");
    assert_eq!(plan.restructured, [T]);
}

#[test]
fn changes_that_change_nothing_leave_no_trace() {
    let plan = planned(&lake(), |changes| {
        changes.rename_column(T, ColumnId::new(1), "a");
        changes.set_nullable(T, ColumnId::new(1), false);
        changes.set_column_type(T, ColumnId::new(1), LakeType::Int32);
        changes.create_or_replace_view("main", ViewDef::new("v", "SELECT 1"));
        changes.create_or_replace_view("main", ViewDef::new("w", "SELECT 2"));
        changes.drop_view("main", "W");
    });
    assert!(plan.ended_columns.is_empty() && plan.columns.is_empty());
    assert!(plan.views.is_empty() && plan.ended_views.is_empty());
    assert_eq!(
        (plan.changes_made.as_str(), plan.committed.schema_version),
        ("", 3)
    );
}

/// Whoever counts ids ahead of the commits would be one ahead of the lake.
#[test]
fn a_column_that_comes_and_goes_keeps_its_id() {
    let plan = planned(&lake(), |changes| {
        changes.add_column(T, ColumnDef::new("new", LakeType::list(LakeType::Int8)));
        changes.drop_column(T, ColumnId::new(6));
        changes.expect_next_column_id(T, ColumnId::new(8));
    });
    assert!(plan.columns.is_empty() && plan.ended_columns.is_empty());
    let ids: Vec<_> = plan.stillborn.iter().map(|(_, row)| row.id.get()).collect();
    assert_eq!(ids, [6, 7]);
    assert_eq!(plan.restructured, [T]);
}

/// Files may have its id, which must not be given out again.
#[test]
fn a_column_that_comes_and_goes_beside_files_keeps_its_id() {
    let plan = planned(&lake(), |changes| {
        changes.add_column(T, ColumnDef::new("new", LakeType::Int8));
        changes.append_file(T, file("a.parquet", 1, vec![ints(6, 1, 1)]));
        changes.drop_column(T, ColumnId::new(6));
    });
    assert!(plan.columns.is_empty() && plan.ended_columns.is_empty());
    let ids: Vec<_> = plan.stillborn.iter().map(|(_, row)| row.id.get()).collect();
    assert_eq!(ids, [6]);
    assert!(plan.file_stats.is_empty());
    assert_eq!(plan.restructured, [T]);
}

#[test]
fn a_dropped_column_takes_its_children_along() {
    let plan = planned(&lake(), |changes| {
        changes.drop_column(T, ColumnId::new(2));
        // A file of the old shape may still tell of the element.
        changes.append_file(T, file("a.parquet", 1, vec![ints(1, 1, 1), ints(3, 0, 0)]));
    });
    let both = [(T, ColumnId::new(2)), (T, ColumnId::new(3))];
    assert_eq!(plan.ended_columns, both);
    assert_eq!(plan.dropped_columns, both);
    assert_eq!(plan.file_stats.len(), 1);
    assert_eq!(plan.changes_made, "inserted_into_table:1,altered_table:1");
}

#[test]
fn ids_come_from_their_counters() {
    let plan = planned(&lake(), |changes| {
        let schema = changes.create_schema("s");
        let def = TableDef::new(
            "n",
            vec![ColumnDef::new("a", LakeType::list(LakeType::Int8))],
        );
        let table = changes.create_table(schema, def);
        changes.add_column(table, ColumnDef::new("b", LakeType::Int8).not_null());
        changes.create_or_replace_view("S", ViewDef::new("v", "SELECT 1").with_comment("c"));
        changes.append_file(table, file("a.parquet", 1, vec![ints(3, 1, 1)]));
    });
    assert_eq!(plan.committed.schemas, [SchemaId::new(10)]);
    assert_eq!(plan.committed.tables, [TableId::new(11)]);
    assert_eq!(plan.views[0].id, ViewId::new(12));
    assert_eq!((plan.next_catalog_id, plan.next_file_id), (13, 21));
    let columns: Vec<String> = plan
        .columns
        .iter()
        .map(|(_, row)| {
            format!(
                "{} {} {} {} {:?} {:?}",
                row.id, row.order, row.name, row.type_name, row.parent, row.default_value_type
            )
        })
        .collect();
    assert_eq!(
        columns,
        [
            "1 1 a list None Some(\"\")",
            "2 2 element int8 Some(ColumnId(1)) Some(\"literal\")",
            "3 3 b int8 None Some(\"literal\")",
        ]
    );
    assert_eq!(
        plan.changes_made,
        "created_schema:\"s\",created_table:\"s\".\"n\",created_view:\"s\".\"v\",\
         inserted_into_table:11,altered_view:12"
    );
    assert_eq!(plan.tags.len(), 1);
    assert_eq!(plan.restructured, [TableId::new(11)]);
}

#[test]
fn a_table_that_duckdb_inlines_gets_a_new_table_for_its_new_shape() {
    let mut locked = lake();
    locked.tables.get_mut(&T).unwrap().is_inlined = true;
    let add = |name: &'static str, ty: LakeType| {
        move |changes: &mut ChangeSet| changes.add_column(T, ColumnDef::new(name, ty))
    };
    let plan = planned(&locked, add("b", LakeType::UInt64));
    let [inlined] = plan.inlined_tables.as_slice() else {
        panic!("{}", plan.inlined_tables.len())
    };
    let columns: Vec<String> = inlined
        .columns
        .iter()
        .map(|(name, ty)| format!("{name} {ty}"))
        .collect();
    assert_eq!(columns, ["a integer", "l varchar", "b varchar"]);
    // DuckDB writes files instead when a column cannot be there.
    for name in [
        "Row_ID",
        "a_name_of_more_than_63_bytes_______________________________________",
    ] {
        let plan = planned(&locked, add(name, LakeType::Int8));
        assert!(plan.inlined_tables.is_empty(), "{name}");
    }
    let plan = planned(&locked, |changes| {
        changes.append_file(T, file("a", 1, Vec::new()));
    });
    assert!(plan.inlined_tables.is_empty());
}

#[test]
fn statistics_must_be_of_a_leaf_and_of_its_type() {
    let append = |columns: Vec<FileColumnStats>| {
        move |changes: &mut ChangeSet| changes.append_file(T, file("a.parquet", 1, columns))
    };
    for (columns, kind) in [
        (vec![ints(2, 1, 1)], CatalogErrorKind::InvalidChange),
        (vec![ints(3, 1, 1)], CatalogErrorKind::InvalidChange),
        (vec![ints(1, 0, 1 << 40)], CatalogErrorKind::InvalidChange),
        (
            vec![ints(1, 1, 1), ints(1, 1, 1)],
            CatalogErrorKind::InvalidChange,
        ),
        (vec![ints(9, 1, 1)], CatalogErrorKind::TableChanged),
    ] {
        let error = refused(&lake(), append(columns));
        assert_eq!(error.kind(), &kind, "{error}");
        assert!(error.object().contains("table main.t"), "{error}");
    }
}

#[test]
fn files_without_totals_are_not_built_upon() {
    let mut locked = lake();
    locked.tables.get_mut(&T).unwrap().has_files = true;
    let error = refused(&locked, |changes| {
        changes.append_file(T, file("a.parquet", 1, Vec::new()));
    });
    assert_eq!(error.kind(), &CatalogErrorKind::InvalidCatalog);
}
