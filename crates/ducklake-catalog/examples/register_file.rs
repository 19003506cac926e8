//! Registers an existing Parquet file in a lake, without DuckDB.
//!
//! ```text
//! cargo run --example register_file -- postgres://me@localhost/lake /srv/lake raw.orders orders.parquet
//! ```
//!
//! creates the lake and the table if they are not there, copies the file to where the table's files
//! are, and commits it with the statistics that its footer holds. Without a file it writes a small
//! one. Every column of the file needs the Parquet field id of its column in the table: 1, 2, 3 and so
//! on for a new table.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use ducklake_catalog::sqlx::postgres::PgConnectOptions;
use ducklake_catalog::{
    Catalog, CatalogOptions, ChangeSet, ColumnDef, ColumnId, DataFile, FileColumnStats, LakeType,
    NoHook, StatBounds, StatValue, TableDef, TableRef,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::data_type::ByteArray;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir()?;
    let (url, data_path, table, file) = match arguments.as_slice() {
        [url, data_path, table] => (url, data_path, table, sample(folder.path())?),
        [url, data_path, table, file] => (url, data_path, table, PathBuf::from(file)),
        _ => return Err("usage: register_file CATALOG_URL DATA_PATH SCHEMA.TABLE [FILE]".into()),
    };
    let (schema, table) = table.split_once('.').ok_or("the table needs a schema")?;
    let snapshot = register(url.parse()?, data_path, schema, table, &file).await?;
    println!("registered in snapshot {snapshot}; attach the lake in DuckDB and look at it");
    Ok(())
}

/// Registers a file, and returns the snapshot that has it.
pub(crate) async fn register(
    connect: PgConnectOptions,
    data_path: &str,
    schema: &str,
    table: &str,
    file: &Path,
) -> Result<i64> {
    let catalog = Catalog::connect(CatalogOptions::new(connect)).await?;
    catalog.bootstrap(data_path).await?;
    let lake = catalog.load().await?;

    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file)?)?;
    let columns = columns_of(reader.schema())?;
    let mut changes = ChangeSet::new().with_author("register_file");
    let (target, directory) = if let Some(existing) = lake.find_table(schema, table) {
        changes.expect_columns(existing.id, columns.clone());
        (TableRef::Existing(existing.id), existing.path.clone())
    } else {
        let defs = columns
            .iter()
            .map(|(_, name, ty)| ColumnDef::new(name, ty.clone()))
            .collect();
        let def = TableDef::new(table, defs);
        let ids = def.column_ids();
        if columns
            .iter()
            .zip(&ids)
            .any(|((id, ..), expected)| *id != expected.id)
        {
            return Err("a new table's columns have the field ids 1, 2, 3 and so on".into());
        }
        let directory = def.directory();
        let in_schema = changes.ensure_schema(schema);
        let schema_path = match lake.find_schema(schema) {
            Some(existing) => existing.path.clone(),
            None => changes.schema_path(in_schema).ok_or("the schema is new")?,
        };
        let target = changes.create_table(in_schema, def);
        (target, format!("{schema_path}{directory}"))
    };
    // A path is never used twice: readers cache files by it.
    let name = format!("{}.parquet", uuid::Uuid::now_v7());
    let directory = Path::new(data_path).join(directory);
    std::fs::create_dir_all(&directory)?;
    let size = std::fs::copy(file, directory.join(&name))?;
    changes.append_file(
        target,
        describe(name, size, file, &columns, reader.metadata())?,
    );
    Ok(catalog.commit(&changes, &mut NoHook).await?.id.get())
}

/// Field ids, names and types of a flat schema.
fn columns_of(schema: &Schema) -> Result<Vec<(ColumnId, String, LakeType)>> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let id = field
                .metadata()
                .get("PARQUET:field_id")
                .ok_or_else(|| format!("column {} has no field id", field.name()))?;
            let ty = match field.data_type() {
                DataType::Boolean => LakeType::Boolean,
                DataType::Int32 => LakeType::Int32,
                DataType::Int64 => LakeType::Int64,
                DataType::Float64 => LakeType::Float64,
                DataType::Utf8 => LakeType::Varchar,
                DataType::Binary => LakeType::Blob,
                DataType::Date32 => LakeType::Date,
                DataType::Timestamp(TimeUnit::Microsecond, None) => LakeType::Timestamp,
                DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => LakeType::TimestampTz,
                other => return Err(format!("column {} is {other}", field.name()).into()),
            };
            Ok((ColumnId::new(id.parse()?), field.name().clone(), ty))
        })
        .collect()
}

fn describe(
    name: String,
    size: u64,
    file: &Path,
    columns: &[(ColumnId, String, LakeType)],
    metadata: &ParquetMetaData,
) -> Result<DataFile> {
    let bytes = std::fs::read(file)?;
    let (_, tail) = bytes.split_last_chunk::<8>().ok_or("not a Parquet file")?;
    let footer = tail.first_chunk::<4>().ok_or("not a Parquet file")?;
    let mut described = Vec::new();
    for (index, (column, name, ty)) in columns.iter().enumerate() {
        let mut stats = FileColumnStats {
            column: *column,
            column_size_bytes: 0,
            value_count: 0,
            null_count: 0,
            contains_nan: None,
            bounds: StatBounds::Empty,
        };
        for group in metadata.row_groups() {
            let chunk = group
                .columns()
                .get(index)
                .ok_or("a row group lacks a column")?;
            let statistics = chunk.statistics();
            let nulls = statistics
                .and_then(Statistics::null_count_opt)
                .ok_or_else(|| format!("it is not said how many NULLs {name} has"))?;
            let values = u64::try_from(chunk.num_values())?.saturating_sub(nulls);
            stats.column_size_bytes += u64::try_from(chunk.compressed_size())?;
            stats.null_count += nulls;
            stats.value_count += values;
            if values > 0 {
                let bounds = statistics.map_or(StatBounds::Unknown, |known| bounds_of(known, ty));
                stats.bounds = match stats.bounds {
                    StatBounds::Empty => bounds,
                    // Joining those of several row groups is left out of this example.
                    StatBounds::Unknown | StatBounds::Range { .. } => StatBounds::Unknown,
                };
            }
        }
        described.push(stats);
    }
    Ok(DataFile {
        path: name,
        record_count: u64::try_from(metadata.file_metadata().num_rows())?,
        file_size_bytes: size,
        footer_size: u64::from(u32::from_le_bytes(*footer)),
        columns: described,
    })
}

/// Bounds that are exact. What is not sure is unknown: a footer may cut long strings off, and it
/// does not say whether a float is NaN.
fn bounds_of(statistics: &Statistics, ty: &LakeType) -> StatBounds {
    let range = match (statistics, ty) {
        (Statistics::Int64(values), LakeType::Int64) => values
            .min_opt()
            .zip(values.max_opt())
            .map(|(min, max)| (StatValue::Int(*min), StatValue::Int(*max))),
        (Statistics::ByteArray(values), LakeType::Varchar)
            if values.min_is_exact() && values.max_is_exact() =>
        {
            let text = |bytes: &ByteArray| Some(StatValue::Utf8(bytes.as_utf8().ok()?.to_owned()));
            let min = values.min_opt().and_then(text);
            min.zip(values.max_opt().and_then(text))
        }
        _ => None,
    };
    range.map_or(StatBounds::Unknown, |(min, max)| StatBounds::Range {
        min,
        max,
    })
}

/// Writes a small file with field ids.
pub(crate) fn sample(folder: &Path) -> Result<PathBuf> {
    let field = |name: &str, ty, id: &str| {
        Field::new(name, ty, true).with_metadata([("PARQUET:field_id".to_owned(), id.to_owned())])
    };
    let schema = Arc::new(Schema::new(vec![
        field("id", DataType::Int64, "1"),
        field("name", DataType::Utf8, "2"),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec![Some("one"), Some("two"), None])),
        ],
    )?;
    let path = folder.join("sample.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create_new(&path)?, schema, None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(path)
}
