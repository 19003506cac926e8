//! Typed appending to one column.

use std::fmt;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType};

use crate::error::WriteError;
use crate::schema::{ColumnSpec, ColumnType};
use crate::values::Values;

/// Microseconds of 24:00:00, the last time of day that Postgres and DuckDB know.
const END_OF_DAY: i64 = 86_400_000_000;

/// Collects the values of one column of a [`RowBatchBuilder`](crate::RowBatchBuilder).
///
/// Every method adds one value and allocates only when the column's memory has to grow. A value that
/// is refused leaves the column as it was. After [`WriteError::ColumnFull`] the row fits the next
/// batch: abandon it, take the batch, append it again.
pub struct ColumnBuilder {
    name: Arc<str>,
    column_type: ColumnType,
    data_type: DataType,
    nullable: bool,
    validity: NullBufferBuilder,
    values: Values,
}

macro_rules! append_number {
    ($method:ident, $variant:ident, $native:ty, $given:literal) => {
        #[doc = concat!("Adds a value to a column of type [`ColumnType::", stringify!($variant), "`].")]
        #[inline]
        pub fn $method(&mut self, value: $native) -> Result<(), WriteError> {
            let Values::$variant(values) = &mut self.values else {
                return Err(self.wrong_type($given));
            };
            values.push(value);
            self.validity.append_non_null();
            Ok(())
        }
    };
}

impl ColumnBuilder {
    pub(crate) fn new(spec: &ColumnSpec, data_type: DataType) -> Self {
        Self {
            name: spec.name.as_str().into(),
            column_type: spec.column_type,
            nullable: spec.nullable,
            validity: NullBufferBuilder::new(0),
            values: Values::new(spec.column_type),
            data_type,
        }
    }

    /// The column's type.
    pub fn column_type(&self) -> ColumnType {
        self.column_type
    }

    /// Whether the column takes nulls.
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }

    /// Values so far, nulls included.
    #[inline]
    pub fn len(&self) -> usize {
        self.validity.len()
    }

    /// Whether there is no value yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a null.
    ///
    /// # Errors
    /// [`WriteError::NullInRequiredColumn`] when the column is not nullable.
    #[inline]
    pub fn append_null(&mut self) -> Result<(), WriteError> {
        if !self.nullable {
            return Err(WriteError::NullInRequiredColumn {
                column: Arc::clone(&self.name),
            });
        }
        self.values.push_default();
        self.validity.append_null();
        Ok(())
    }

    /// Adds a value to a column of type [`ColumnType::Boolean`].
    #[inline]
    pub fn append_bool(&mut self, value: bool) -> Result<(), WriteError> {
        let Values::Boolean(values) = &mut self.values else {
            return Err(self.wrong_type("a boolean"));
        };
        values.append(value);
        self.validity.append_non_null();
        Ok(())
    }

    append_number!(append_i16, Int16, i16, "an int16");
    append_number!(append_i32, Int32, i32, "an int32");
    append_number!(append_i64, Int64, i64, "an int64");
    append_number!(append_u32, UInt32, u32, "a uint32");
    append_number!(append_f32, Float32, f32, "a float32");
    append_number!(append_f64, Float64, f64, "a float64");

    /// Adds a decimal: the value times ten to the power of the column's scale.
    ///
    /// # Errors
    /// [`WriteError::ValueOutOfRange`] when it has more digits than the column's precision.
    #[inline]
    pub fn append_decimal(&mut self, unscaled: i128) -> Result<(), WriteError> {
        let Values::Decimal(values) = &mut self.values else {
            return Err(self.wrong_type("a decimal"));
        };
        if !values.push(unscaled) {
            return Err(self.out_of_range());
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds text to a column of type [`ColumnType::Utf8`] or [`ColumnType::Json`].
    ///
    /// # Errors
    /// [`WriteError::ColumnFull`] when the batch would hold 2 GiB of the column.
    #[inline]
    pub fn append_str(&mut self, value: &str) -> Result<(), WriteError> {
        let Values::Text(values) = &mut self.values else {
            return Err(self.wrong_type("text"));
        };
        if !values.push(value.as_bytes()) {
            return Err(self.full());
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds bytes to a column of type [`ColumnType::Binary`].
    ///
    /// # Errors
    /// [`WriteError::ColumnFull`] when the batch would hold 2 GiB of the column.
    #[inline]
    pub fn append_bytes(&mut self, value: &[u8]) -> Result<(), WriteError> {
        let Values::Binary(values) = &mut self.values else {
            return Err(self.wrong_type("bytes"));
        };
        if !values.push(value) {
            return Err(self.full());
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds a value to a column of type [`ColumnType::Uuid`], most significant byte first.
    #[inline]
    pub fn append_uuid(&mut self, value: [u8; 16]) -> Result<(), WriteError> {
        let Values::Uuid(values) = &mut self.values else {
            return Err(self.wrong_type("a uuid"));
        };
        values.push(value);
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds a date in days since 1970-01-01; `±i32::MAX` are the infinities.
    ///
    /// # Errors
    /// [`WriteError::ValueOutOfRange`] for `i32::MIN`, which readers take for no date.
    #[inline]
    pub fn append_date(&mut self, days: i32) -> Result<(), WriteError> {
        let Values::Date(values) = &mut self.values else {
            return Err(self.wrong_type("a date"));
        };
        if days == i32::MIN {
            return Err(self.out_of_range());
        }
        values.push(days);
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds a time of day in microseconds since midnight.
    ///
    /// # Errors
    /// [`WriteError::ValueOutOfRange`] for anything outside 00:00:00 to 24:00:00.
    #[inline]
    pub fn append_time(&mut self, micros: i64) -> Result<(), WriteError> {
        let Values::Time(values) = &mut self.values else {
            return Err(self.wrong_type("a time"));
        };
        if !(0..=END_OF_DAY).contains(&micros) {
            return Err(self.out_of_range());
        }
        values.push(micros);
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds a timestamp to a column of type [`ColumnType::Timestamp`] or [`ColumnType::TimestampTz`]
    /// in microseconds since 1970-01-01 00:00:00 (UTC); `±i64::MAX` are the infinities.
    ///
    /// # Errors
    /// [`WriteError::ValueOutOfRange`] for `i64::MIN`, on which DuckDB fails.
    #[inline]
    pub fn append_timestamp(&mut self, micros: i64) -> Result<(), WriteError> {
        let Values::Timestamp(values) = &mut self.values else {
            return Err(self.wrong_type("a timestamp"));
        };
        if micros == i64::MIN {
            return Err(self.out_of_range());
        }
        values.push(micros);
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds a list to a column of type [`ColumnType::ListUtf8`].
    ///
    /// # Errors
    /// [`WriteError::ColumnFull`] when the batch would hold 2 GiB of the column.
    #[inline]
    pub fn append_str_list<'a>(
        &mut self,
        elements: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), WriteError> {
        let Values::TextList(values) = &mut self.values else {
            return Err(self.wrong_type("a list of text"));
        };
        if !values.push(elements) {
            return Err(self.full());
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Forgets all values after the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.validity.truncate(rows);
    }

    /// Bytes of the values and of their validity; constant time.
    #[inline]
    pub(crate) fn memory_size(&self) -> usize {
        self.values.byte_size() + self.len().div_ceil(8)
    }

    /// Moves the values out; the builder starts again from nothing.
    pub(crate) fn take_array(&mut self) -> Result<ArrayRef, ArrowError> {
        let values = std::mem::replace(&mut self.values, Values::new(self.column_type));
        values.into_array(&self.data_type, self.validity.finish())
    }

    #[cold]
    pub(crate) fn incomplete(&self, expected: usize) -> WriteError {
        WriteError::IncompleteRow {
            column: Arc::clone(&self.name),
            expected,
            actual: self.len(),
        }
    }

    #[cold]
    fn wrong_type(&self, given: &'static str) -> WriteError {
        WriteError::WrongType {
            column: Arc::clone(&self.name),
            column_type: self.column_type,
            given,
        }
    }

    #[cold]
    fn out_of_range(&self) -> WriteError {
        WriteError::ValueOutOfRange {
            column: Arc::clone(&self.name),
            column_type: self.column_type,
        }
    }

    #[cold]
    fn full(&self) -> WriteError {
        WriteError::ColumnFull {
            column: Arc::clone(&self.name),
        }
    }
}

impl fmt::Debug for ColumnBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColumnBuilder")
            .field("name", &self.name)
            .field("column_type", &self.column_type)
            .field("nullable", &self.nullable)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
