//! Appending rows allocates for growth only, never per row.

#![allow(unsafe_code, reason = "a counting allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet_writer::{ColumnSpec, ColumnType, FileSchema, RowBatchBuilder, WriteError};

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

const TYPES: [ColumnType; 17] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::UInt32,
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
    ColumnType::ListUtf8,
];

fn append_row(batch: &mut RowBatchBuilder, number: i32) -> Result<(), WriteError> {
    for column in batch.columns_mut() {
        if number % 7 == 0 {
            column.append_null()?;
            continue;
        }
        match column.column_type() {
            ColumnType::Boolean => column.append_bool(true)?,
            ColumnType::Int16 => column.append_i16(1)?,
            ColumnType::Int32 => column.append_i32(number)?,
            ColumnType::Int64 => column.append_i64(number.into())?,
            ColumnType::UInt32 => column.append_u32(1)?,
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
            _ => column.append_str_list(["a", "b", "c"])?,
        }
    }
    batch.end_row()
}

#[test]
fn rows_do_not_allocate_beyond_growth() -> Result<(), WriteError> {
    let columns = TYPES
        .iter()
        .zip(1..)
        .map(|(&column_type, field_id)| ColumnSpec {
            name: column_type.to_string(),
            field_id,
            column_type,
            nullable: true,
            element_field_id: (column_type == ColumnType::ListUtf8).then_some(100),
        });
    let schema = FileSchema::new(columns.collect())?;
    let mut batch = RowBatchBuilder::new(&schema);
    for number in 0..10_000 {
        append_row(&mut batch, number)?;
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for number in 10_000..30_000 {
        append_row(&mut batch, number)?;
    }
    let grown = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // Two doublings of up to four buffers per column.
    assert!(
        (1..=2 * 4 * TYPES.len()).contains(&grown),
        "{grown} allocations for 20,000 rows"
    );
    assert!(batch.memory_size() > 30_000);
    Ok(())
}
