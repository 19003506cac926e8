//! Writes a file with one column of every type, and tells what is in it.
//!
//! ```text
//! cargo run -p parquet-writer --example write_file -- types.parquet
//! duckdb -c "from 'types.parquet'"
//! ```

use std::error::Error;
use std::fs::File;
use std::io::Write;

use parquet_writer::{
    ColumnSpec, ColumnType, EncodeOptions, FileEncoder, FileSchema, RowBatchBuilder,
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: write_file PATH")?;

    let schema = FileSchema::new(columns())?;
    let mut batch = RowBatchBuilder::new(&schema);
    append_values(&mut batch)?;
    append_nulls(&mut batch)?;
    append_extremes(&mut batch)?;

    // A row that turns out bad half way is dropped without a trace.
    if let Some(id) = batch.columns_mut().first_mut() {
        id.append_i64(4)?;
    }
    batch.abandon_row();

    let mut file = File::create(&path)?;
    let mut encoder = FileEncoder::new(&schema, &EncodeOptions::default())?;
    encoder.write(&batch.finish()?)?;
    // A real writer does this after every batch, so that row groups leave memory as they fill.
    if let Some(part) = encoder.take_encoded() {
        file.write_all(&part)?;
    }
    let (tail, encoded) = encoder.finish()?;
    file.write_all(&tail)?;

    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{path}: {} rows, {} bytes, {} of them footer",
        encoded.row_count, encoded.size_bytes, encoded.footer_size
    )?;
    for column in &encoded.columns {
        writeln!(
            out,
            "field {}: {} values, {} nulls, {} bytes",
            column.field_id, column.value_count, column.null_count, column.size_bytes
        )?;
    }
    Ok(())
}

fn columns() -> Vec<ColumnSpec> {
    let types = [
        ("id", ColumnType::Int64),
        ("is_open", ColumnType::Boolean),
        ("priority", ColumnType::Int16),
        ("quantity", ColumnType::Int32),
        ("source_oid", ColumnType::UInt32),
        ("weight", ColumnType::Float32),
        ("score", ColumnType::Float64),
        (
            "discount",
            ColumnType::Decimal {
                precision: 4,
                scale: 3,
            },
        ),
        (
            "price",
            ColumnType::Decimal {
                precision: 12,
                scale: 2,
            },
        ),
        (
            "total",
            ColumnType::Decimal {
                precision: 38,
                scale: 10,
            },
        ),
        ("note", ColumnType::Utf8),
        ("payload", ColumnType::Json),
        ("blob", ColumnType::Binary),
        ("due", ColumnType::Date),
        ("opens_at", ColumnType::Time),
        ("local_time", ColumnType::Timestamp),
        ("created_at", ColumnType::TimestampTz),
        ("key", ColumnType::Uuid),
        ("sequence", ColumnType::UInt64),
        ("tags", ColumnType::List),
        ("contact", ColumnType::Struct),
    ];
    types
        .into_iter()
        .zip(1..)
        .map(|((name, column_type), field_id)| ColumnSpec {
            nullable: field_id > 1,
            ..ColumnSpec::new(name, field_id, column_type).with_children(children(column_type))
        })
        .collect()
}

/// What is below a column: a list is one of text, a struct has a text and a list of numbers.
fn children(column_type: ColumnType) -> Vec<ColumnSpec> {
    match column_type {
        ColumnType::List => vec![ColumnSpec::new("element", 101, ColumnType::Utf8)],
        ColumnType::Struct => {
            vec![
                ColumnSpec::new("name", 102, ColumnType::Utf8),
                ColumnSpec::new("visits", 103, ColumnType::List)
                    .with_children(vec![ColumnSpec::new("element", 104, ColumnType::Int32)]),
            ]
        }
        _ => Vec::new(),
    }
}

fn append_values(batch: &mut RowBatchBuilder) -> Result<(), Box<dyn Error>> {
    let [
        id,
        is_open,
        priority,
        quantity,
        source_oid,
        weight,
        score,
        discount,
        price,
        total,
        note,
        payload,
        blob,
        due,
        opens_at,
        local_time,
        created_at,
        key,
        sequence,
        tags,
        contact,
    ] = batch.columns_mut()
    else {
        return Err("the schema has other columns".into());
    };
    id.append_i64(1)?;
    is_open.append_bool(true)?;
    priority.append_i16(-3)?;
    quantity.append_i32(70_000)?;
    source_oid.append_u32(u32::MAX)?;
    weight.append_f32(0.5)?;
    score.append_f64(-1e300)?;
    discount.append_decimal(-1_500)?; // -1.500
    price.append_decimal(199_999)?; // 1999.99
    total.append_decimal(-123_400_000_000)?; // -12.3400000000
    note.append_str("grüße")?;
    payload.append_str(r#"{"a": [1, null]}"#)?;
    blob.append_bytes(&[0x00, 0xff])?;
    due.append_date(19_782)?; // 2024-02-29
    opens_at.append_time(86_399_999_999)?; // 23:59:59.999999
    local_time.append_timestamp(1_717_243_200_123_456)?; // 2024-06-01 12:00:00.123456
    created_at.append_timestamp(1_717_243_200_000_000)?; // 2024-06-01 12:00:00+00
    key.append_uuid(0x0190_f7a2_0000_7000_8000_0000_0000_002a_u128.to_be_bytes())?;
    sequence.append_u64(u64::MAX)?;
    tags.append_str_list(["red", "", "blue"])?;
    let [name, visits] = contact.fields_mut()? else {
        return Err("the struct has other fields".into());
    };
    name.append_str("ada")?;
    for visit in [3, 1] {
        visits.element_mut()?.append_i32(visit)?;
    }
    visits.element_mut()?.append_null()?;
    visits.append_list()?; // [3, 1, null]
    contact.append_struct()?;
    batch.end_row()?;
    Ok(())
}

fn append_nulls(batch: &mut RowBatchBuilder) -> Result<(), Box<dyn Error>> {
    let (id, others) = batch.columns_mut().split_first_mut().ok_or("no columns")?;
    id.append_i64(2)?;
    for column in others {
        column.append_null()?;
    }
    batch.end_row()?;
    Ok(())
}

/// The ends of what the types can hold, infinities and NaN among them.
fn append_extremes(batch: &mut RowBatchBuilder) -> Result<(), Box<dyn Error>> {
    for column in batch.columns_mut() {
        match column.column_type() {
            ColumnType::Boolean => column.append_bool(false)?,
            ColumnType::Int16 => column.append_i16(i16::MIN)?,
            ColumnType::Int32 => column.append_i32(i32::MIN)?,
            ColumnType::Int64 => column.append_i64(i64::MAX)?,
            ColumnType::UInt32 => column.append_u32(0)?,
            ColumnType::Float32 => column.append_f32(f32::NEG_INFINITY)?,
            ColumnType::Float64 => column.append_f64(f64::NAN)?,
            ColumnType::Decimal { precision, .. } => {
                column.append_decimal(10_i128.pow(u32::from(precision)) - 1)?;
            }
            ColumnType::Utf8 => column.append_str("")?,
            ColumnType::Json => column.append_str("null")?,
            ColumnType::Binary => column.append_bytes(b"")?,
            ColumnType::Date => column.append_date(-i32::MAX)?,
            ColumnType::Time => column.append_time(86_400_000_000)?,
            ColumnType::Timestamp => column.append_timestamp(i64::MAX)?,
            ColumnType::TimestampTz => column.append_timestamp(-i64::MAX)?,
            ColumnType::Uuid => column.append_uuid([0xff; 16])?,
            ColumnType::UInt64 => column.append_u64(0)?,
            ColumnType::List => column.append_list()?, // empty
            ColumnType::Struct => {
                for field in column.fields_mut()? {
                    field.append_null()?;
                }
                column.append_struct()?;
            }
            other => return Err(format!("no value for {other}").into()),
        }
    }
    batch.end_row()?;
    Ok(())
}
