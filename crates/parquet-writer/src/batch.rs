//! Rows collected column by column.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef};

use crate::column::ColumnBuilder;
use crate::error::WriteError;
use crate::schema::FileSchema;

/// Collects rows for one file.
///
/// A row is one append to every column of [`columns_mut`](Self::columns_mut), closed by
/// [`end_row`](Self::end_row). A row that cannot be completed is dropped with
/// [`abandon_row`](Self::abandon_row).
#[derive(Debug)]
pub struct RowBatchBuilder {
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    rows: usize,
    memory_size: usize,
}

impl RowBatchBuilder {
    /// An empty builder; memory is taken when rows come.
    pub fn new(schema: &FileSchema) -> Self {
        let arrow = schema.arrow_schema();
        let columns = schema
            .columns()
            .iter()
            .zip(arrow.fields())
            .map(|(spec, field)| ColumnBuilder::new(&spec.name, spec, field.data_type()))
            .collect();
        Self {
            schema: arrow,
            columns,
            rows: 0,
            memory_size: 0,
        }
    }

    /// The columns in the order of the schema.
    #[inline]
    pub fn columns_mut(&mut self) -> &mut [ColumnBuilder] {
        &mut self.columns
    }

    /// Closes the row that was appended last.
    ///
    /// # Errors
    /// [`WriteError::IncompleteRow`] when a column did not get exactly one value, or a nested value
    /// was begun and not ended. The row stays open.
    #[inline]
    pub fn end_row(&mut self) -> Result<(), WriteError> {
        let rows = self.rows + 1;
        let mut memory_size = 0;
        for column in &self.columns {
            column.check_complete(rows)?;
            memory_size += column.memory_size();
        }
        self.rows = rows;
        self.memory_size = memory_size;
        Ok(())
    }

    /// Drops what was appended since the last [`end_row`](Self::end_row) and returns the number of
    /// rows that remain, which is the index the dropped row would have had.
    pub fn abandon_row(&mut self) -> usize {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
        self.rows
    }

    /// Closed rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the closed rows; constant time. What is allocated can be up to twice as much, since
    /// memory grows by doubling.
    #[inline]
    pub fn memory_size(&self) -> usize {
        self.memory_size
    }

    /// Takes all rows and leaves the builder empty.
    ///
    /// # Errors
    /// [`WriteError::IncompleteRow`] while a row is open; nothing is lost then.
    pub fn finish(&mut self) -> Result<RecordBatch, WriteError> {
        for column in &self.columns {
            column.check_complete(self.rows)?;
        }
        let taken: Vec<Result<ArrayRef, ArrowError>> = self
            .columns
            .iter_mut()
            .map(ColumnBuilder::take_array)
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        self.memory_size = 0;
        let arrays = taken.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            arrays,
            &options,
        )?)
    }

    /// Takes all rows, cut after the first `committed_rows`, and leaves the builder empty.
    ///
    /// Both batches share memory: it is freed when the second of them is dropped.
    ///
    /// # Errors
    /// [`WriteError::SplitOutOfRange`] when there are fewer rows, [`WriteError::IncompleteRow`] while
    /// a row is open; nothing is lost then.
    pub fn split(
        &mut self,
        committed_rows: usize,
    ) -> Result<(RecordBatch, RecordBatch), WriteError> {
        let Some(rest) = self.rows.checked_sub(committed_rows) else {
            return Err(WriteError::SplitOutOfRange {
                at: committed_rows,
                rows: self.rows,
            });
        };
        let all = self.finish()?;
        Ok((
            all.slice(0, committed_rows),
            all.slice(committed_rows, rest),
        ))
    }
}
