//! One fed table in the intake: its plan, its buffered rows, and how changes become rows.

use arrow_array::RecordBatch;
use parquet_writer::RowBatchBuilder;
use pgoutput::{Datum, OldTuple, Relation, RelationColumn, ReplicaIdentity, Tuple};

use super::FedTable;
use crate::encode::{EncodeError, Op, RowEncoder, RowHead};
use crate::error::{FeederError, FeederErrorKind};
use crate::layout::SourceColumn;
use crate::plan::identity_name;
use crate::status::TableState;
use crate::types;

pub(super) struct Slot {
    pub(super) table: FedTable,
    pub(super) relation: Option<Relation>,
    pub(super) plan: Option<Plan>,
    pub(super) batch: RowBatchBuilder,
    pub(super) committed_rows: usize,
    pub(super) accounted: u64,
    /// Committed rows of a table that failed; they still belong to the next epoch.
    pub(super) salvaged: Option<RecordBatch>,
    pub(super) discarded: u64,
    /// The state before a failure that is not committed yet.
    pub(super) before_failure: Option<TableState>,
}

pub(super) struct Plan {
    encoder: RowEncoder,
    /// Wire positions of the key.
    key: Vec<usize>,
}

/// Why a change of one table could not be buffered.
pub(super) enum ChangeError {
    /// Deterministic: this table's affair (rule 7).
    Table(String),
    Feeder(FeederError),
}

impl From<EncodeError> for ChangeError {
    fn from(error: EncodeError) -> Self {
        Self::Table(error.to_string())
    }
}

impl Slot {
    pub(super) fn reset(&mut self) {
        self.committed_rows = 0;
        self.accounted = 0;
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
                    self.table.lake.source
                ),
            )));
        };
        let columns = current_columns(&self.table, relation).map_err(ChangeError::Table)?;
        let wire: Vec<&str> = relation
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let full = relation.replica_identity == ReplicaIdentity::Full;
        // Under FULL every column counts as key on the wire.
        let in_key = |column: &RelationColumn| {
            if full {
                self.table.key.contains(&column.name)
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
        let encoder = RowEncoder::new(&columns, &wire);
        self.plan = Some(Plan { encoder, key });
        Ok(())
    }

    pub(super) fn row(
        &mut self,
        head: RowHead,
        op: Op,
        values: &Tuple,
        old: Option<&Tuple>,
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
        plan.encoder
            .append(&mut self.batch, head, values.iter(), old.map(Tuple::iter))?;
        Ok(())
    }

    /// An update; one that changes the key is preceded by a delete of the old key. Returns how many rows it was.
    pub(super) fn update(
        &mut self,
        head: RowHead,
        old: Option<&OldTuple>,
        new: &Tuple,
    ) -> Result<i64, ChangeError> {
        let old = old.map(OldTuple::tuple);
        let key_changed = old.is_some_and(|old| self.key_changed(old, new));
        let mut head = head;
        if let Some(old) = old.filter(|_| key_changed) {
            self.row(head, Op::Delete, old, None)?;
            head.seq += 1;
        }
        self.row(head, Op::Update, new, old)?;
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

/// The lake's columns as the relation sends them; it must be what the lake's table was made from.
fn current_columns(table: &FedTable, relation: &Relation) -> Result<Vec<SourceColumn>, String> {
    let identity = identity_name(relation.replica_identity);
    if identity != table.identity {
        return Err(format!(
            "its replica identity changed from {} to {identity}",
            table.identity
        ));
    }
    if relation.replica_identity == ReplicaIdentity::Default && !table.key.is_empty() {
        let in_key = relation.columns.iter().filter(|column| column.is_key());
        let names: Vec<&str> = in_key.map(|column| column.name.as_str()).collect();
        if names.len() != table.key.len() || !table.key.iter().all(|key| names.contains(&&**key)) {
            return Err(format!(
                "its primary key changed from ({}) to ({})",
                table.key.join(", "),
                names.join(", ")
            ));
        }
    }
    let mut columns = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        let Some(found) = relation
            .columns
            .iter()
            .find(|found| found.name == column.name)
        else {
            return Err(format!("column {:?} is gone at the source", column.name));
        };
        let numeric = table.numeric.of(&column.name);
        let reader = types::reader(found.type_oid, found.type_modifier, numeric);
        if reader.lake_type() != column.reader.lake_type() {
            return Err(format!(
                "column {:?} changed its type: {} in the lake, {} now",
                column.name,
                column.reader.lake_type(),
                reader.lake_type()
            ));
        }
        // Several types share a lake type, and each has a binary form of its own.
        columns.push(SourceColumn {
            name: column.name.clone(),
            reader,
        });
    }
    let new = relation.columns.iter().find(|found| {
        !table.columns.iter().any(|column| column.name == found.name)
            && !table.excluded.contains(&found.name)
    });
    match new {
        Some(column) => Err(format!("column {:?} is new at the source", column.name)),
        None => Ok(columns),
    }
}
