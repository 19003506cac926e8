//! What producers hand in: a row, or a batch.

use arrow_array::RecordBatch;
use serde::Serialize;

use super::batch;
use super::problem::Problem;
use super::row::Scratch;
use super::table::{Head, TableBuffer};

/// What is appended.
pub(crate) trait Rows {
    /// How many rows.
    fn count(&self) -> usize;

    /// Whether they make a chunk of their own.
    fn is_batch(&self) -> bool;

    /// Makes their columns known.
    fn learn(&self, table: &mut TableBuffer) -> Result<(), Problem>;

    fn append(
        &self,
        table: &mut TableBuffer,
        head: Head,
        scratch: &mut Scratch,
    ) -> Result<(), Problem>;
}

/// One row.
pub(crate) struct One<'a, T: ?Sized>(pub(crate) &'a T);

impl<T: Serialize + ?Sized> Rows for One<'_, T> {
    fn count(&self) -> usize {
        1
    }

    fn is_batch(&self) -> bool {
        false
    }

    fn learn(&self, table: &mut TableBuffer) -> Result<(), Problem> {
        table.learn(self.0)
    }

    fn append(
        &self,
        table: &mut TableBuffer,
        head: Head,
        scratch: &mut Scratch,
    ) -> Result<(), Problem> {
        table.append(self.0, head, scratch)
    }
}

impl Rows for RecordBatch {
    fn count(&self) -> usize {
        self.num_rows()
    }

    fn is_batch(&self) -> bool {
        true
    }

    fn learn(&self, table: &mut TableBuffer) -> Result<(), Problem> {
        let fields = self
            .schema()
            .fields()
            .iter()
            .map(|field| Ok((field.name().clone(), batch::lake_type(field.data_type())?)))
            .collect::<Result<_, Problem>>()?;
        table.learn_fields(fields)
    }

    fn append(
        &self,
        table: &mut TableBuffer,
        head: Head,
        _scratch: &mut Scratch,
    ) -> Result<(), Problem> {
        let known = |name: &str| table.columns().iter().any(|column| column.name == name);
        let schema = self.schema();
        let mut fields = schema.fields().iter();
        let new = fields.any(|field| !field.data_type().is_null() && !known(field.name()));
        if !table.is_known() || new {
            return Err(Problem::NewField);
        }
        table.append_batch(self, head)
    }
}
