//! Growing storage of lists and structs: what they hold lies in builders of their own.

use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use crate::column::ColumnBuilder;
use crate::error::WriteError;

/// Lists, by where each ends among the elements of all.
pub(crate) struct ListValues {
    /// One more than there are lists; starts with 0.
    offsets: Vec<i32>,
    element: Box<ColumnBuilder>,
}

impl ListValues {
    pub(crate) fn new(element: ColumnBuilder) -> Self {
        Self {
            offsets: vec![0],
            element: Box::new(element),
        }
    }

    #[inline]
    pub(crate) fn element_mut(&mut self) -> &mut ColumnBuilder {
        &mut self.element
    }

    /// Adds a list of the elements behind the last one; false, and nothing added, when there are more
    /// than 32-bit offsets can tell.
    #[inline]
    pub(crate) fn end_list(&mut self) -> Result<bool, WriteError> {
        let elements = self.element.len();
        self.element.check_complete(elements)?;
        let Ok(end) = i32::try_from(elements) else {
            return Ok(false);
        };
        self.offsets.push(end);
        Ok(true)
    }

    pub(crate) fn push_empty(&mut self) {
        self.offsets
            .push(self.offsets.last().copied().unwrap_or_default());
    }

    /// That every element is part of a list.
    pub(crate) fn check_complete(&self) -> Result<(), WriteError> {
        self.element.check_complete(self.ended_elements())
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows.saturating_add(1));
        self.element.truncate(self.ended_elements());
    }

    pub(crate) fn byte_size(&self) -> usize {
        self.element.memory_size() + size_of_val(self.offsets.as_slice())
    }

    pub(crate) fn take_array(
        &mut self,
        data_type: &DataType,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let elements = self.element.take_array()?;
        let DataType::List(element) = data_type else {
            return Err(ArrowError::SchemaError(format!("{data_type} is no list")));
        };
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(element),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            elements,
            nulls,
        )?))
    }

    /// Elements that are part of a list.
    fn ended_elements(&self) -> usize {
        let end = self.offsets.last().copied().unwrap_or_default();
        usize::try_from(end).unwrap_or_default()
    }
}

/// Structs: each field has a value of every struct, a null struct included.
pub(crate) struct StructValues {
    fields: Vec<ColumnBuilder>,
}

impl StructValues {
    pub(crate) fn new(fields: Vec<ColumnBuilder>) -> Self {
        Self { fields }
    }

    #[inline]
    pub(crate) fn fields_mut(&mut self) -> &mut [ColumnBuilder] {
        &mut self.fields
    }

    /// That each field has exactly `rows` values.
    #[inline]
    pub(crate) fn check_complete(&self, rows: usize) -> Result<(), WriteError> {
        self.fields
            .iter()
            .try_for_each(|field| field.check_complete(rows))
    }

    /// Adds what stands for a null struct.
    pub(crate) fn push_nulls(&mut self) {
        for field in &mut self.fields {
            field.push_null();
        }
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        for field in &mut self.fields {
            field.truncate(rows);
        }
    }

    pub(crate) fn byte_size(&self) -> usize {
        self.fields.iter().map(ColumnBuilder::memory_size).sum()
    }

    pub(crate) fn take_array(
        &mut self,
        data_type: &DataType,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        // Every field is taken before the first error is told, so that none keeps values.
        let taken: Vec<_> = self
            .fields
            .iter_mut()
            .map(ColumnBuilder::take_array)
            .collect();
        let DataType::Struct(fields) = data_type else {
            return Err(ArrowError::SchemaError(format!("{data_type} is no struct")));
        };
        let arrays = taken.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(StructArray::try_new(
            fields.clone(),
            arrays,
            nulls,
        )?))
    }
}
