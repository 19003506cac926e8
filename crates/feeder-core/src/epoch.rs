//! What passes between the intake, the copies and the committer.

use std::sync::Arc;

use arrow_array::RecordBatch;
use pgoutput::Lsn;
use tokio::sync::oneshot;

use crate::control::TableTransition;
use crate::error::FeederError;
use crate::evolution::Evolution;
use crate::file::{LakeTable, UploadedFile};
use crate::version::TableVersion;

/// Work for the committer, done strictly in order.
#[derive(Debug)]
pub(crate) enum Work {
    /// Rows of the epoch that is being built.
    Part(Part),
    /// A table's finished copy: commit it beside the epochs.
    Copy(CopiedTable),
    /// Appended rows have waited long enough.
    Appends,
    /// Move the checkpoint row alone.
    Idle(Lsn),
    /// The source failed: forget the epoch that is being built (I4). Answers when everything before is done.
    Discard(oneshot::Sender<()>),
}

/// What an epoch adds, or a piece of it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) batches: Vec<TableBatch>,
    /// The memory that the batches are accounted with.
    pub(crate) bytes: u64,
    /// The transaction that all of these rows belong to, when it was still open.
    pub(crate) transaction: Option<Lsn>,
    /// Set on the last part of an epoch.
    pub(crate) end: Option<EpochEnd>,
}

/// Rows of one table.
#[derive(Debug)]
pub(crate) struct TableBatch {
    pub(crate) table: Arc<LakeTable>,
    pub(crate) rows: RecordBatch,
}

/// Where an epoch ends, and what commits with it.
#[derive(Clone, Debug)]
pub(crate) struct EpochEnd {
    /// Exclusive (I3).
    pub(crate) to: Lsn,
    /// Commit time of its last transaction, in microseconds since 1970-01-01 UTC.
    pub(crate) commit_timestamp: Option<i64>,
    /// Changes of tables' definitions, in the order of each table.
    pub(crate) evolutions: Vec<Evolution>,
    pub(crate) transitions: Vec<TableTransition>,
    /// Tables that failed inside a transaction whose rows were handed over before: source OID and transaction.
    pub(crate) cut: Vec<(u32, Lsn)>,
    /// Tables, by source name, that are not streaming; a snapshot without any is complete.
    pub(crate) incomplete: Vec<String>,
}

/// A table whose rows are copied and uploaded.
#[derive(Debug)]
pub(crate) struct CopiedTable {
    /// As the lake has it when this is committed; the files may be of an earlier version.
    pub(crate) version: Arc<TableVersion>,
    /// The consistent point.
    pub(crate) point: Lsn,
    pub(crate) files: Vec<UploadedFile>,
    pub(crate) rows: u64,
    /// Source shape that the copy saw.
    pub(crate) transition: TableTransition,
    /// Tables that are not streaming once this one is.
    pub(crate) incomplete: Vec<String>,
}

/// What the committer tells the intake.
#[derive(Debug)]
pub(crate) enum Report {
    /// A part is uploaded: its memory is free.
    PartDone { bytes: u64 },
    /// An epoch or an idle checkpoint is in the catalog.
    Committed {
        to: Lsn,
        snapshot: Option<i64>,
        /// Commit time of the last transaction in it, in microseconds since 1970-01-01 UTC.
        commit_timestamp: Option<i64>,
        /// Rows by source OID.
        rows: Vec<(u32, u64)>,
        /// Values that went to the dead letters, by source OID.
        unrepresentable: Vec<(u32, u64)>,
    },
    /// A copy is in the catalog.
    CopyCommitted {
        source_oid: u32,
        snapshot: i64,
        /// Values that went to the dead letters.
        unrepresentable: u64,
    },
    /// Appended rows are in the catalog, without an epoch.
    Appended { snapshot: i64 },
    /// A table can no longer be written.
    TableFailed {
        source_oid: u32,
        reason: String,
        /// Whether its state is in the control tables already.
        recorded: bool,
    },
    /// An error is being waited out.
    Retrying { error: String },
    /// The committer gave up.
    Failed(FeederError),
}
