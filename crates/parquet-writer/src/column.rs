//! Typed appending to one column.

use std::fmt;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType};

use crate::error::WriteError;
use crate::nested::{ListValues, StructValues};
use crate::schema::{ColumnSpec, ColumnType, child_path};
use crate::values::Values;

/// Microseconds of 24:00:00, the last time of day that Postgres and DuckDB know.
const END_OF_DAY: i64 = 86_400_000_000;

/// Collects the values of one column of a [`RowBatchBuilder`](crate::RowBatchBuilder), or of a node
/// below one.
///
/// Every `append` adds one value and allocates only when the column's memory has to grow. A value that
/// is refused leaves the column as it was. After [`WriteError::ColumnFull`] the row fits the next
/// batch: abandon it, take the batch, append it again.
///
/// A list is appended by its elements, through [`element_mut`](Self::element_mut), and then
/// [`append_list`](Self::append_list); a struct by one value for each of
/// [`fields_mut`](Self::fields_mut), and then [`append_struct`](Self::append_struct). What is below
/// may be nested itself. [`discard`](Self::discard) drops a nested value that cannot be ended.
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
    /// An empty builder; errors name it `path`.
    pub(crate) fn new(path: &str, spec: &ColumnSpec, data_type: &DataType) -> Self {
        let fields = match data_type {
            DataType::List(element) => std::slice::from_ref(element),
            DataType::Struct(fields) => fields,
            _ => &[],
        };
        let mut children =
            spec.children.iter().zip(fields).map(|(child, field)| {
                Self::new(&child_path(path, child), child, field.data_type())
            });
        let values = match (spec.column_type, children.next()) {
            (ColumnType::List, Some(element)) => Values::List(ListValues::new(element)),
            (_, Some(first)) => {
                let fields = std::iter::once(first).chain(children);
                Values::Struct(StructValues::new(fields.collect()))
            }
            (column_type, None) => Values::new(column_type),
        };
        Self {
            name: path.into(),
            column_type: spec.column_type,
            data_type: data_type.clone(),
            nullable: spec.nullable,
            validity: NullBufferBuilder::new(0),
            values,
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

    /// Adds a null. The fields of a struct get one, too, whether or not they are nullable.
    ///
    /// # Errors
    /// [`WriteError::NullInRequiredColumn`] when the column is not nullable,
    /// [`WriteError::IncompleteRow`] when something was appended below the column that is no part of a
    /// value yet.
    #[inline]
    pub fn append_null(&mut self) -> Result<(), WriteError> {
        if !self.nullable {
            return Err(WriteError::NullInRequiredColumn {
                column: Arc::clone(&self.name),
            });
        }
        self.values.check_complete(self.len())?;
        self.push_null();
        Ok(())
    }

    /// Adds a null, also to a required column: allowed below a null only, where nobody looks.
    #[inline]
    pub(crate) fn push_null(&mut self) {
        self.values.push_default();
        self.validity.append_null();
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
    append_number!(append_u64, UInt64, u64, "a uint64");
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

    /// The elements of a column of type [`ColumnType::List`], of this list and all before it: what is
    /// appended here is part of the list that [`append_list`](Self::append_list) adds next.
    ///
    /// # Errors
    /// [`WriteError::WrongType`] when the column is no list.
    #[inline]
    pub fn element_mut(&mut self) -> Result<&mut ColumnBuilder, WriteError> {
        match &mut self.values {
            Values::List(lists) => Ok(lists.element_mut()),
            _ => Err(wrong_type(&self.name, self.column_type, "a list")),
        }
    }

    /// Adds a list to a column of type [`ColumnType::List`], of the elements appended since the last
    /// value; without any, an empty list.
    ///
    /// # Errors
    /// [`WriteError::IncompleteRow`] when an element was begun and not ended,
    /// [`WriteError::ColumnFull`] when the lists of the batch would have 2^31 elements. The elements
    /// stay, until they are discarded.
    #[inline]
    pub fn append_list(&mut self) -> Result<(), WriteError> {
        let Values::List(lists) = &mut self.values else {
            return Err(self.wrong_type("a list"));
        };
        if !lists.end_list()? {
            return Err(self.full());
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// Adds a list to a column of type [`ColumnType::List`] whose element is [`ColumnType::Utf8`].
    ///
    /// # Errors
    /// As [`append_str`](Self::append_str) and [`append_list`](Self::append_list), but no element
    /// stays. [`WriteError::IncompleteRow`] when there are elements already.
    #[inline]
    pub fn append_str_list<'a>(
        &mut self,
        elements: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), WriteError> {
        let rows = self.len();
        self.values.check_complete(rows)?;
        let element = match &mut self.values {
            Values::List(lists) => lists.element_mut(),
            _ => return Err(self.wrong_type("a list of text")),
        };
        if element.column_type != ColumnType::Utf8 {
            return Err(self.wrong_type("a list of text"));
        }
        let appended = elements
            .into_iter()
            .try_for_each(|text| element.append_str(text))
            .and_then(|()| self.append_list());
        if appended.is_err() {
            self.discard();
        }
        appended
    }

    /// The fields of a column of type [`ColumnType::Struct`] in the order of the schema: one value
    /// appended to each is the struct that [`append_struct`](Self::append_struct) adds next.
    ///
    /// # Errors
    /// [`WriteError::WrongType`] when the column is no struct.
    #[inline]
    pub fn fields_mut(&mut self) -> Result<&mut [ColumnBuilder], WriteError> {
        match &mut self.values {
            Values::Struct(structs) => Ok(structs.fields_mut()),
            _ => Err(wrong_type(&self.name, self.column_type, "a struct")),
        }
    }

    /// Adds a struct to a column of type [`ColumnType::Struct`], of the values appended to its fields.
    ///
    /// # Errors
    /// [`WriteError::IncompleteRow`] when a field did not get exactly one value since the last struct.
    /// The values stay, until they are discarded.
    #[inline]
    pub fn append_struct(&mut self) -> Result<(), WriteError> {
        let rows = self.len() + 1;
        let Values::Struct(structs) = &self.values else {
            return Err(self.wrong_type("a struct"));
        };
        structs.check_complete(rows)?;
        self.validity.append_non_null();
        Ok(())
    }

    /// Forgets what was appended below the column, at any depth, since its last value: after an error
    /// in the middle of a list or struct, the next value can be appended.
    pub fn discard(&mut self) {
        self.values.truncate(self.len());
    }

    /// That the column has this many values, and nothing below it that is no part of one of them.
    ///
    /// # Errors
    /// [`WriteError::IncompleteRow`] names the first node where it is otherwise.
    #[inline]
    pub(crate) fn check_complete(&self, rows: usize) -> Result<(), WriteError> {
        if self.len() != rows {
            return Err(self.incomplete(rows));
        }
        self.values.check_complete(rows)
    }

    /// Forgets all values after the first `rows`, and what was appended below since.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.validity.truncate(rows);
    }

    /// Bytes of the values and of their validity, in time that depends on the schema only.
    #[inline]
    pub(crate) fn memory_size(&self) -> usize {
        self.values.byte_size() + self.len().div_ceil(8)
    }

    /// Moves the values out; the builder starts again from nothing.
    pub(crate) fn take_array(&mut self) -> Result<ArrayRef, ArrowError> {
        self.values
            .take_array(&self.data_type, self.validity.finish())
    }

    #[cold]
    fn incomplete(&self, expected: usize) -> WriteError {
        WriteError::IncompleteRow {
            column: Arc::clone(&self.name),
            expected,
            actual: self.len(),
        }
    }

    #[cold]
    fn wrong_type(&self, given: &'static str) -> WriteError {
        wrong_type(&self.name, self.column_type, given)
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

#[cold]
fn wrong_type(column: &Arc<str>, column_type: ColumnType, given: &'static str) -> WriteError {
    WriteError::WrongType {
        column: Arc::clone(column),
        column_type,
        given,
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
