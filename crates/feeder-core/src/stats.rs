//! Statistics from the file's writer to the lake's catalog: the same values, each crate's own type.

use ducklake_catalog as lake;
use parquet_writer as file;

/// Maps the statistics of one leaf column.
pub(crate) fn to_lake(stats: file::ColumnStats) -> lake::FileColumnStats {
    lake::FileColumnStats {
        column: lake::ColumnId::new(i64::from(stats.field_id)),
        column_size_bytes: stats.size_bytes,
        value_count: stats.value_count,
        null_count: stats.null_count,
        contains_nan: stats.contains_nan,
        bounds: match stats.bounds {
            file::Bounds::Unknown => lake::StatBounds::Unknown,
            file::Bounds::Empty => lake::StatBounds::Empty,
            file::Bounds::Range { min, max } => match (value(min), value(max)) {
                (Some(min), Some(max)) => lake::StatBounds::Range { min, max },
                _ => lake::StatBounds::Unknown,
            },
        },
    }
}

/// `None` for a kind of value that the catalog crate does not know: unknown bounds are always safe.
fn value(value: file::StatValue) -> Option<lake::StatValue> {
    Some(match value {
        file::StatValue::Bool(v) => lake::StatValue::Bool(v),
        file::StatValue::Int(v) => lake::StatValue::Int(v),
        file::StatValue::Float32(v) => lake::StatValue::Float32(v),
        file::StatValue::Float64(v) => lake::StatValue::Float64(v),
        file::StatValue::Decimal { value, scale } => lake::StatValue::Decimal { value, scale },
        file::StatValue::Utf8(v) => lake::StatValue::Utf8(v),
        file::StatValue::Date(v) => lake::StatValue::Date(v),
        file::StatValue::Time(v) => lake::StatValue::Time(v),
        file::StatValue::Timestamp(v) => lake::StatValue::Timestamp(v),
        file::StatValue::TimestampTz(v) => lake::StatValue::TimestampTz(v),
        file::StatValue::Uuid(v) => lake::StatValue::Uuid(v),
        _ => return None,
    })
}
