//! Exact statistics of the columns of a file.

use std::fmt;

/// Statistics of one leaf column over a whole file; all exact.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnStats {
    /// Field id of the leaf: of the column itself, unless it is a list or struct.
    pub field_id: i32,
    /// Values that are not null.
    pub value_count: u64,
    /// Places without a value, as DuckLake counts them: nulls of the leaf, null structs above it, and
    /// null and empty lists above it.
    pub null_count: u64,
    /// Whether there is a NaN; `None` for types that have none.
    pub contains_nan: Option<bool>,
    /// Compressed bytes of the column's chunks, page headers included.
    pub size_bytes: u64,
    /// Smallest and largest value.
    pub bounds: Bounds,
}

/// Range of the values of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Bounds {
    /// There are values, but their range is not told: the type has none (binary), or the smallest
    /// or largest string is too long or contains a NUL character.
    Unknown,
    /// There is no value that could bound: every value is null or NaN.
    Empty,
    /// Every value that is neither null nor NaN lies within, and both ends occur.
    Range {
        /// The smallest value.
        min: StatValue,
        /// The largest value.
        max: StatValue,
    },
}

/// One end of a [`Bounds::Range`]. `Debug` shows the type only: bounds are values of rows.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum StatValue {
    /// Of a boolean column, false before true.
    Bool(bool),
    /// Of an integer column, but for unsigned 64-bit integers.
    Int(i64),
    /// Of an unsigned 64-bit integer column.
    UInt(u64),
    /// Of a 32-bit float column. `-0.0` counts as smaller than `+0.0`.
    Float32(f32),
    /// Of a 64-bit float column. `-0.0` counts as smaller than `+0.0`.
    Float64(f64),
    /// Of a decimal column: `value` divided by ten to the power of `scale`.
    Decimal {
        /// The unscaled value.
        value: i128,
        /// Digits after the point.
        scale: u8,
    },
    /// Of a string or JSON column, ordered by bytes.
    Utf8(String),
    /// Days since 1970-01-01; `±i32::MAX` are the infinities.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00; `±i64::MAX` are the infinities.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00:00 UTC; `±i64::MAX` are the infinities.
    TimestampTz(i64),
    /// Of a UUID column, ordered by bytes.
    Uuid([u8; 16]),
}

impl fmt::Debug for StatValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "Bool(_)",
            Self::Int(_) => "Int(_)",
            Self::UInt(_) => "UInt(_)",
            Self::Float32(_) => "Float32(_)",
            Self::Float64(_) => "Float64(_)",
            Self::Decimal { .. } => "Decimal(_)",
            Self::Utf8(_) => "Utf8(_)",
            Self::Date(_) => "Date(_)",
            Self::Time(_) => "Time(_)",
            Self::Timestamp(_) => "Timestamp(_)",
            Self::TimestampTz(_) => "TimestampTz(_)",
            Self::Uuid(_) => "Uuid(_)",
        })
    }
}
