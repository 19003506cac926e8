//! One fed table in the intake: its plan, its buffered rows, and how changes become rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use parquet_writer::{RowBatchBuilder, WriteError};
use pgoutput::{Datum, Lsn, OldTuple, Relation, RelationColumn, ReplicaIdentity, Tuple};

use super::FedTable;
use crate::dead_letters::DeadLetters;
use crate::encode::{EncodeError, Op, RowEncoder, RowHead};
use crate::epoch::TableBatch;
use crate::error::{FeederError, FeederErrorKind};
use crate::evolution::{self, Evolution};
use crate::file::LakeTable;
use crate::status::TableState;
use crate::version::TableVersion;

pub(super) struct Slot {
    /// The table, in the version of the rows that come now.
    pub(super) table: FedTable,
    /// The version as of the epoch that was closed last.
    pub(super) sealed: Arc<TableVersion>,
    /// What led from there to the version of now.
    pub(super) evolutions: Vec<Evolution>,
    /// How many of them are of ended transactions.
    pub(super) committed_evolutions: usize,
    /// The directives that evolutions of closed epochs used. They are applied with those; until then the catalog may still
    /// show them as pending.
    pub(super) spent: BTreeSet<String>,
    /// Where the version of now begins: the commit of its transaction, or before the look that showed it. Never goes back.
    pub(super) evolved_at: Lsn,
    /// The state before evolutions that are not sealed asked for a copy.
    pub(super) before_recopy: Option<TableState>,
    pub(super) relation: Option<Relation>,
    pub(super) plan: Option<Plan>,
    pub(super) batch: RowBatchBuilder,
    pub(super) letters: Option<DeadLetters>,
    pub(super) committed_rows: usize,
    pub(super) accounted: u64,
    /// Rows of ended transactions that belong to the next epoch and are no longer built: of an earlier version, or of a
    /// table that failed.
    pub(super) closed: Vec<TableBatch>,
    /// Rows of the open transaction in an earlier version.
    pub(super) open: Vec<TableBatch>,
    /// How many discarded changes the control tables know of, or will with the epoch that was closed last.
    pub(super) recorded: u64,
    /// The state before a failure that is not committed yet.
    pub(super) before_failure: Option<TableState>,
    /// A copy is on its way into the lake: what comes now comes after it.
    pub(super) copied: bool,
    /// The last transaction that brought rows without a generated column.
    pub(super) lacking: Option<Lsn>,
    /// The source was asked about an altered composite type, and knew nothing of the attributes that a value has. Until then
    /// such values become NULL, and a copy of the table waits.
    pub(super) forgives_altered_until: Option<Instant>,
    /// The row that was taken in last has such a value.
    pub(super) forgave_altered: bool,
    /// An update that changes the key is taken in by half: the delete of the old key is there.
    half_taken: bool,
}

pub(super) struct Plan {
    encoder: RowEncoder,
    /// Wire positions of the key.
    key: Vec<usize>,
    /// A column of the lake's is not on the wire.
    lacking: bool,
}

/// Why a change of one table could not be buffered.
pub(super) enum ChangeError {
    /// Deterministic: this table's affair (rule 7).
    Table(String),
    /// The table is another than the one that is known, or the type of its column `altered` is: the source has to be
    /// asked.
    Unknown {
        altered: Option<String>,
    },
    Feeder(FeederError),
}

impl From<EncodeError> for ChangeError {
    fn from(error: EncodeError) -> Self {
        Self::Table(error.to_string())
    }
}

impl Slot {
    pub(super) fn new(table: FedTable) -> Self {
        Self {
            recorded: table.discarded,
            sealed: Arc::clone(&table.version),
            evolutions: Vec::new(),
            committed_evolutions: 0,
            spent: BTreeSet::new(),
            evolved_at: Lsn::ZERO,
            before_recopy: None,
            batch: RowBatchBuilder::new(&table.lake().schema),
            letters: table.lake().dead_letters.clone().map(DeadLetters::new),
            table,
            relation: None,
            plan: None,
            committed_rows: 0,
            accounted: 0,
            closed: Vec::new(),
            open: Vec::new(),
            before_failure: None,
            copied: false,
            lacking: None,
            forgives_altered_until: None,
            forgave_altered: false,
            half_taken: false,
        }
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.batch = RowBatchBuilder::new(&self.table.lake().schema);
        if let Some(letters) = &mut self.letters {
            letters.clear();
        }
        self.closed.clear();
        self.open.clear();
        self.half_taken = false;
        self.forgives_altered_until = None;
        self.committed_rows = 0;
        self.accounted = 0;
    }

    /// Goes to state `error`, of which the control tables hear with a transition that begins to count anew.
    pub(super) fn fail(&mut self, reason: &str) {
        self.table.state = TableState::Error;
        self.table.error = Some(reason.to_owned());
        self.table.discarded = 0;
        self.recorded = 0;
        self.half_taken = false;
    }

    /// Begins again behind the epoch that was closed last.
    pub(super) fn restart(&mut self) {
        self.relation = None;
        self.plan = None;
        self.lacking = None;
        // Those of transactions that are sent again count then.
        self.table.discarded = self.recorded;
        if let Some(state) = self.before_failure.take() {
            self.table.error = None;
            self.table.state = match state {
                // Its copy was given up when it failed.
                TableState::Copying => TableState::Pending,
                state => state,
            };
        }
        self.take_back();
        self.clear();
    }

    /// The open transaction ended.
    pub(super) fn commit(&mut self) {
        self.closed.append(&mut self.open);
        self.committed_evolutions = self.evolutions.len();
        self.committed_rows = self.batch.rows();
        if let Some(letters) = &mut self.letters {
            letters.commit();
        }
    }

    /// Everything buffered, and begins anew.
    pub(super) fn finish(&mut self) -> Result<Vec<TableBatch>, WriteError> {
        let mut batches = std::mem::take(&mut self.closed);
        batches.append(&mut self.open);
        if self.batch.rows() > 0 {
            push(&mut batches, self.table.lake(), self.batch.finish()?);
        }
        if let Some(letters) = self.letters.as_mut().filter(|letters| !letters.is_empty()) {
            let rows = letters.finish()?;
            push(&mut batches, letters.table(), rows);
        }
        self.committed_rows = 0;
        self.accounted = 0;
        Ok(batches)
    }

    /// What ended transactions brought, and what the open one did; begins anew.
    pub(super) fn split(&mut self) -> Result<(Vec<TableBatch>, Vec<TableBatch>), WriteError> {
        let (mut committed, mut open) = (
            std::mem::take(&mut self.closed),
            std::mem::take(&mut self.open),
        );
        if self.batch.rows() > 0 {
            let (head, tail) = self.batch.split(self.committed_rows)?;
            push(&mut committed, self.table.lake(), head);
            push(&mut open, self.table.lake(), tail);
        }
        if let Some(letters) = self.letters.as_mut().filter(|letters| !letters.is_empty()) {
            let (head, tail) = letters.split()?;
            push(&mut committed, letters.table(), head);
            push(&mut open, letters.table(), tail);
        }
        self.committed_rows = 0;
        self.accounted = 0;
        Ok((committed, open))
    }

    pub(super) fn memory_size(&self) -> usize {
        let letters = self.letters.as_ref().map_or(0, DeadLetters::memory_size);
        self.batch.memory_size() + letters
    }

    /// Compiles the plan for the relation as the stream last described it.
    pub(super) fn ensure_plan(&mut self) -> Result<(), ChangeError> {
        if self.plan.is_some() {
            return Ok(());
        }
        let Some(relation) = &self.relation else {
            return Err(ChangeError::Feeder(FeederError::permanent(
                FeederErrorKind::Source,
                format!(
                    "a row of {} arrived before its relation",
                    self.table.lake().source
                ),
            )));
        };
        let version = &self.table.version;
        if !evolution::fits(version, relation, self.waits()) {
            return Err(ChangeError::Unknown { altered: None });
        }
        let columns = &version.columns;
        let lacking = columns.iter().any(|column| {
            let sent = |found: &RelationColumn| found.name == column.name;
            !relation.columns.iter().any(sent)
        });
        let wire: Vec<&str> = relation
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let full = relation.replica_identity == ReplicaIdentity::Full;
        // Under FULL every column counts as key on the wire.
        let in_key = |column: &RelationColumn| {
            if full {
                version.shape.key.contains(&column.name)
            } else {
                column.is_key()
            }
        };
        let key = relation
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| in_key(column))
            .map(|(position, _)| position)
            .collect();
        let encoder = RowEncoder::new(columns, &wire, self.table.options());
        self.plan = Some(Plan {
            encoder,
            key,
            lacking,
        });
        Ok(())
    }

    /// Before a publication sends generated columns it sends the rest, which the copy replaces.
    fn waits(&self) -> bool {
        matches!(self.table.state, TableState::Pending | TableState::Copying) && !self.copied
    }

    /// Whether rows come without a column that the lake has.
    pub(super) fn lacks_columns(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.lacking)
    }

    /// Appends one row. `old` fills what the server did not send again, `before` is shown in `_df_before`.
    pub(super) fn row(
        &mut self,
        head: RowHead,
        op: Op,
        values: &Tuple,
        old: Option<&Tuple>,
        before: Option<&Tuple>,
        now: Instant,
    ) -> Result<(), ChangeError> {
        let Some(plan) = &mut self.plan else {
            return Ok(());
        };
        if values.len() != plan.encoder.wire_columns() {
            return Err(ChangeError::Table(format!(
                "a row has {} values where its relation has {} columns",
                values.len(),
                plan.encoder.wire_columns()
            )));
        }
        let head = RowHead { op, ..head };
        let encoder = &mut plan.encoder;
        let (old, before) = (old.map(Tuple::iter), before.map(Tuple::iter));
        let forgives = self.forgives_altered_until.is_some_and(|until| now < until);
        encoder.forgive_altered(forgives);
        match encoder.append(&mut self.batch, head, values.iter(), old, before) {
            Err(EncodeError {
                altered: Some(column),
                ..
            }) => {
                self.batch.abandon_row();
                return Err(ChangeError::Unknown {
                    altered: Some(column),
                });
            }
            appended => appended?,
        }
        self.forgave_altered = encoder.letters().iter().any(|letter| letter.unread);
        if let (false, Some(letters)) = (encoder.letters().is_empty(), &mut self.letters) {
            let key = encoder.key_text(&plan.key, values.iter());
            let names = (&*self.table.lake().source, &*self.table.lake().target);
            letters
                .append(head, names, key.as_deref(), encoder.letters())
                .map_err(|error| ChangeError::Table(error.to_string()))?;
        }
        Ok(())
    }

    /// An update; one that changes the key is preceded by a delete of the old key. Returns how many rows it was.
    pub(super) fn update(
        &mut self,
        head: RowHead,
        old: Option<&OldTuple>,
        new: &Tuple,
        now: Instant,
    ) -> Result<i64, ChangeError> {
        let old = old.map(OldTuple::tuple);
        let key_changed = old.is_some_and(|old| self.key_changed(old, new));
        let mut head = head;
        if let Some(old) = old.filter(|_| key_changed) {
            if !self.half_taken {
                self.row(head, Op::Delete, old, None, Some(old), now)?;
                self.half_taken = true;
            }
            head.seq += 1;
        }
        self.row(head, Op::Update, new, old, old, now)?;
        self.half_taken = false;
        Ok(if key_changed { 2 } else { 1 })
    }

    /// An old row alone says nothing: the server also sends it when a key column is toasted and unchanged.
    fn key_changed(&self, old: &Tuple, new: &Tuple) -> bool {
        self.plan.as_ref().is_some_and(|plan| {
            // Without a key the whole row is what tells rows apart.
            plan.key.is_empty()
                || plan.key.iter().any(|position| {
                    let before = old.iter().nth(*position);
                    let after = new.iter().nth(*position);
                    after != Some(Datum::UnchangedToast) && before != after
                })
        })
    }
}

fn push(batches: &mut Vec<TableBatch>, table: &Arc<LakeTable>, rows: RecordBatch) {
    if rows.num_rows() > 0 {
        let table = Arc::clone(table);
        batches.push(TableBatch { table, rows });
    }
}
