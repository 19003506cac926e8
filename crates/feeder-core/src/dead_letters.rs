//! Values that their lake column cannot hold: kept as exact text in the lake table `_df_dead_letters` of the target's
//! schema, in the commit of the row that has NULL instead.

use std::sync::Arc;

use arrow_array::RecordBatch;
use ducklake_catalog::{ColumnDef, LakeType};
use parquet_writer::{ColumnBuilder, RowBatchBuilder, WriteError};
use pgoutput::Datum;

use crate::encode::RowHead;
use crate::file::LakeTable;
use crate::types::{self, Reader};

/// The lake table's name, in every target schema.
pub(crate) const TABLE: &str = "_df_dead_letters";

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) column: String,
    pub(crate) reason: String,
    /// As the server prints it.
    pub(crate) value: Option<String>,
    /// Whether nothing here could read it.
    pub(crate) unread: bool,
}

impl Letter {
    /// # Errors
    /// A value that is not even what its relation says it is.
    pub(crate) fn new(
        column: &str,
        reason: String,
        reader: &Reader,
        datum: Datum<'_>,
    ) -> Result<Self, String> {
        let value = types::output_text(reader, datum).map_err(|problem| problem.to_string())?;
        Ok(Self {
            column: column.to_owned(),
            reason,
            value,
            unread: false,
        })
    }

    /// For a value that nothing here can read: its text, or its bytes as `bytea` prints them where it came in binary.
    pub(crate) fn unread(column: &str, reason: &str, datum: Datum<'_>) -> Self {
        let (value, form) = match datum {
            Datum::Null | Datum::UnchangedToast => (None, ""),
            Datum::Text(raw) => (Some(String::from_utf8_lossy(raw).into_owned()), ""),
            Datum::Binary(raw) => {
                let mut hex = String::from("\\x");
                for byte in raw {
                    hex.extend(
                        [byte >> 4, byte & 15]
                            .into_iter()
                            .filter_map(|digit| char::from_digit(u32::from(digit), 16)),
                    );
                }
                (Some(hex), "; the value is in its binary form")
            }
        };
        Self {
            column: column.to_owned(),
            reason: format!("{reason}{form}"),
            value,
            unread: true,
        }
    }
}

/// The columns, in order.
pub(crate) fn column_defs() -> Vec<ColumnDef> {
    [
        ("_df_timestamp", LakeType::TimestampTz),
        ("_df_lsn", LakeType::Int64),
        ("_df_seq", LakeType::Int64),
        ("source_table", LakeType::Varchar),
        ("lake_table", LakeType::Varchar),
        ("column_name", LakeType::Varchar),
        ("row_key", LakeType::Json),
        ("value", LakeType::Varchar),
        ("reason", LakeType::Varchar),
    ]
    .into_iter()
    .map(|(name, lake_type)| ColumnDef::new(name, lake_type))
    .collect()
}

/// The dead letters of one fed table that are not handed over yet.
pub(crate) struct DeadLetters {
    table: Arc<LakeTable>,
    batch: RowBatchBuilder,
    /// Of transactions that have ended.
    committed_rows: usize,
}

impl DeadLetters {
    pub(crate) fn new(table: Arc<LakeTable>) -> Self {
        Self {
            batch: RowBatchBuilder::new(&table.schema),
            table,
            committed_rows: 0,
        }
    }

    pub(crate) fn table(&self) -> &Arc<LakeTable> {
        &self.table
    }

    /// Takes in what a row of `source`, whose key is `key`, could not hold in `target`.
    pub(crate) fn append(
        &mut self,
        head: RowHead,
        (source, target): (&str, &str),
        key: Option<&str>,
        letters: &[Letter],
    ) -> Result<(), WriteError> {
        for letter in letters {
            let [
                timestamp,
                lsn,
                seq,
                source_table,
                lake_table,
                column,
                row_key,
                value,
                reason,
            ] = self.batch.columns_mut()
            else {
                return Err(WriteError::SchemaMismatch);
            };
            timestamp.append_timestamp(head.timestamp)?;
            lsn.append_i64(head.lsn)?;
            seq.append_i64(head.seq)?;
            source_table.append_str(source)?;
            lake_table.append_str(target)?;
            column.append_str(&letter.column)?;
            append_text(row_key, key)?;
            append_text(value, letter.value.as_deref())?;
            reason.append_str(&letter.reason)?;
            self.batch.end_row()?;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.rows() == 0
    }

    pub(crate) fn memory_size(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            self.batch.memory_size()
        }
    }

    /// The open transaction ended.
    pub(crate) fn commit(&mut self) {
        self.committed_rows = self.batch.rows();
    }

    /// Everything, and begins anew.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, WriteError> {
        self.committed_rows = 0;
        self.batch.finish()
    }

    /// What belongs to ended transactions and what does not, and begins anew.
    pub(crate) fn split(&mut self) -> Result<(RecordBatch, RecordBatch), WriteError> {
        self.batch.abandon_row();
        self.batch.split(std::mem::take(&mut self.committed_rows))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.batch = RowBatchBuilder::new(&self.table.schema);
        self.committed_rows = 0;
    }
}

fn append_text(column: &mut ColumnBuilder, text: Option<&str>) -> Result<(), WriteError> {
    match text {
        Some(text) => column.append_str(text),
        None => column.append_null(),
    }
}
