//! Growing storage of one column's values, which can be cut back to an earlier length.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use crate::error::WriteError;
use crate::nested::{ListValues, StructValues};
use crate::schema::ColumnType;

/// Bytes of one text or binary column in a batch. Tests reach a smaller limit.
const MAX_BYTES: usize = if cfg!(test) { 1 << 26 } else { (1 << 31) - 1 };

/// Bytes of a UUID.
const UUID_BYTES: usize = 16;

/// The values of a column, one per row; nulls hold a default.
pub(crate) enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(DecimalValues),
    Text(ByteValues),
    Binary(ByteValues),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Uuid(Vec<[u8; UUID_BYTES]>),
    List(ListValues),
    Struct(StructValues),
}

impl Values {
    /// Empty storage for a column without children.
    pub(crate) fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            ColumnType::Int16 => Self::Int16(Vec::new()),
            ColumnType::Int32 => Self::Int32(Vec::new()),
            ColumnType::Int64 => Self::Int64(Vec::new()),
            ColumnType::UInt32 => Self::UInt32(Vec::new()),
            ColumnType::UInt64 => Self::UInt64(Vec::new()),
            ColumnType::Float32 => Self::Float32(Vec::new()),
            ColumnType::Float64 => Self::Float64(Vec::new()),
            ColumnType::Decimal { precision, .. } => Self::Decimal(DecimalValues::new(precision)),
            ColumnType::Utf8 | ColumnType::Json => Self::Text(ByteValues::new()),
            ColumnType::Binary => Self::Binary(ByteValues::new()),
            ColumnType::Date => Self::Date(Vec::new()),
            ColumnType::Time => Self::Time(Vec::new()),
            ColumnType::Timestamp | ColumnType::TimestampTz => Self::Timestamp(Vec::new()),
            ColumnType::Uuid => Self::Uuid(Vec::new()),
            // A schema has neither without children; should it, Arrow refuses the array.
            ColumnType::List | ColumnType::Struct => Self::Struct(StructValues::new(Vec::new())),
        }
    }

    /// Adds the value that stands for a null.
    pub(crate) fn push_default(&mut self) {
        match self {
            Self::Boolean(values) => values.append(false),
            Self::Int16(values) => values.push(0),
            Self::Int32(values) | Self::Date(values) => values.push(0),
            Self::Int64(values) | Self::Time(values) | Self::Timestamp(values) => values.push(0),
            Self::UInt32(values) => values.push(0),
            Self::UInt64(values) => values.push(0),
            Self::Float32(values) => values.push(0.0),
            Self::Float64(values) => values.push(0.0),
            Self::Decimal(values) => values.values.push(0),
            Self::Text(values) | Self::Binary(values) => values.push_empty(),
            Self::Uuid(values) => values.push([0; UUID_BYTES]),
            Self::List(values) => values.push_empty(),
            Self::Struct(values) => values.push_nulls(),
        }
    }

    /// That nothing lies below the first `rows` values that is no part of one of them.
    #[inline]
    pub(crate) fn check_complete(&self, rows: usize) -> Result<(), WriteError> {
        match self {
            Self::List(values) => values.check_complete(),
            Self::Struct(values) => values.check_complete(rows),
            _ => Ok(()),
        }
    }

    /// Forgets all values after the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        match self {
            Self::Boolean(values) => values.truncate(rows),
            Self::Int16(values) => values.truncate(rows),
            Self::Int32(values) | Self::Date(values) => values.truncate(rows),
            Self::Int64(values) | Self::Time(values) | Self::Timestamp(values) => {
                values.truncate(rows);
            }
            Self::UInt32(values) => values.truncate(rows),
            Self::UInt64(values) => values.truncate(rows),
            Self::Float32(values) => values.truncate(rows),
            Self::Float64(values) => values.truncate(rows),
            Self::Decimal(values) => values.values.truncate(rows),
            Self::Text(values) | Self::Binary(values) => values.truncate(rows),
            Self::Uuid(values) => values.truncate(rows),
            Self::List(values) => values.truncate(rows),
            Self::Struct(values) => values.truncate(rows),
        }
    }

    /// Bytes of the values, in time that depends on the schema only.
    pub(crate) fn byte_size(&self) -> usize {
        match self {
            Self::Boolean(values) => values.len().div_ceil(8),
            Self::Int16(values) => size_of_val(values.as_slice()),
            Self::Int32(values) | Self::Date(values) => size_of_val(values.as_slice()),
            Self::Int64(values) | Self::Time(values) | Self::Timestamp(values) => {
                size_of_val(values.as_slice())
            }
            Self::UInt32(values) => size_of_val(values.as_slice()),
            Self::UInt64(values) => size_of_val(values.as_slice()),
            Self::Float32(values) => size_of_val(values.as_slice()),
            Self::Float64(values) => size_of_val(values.as_slice()),
            Self::Decimal(values) => size_of_val(values.values.as_slice()),
            Self::Text(values) | Self::Binary(values) => values.byte_size(),
            Self::Uuid(values) => size_of_val(values.as_slice()),
            Self::List(values) => values.byte_size(),
            Self::Struct(values) => values.byte_size(),
        }
    }

    /// Moves the values out as an Arrow array of `data_type`; numbers and bytes are not copied.
    pub(crate) fn take_array(
        &mut self,
        data_type: &DataType,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int16(values) => primitive::<Int16Type>(values, data_type, nulls)?,
            Self::Int32(values) => primitive::<Int32Type>(values, data_type, nulls)?,
            Self::Int64(values) => primitive::<Int64Type>(values, data_type, nulls)?,
            Self::UInt32(values) => primitive::<UInt32Type>(values, data_type, nulls)?,
            Self::UInt64(values) => primitive::<UInt64Type>(values, data_type, nulls)?,
            Self::Float32(values) => primitive::<Float32Type>(values, data_type, nulls)?,
            Self::Float64(values) => primitive::<Float64Type>(values, data_type, nulls)?,
            Self::Decimal(values) => {
                primitive::<Decimal128Type>(&mut values.values, data_type, nulls)?
            }
            Self::Text(values) => {
                let (offsets, bytes) = values.take_parts();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
            Self::Binary(values) => {
                let (offsets, bytes) = values.take_parts();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
            }
            Self::Date(values) => primitive::<Date32Type>(values, data_type, nulls)?,
            Self::Time(values) => primitive::<Time64MicrosecondType>(values, data_type, nulls)?,
            Self::Timestamp(values) => {
                primitive::<TimestampMicrosecondType>(values, data_type, nulls)?
            }
            Self::Uuid(values) => {
                let rows = values.len();
                let bytes = Buffer::from_vec(std::mem::take(values).into_flattened());
                Arc::new(FixedSizeBinaryArray::try_new_with_len(
                    16, bytes, nulls, rows,
                )?)
            }
            Self::List(values) => values.take_array(data_type, nulls)?,
            Self::Struct(values) => values.take_array(data_type, nulls)?,
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    data_type: &DataType,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError>
where
    ScalarBuffer<T::Native>: From<Vec<T::Native>>,
{
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(std::mem::take(values)), nulls)?;
    if !PrimitiveArray::<T>::is_compatible(data_type) {
        return Err(ArrowError::SchemaError(format!(
            "{data_type} is stored otherwise"
        )));
    }
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

/// Unscaled decimals below a power of ten.
pub(crate) struct DecimalValues {
    values: Vec<i128>,
    limit: u128,
}

impl DecimalValues {
    fn new(precision: u8) -> Self {
        Self {
            values: Vec::new(),
            limit: 10_u128.saturating_pow(u32::from(precision)),
        }
    }

    /// Adds a value; false when it has too many digits.
    #[inline]
    pub(crate) fn push(&mut self, value: i128) -> bool {
        // A wider value would be cut to the physical type without a word.
        let fits = value.unsigned_abs() < self.limit;
        if fits {
            self.values.push(value);
        }
        fits
    }
}

/// Byte strings back to back, with 32-bit offsets.
pub(crate) struct ByteValues {
    /// One more than there are values; starts with 0.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl ByteValues {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
        }
    }

    /// Adds a value; false when the bytes would pass 2 GiB.
    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) -> bool {
        let end = self.bytes.len().saturating_add(value.len());
        let Some(end) = i32::try_from(end).ok().filter(|_| end <= MAX_BYTES) else {
            return false;
        };
        self.bytes.extend_from_slice(value);
        self.offsets.push(end);
        true
    }

    fn push_empty(&mut self) {
        self.offsets
            .push(self.offsets.last().copied().unwrap_or_default());
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows.saturating_add(1));
        let end = self.offsets.last().copied().unwrap_or_default();
        self.bytes
            .truncate(usize::try_from(end).unwrap_or_default());
    }

    fn byte_size(&self) -> usize {
        self.bytes.len() + size_of_val(self.offsets.as_slice())
    }

    fn take_parts(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let taken = std::mem::replace(self, Self::new());
        (
            OffsetBuffer::new(ScalarBuffer::from(taken.offsets)),
            Buffer::from_vec(taken.bytes),
        )
    }
}
