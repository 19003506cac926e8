//! From replication messages to buffered rows: routing, encoding, and cutting at transaction boundaries.
//!
//! No network and no clock: time is passed in, parts are handed out.

use std::sync::Arc;
use std::time::Instant;

use pgoutput::{Lsn, Message, RelationId};
use rustc_hash::FxHashMap;

use crate::config::{ChangePolicy, OnSchemaChange, OnTableError, OnUnrepresentable};
use crate::control::TableTransition;
use crate::coordinator::Coordinator;
use crate::encode::{Op, RowEncoder, RowHead, RowOptions};
use crate::epoch::{EpochEnd, Part, TableBatch};
use crate::error::{FeederError, FeederErrorKind};
use crate::file::LakeTable;
use crate::select::Selection;
use crate::status::TableState;
use crate::types::ColumnSettings;
use crate::version::TableVersion;

mod changes;
mod slot;

use changes::Waiting;

use slot::{ChangeError, Slot};

/// A table that is fed.
#[derive(Debug)]
pub(crate) struct FedTable {
    pub(crate) version: Arc<TableVersion>,
    pub(crate) selection: Selection,
    pub(crate) settings: ColumnSettings,
    pub(crate) on_unrepresentable: OnUnrepresentable,
    /// Cells that became NULL since the copy that the lake holds, as committed.
    pub(crate) unrepresentable: u64,
    pub(crate) state: TableState,
    /// Why it is in error.
    pub(crate) error: Option<String>,
    /// Changes that arrived since it is in error, in this life of the process or an earlier one.
    pub(crate) discarded: u64,
    /// A copy as of this position or before lacks what was rewritten at the source since.
    pub(crate) copy_after: Lsn,
}

impl FedTable {
    /// What all versions share but the columns: names and place.
    pub(crate) fn lake(&self) -> &Arc<LakeTable> {
        &self.version.lake
    }

    /// Which changes are followed now: whoever asks for a copy wants the table as it is.
    fn change_policy(&self) -> ChangePolicy {
        let mut policy = self.selection.changes;
        if matches!(self.state, TableState::Pending | TableState::Copying) {
            policy.on_schema_change = OnSchemaChange::Follow;
        }
        policy
    }

    pub(crate) fn options(&self) -> RowOptions {
        RowOptions {
            on_unrepresentable: self.on_unrepresentable,
            before_image: self.version.shape.before_image,
        }
    }
}

/// See the module's documentation.
pub(crate) struct Intake {
    pub(crate) coordinator: Coordinator,
    tables: FxHashMap<RelationId, Slot>,
    transaction: Option<Transaction>,
    /// Tables with rows of the open transaction.
    touched: Vec<RelationId>,
    buffered: u64,
    transitions: Vec<TableTransition>,
    cut: Vec<(u32, Lsn)>,
    commit_timestamp: Option<i64>,
    on_table_error: OnTableError,
    /// A change that cannot be taken in before the source's catalog was asked about its table. Nothing is read meanwhile.
    waiting: Option<Waiting>,
}

/// What became of a message.
#[must_use]
enum Taken {
    In,
    /// It has to wait until the source was asked about this table.
    Unknown(RelationId, Option<String>),
}

struct Transaction {
    final_lsn: Lsn,
    lsn: i64,
    timestamp: i64,
    seq: i64,
    skip: bool,
}

impl Intake {
    pub(crate) fn new(
        coordinator: Coordinator,
        tables: Vec<FedTable>,
        on_table_error: OnTableError,
    ) -> Self {
        let mut intake = Self {
            coordinator,
            tables: FxHashMap::default(),
            transaction: None,
            touched: Vec::new(),
            buffered: 0,
            transitions: Vec::new(),
            cut: Vec::new(),
            commit_timestamp: None,
            on_table_error,
            waiting: None,
        };
        for table in tables {
            let slot = Slot::new(table);
            let id = RelationId::new(slot.table.lake().source_oid);
            intake.tables.insert(id, slot);
        }
        intake
    }

    /// Begins again at a checkpoint, after a source error: what is not sealed is dropped (I4).
    ///
    /// A failure that is not committed yet is forgotten with the rows that caused it: they come again.
    pub(crate) fn restart(&mut self, coordinator: Coordinator) {
        self.coordinator = coordinator;
        self.transaction = None;
        self.touched.clear();
        self.buffered = 0;
        self.transitions.clear();
        self.cut.clear();
        self.commit_timestamp = None;
        self.waiting = None;
        for slot in self.tables.values_mut() {
            slot.restart();
        }
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &FedTable> {
        self.tables.values().map(|slot| &slot.table)
    }

    pub(crate) fn table_mut(&mut self, source_oid: u32) -> Option<&mut FedTable> {
        self.tables
            .get_mut(&RelationId::new(source_oid))
            .map(|slot| &mut slot.table)
    }

    /// Whether a copy as of `point` makes the table whole: no row from there on may have come without a column that the
    /// copy has. From now on none may come at all.
    pub(crate) fn whole_since(&mut self, source_oid: u32, point: Lsn) -> bool {
        let Some(slot) = self.tables.get_mut(&RelationId::new(source_oid)) else {
            return true;
        };
        if slot.lacking.take().is_some_and(|lacking| lacking >= point) {
            return false;
        }
        slot.copied = true;
        slot.forgives_altered_until = None;
        slot.plan = None;
        true
    }

    /// Source names of the tables that are not streaming.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .tables
            .values()
            .filter(|slot| slot.table.state != TableState::Streaming)
            .map(|slot| slot.table.lake().source.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// Takes one message in.
    ///
    /// # Errors
    /// A message out of place, or a table's error under `on_table_error = "hold"`.
    pub(crate) fn message(&mut self, message: Message, now: Instant) -> Result<(), FeederError> {
        if let Taken::Unknown(relation, altered) = self.take(&message, now)? {
            self.waiting = Some(Waiting::Change {
                relation,
                altered,
                message,
            });
        }
        Ok(())
    }

    fn take(&mut self, message: &Message, now: Instant) -> Result<Taken, FeederError> {
        match message {
            Message::Begin(begin) => {
                let skip = self.coordinator.begin(begin.final_lsn);
                self.transaction = Some(Transaction {
                    final_lsn: begin.final_lsn,
                    lsn: lsn_value(begin.final_lsn)?,
                    timestamp: begin.commit_time.unix_micros(),
                    seq: 0,
                    skip,
                });
                Ok(Taken::In)
            }
            Message::Commit(commit) => {
                let transaction = self.transaction.take();
                if transaction.is_some_and(|transaction| !transaction.skip) {
                    self.commit_timestamp = Some(commit.commit_time.unix_micros());
                }
                for id in self.touched.drain(..) {
                    if let Some(slot) = self.tables.get_mut(&id) {
                        slot.commit();
                    }
                }
                self.coordinator.commit(commit.end_lsn);
                Ok(Taken::In)
            }
            Message::Relation(relation) => {
                // Judged when its first row arrives: a relation of a skipped transaction may be long outdated.
                if let Some(slot) = self.tables.get_mut(&relation.id) {
                    slot.relation = Some(relation.clone());
                    slot.plan = None;
                }
                Ok(Taken::In)
            }
            Message::Insert(insert) => self.change(insert.relation, now, |slot, head| {
                slot.ensure_plan()?;
                slot.row(head, Op::Insert, &insert.new, None, None, now)?;
                Ok(1)
            }),
            Message::Update(update) => self.change(update.relation, now, |slot, head| {
                slot.ensure_plan()?;
                slot.update(head, update.old.as_ref(), &update.new, now)
            }),
            Message::Delete(delete) => self.change(delete.relation, now, |slot, head| {
                slot.ensure_plan()?;
                let old = delete.old.tuple();
                slot.row(head, Op::Delete, old, None, Some(old), now)?;
                Ok(1)
            }),
            Message::Truncate(truncate) => {
                for relation in truncate.relations() {
                    // It has no values: whatever shape the table has by now, it is told in the one that is known.
                    let taken = self.change(relation, now, |slot, head| {
                        let head = RowHead {
                            op: Op::Truncate,
                            ..head
                        };
                        RowEncoder::append_marker(&mut slot.batch, head)?;
                        Ok(1)
                    })?;
                    if let Taken::Unknown(..) = taken {
                        return Ok(taken);
                    }
                }
                Ok(Taken::In)
            }
            Message::Message(message) => {
                self.announced(message);
                Ok(Taken::In)
            }
            Message::Origin(_) | Message::Type(_) => Ok(Taken::In),
            other => Err(FeederError::permanent(
                FeederErrorKind::Source,
                format!("the server sent {other:?}, which was not asked for"),
            )),
        }
    }

    fn change(
        &mut self,
        relation: RelationId,
        now: Instant,
        append: impl FnOnce(&mut Slot, RowHead) -> Result<i64, ChangeError>,
    ) -> Result<Taken, FeederError> {
        let Some(transaction) = &mut self.transaction else {
            return Err(FeederError::permanent(
                FeederErrorKind::Source,
                format!("a change of relation {relation} arrived outside a transaction"),
            ));
        };
        if transaction.skip {
            return Ok(Taken::In);
        }
        // A publication made by the DBA may hold tables that are not fed.
        let Some(slot) = self.tables.get_mut(&relation) else {
            return Ok(Taken::In);
        };
        match slot.table.state {
            TableState::Paused => return Ok(Taken::In),
            TableState::Error => {
                if slot.table.discarded == slot.recorded {
                    // The count alone is worth an epoch.
                    self.coordinator.buffered(1, self.buffered, now);
                }
                slot.table.discarded += 1;
                return Ok(Taken::In);
            }
            _ => {}
        }
        let head = RowHead {
            op: Op::Insert,
            timestamp: transaction.timestamp,
            lsn: transaction.lsn,
            seq: transaction.seq,
        };
        if slot.batch.rows() == slot.committed_rows {
            self.touched.push(relation);
        }
        match append(slot, head) {
            Ok(rows) => {
                transaction.seq += rows;
                if slot.lacks_columns() {
                    slot.lacking = Some(transaction.final_lsn);
                }
                if slot.forgave_altered {
                    slot.table.copy_after = slot.table.copy_after.max(transaction.final_lsn);
                }
                let size = u64::try_from(slot.memory_size()).unwrap_or(u64::MAX);
                self.buffered += size.saturating_sub(slot.accounted);
                slot.accounted = size;
                let rows = u64::try_from(rows).unwrap_or_default();
                self.coordinator.buffered(rows, self.buffered, now);
                Ok(Taken::In)
            }
            Err(ChangeError::Feeder(error)) => Err(error),
            Err(ChangeError::Unknown { altered }) => Ok(Taken::Unknown(relation, altered)),
            Err(ChangeError::Table(reason)) => {
                let (final_lsn, seq) = (transaction.final_lsn, transaction.seq);
                self.fail_table(relation, final_lsn, seq, &reason, now)?;
                Ok(Taken::In)
            }
        }
    }

    /// Takes a table out: whole transactions before `lsn` stay, the rest is discarded until a resync (rule 7).
    pub(crate) fn fail_table(
        &mut self,
        relation: RelationId,
        lsn: Lsn,
        seq: i64,
        reason: &str,
        now: Instant,
    ) -> Result<(), FeederError> {
        let Some(slot) = self.tables.get_mut(&relation) else {
            return Ok(());
        };
        // What counts is where its changes began to be missing.
        if slot.table.state == TableState::Error {
            return Ok(());
        }
        let name = slot.table.lake().source.clone();
        let remedy = format!("mend the cause, then `duckfeeder resync {name}`");
        if self.on_table_error == OnTableError::Hold {
            return Err(FeederError::permanent(
                FeederErrorKind::Data,
                format!("{name} at {lsn}: {reason}"),
            )
            .with_remedy(format!(
                "on_table_error is \"hold\", so nothing is acknowledged and the WAL stays; {remedy}, or set it to \"isolate\""
            )));
        }
        tracing::error!(table = %name, lsn = %lsn, reason, remedy, "the table goes to state error; the others go on");
        slot.batch.abandon_row();
        let (committed, _open) = slot.split().map_err(internal)?;
        slot.closed = committed;
        slot.take_back_open();
        slot.before_failure = Some(slot.table.state);
        slot.fail(reason);
        let open = self.transaction.as_ref().map(|open| open.final_lsn);
        self.cut
            .push((slot.table.lake().source_oid, open.unwrap_or(lsn)));
        self.transitions.push(TableTransition::error(
            relation.get(),
            lsn,
            seq,
            reason.to_owned(),
        ));
        // The transition alone is worth an epoch.
        self.coordinator.buffered(1, self.buffered, now);
        Ok(())
    }

    /// A table whose failure is committed already: its rows are dropped.
    pub(crate) fn lost_table(&mut self, source_oid: u32, reason: &str) {
        if let Some(slot) = self.tables.get_mut(&RelationId::new(source_oid)) {
            slot.clear();
            slot.take_back();
            slot.fail(reason);
            slot.before_failure = None;
            self.transitions
                .retain(|transition| transition.source_oid != source_oid);
        }
    }

    /// Before a stop inside a transaction: its rows are dropped, they are sent again at the next start. Returns the
    /// end of the epoch with the transactions before it, if there is any.
    pub(crate) fn cut_open_transaction(&mut self) -> Result<Option<Part>, FeederError> {
        let mut committed = Vec::new();
        self.waiting = None;
        for slot in self.tables.values_mut() {
            let (head, _open) = slot.split().map_err(internal)?;
            committed.extend(head);
            slot.take_back_open();
        }
        let open = self.transaction.take().map(|open| open.final_lsn);
        self.touched.clear();
        self.coordinator.abandon_transaction();
        // Parts that were handed over may hold whole transactions, or rows of the open one.
        if self.coordinator.spilled() {
            let tables = self.tables.keys().map(|id| id.get());
            self.cut.extend(
                open.into_iter()
                    .flat_map(|lsn| tables.clone().map(move |id| (id, lsn))),
            );
        } else if committed.is_empty() && self.transitions.is_empty() && !self.evolves() {
            self.emptied();
            return Ok(None);
        }
        Ok(Some(self.closed(committed)))
    }

    /// Everything buffered as the last part of an epoch. Call at a transaction boundary.
    pub(crate) fn seal(&mut self) -> Result<Part, FeederError> {
        let mut batches = Vec::new();
        for slot in self.tables.values_mut() {
            batches.extend(slot.finish().map_err(internal)?);
        }
        Ok(self.closed(batches))
    }

    /// Inside a transaction that outgrows the memory: its committed rows as the end of an epoch (if there are any),
    /// and the open transaction's rows as a part of the next.
    pub(crate) fn spill(&mut self) -> Result<(Option<Part>, Part), FeederError> {
        let mut committed = Vec::new();
        let mut open = Vec::new();
        for slot in self.tables.values_mut() {
            let (head, tail) = slot.split().map_err(internal)?;
            committed.extend(head);
            open.extend(tail);
        }
        let transaction = self.transaction.as_ref().map(|open| open.final_lsn);
        // Batches are slices of one allocation: it is free when the last of them is, so the open part pays.
        let bytes = self.buffered;
        let head = (!committed.is_empty()).then(|| {
            let mut part = self.closed(committed);
            part.bytes = 0;
            part
        });
        let tail = Part {
            batches: open,
            bytes,
            transaction,
            end: None,
        };
        self.coordinator.handed_over(bytes, false);
        self.emptied();
        Ok((head, tail))
    }

    fn closed(&mut self, batches: Vec<TableBatch>) -> Part {
        let evolutions = self.close_evolutions();
        for slot in self.tables.values_mut() {
            slot.before_failure = None;
            let dropped = slot.table.discarded.saturating_sub(slot.recorded);
            if dropped > 0 {
                let source_oid = slot.table.lake().source_oid;
                self.transitions
                    .push(TableTransition::discarded(source_oid, dropped));
                slot.recorded = slot.table.discarded;
            }
        }
        let to = self.coordinator.received();
        let bytes = self.buffered;
        let end = EpochEnd {
            to,
            commit_timestamp: self.commit_timestamp.take(),
            evolutions,
            transitions: std::mem::take(&mut self.transitions),
            cut: std::mem::take(&mut self.cut),
            incomplete: self.incomplete(),
        };
        let in_transaction = self.coordinator.in_transaction();
        self.coordinator
            .handed_over(if in_transaction { 0 } else { bytes }, true);
        if !in_transaction {
            self.emptied();
        }
        Part {
            batches,
            bytes,
            transaction: None,
            end: Some(end),
        }
    }

    fn emptied(&mut self) {
        self.buffered = 0;
        self.coordinator.emptied();
    }

    /// Binary rows can be asked for only if every column of every table is decoded here (rule 9).
    pub(crate) fn binary(&self) -> bool {
        self.tables
            .values()
            .flat_map(|slot| &slot.table.version.columns)
            .all(|column| column.reader.binary())
    }
}

fn lsn_value(lsn: Lsn) -> Result<i64, FeederError> {
    i64::try_from(lsn.get()).map_err(|_too_large| {
        FeederError::permanent(FeederErrorKind::Source, format!("LSN {lsn} is beyond 2^63"))
    })
}

fn internal(error: parquet_writer::WriteError) -> FeederError {
    FeederError::permanent(FeederErrorKind::Internal, "a batch could not be built")
        .with_source(error)
}

#[cfg(test)]
mod tests;
