//! Encodes, uploads and commits, strictly in order: the only task that writes to the lake.
//!
//! ```text
//!   Part ... Part(end) --encode, upload--> files --one catalog transaction--> Report::Committed
//! ```
//!
//! A failed upload or commit is tried again for ever with backoff (I5), and the intake pauses when its memory is
//! used up. A lost answer to COMMIT is resolved by reading the checkpoint row (I11).

mod appends;
mod change_set;
mod files_hook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use ducklake_catalog::{Catalog, CatalogErrorKind};
use parquet_writer::EncodeOptions;
use pgoutput::Lsn;
use storage::Storage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control::{
    Control, ControlError, EpochHook, Fence, Resolution, TableChange, TableTransition, answered,
};
use crate::epoch::{CopiedTable, EpochEnd, Part, Report, TableBatch, Work};
use crate::error::{FeederError, FeederErrorKind, control_error, from_catalog};
use crate::evolution::Evolution;
use crate::failpoint::{self, Failpoint};
use crate::file::{FileWriter, LakeTable, UploadedFile};
use crate::meters::{Meters, Origin, Stage};
use crate::retry::Backoff;
use crate::version::TableVersion;

pub(crate) use self::appends::AppendWriter;
use self::appends::Uploaded;
use self::files_hook::{FileError, FilesHook};

/// Below this, cleaning by DuckDB can reach files that wait for their commit.
pub(crate) const SAFE_DELETE_OLDER_THAN: Duration = Duration::from_hours(24);

/// See the module's documentation.
pub(crate) struct Committer {
    pub(crate) catalog: Catalog,
    pub(crate) control: Control,
    pub(crate) fence: Arc<Fence>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) feeder: String,
    pub(crate) options: EncodeOptions,
    pub(crate) checkpoint: Lsn,
    /// Files of the epoch that is being built, with the transaction that was open when they were handed over.
    pub(crate) files: Vec<(Option<Lsn>, UploadedFile)>,
    pub(crate) stop: CancellationToken,
    pub(crate) meters: Meters,
    pub(crate) appends: AppendWriter,
}

/// What one commit adds.
struct Commit<'a> {
    files: &'a [UploadedFile],
    appended: &'a Uploaded,
    evolutions: &'a [Evolution],
    /// Tables as they are in the lake, and are to have their view, where they come with a copy.
    copied: Option<&'a TableVersion>,
    to: Lsn,
    source_time: Option<i64>,
    transitions: &'a [TableTransition],
    incomplete: &'a [String],
    origin: Origin,
}

enum CommitFailure {
    /// The lake's table was changed by somebody else.
    Table(Arc<LakeTable>, FeederError),
    /// A file disappeared before its commit. Trying again cannot help; sending its rows again does.
    Lost(FeederError),
    /// A table of appended rows was changed by somebody else.
    Appended(FeederError),
    Other(FeederError),
}

impl Committer {
    /// Works until the channel closes or an error proves permanent.
    pub(crate) async fn run(
        mut self,
        mut work: mpsc::Receiver<Work>,
        reports: mpsc::Sender<Report>,
    ) {
        while let Some(item) = self.next(&mut work).await {
            if let Err(error) = self.handle(item, &reports).await {
                // The intake may be gone already; then nobody is left to tell.
                let _closed = reports.send(Report::Failed(error)).await;
                return;
            }
        }
    }

    async fn handle(
        &mut self,
        work: Work,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        match work {
            Work::Part(part) => self.part(part, reports).await,
            Work::Copy(copy) => self.copy(copy, reports).await,
            Work::Appends => self.appends(reports).await,
            Work::Idle(to) => self.advance(to, None, &[], reports).await,
            Work::Discard(done) => {
                self.files.clear();
                let _gone = done.send(());
                Ok(())
            }
        }
    }

    async fn part(
        &mut self,
        part: Part,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        for TableBatch { table, rows } in part.batches {
            if rows.num_rows() > 0 {
                let file = self.upload(&table, &[rows], reports).await?;
                if file.is_dead_letters() {
                    failpoint::reach(Failpoint::DeadLettersUploaded);
                }
                self.files.push((part.transaction, file));
            }
        }
        if part.end.is_none() {
            failpoint::reach(Failpoint::SpillUploaded);
        }
        tell(reports, Report::PartDone { bytes: part.bytes }).await?;
        match part.end {
            Some(end) => self.epoch(end, reports).await,
            None => Ok(()),
        }
    }

    async fn upload(
        &self,
        table: &Arc<LakeTable>,
        rows: &[RecordBatch],
        reports: &mpsc::Sender<Report>,
    ) -> Result<UploadedFile, FeederError> {
        let mut backoff = Backoff::new();
        loop {
            let attempt = self.try_upload(table, rows).await;
            match attempt {
                Err(error) if error.is_transient() => {
                    self.wait(&mut backoff, "upload", error, reports).await?;
                }
                done => return done,
            }
        }
    }

    async fn try_upload(
        &self,
        table: &Arc<LakeTable>,
        rows: &[RecordBatch],
    ) -> Result<UploadedFile, FeederError> {
        let name = LakeTable::new_file_name();
        let path = table.object_path(&name);
        let files = [(path, table.table_id.get())];
        answered(self.control.declare_files(&self.fence, &files)).await?;
        let mut writer = FileWriter::new(
            Arc::clone(&self.storage),
            Arc::clone(table),
            name,
            &self.options,
        )?;
        for rows in rows {
            if let Err(error) = writer.write(rows.clone()).await {
                writer.abort().await;
                return Err(error);
            }
        }
        writer.finish().await
    }

    async fn epoch(
        &mut self,
        end: EpochEnd,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        // A table that failed keeps its whole transactions before the failure (rule 7).
        let mut files: Vec<UploadedFile> = std::mem::take(&mut self.files)
            .into_iter()
            .filter(|(open, file)| {
                !end.cut
                    .iter()
                    .any(|(table, lsn)| *table == file.table.source_oid && Some(*lsn) == *open)
            })
            .map(|(_, file)| file)
            .collect();
        let mut evolutions = end.evolutions;
        let mut transitions = end.transitions;
        transitions.extend(unrepresentable(&files));
        let mut incomplete = end.incomplete;
        let mut appended = self.upload_appends(reports).await?;
        let snapshot = loop {
            let untouched = !evolutions.iter().any(Evolution::touches_lake);
            if files.is_empty() && appended.is_empty() && untouched {
                transitions.splice(0..0, change_set::shapes(&evolutions)?);
                return self
                    .advance(end.to, end.commit_timestamp, &transitions, reports)
                    .await;
            }
            let commit = Commit {
                files: &files,
                appended: &appended,
                evolutions: &evolutions,
                copied: None,
                to: end.to,
                source_time: end.commit_timestamp,
                transitions: &transitions,
                incomplete: &incomplete,
                origin: Origin::Stream,
            };
            match self.commit(&commit, reports).await {
                Ok(snapshot) => {
                    failpoint::reach(Failpoint::CommitAfter);
                    break snapshot;
                }
                Err(CommitFailure::Table(table, error)) => {
                    // Rule 17: the others go on without it.
                    tracing::error!(table = %table.source, error = %error, "the table's lake table was changed by somebody else");
                    files.retain(|file| file.table.source_oid != table.source_oid);
                    evolutions.retain(|step| step.to.lake.source_oid != table.source_oid);
                    transitions.retain(|transition| transition.source_oid != table.source_oid);
                    let reason = error.to_string();
                    transitions.push(TableTransition::error(
                        table.source_oid,
                        self.checkpoint,
                        0,
                        reason.clone(),
                    ));
                    incomplete.push(table.source.clone());
                    let source_oid = table.source_oid;
                    tell(
                        reports,
                        Report::TableFailed {
                            source_oid,
                            reason,
                            recorded: true,
                        },
                    )
                    .await?;
                }
                Err(CommitFailure::Appended(error)) => {
                    appended = self.upload_appends_again(error, reports).await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        };
        self.settle_appends(&appended, snapshot);
        let mut rows: BTreeMap<u32, u64> = BTreeMap::new();
        for file in files.iter().filter(|file| !file.is_dead_letters()) {
            *rows.entry(file.table.source_oid).or_default() += file.data.record_count;
        }
        self.checkpoint = end.to;
        let report = Report::Committed {
            to: end.to,
            snapshot: Some(snapshot),
            commit_timestamp: end.commit_timestamp,
            rows: rows.into_iter().collect(),
            unrepresentable: transitions.iter().filter_map(count).collect(),
        };
        tell(reports, report).await
    }

    async fn copy(
        &mut self,
        copy: CopiedTable,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        let mut transitions = vec![copy.transition];
        transitions.extend(unrepresentable(&copy.files));
        let commit = Commit {
            files: &copy.files,
            appended: &Uploaded::NOTHING,
            evolutions: &[],
            copied: Some(&copy.version),
            to: self.checkpoint,
            source_time: None,
            transitions: &transitions,
            incomplete: &copy.incomplete,
            origin: Origin::Copy,
        };
        let source_oid = copy.version.lake.source_oid;
        failpoint::reach(Failpoint::CopyBeforeCommit);
        match self.commit(&commit, reports).await {
            Ok(snapshot) => {
                failpoint::reach(Failpoint::CopyCommitted);
                tracing::info!(table = %copy.version.lake.source, rows = copy.rows, point = %copy.point, snapshot, "the copy is in the lake");
                tell(
                    reports,
                    Report::CopyCommitted {
                        source_oid,
                        snapshot,
                        unrepresentable: transitions
                            .iter()
                            .filter_map(count)
                            .map(|(_, values)| values)
                            .sum(),
                    },
                )
                .await
            }
            Err(CommitFailure::Table(_, error)) => {
                let reason = error.to_string();
                tell(
                    reports,
                    Report::TableFailed {
                        source_oid,
                        reason,
                        recorded: false,
                    },
                )
                .await
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Moves the checkpoint without a snapshot: nothing is added to the lake.
    async fn advance(
        &mut self,
        to: Lsn,
        source_time: Option<i64>,
        transitions: &[TableTransition],
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        let mut backoff = Backoff::new();
        failpoint::reach(Failpoint::AdvanceBefore);
        // Repeating it after a lost answer is harmless (I11).
        while let Err(error) =
            answered(
                self.control
                    .advance_checkpoint(&self.fence, self.checkpoint, to, transitions),
            )
            .await
        {
            if !error.is_transient() || ControlError::is_of_directive(&error) {
                return Err(error);
            }
            self.wait(&mut backoff, "checkpoint", error, reports)
                .await?;
        }
        failpoint::reach(Failpoint::AdvanceAfter);
        self.checkpoint = to;
        let report = Report::Committed {
            to,
            snapshot: None,
            commit_timestamp: source_time,
            rows: Vec::new(),
            unrepresentable: Vec::new(),
        };
        tell(reports, report).await
    }

    /// Commits until it is in the catalog, or an error proves permanent.
    async fn commit(
        &self,
        commit: &Commit<'_>,
        reports: &mpsc::Sender<Report>,
    ) -> Result<i64, CommitFailure> {
        let mut backoff = Backoff::new();
        let began = Instant::now();
        loop {
            match self.try_commit(commit).await {
                Ok(snapshot) => {
                    self.meters
                        .committed(commit.origin, commit.files, commit.source_time);
                    if matches!(commit.origin, Origin::Stream) {
                        self.measure(commit.files, began.elapsed());
                    }
                    return Ok(snapshot);
                }
                Err(CommitFailure::Other(error)) if error.is_transient() => {
                    self.wait(&mut backoff, "commit", error, reports)
                        .await
                        .map_err(CommitFailure::Other)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// An epoch's files are encoded and uploaded one after the other.
    fn measure(&self, files: &[UploadedFile], commit: Duration) {
        let encode = files.iter().map(|file| file.took.encode).sum();
        let upload = files.iter().map(|file| file.took.upload).sum();
        self.meters.stage(Stage::Encode, encode);
        self.meters.stage(Stage::Upload, upload);
        self.meters.stage(Stage::Commit, commit);
    }

    async fn try_commit(&self, commit: &Commit<'_>) -> Result<i64, CommitFailure> {
        let attempt = Uuid::now_v7();
        let files: Vec<&UploadedFile> = commit.files.iter().chain(&commit.appended.files).collect();
        let (changes, shapes) =
            change_set::of(&self.feeder, commit).map_err(CommitFailure::Other)?;
        let mut transitions = shapes;
        transitions.extend_from_slice(commit.transitions);
        let epoch = EpochHook::new(
            &self.fence,
            attempt,
            self.checkpoint,
            commit.to,
            commit.source_time,
            transitions,
            files.iter().map(|file| file.object_path.clone()).collect(),
        )
        .with_append_positions(commit.appended.positions.clone());
        let mut hook = FilesHook {
            epoch,
            files: &files,
            storage: self.storage.as_ref(),
        };
        if matches!(commit.origin, Origin::Stream) {
            failpoint::oversleep(Failpoint::CommitOverslept).await;
        }
        let snapshot = match self.catalog.commit(&changes, &mut hook).await {
            Ok(_) if failpoint::is_due(Failpoint::CommitAnswerLost) => {
                let lost = "the answer to COMMIT is thrown away";
                let lost = FeederError::transient(FeederErrorKind::Catalog, lost);
                self.resolve(attempt, lost).await?
            }
            Ok(committed) => {
                let grace = committed.file_deletion_grace;
                files_hook::verify(self.storage.as_ref(), &files, grace).await;
                committed.id.get()
            }
            Err(error) if error.commit_outcome_unknown() => {
                tracing::warn!(error = %error, "the answer to COMMIT is lost; reading the checkpoint row");
                self.resolve(attempt, from_catalog(error)).await?
            }
            Err(error) => return Err(classify(commit, error)),
        };
        Ok(snapshot)
    }

    /// I11: whether the attempt is in the catalog is what the feeder row says, once it can be read.
    async fn resolve(&self, attempt: Uuid, lost: FeederError) -> Result<i64, CommitFailure> {
        let mut backoff = Backoff::new();
        loop {
            match answered(self.control.resolve_attempt(&self.fence, attempt)).await {
                Ok(Resolution::Committed { snapshot }) => return Ok(snapshot),
                Ok(Resolution::NotCommitted) => {
                    return Err(CommitFailure::Other(transient(&lost)));
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(error = %error, "the checkpoint row cannot be read yet");
                    self.meters.retry("resolve");
                    self.sleep(&mut backoff)
                        .await
                        .map_err(CommitFailure::Other)?;
                }
                Err(error) => return Err(CommitFailure::Other(error)),
            }
        }
    }

    async fn wait(
        &self,
        backoff: &mut Backoff,
        what: &'static str,
        error: FeederError,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        let error = match error.kind() {
            FeederErrorKind::Catalog => error.about(self.catalog.label()),
            _ => error,
        };
        let text = format!("{what}: {}", error.explained());
        self.meters.retry(what);
        tracing::warn!(
            what,
            error = error.explained(),
            remedy = error.remedy(),
            "trying again"
        );
        if error.kind() == FeederErrorKind::Storage {
            let note = match error.remedy() {
                Some(remedy) => format!("{text}; {remedy}"),
                None => text.clone(),
            };
            if let Err(error) = self.control.note_waiting(&self.fence, &note).await {
                // What it is about shows again with the next write to the catalog.
                tracing::debug!(error = %error, "the catalog does not take the note for `status`");
            }
        }
        tell(reports, Report::Retrying { error: text }).await?;
        self.sleep(backoff).await
    }

    async fn sleep(&self, backoff: &mut Backoff) -> Result<(), FeederError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(FeederError::transient(
                FeederErrorKind::Catalog,
                "stopped while a commit was being tried again; nothing is lost, the changes are still at the source",
            )),
            () = tokio::time::sleep(backoff.next()) => Ok(()),
        }
    }
}

/// What the files of dead letters add to the tables' counts.
fn unrepresentable(files: &[UploadedFile]) -> Vec<TableTransition> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_dead_letters()) {
        *counts.entry(file.table.source_oid).or_default() += file.data.record_count;
    }
    counts
        .into_iter()
        .map(|(source_oid, values)| TableTransition::unrepresentable(source_oid, values))
        .collect()
}

fn count(transition: &TableTransition) -> Option<(u32, u64)> {
    match transition.change {
        TableChange::Unrepresentable(values) => Some((transition.source_oid, values)),
        _ => None,
    }
}

fn classify(commit: &Commit<'_>, error: ducklake_catalog::CatalogError) -> CommitFailure {
    // The same commit can never succeed; beginning again at the checkpoint can.
    let cause = std::error::Error::source(&error);
    if let Some(FileError::Lost(lost)) = cause.and_then(|cause| cause.downcast_ref()) {
        return CommitFailure::Lost(transient(lost).with_remedy(LOST_FILE_REMEDY));
    }
    if matches!(
        control_error(&error),
        Some(
            ControlError::CheckpointMoved { .. }
                | ControlError::FilesClaimed { .. }
                | ControlError::DirectiveGone { .. }
        )
    ) {
        return CommitFailure::Lost(from_catalog(error));
    }
    if *error.kind() == CatalogErrorKind::TableChanged {
        if commit.appended.names(&error) {
            return CommitFailure::Appended(from_catalog(error));
        }
        let changed = commit.evolutions.iter().map(|step| &step.to.lake);
        let table = commit
            .files
            .iter()
            .map(|file| &file.table)
            .chain(changed)
            .find(|table| {
                // One that was dropped has no name any more.
                error.object() == format!("table {}", table.target)
                    || error.object() == format!("table {}", table.table_id)
            })
            .map(Arc::clone);
        if let Some(table) = table {
            return CommitFailure::Table(table, from_catalog(error));
        }
    }
    CommitFailure::Other(from_catalog(error))
}

fn transient(error: &FeederError) -> FeederError {
    FeederError::transient(error.kind(), error.to_string())
}

/// What an operator can do about files that are cleaned away. Their rows are still in the WAL.
const LOST_FILE_REMEDY: &str = "raise the lake's delete_older_than to two days or more; nothing is lost, the rows are sent again";

async fn tell(reports: &mpsc::Sender<Report>, report: Report) -> Result<(), FeederError> {
    reports
        .send(report)
        .await
        .map_err(|_closed| FeederError::permanent(FeederErrorKind::Internal, "the intake is gone"))
}
