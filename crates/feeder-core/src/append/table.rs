//! The rows of one table that are not handed over yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{RecordBatch, new_null_array};
use ducklake_catalog::{ColumnDef, LakeType, TableDef};
use parquet_writer::{FileSchema, RowBatchBuilder};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::chunk::Chunk;
use super::column::{AppendTable, Column};
use super::infer::{self, Fields};
use super::problem::Problem;
use super::row::{self, RowPlan, Scratch};
use super::{META, META_NAMES, OP, batch};
use crate::control::AppendPosition;
use crate::error::{FeederError, FeederErrorKind};
use crate::types;

/// Columns of one table: more are taken for a mistake, such as ids as field names.
const MAX_COLUMNS: usize = 1_000;

/// What became of a table's rows, since the stream began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendCounts {
    /// Rows that were buffered.
    pub accepted: u64,
    /// Rows that are in the lake.
    pub committed: u64,
    /// Rows that made room for newer ones (`drop_oldest`).
    pub dropped: u64,
    /// Rows that found the buffer full (`fail`, and everything that does not wait).
    pub refused: u64,
    /// Rows that had to wait for room (`block`).
    pub blocked: u64,
    /// Rows that did not fit the table.
    pub unfit: u64,
    /// Rows that a producer sent before.
    pub duplicate: u64,
    /// Rows that were accepted and cannot be committed: their table was made unusable, or the stream ended.
    pub lost: u64,
}

/// What identifies a row beside its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Microseconds since 1970-01-01 UTC.
    pub(crate) now: i64,
    pub(crate) seq: i64,
}

/// Rows that are encoded as one batch and share their fate.
#[derive(Debug)]
pub(crate) struct ClosedChunk {
    pub(crate) batch: RecordBatch,
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) bytes: u64,
    pub(crate) since: Instant,
    /// It may make room for others.
    pub(crate) droppable: bool,
}

/// How far a producer is.
#[derive(Debug)]
pub(crate) struct ProducerState {
    /// The greatest number that was accepted.
    pub(crate) accepted: i64,
    /// The greatest number in the lake, with its snapshot.
    pub(crate) committed: Option<(i64, i64)>,
    /// Where the last accepted row is.
    pub(crate) chunk: Option<Arc<Chunk>>,
    /// It moved since the last seal.
    moved: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct TableBuffer {
    pub(crate) spec: AppendTable,
    pub(crate) counts: AppendCounts,
    /// Why nothing can be appended any more.
    pub(crate) broken: Option<Arc<FeederError>>,
    plan: RowPlan,
    /// `None` until the columns are known.
    builder: Option<RowBatchBuilder>,
    /// The row that is being appended has not ended: its `Serialize` panicked.
    open: bool,
    chunk: Arc<Chunk>,
    since: Instant,
    droppable: bool,
    closed: VecDeque<ClosedChunk>,
    closed_bytes: u64,
    pub(crate) producers: FxHashMap<String, ProducerState>,
}

impl TableBuffer {
    pub(crate) fn new(spec: AppendTable) -> Result<Self, Problem> {
        let columns: Vec<Column> = spec
            .columns
            .iter()
            .map(|(name, ty)| Column::new(name.as_str(), ty.lake_type()))
            .collect();
        let mut table = Self {
            spec,
            counts: AppendCounts::default(),
            broken: None,
            plan: RowPlan::default(),
            builder: None,
            open: false,
            chunk: Chunk::new(),
            since: Instant::now(),
            droppable: true,
            closed: VecDeque::new(),
            closed_bytes: 0,
            producers: FxHashMap::default(),
        };
        if !columns.is_empty() {
            table.add_columns(columns)?;
        }
        Ok(table)
    }

    /// Whether its columns are known.
    pub(crate) fn is_known(&self) -> bool {
        self.builder.is_some()
    }

    pub(crate) fn columns(&self) -> &[Column] {
        self.plan.columns()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.open_bytes() + self.closed_bytes
    }

    pub(crate) fn open_bytes(&self) -> u64 {
        let open = self
            .builder
            .as_ref()
            .map_or(0, RowBatchBuilder::memory_size);
        u64::try_from(open).unwrap_or(u64::MAX)
    }

    pub(crate) fn open_rows(&self) -> usize {
        self.builder.as_ref().map_or(0, RowBatchBuilder::rows)
    }

    pub(crate) fn rows(&self) -> u64 {
        let closed: usize = self.closed.iter().map(|chunk| chunk.batch.num_rows()).sum();
        u64::try_from(self.open_rows() + closed).unwrap_or(u64::MAX)
    }

    /// Since when its oldest row waits that may be dropped.
    pub(crate) fn oldest_droppable(&self) -> Option<Instant> {
        let closed = self.closed.iter().find(|chunk| chunk.droppable);
        closed
            .map(|chunk| chunk.since)
            .or((self.open_rows() > 0 && self.droppable).then_some(self.since))
    }

    /// Drops the oldest chunk that may be dropped; returns its rows.
    pub(crate) fn drop_oldest(&mut self) -> Result<u64, Problem> {
        if !self.closed.iter().any(|chunk| chunk.droppable) {
            self.close_chunk()?;
        }
        let Some(index) = self.closed.iter().position(|chunk| chunk.droppable) else {
            return Ok(0);
        };
        let Some(dropped) = self.closed.remove(index) else {
            return Ok(0);
        };
        self.closed_bytes = self.closed_bytes.saturating_sub(dropped.bytes);
        let rows = u64::try_from(dropped.batch.num_rows()).unwrap_or(u64::MAX);
        self.counts.dropped += rows;
        let error = FeederError::permanent(
            FeederErrorKind::Overflow,
            format!(
                "rows of {} were dropped to make room for newer ones",
                self.spec
            ),
        );
        dropped.chunk.decide(Err(Arc::new(error)));
        Ok(rows)
    }

    /// Learns columns from the first rows, or new ones from later rows.
    pub(crate) fn learn<T: Serialize + ?Sized>(&mut self, row: &T) -> Result<(), Problem> {
        let fields = infer::fields(row, self.spec.infer_timestamps)?;
        self.learn_fields(fields)
    }

    pub(crate) fn learn_fields(&mut self, fields: Fields) -> Result<(), Problem> {
        let mut new = Vec::new();
        for (name, ty) in fields {
            let Some(ty) = ty else { continue };
            if self.plan.find(&name).is_none() {
                new.push(Column::new(name, ty));
            }
        }
        if new.is_empty() && self.is_known() {
            return Ok(());
        }
        if self.spec.fixed && self.is_known() {
            let names: Vec<&str> = new.iter().map(|column| column.name.as_str()).collect();
            return Err(Problem::Unfit(format!(
                "the table is fixed and has no column {names:?}"
            )));
        }
        self.add_columns(new)
    }

    /// Takes the columns that the lake has in addition.
    ///
    /// # Errors
    /// A column that is of another type there.
    pub(crate) fn adopt(&mut self, lake: &[Column]) -> Result<(), Problem> {
        let mut new = Vec::new();
        for column in lake {
            match self.plan.find_similar(&column.name) {
                None => new.push(column.clone()),
                Some(known) if known == column => {}
                Some(known) => {
                    return Err(Problem::Unfit(format!(
                        "column {:?} of type {} is {:?} of type {} in the lake",
                        known.name, known.ty, column.name, column.ty
                    )));
                }
            }
        }
        if new.is_empty() && self.is_known() {
            return Ok(());
        }
        self.add_columns(new)
    }

    fn add_columns(&mut self, columns: Vec<Column>) -> Result<(), Problem> {
        if self.plan.columns().len() + columns.len() > MAX_COLUMNS {
            return Err(Problem::Unfit(format!("more than {MAX_COLUMNS} columns")));
        }
        for (index, column) in columns.iter().enumerate() {
            check_name(&column.name)?;
            let earlier = columns
                .iter()
                .take(index)
                .find(|other| other.name.eq_ignore_ascii_case(&column.name));
            if let Some(other) = self.plan.find_similar(&column.name).or(earlier) {
                return Err(Problem::Unfit(format!(
                    "field {:?} differs from column {:?} in case only, or appears twice",
                    column.name, other.name
                )));
            }
        }
        // Before anything changes: what cannot be written is refused here.
        let all: Vec<Column> = self
            .plan
            .columns()
            .iter()
            .chain(&columns)
            .cloned()
            .collect();
        let builder = RowBatchBuilder::new(&provisional(&all)?);
        self.close_chunk()?;
        for column in columns {
            self.plan.push(column);
        }
        self.builder = Some(builder);
        Ok(())
    }

    /// Appends a row. After an error nothing of it is left.
    pub(crate) fn append<T: Serialize + ?Sized>(
        &mut self,
        row: &T,
        head: Head,
        scratch: &mut Scratch,
    ) -> Result<(), Problem> {
        let Some(builder) = &mut self.builder else {
            return Err(Problem::NewField);
        };
        if self.open {
            builder.abandon_row();
        }
        let rows = builder.rows();
        self.open = true;
        let appended = (|| {
            let [op, timestamp, lsn, seq, columns @ ..] = builder.columns_mut() else {
                return Err(Problem::unfit("a table without columns"));
            };
            op.append_str(OP)?;
            timestamp.append_timestamp(head.now)?;
            lsn.append_null()?;
            seq.append_i64(head.seq)?;
            row::append(row, &self.plan, columns, rows, scratch)?;
            Ok(builder.end_row()?)
        })();
        if appended.is_err() {
            builder.abandon_row();
        }
        self.open = false;
        if appended.is_ok() && rows == 0 {
            self.since = Instant::now();
        }
        appended
    }

    /// Appends a batch, whose columns are all known, as a chunk of its own.
    pub(crate) fn append_batch(&mut self, given: &RecordBatch, head: Head) -> Result<(), Problem> {
        let schema = provisional(self.plan.columns())?.arrow_schema();
        let mut columns = batch::head(given.num_rows(), head.now, head.seq).to_vec();
        let fields = schema.fields().iter().skip(META.len());
        for (column, field) in self.plan.columns().iter().zip(fields) {
            columns.push(match given.column_by_name(&column.name) {
                Some(array) => batch::take_in(array, &column.ty, field.data_type())
                    .map_err(|problem| problem.in_column(&column.name))?,
                None => new_null_array(field.data_type(), given.num_rows()),
            });
        }
        let batch = RecordBatch::try_new(schema, columns)
            .map_err(|_| Problem::unfit("a batch whose columns differ in length"))?;
        self.close_chunk()?;
        self.since = Instant::now();
        self.push(batch);
        Ok(())
    }

    /// The open chunk holds a row that must not be dropped.
    pub(crate) fn keep_open_chunk(&mut self) {
        self.droppable = false;
    }

    /// The chunk that the next row goes into.
    pub(crate) fn open_chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    /// The chunk that was closed last.
    pub(crate) fn last_chunk(&mut self) -> Option<&mut ClosedChunk> {
        self.closed.back_mut()
    }

    /// Ends the batch that is being built.
    pub(crate) fn close_chunk(&mut self) -> Result<(), Problem> {
        let Some(builder) = &mut self.builder else {
            return Ok(());
        };
        if std::mem::take(&mut self.open) {
            builder.abandon_row();
        }
        if builder.rows() == 0 {
            return Ok(());
        }
        let batch = builder.finish()?;
        self.push(batch);
        Ok(())
    }

    fn push(&mut self, batch: RecordBatch) {
        let bytes = u64::try_from(batch.get_array_memory_size()).unwrap_or(u64::MAX);
        self.closed_bytes += bytes;
        self.closed.push_back(ClosedChunk {
            batch,
            chunk: std::mem::replace(&mut self.chunk, Chunk::new()),
            bytes,
            since: self.since,
            droppable: std::mem::replace(&mut self.droppable, true),
        });
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> Result<Vec<ClosedChunk>, Problem> {
        self.close_chunk()?;
        self.closed_bytes = 0;
        Ok(self.closed.drain(..).collect())
    }

    /// A row of a producer was accepted.
    pub(crate) fn accepted(&mut self, producer: &str, seq: i64, chunk: Arc<Chunk>) {
        if let Some(state) = self.producers.get_mut(producer) {
            state.accepted = seq;
            state.moved = true;
            state.chunk = Some(chunk);
            return;
        }
        let state = ProducerState {
            accepted: seq,
            committed: None,
            chunk: Some(chunk),
            moved: true,
        };
        self.producers.insert(producer.to_owned(), state);
    }

    /// A producer's position, as it is in the lake.
    pub(crate) fn committed(&mut self, producer: &str, position: i64, snapshot: i64) {
        let state = self
            .producers
            .entry(producer.to_owned())
            .or_insert(ProducerState {
                accepted: position,
                committed: None,
                chunk: None,
                moved: false,
            });
        state.accepted = state.accepted.max(position);
        state.committed = Some((position, snapshot));
        if state.accepted == position {
            state.chunk = None;
        }
    }

    /// The producers that moved since the last call.
    pub(crate) fn take_moved(&mut self) -> Vec<AppendPosition> {
        let (schema, table) = (&self.spec.schema, &self.spec.table);
        self.producers
            .iter_mut()
            .filter_map(|(producer, state)| {
                std::mem::take(&mut state.moved).then(|| AppendPosition {
                    schema: schema.clone(),
                    table: table.clone(),
                    producer: producer.clone(),
                    position: state.accepted,
                })
            })
            .collect()
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    let reserved = name
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("_df_"));
    if name.is_empty() || reserved || name.contains('\0') {
        return Err(Problem::Unfit(format!(
            "{name:?} cannot be the name of a column"
        )));
    }
    Ok(())
}

/// The columns of the lake table, in order: ours, then the event's.
pub(crate) fn column_defs(columns: &[Column]) -> Vec<ColumnDef> {
    META_NAMES
        .iter()
        .zip(META)
        .map(|(name, ty)| ColumnDef::new(*name, ty))
        .chain(
            columns
                .iter()
                .map(|column| ColumnDef::new(column.name.as_str(), column.ty.clone())),
        )
        .collect()
}

/// What rows are gathered under until the lake says which ids the columns have.
fn provisional(columns: &[Column]) -> Result<FileSchema, Problem> {
    let definition = TableDef::new("t", column_defs(columns));
    let specs = definition
        .columns
        .iter()
        .zip(definition.column_ids())
        .map(|(column, ids)| {
            types::column_spec(&column.name, &column.ty, &ids).ok_or_else(|| unwritable(&column.ty))
        })
        .collect::<Result<_, _>>()?;
    FileSchema::new(specs).map_err(|error| Problem::Unfit(error.to_string()))
}

fn unwritable(ty: &LakeType) -> Problem {
    Problem::Unfit(format!("a column of type {ty} cannot be written"))
}
