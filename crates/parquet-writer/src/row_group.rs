//! One row group while its columns fill.

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;

use crate::error::WriteError;

/// The columns of the row group in progress, encoded and compressed page by page.
pub(crate) struct RowGroup {
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

impl RowGroup {
    pub(crate) fn new(
        factory: &ArrowRowGroupWriterFactory,
        index: usize,
    ) -> Result<Self, WriteError> {
        Ok(Self {
            columns: factory.create_column_writers(index)?,
            rows: 0,
        })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held: finished pages, pages in progress, dictionaries.
    pub(crate) fn memory_size(&self) -> usize {
        self.columns
            .iter()
            .map(ArrowColumnWriter::memory_size)
            .sum()
    }

    pub(crate) fn write(&mut self, schema: &Schema, batch: &RecordBatch) -> Result<(), WriteError> {
        let mut columns = self.columns.iter_mut();
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                columns
                    .next()
                    .ok_or(WriteError::SchemaMismatch)?
                    .write(&leaf)?;
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Appends the row group to the file.
    pub(crate) fn close(self, file: &mut SerializedFileWriter<Vec<u8>>) -> Result<(), WriteError> {
        let mut group = file.next_row_group()?;
        for column in self.columns {
            let mut chunk = column.close()?;
            drop_bounds_beside_nan(chunk.close_mut())?;
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

/// Removes minimum and maximum of a float column that has NaN.
///
/// Parquet leaves NaN out of them, but DuckDB holds NaN to be larger than every number and skips a
/// row group by its maximum: `x > 5` would lose the NaN. DuckDB writes no bounds then, either.
fn drop_bounds_beside_nan(closed: &mut ColumnCloseResult) -> Result<(), WriteError> {
    let Some(statistics) = closed.metadata.statistics() else {
        return Ok(());
    };
    if statistics.nan_count_opt() == Some(0) {
        return Ok(());
    }
    let nulls = statistics.null_count_opt();
    let without_bounds = match statistics {
        Statistics::Float(_) => Statistics::float(None, None, None, nulls, false),
        Statistics::Double(_) => Statistics::double(None, None, None, nulls, false),
        _ => return Ok(()),
    };
    let metadata = closed.metadata.clone().into_builder();
    closed.metadata = metadata.set_statistics(without_bounds).build()?;
    Ok(())
}
