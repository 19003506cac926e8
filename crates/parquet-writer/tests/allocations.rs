//! Appending rows allocates for growth only, never per row.

#![allow(unsafe_code, reason = "a counting allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet_writer::{
    ColumnBuilder, ColumnSpec, ColumnType, FileSchema, RowBatchBuilder, WriteError,
};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TYPES: [ColumnType; 19] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::UInt32,
    ColumnType::UInt64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal {
        precision: 20,
        scale: 2,
    },
    ColumnType::Utf8,
    ColumnType::Json,
    ColumnType::Binary,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
    ColumnType::Uuid,
    ColumnType::List,
    ColumnType::Struct,
];

/// Columns of every type: a list of text, and a struct with a list of structs.
fn columns() -> Vec<ColumnSpec> {
    let mut next_id = 0;
    let mut column = |name: &str, column_type| {
        next_id += 1;
        ColumnSpec::new(name, next_id, column_type)
    };
    TYPES
        .iter()
        .map(|&column_type| {
            let children = match column_type {
                ColumnType::List => vec![column("element", ColumnType::Utf8)],
                ColumnType::Struct => {
                    let pair = vec![
                        column("number", ColumnType::Int64),
                        column("text", ColumnType::Utf8),
                    ];
                    let element = column("element", ColumnType::Struct).with_children(pair);
                    vec![
                        column("id", ColumnType::UInt64),
                        column("pairs", ColumnType::List).with_children(vec![element]),
                    ]
                }
                _ => vec![],
            };
            column(&column_type.to_string(), column_type).with_children(children)
        })
        .collect()
}

fn append_row(batch: &mut RowBatchBuilder, number: i32) -> Result<(), WriteError> {
    for column in batch.columns_mut() {
        append_value(column, number)?;
    }
    batch.end_row()
}

fn append_value(column: &mut ColumnBuilder, number: i32) -> Result<(), WriteError> {
    if number % 7 == 0 {
        return column.append_null();
    }
    match column.column_type() {
        ColumnType::Boolean => column.append_bool(true)?,
        ColumnType::Int16 => column.append_i16(1)?,
        ColumnType::Int32 => column.append_i32(number)?,
        ColumnType::Int64 => column.append_i64(number.into())?,
        ColumnType::UInt32 => column.append_u32(1)?,
        ColumnType::UInt64 => column.append_u64(1)?,
        ColumnType::Float32 => column.append_f32(1.0)?,
        ColumnType::Float64 => column.append_f64(number.into())?,
        ColumnType::Decimal { .. } => column.append_decimal(number.into())?,
        ColumnType::Utf8 | ColumnType::Json => column.append_str("some text")?,
        ColumnType::Binary => column.append_bytes(b"some bytes")?,
        ColumnType::Date => column.append_date(number)?,
        ColumnType::Time => column.append_time(number.into())?,
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            column.append_timestamp(number.into())?;
        }
        ColumnType::Uuid => column.append_uuid([1; 16])?,
        ColumnType::List if column.element_mut()?.column_type() == ColumnType::Utf8 => {
            column.append_str_list(["a", "b", "c"])?;
        }
        ColumnType::List => {
            for element in 0..number % 4 {
                append_value(column.element_mut()?, number + element)?;
            }
            if number % 5 == 0 {
                column.discard();
            }
            column.append_list()?;
        }
        _ => {
            for (field, index) in column.fields_mut()?.iter_mut().zip(1..) {
                append_value(field, number + index)?;
            }
            column.append_struct()?;
        }
    }
    Ok(())
}

#[test]
fn rows_do_not_allocate_beyond_growth() -> Result<(), WriteError> {
    let schema = FileSchema::new(columns())?;
    let mut batch = RowBatchBuilder::new(&schema);
    for number in 0..10_000 {
        append_row(&mut batch, number)?;
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for number in 10_000..30_000 {
        append_row(&mut batch, number)?;
    }
    let grown = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // Two doublings of up to four buffers per column; those below the two nested ones are six more.
    assert!(
        (1..=2 * 4 * (TYPES.len() + 6)).contains(&grown),
        "{grown} allocations for 20,000 rows"
    );
    assert!(batch.memory_size() > 30_000);
    Ok(())
}
