//! What the unit tests of several modules need: configurations, tables, messages, and batches as plain rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use bytes::BytesMut;
use cdc_source::tables::{ColumnInfo, Generated, Persistence, TableKind};
use cdc_source::{Endpoint, KeyInfo, PublicationName, SlotName, TableInfo};
use ducklake_catalog::{ColumnDef, TableDef, TableId};
use pgoutput::{
    Begin, Commit, Datum, Decoder, Delete, Insert, Lsn, Message, Oid, OldTuple, PgTimestamp,
    ProtocolVersion, Relation, RelationColumn, RelationId, ReplicaIdentity, Truncate, Tuple,
    Update, Xid, encode_tuple,
};

use crate::config::{
    BackfillMode, CatalogConfig, ChangePolicy, FeederConfig, FeederName, FlushConfig,
    KeylessPolicy, Limits, NumericMapping, OnUnrepresentable, Policy, SourceConfig, TableRule,
};
use crate::dead_letters;
use crate::evolution::Found;
use crate::file::LakeTable;
use crate::intake::FedTable;
use crate::layout::{self, LakeColumn, SourceColumn};
use crate::plan::{ShapeColumn, SourceShape, StoredColumns, TablePlan, identity_name};
use crate::select::Selection;
use crate::status::TableState;
use crate::types::{ColumnSettings, SourceType, Types};
use crate::version::TableVersion;

pub(crate) const INT4: u32 = 23;
pub(crate) const INT8: u32 = 20;
pub(crate) const TEXT: u32 = 25;
pub(crate) const JSON: u32 = 114;
pub(crate) const NUMERIC: u32 = 1700;
pub(crate) const JSONB: u32 = 3802;
/// A type whose binary form is not decoded.
pub(crate) const INT4RANGE: u32 = 3904;

/// The type modifier of `numeric(precision, scale)`.
pub(crate) const fn numeric_modifier(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | scale) + 4
}

/// A configuration that feeds `tables`.
pub(crate) fn config(tables: &[&str]) -> FeederConfig {
    let endpoint = Endpoint::parse("postgres://feeder@localhost/shop?sslmode=disable").unwrap();
    FeederConfig {
        name: FeederName::parse("shop").unwrap(),
        source: SourceConfig {
            endpoint: endpoint.clone(),
            slot: SlotName::parse("duckfeeder_shop").unwrap(),
            publication: PublicationName::parse("duckfeeder_shop").unwrap(),
            manage_publication: true,
            keyless: KeylessPolicy::Auto,
            numeric: NumericMapping::Varchar,
            backfill: BackfillMode::Initial,
        },
        tables: tables.iter().map(|table| TableRule::new(*table)).collect(),
        catalog: CatalogConfig {
            endpoint,
            metadata_schema: "public".to_owned(),
            migrate: true,
        },
        policy: Policy::default(),
        flush: FlushConfig::default(),
        limits: Limits::default(),
        maintenance: crate::config::MaintenanceConfig::default(),
    }
}

/// A table of the source with the columns `id` and `body`, whose primary key is `id`.
pub(crate) fn table_info(oid: u32, name: &str) -> TableInfo {
    let column = |attnum, name: &str, type_oid| ColumnInfo {
        attnum,
        name: name.to_owned(),
        type_oid: Oid::new(type_oid),
        type_name: "whatever".to_owned(),
        type_modifier: -1,
        dimensions: 0,
        not_null: false,
        has_default: false,
        missing_value: None,
        altered_by: Some(1),
        comment: None,
        generated: Generated::No,
        select_privilege: true,
    };
    TableInfo {
        columns_ever: 100,
        id: cdc_source::tables::TableId {
            oid: Oid::new(oid),
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind: TableKind::Ordinary,
            persistence: Persistence::Permanent,
        },
        replica_identity: ReplicaIdentity::Default,
        relfilenode: oid,
        pages: 0,
        rows: None,
        primary_key: Some(KeyInfo {
            columns: vec!["id".to_owned()],
            deferrable: false,
        }),
        identity_index: None,
        columns: vec![column(1, "id", INT4), column(2, "body", TEXT)],
        row_security: false,
        row_security_forced: false,
        row_security_applies: false,
        schema_usage: true,
        select_privilege: true,
        updates: 0,
        deletes: 0,
        is_inheritance_parent: false,
        comment: None,
        leaves: Vec::new(),
    }
}

/// What a rule without settings makes of `public.<name>`.
pub(crate) fn selection(name: &str) -> Selection {
    Selection {
        by_glob: true,
        schema: "public".to_owned(),
        name: name.to_owned(),
        target_schema: "raw".to_owned(),
        target_table: name.to_owned(),
        exclude_columns: Vec::new(),
        row_filter: None,
        backfill: BackfillMode::Initial,
        numeric: BTreeMap::new(),
        arrays: BTreeMap::new(),
        before_image: false,
        changes: ChangePolicy::default(),
    }
}

/// A column of a test's table: name, type, type modifier.
pub(crate) type Column = (&'static str, u32, i32);

pub(crate) fn source_columns(columns: &[Column]) -> Vec<SourceColumn> {
    columns
        .iter()
        .map(|(name, type_oid, modifier)| {
            let source_type = SourceType::plain(Oid::new(*type_oid), *modifier);
            SourceColumn {
                name: (*name).to_owned(),
                reader: ColumnSettings::default().reader(name, &source_type),
                source_type,
            }
        })
        .collect()
}

/// The columns as a catalog that numbers them from 1 has them.
pub(crate) fn lake_columns(columns: &[ColumnDef]) -> Vec<LakeColumn> {
    let definition = TableDef::new("t", columns.to_vec());
    let ids = definition.column_ids();
    columns
        .iter()
        .zip(ids)
        .map(|(column, ids)| LakeColumn {
            name: column.name.clone(),
            lake_type: column.ty.clone(),
            ids,
        })
        .collect()
}

/// Table `public.<name>`, fed into `raw.<name>`.
pub(crate) fn lake_table(source_oid: u32, name: &str, columns: &[Column]) -> LakeTable {
    let letters = described(
        source_oid,
        name,
        dead_letters::TABLE,
        0,
        &dead_letters::column_defs(),
    );
    let columns = layout::column_defs(&source_columns(columns), false);
    LakeTable {
        dead_letters: Some(Arc::new(letters)),
        ..described(source_oid, name, name, i64::from(source_oid), &columns)
    }
}

fn described(
    source_oid: u32,
    source: &str,
    name: &str,
    table_id: i64,
    columns: &[ColumnDef],
) -> LakeTable {
    let lake = lake_columns(columns);
    let target = format!("raw.{name}");
    LakeTable {
        source_oid,
        source: format!("public.{source}"),
        table_id: TableId::new(table_id),
        directory: format!("raw/{name}"),
        schema: layout::file_schema(&target, &lake, columns).unwrap(),
        next_column_id: TableDef::new("t", columns.to_vec()).next_column_id().get(),
        columns: lake,
        target_schema: "raw".to_owned(),
        target_table: name.to_owned(),
        target,
        dead_letters: None,
    }
}

/// A streaming table whose first column is its key.
pub(crate) fn fed_table(
    source_oid: u32,
    name: &str,
    identity: ReplicaIdentity,
    columns: &[Column],
) -> FedTable {
    let shape = SourceShape {
        columns: (1..)
            .zip(source_columns(columns))
            .map(|(attnum, column)| ShapeColumn {
                attnum: Some(attnum),
                ..ShapeColumn::new(&column.name, column.source_type)
            })
            .collect(),
        key: columns
            .iter()
            .take(1)
            .map(|(name, ..)| (*name).to_owned())
            .collect(),
        identity: identity_name(identity).to_owned(),
        before_image: false,
        comment: None,
        files: BTreeMap::from([(source_oid, source_oid)]),
        altered_by: BTreeMap::new(),
    };
    let settings = ColumnSettings::default();
    let lake = Arc::new(lake_table(source_oid, name, columns));
    FedTable {
        version: Arc::new(TableVersion::new(
            lake,
            shape,
            &settings,
            Vec::new(),
            Vec::new(),
        )),
        selection: selection(name),
        settings,
        on_unrepresentable: OnUnrepresentable::Stop,
        unrepresentable: 0,
        state: TableState::Streaming,
        error: None,
        discarded: 0,
        copy_after: Lsn::ZERO,
    }
}

/// What the source's catalog says of `public.<name>` with these live columns, numbered, whose first is the primary key.
pub(crate) fn found(oid: u32, name: &str, columns: &[(i16, Column)], file: u32) -> Found {
    let columns = columns
        .iter()
        .map(|(attnum, (name, type_oid, modifier))| ColumnInfo {
            attnum: *attnum,
            name: (*name).to_owned(),
            type_oid: Oid::new(*type_oid),
            type_name: String::new(),
            type_modifier: *modifier,
            dimensions: 0,
            not_null: false,
            has_default: false,
            missing_value: None,
            altered_by: Some(1),
            comment: None,
            generated: Generated::No,
            select_privilege: true,
        })
        .collect();
    found_of(
        name,
        TableInfo {
            columns,
            relfilenode: file,
            ..table_info(oid, name)
        },
        &Types::new(),
    )
}

/// What the source's catalog says of a table.
pub(crate) fn found_of(name: &str, mut info: TableInfo, types: &Types) -> Found {
    let first = info.columns.first().map(|column| column.name.clone());
    info.primary_key = first.map(|first| KeyInfo {
        columns: vec![first],
        deferrable: false,
    });
    let stored = StoredColumns::Published;
    let plan = TablePlan::new(&config(&["public.*"]), selection(name), info, types, stored);
    Found {
        rewritten: None,
        plan: Some(plan),
        types: types.clone(),
        directives: Vec::new(),
    }
}

/// As it comes out of the wire format.
pub(crate) fn wire(message: &Message) -> Message {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    Decoder::new(ProtocolVersion::V1)
        .decode(bytes.freeze())
        .unwrap()
}

/// The server's time of a commit, in microseconds since 1970: one second per byte of the position.
pub(crate) fn commit_micros(commit_lsn: u64) -> i64 {
    1_700_000_000_000_000 + i64::try_from(commit_lsn).unwrap() * 1_000_000
}

pub(crate) fn begin(commit_lsn: u64) -> Message {
    wire(&Message::Begin(Begin {
        final_lsn: Lsn::new(commit_lsn),
        commit_time: PgTimestamp::from_unix_micros(commit_micros(commit_lsn)),
        xid: Xid::new(700),
    }))
}

pub(crate) fn commit(commit_lsn: u64, end_lsn: u64) -> Message {
    wire(&Message::Commit(Commit {
        flags: 0,
        commit_lsn: Lsn::new(commit_lsn),
        end_lsn: Lsn::new(end_lsn),
        commit_time: PgTimestamp::from_unix_micros(commit_micros(commit_lsn)),
    }))
}

/// The relation of a table whose first column is its key.
pub(crate) fn relation(oid: u32, identity: ReplicaIdentity, columns: &[Column]) -> Message {
    wire(&Message::Relation(Relation {
        xid: None,
        id: RelationId::new(oid),
        namespace: "public".to_owned(),
        name: "whatever".to_owned(),
        replica_identity: identity,
        columns: columns
            .iter()
            .enumerate()
            .map(|(position, (name, type_oid, modifier))| RelationColumn {
                flags: u8::from(position == 0 || identity == ReplicaIdentity::Full),
                name: (*name).to_owned(),
                type_oid: Oid::new(*type_oid),
                type_modifier: *modifier,
            })
            .collect(),
    }))
}

pub(crate) fn text(value: &str) -> Datum<'_> {
    Datum::Text(value.as_bytes())
}

pub(crate) fn tuple(values: &[Datum<'_>]) -> Tuple {
    encode_tuple(values).unwrap()
}

pub(crate) fn insert(oid: u32, values: &[Datum<'_>]) -> Message {
    wire(&Message::Insert(Insert {
        xid: None,
        relation: RelationId::new(oid),
        new: tuple(values),
    }))
}

pub(crate) fn update(oid: u32, old: Option<OldTuple>, values: &[Datum<'_>]) -> Message {
    wire(&Message::Update(Update {
        xid: None,
        relation: RelationId::new(oid),
        old,
        new: tuple(values),
    }))
}

pub(crate) fn delete(oid: u32, old: OldTuple) -> Message {
    wire(&Message::Delete(Delete {
        xid: None,
        relation: RelationId::new(oid),
        old,
    }))
}

pub(crate) fn truncate(oids: &[u32]) -> Message {
    let relations: Vec<RelationId> = oids.iter().map(|oid| RelationId::new(*oid)).collect();
    wire(&Message::Truncate(
        Truncate::new(None, false, false, &relations).unwrap(),
    ))
}

/// A changelog row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) op: String,
    pub(crate) timestamp: i64,
    pub(crate) lsn: i64,
    pub(crate) seq: i64,
    pub(crate) unchanged: Option<Vec<String>>,
    pub(crate) unrepresentable: Option<Vec<String>>,
    pub(crate) values: Vec<Option<String>>,
}

/// The rows of a batch.
pub(crate) fn rows(batch: &RecordBatch) -> Vec<Row> {
    let lists = |row: usize, column: usize| names(batch.column(column), row);
    cells(batch)
        .into_iter()
        .enumerate()
        .map(|(row, mut cells)| {
            let values = cells.split_off(layout::META_COLUMNS);
            let number = |column: usize| cells[column].as_ref().unwrap().parse().unwrap();
            Row {
                op: cells[0].clone().unwrap(),
                timestamp: number(1),
                lsn: number(2),
                seq: number(3),
                unchanged: lists(row, 4),
                unrepresentable: lists(row, 5),
                values,
            }
        })
        .collect()
}

fn names(column: &ArrayRef, row: usize) -> Option<Vec<String>> {
    let list = column.as_list::<i32>();
    (!list.is_null(row)).then(|| {
        let names = list.value(row);
        names
            .as_string::<i32>()
            .iter()
            .map(|name| name.unwrap().to_owned())
            .collect()
    })
}

/// Every value as text, row by row.
pub(crate) fn cells(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    (0..batch.num_rows())
        .map(|row| {
            batch
                .columns()
                .iter()
                .map(|column| cell(column, row))
                .collect()
        })
        .collect()
}

fn cell(column: &ArrayRef, row: usize) -> Option<String> {
    macro_rules! primitive {
        ($kind:ty) => {
            column.as_primitive::<$kind>().value(row).to_string()
        };
    }
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Int16 => primitive!(Int16Type),
        DataType::Int32 => primitive!(Int32Type),
        DataType::Int64 => primitive!(Int64Type),
        DataType::UInt32 => primitive!(UInt32Type),
        DataType::Float32 => primitive!(Float32Type),
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Date32 => primitive!(Date32Type),
        DataType::Time64(_) => primitive!(Time64MicrosecondType),
        DataType::Timestamp(..) => primitive!(TimestampMicrosecondType),
        DataType::Binary => format!("{:?}", column.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => format!("{:?}", column.as_fixed_size_binary().value(row)),
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(row);
            let elements: Vec<String> = (0..list.len())
                .map(|element| cell(&list, element).unwrap_or_default())
                .collect();
            format!("[{}]", elements.join(", "))
        }
        DataType::Struct(_) => {
            let fields: Vec<String> = column
                .as_struct()
                .columns()
                .iter()
                .map(|field| cell(field, row).unwrap_or_default())
                .collect();
            format!("({})", fields.join(", "))
        }
        other => panic!("no test shows {other} yet"),
    })
}
