//! Parquet files to be registered, with their statistics as typed values.

use std::fmt;

use crate::ColumnId;

/// A finished, uploaded Parquet file of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Path relative to the table's directory, without empty, `.` and `..` segments. Never reuse
    /// a path: readers cache files by path and take them for immutable.
    pub path: String,
    /// Number of rows; `count(*)` is answered from it.
    pub record_count: u64,
    /// Exact size of the object in bytes.
    pub file_size_bytes: u64,
    /// Length of the Parquet footer: the little-endian number in the four bytes that end four bytes
    /// before the end of the file.
    pub footer_size: u64,
    /// Statistics of the leaf columns, in any order; a leaf without any counts as unknown.
    pub columns: Vec<FileColumnStats>,
}

/// Statistics of one leaf column in one file. Readers trust them: values outside the bounds are not
/// found, so leave the bounds [`Unknown`](StatBounds::Unknown) rather than guess.
#[derive(Debug, Clone, PartialEq)]
pub struct FileColumnStats {
    /// The leaf's id; a list's is its element's.
    pub column: ColumnId,
    /// Compressed size of the column's chunks in bytes.
    pub column_size_bytes: u64,
    /// Number of values that are not NULL.
    pub value_count: u64,
    /// Number of NULLs. For an element of a list, NULL and empty lists count as one each.
    pub null_count: u64,
    /// For floating point columns, whether a value is NaN (`None` if not known); `None` for others.
    pub contains_nan: Option<bool>,
    /// Smallest and largest value that is neither NULL nor NaN.
    pub bounds: StatBounds,
}

/// The range of a column's values.
#[derive(Debug, Clone, PartialEq)]
pub enum StatBounds {
    /// There may be values, and nothing is known of them.
    Unknown,
    /// There is no value other than NULL and NaN.
    Empty,
    /// Exact smallest and largest value.
    Range {
        /// The smallest value.
        min: StatValue,
        /// The largest value.
        max: StatValue,
    },
}

/// A value in the statistics of a column. Its `Debug` does not show the value, which is a row's.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum StatValue {
    /// `boolean`
    Bool(bool),
    /// `int8` to `int64`, `uint8` to `uint64`
    Int(i64),
    /// `float32`, not NaN
    Float32(f32),
    /// `float64`, not NaN
    Float64(f64),
    /// `decimal`: the unscaled value
    Decimal {
        /// The value times ten to the power of `scale`.
        value: i128,
        /// Digits after the point.
        scale: u8,
    },
    /// `varchar` and `json`, ordered by bytes
    Utf8(String),
    /// `date`: days since 1970-01-01; plus and minus `i32::MAX` are the infinities
    Date(i32),
    /// `time`: microseconds since midnight
    Time(i64),
    /// `timestamp`: microseconds since 1970-01-01; plus and minus `i64::MAX` are the infinities
    Timestamp(i64),
    /// `timestamptz`: microseconds since 1970-01-01 UTC; infinities as for `Timestamp`
    TimestampTz(i64),
    /// `uuid`
    Uuid([u8; 16]),
}

impl fmt::Debug for StatValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "Bool(..)",
            Self::Int(_) => "Int(..)",
            Self::Float32(_) => "Float32(..)",
            Self::Float64(_) => "Float64(..)",
            Self::Decimal { .. } => "Decimal(..)",
            Self::Utf8(_) => "Utf8(..)",
            Self::Date(_) => "Date(..)",
            Self::Time(_) => "Time(..)",
            Self::Timestamp(_) => "Timestamp(..)",
            Self::TimestampTz(_) => "TimestampTz(..)",
            Self::Uuid(_) => "Uuid(..)",
        })
    }
}
