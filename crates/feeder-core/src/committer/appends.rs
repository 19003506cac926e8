//! Appended rows, in the commits of the epochs or in commits of their own.

use std::sync::Arc;

use ducklake_catalog::{CatalogError, ChangeSet, TableRef};
use storage::ObjectPath;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Commit, CommitFailure, Committer, tell};
use crate::append::{self, Buffers, Sealed, SealedTable, WrittenTable};
use crate::control::{AppendPosition, answered};
use crate::epoch::{Report, Work};
use crate::error::{FeederError, FeederErrorKind};
use crate::failpoint::{self, Failpoint};
use crate::file::UploadedFile;
use crate::jsonl::JsonLinesWriter;
use crate::meters::Origin;
use crate::retry::Backoff;

/// Where appended rows come from, and what is known of where they go.
pub(crate) struct AppendWriter {
    buffers: Arc<Buffers>,
    /// Tables that rows were appended to, by their place in the buffers.
    written: Vec<(usize, WrittenTable)>,
}

impl AppendWriter {
    pub(crate) fn new(buffers: &Arc<Buffers>) -> Self {
        Self {
            buffers: Arc::clone(buffers),
            written: Vec::new(),
        }
    }
}

/// Appended rows that are uploaded and wait for their commit.
#[derive(Debug, Default)]
pub(super) struct Uploaded {
    pub(super) files: Vec<UploadedFile>,
    pub(super) positions: Vec<AppendPosition>,
    sealed: Option<Arc<Sealed>>,
}

impl Uploaded {
    pub(super) const NOTHING: Self = Self {
        files: Vec::new(),
        positions: Vec::new(),
        sealed: None,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn names(&self, error: &CatalogError) -> bool {
        self.files.iter().any(|file| {
            let table = &file.table;
            error.object() == format!("table {}", table.target)
                || error.object() == format!("table {}", table.table_id)
        })
    }
}

impl From<CommitFailure> for FeederError {
    fn from(failure: CommitFailure) -> Self {
        match failure {
            CommitFailure::Table(_, error)
            | CommitFailure::Lost(error)
            | CommitFailure::Appended(error)
            | CommitFailure::Other(error) => error,
        }
    }
}

impl Committer {
    /// What to do next: the intake's work first, and appended rows that have waited long enough.
    pub(super) async fn next(&self, work: &mut mpsc::Receiver<Work>) -> Option<Work> {
        tokio::select! {
            biased;
            item = work.recv() => item,
            () = self.appends.buffers.due() => Some(Work::Appends),
        }
    }

    /// Commits appended rows alone; the checkpoint stays where it is.
    pub(super) async fn appends(
        &mut self,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        let mut uploaded = self.upload_appends(reports).await?;
        while !uploaded.is_empty() {
            let commit = Commit {
                files: &[],
                appended: &uploaded,
                evolutions: &[],
                copied: None,
                to: self.checkpoint,
                source_time: None,
                transitions: &[],
                incomplete: &[],
                origin: Origin::Append,
            };
            match self.commit(&commit, reports).await {
                Ok(snapshot) => {
                    failpoint::reach(Failpoint::CommitAfter);
                    self.settle_appends(&uploaded, snapshot);
                    return tell(reports, Report::Appended { snapshot }).await;
                }
                Err(CommitFailure::Appended(error)) => {
                    uploaded = self.upload_appends_again(error, reports).await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }

    /// Takes what is buffered, and uploads it.
    pub(super) async fn upload_appends(
        &mut self,
        reports: &mpsc::Sender<Report>,
    ) -> Result<Uploaded, FeederError> {
        let Some(sealed) = self.appends.buffers.seal()? else {
            return Ok(Uploaded::default());
        };
        let tables = self.append_tables(&sealed, reports).await?;
        let mut uploaded = Uploaded::default();
        for sealed in &sealed.tables {
            if let Some(name) = sealed.json_lines {
                self.upload_json_lines(sealed, name, reports).await?;
                uploaded.positions.extend_from_slice(&sealed.positions);
                continue;
            }
            // Without one, its rows were given up.
            let found = tables.iter().find(|(index, _)| *index == sealed.index);
            let Some((_, written)) = found else { continue };
            let schema = written.table.schema.arrow_schema();
            let batches = sealed
                .chunks
                .iter()
                .map(|chunk| append::for_file(&chunk.batch, &schema))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| {
                    let message = format!("rows of {}", written.table.target);
                    FeederError::permanent(FeederErrorKind::Internal, message).with_source(error)
                })?;
            let file = self.upload(&written.table, &batches, reports).await?;
            uploaded.files.push(file);
            uploaded.positions.extend_from_slice(&sealed.positions);
        }
        if uploaded.is_empty() {
            // Nothing for the lake: no snapshot tells how far the producers are.
            self.move_positions(&uploaded.positions, reports).await?;
            self.appends.buffers.settle(0);
            return Ok(Uploaded::default());
        }
        uploaded.sealed = Some(sealed);
        Ok(uploaded)
    }

    async fn upload_json_lines(
        &self,
        sealed: &SealedTable,
        name: Uuid,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        let path = format!("{}/{}/duckfeeder-{name}.jsonl", sealed.schema, sealed.table);
        let path = ObjectPath::parse(&path).map_err(|error| {
            FeederError::permanent(FeederErrorKind::Config, format!("path {path}"))
                .with_source(error)
        })?;
        let mut backoff = Backoff::new();
        loop {
            let storage = Arc::clone(&self.storage);
            let mut writer = JsonLinesWriter::new(storage, path.clone());
            let written = async {
                for chunk in &sealed.chunks {
                    writer.write(chunk.batch.clone()).await?;
                }
                Ok(())
            };
            let written: Result<(), FeederError> = written.await;
            let stored = match written {
                Ok(()) => writer.finish().await.map(drop),
                Err(error) => {
                    writer.abort().await;
                    Err(error)
                }
            };
            match stored {
                Err(error) if error.is_transient() => {
                    self.wait(&mut backoff, "upload", error, reports).await?;
                }
                done => return done,
            }
        }
    }

    async fn move_positions(
        &self,
        positions: &[AppendPosition],
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), FeederError> {
        let mut backoff = Backoff::new();
        // Repeating it after a lost answer is harmless (I11).
        while let Err(error) =
            answered(self.control.move_append_positions(&self.fence, positions)).await
        {
            if !error.is_transient() {
                return Err(error);
            }
            self.wait(&mut backoff, "commit", error, reports).await?;
        }
        Ok(())
    }

    /// After somebody else changed a table: what it is now is looked up, and its rows are written anew.
    pub(super) async fn upload_appends_again(
        &mut self,
        error: FeederError,
        reports: &mpsc::Sender<Report>,
    ) -> Result<Uploaded, FeederError> {
        tracing::info!(
            error = error.explained(),
            "a table of appended rows was changed by somebody else"
        );
        self.appends.written.clear();
        self.upload_appends(reports).await
    }

    /// They are in the lake.
    pub(super) fn settle_appends(&self, uploaded: &Uploaded, snapshot: i64) {
        if uploaded.sealed.is_some() {
            self.meters.appended(&uploaded.files);
            self.appends.buffers.settle(snapshot);
        }
    }

    /// The lake's tables for what is sealed, made where they are missing.
    async fn append_tables(
        &mut self,
        sealed: &Sealed,
        reports: &mpsc::Sender<Report>,
    ) -> Result<Vec<(usize, WrittenTable)>, FeederError> {
        let known = |index: usize, columns: usize| {
            let of = |(known, written): &&(usize, WrittenTable)| {
                *known == index && written.columns == columns
            };
            self.appends.written.iter().find(of).cloned()
        };
        let in_lake = sealed.tables.iter();
        let in_lake: Vec<&SealedTable> =
            in_lake.filter(|table| table.json_lines.is_none()).collect();
        let all: Option<Vec<_>> = in_lake
            .iter()
            .map(|table| known(table.index, table.columns.len()))
            .collect();
        if let Some(all) = all {
            return Ok(all);
        }
        let mut backoff = Backoff::new();
        let ensured = loop {
            let ensured = append::ensure(
                &self.catalog,
                &self.control,
                &self.fence,
                self.checkpoint,
                &in_lake,
            );
            match ensured.await {
                Ok(ensured) => break ensured,
                Err(error) if error.is_transient() => {
                    self.wait(&mut backoff, "commit", error, reports).await?;
                }
                Err(error) => return Err(error),
            }
        };
        let mut tables = Vec::with_capacity(ensured.len());
        for (index, result) in ensured {
            self.appends.written.retain(|(known, _)| *known != index);
            match result {
                Ok(written) => tables.push((index, written)),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => self.appends.buffers.break_table(index, error),
            }
        }
        self.appends.written.extend(tables.iter().cloned());
        Ok(tables)
    }
}

/// Adds appended files to the changes of a commit.
pub(super) fn add(changes: &mut ChangeSet, uploaded: &Uploaded) {
    for file in &uploaded.files {
        let table = TableRef::Existing(file.table.table_id);
        changes.expect_columns(table, file.table.expected_columns());
        changes.append_file(table, file.data.clone());
    }
}

/// What a snapshot of appended rows alone says. Whether the change tables are complete it does not know: they are as they
/// were in the snapshot before.
pub(super) fn describe(feeder: &str) -> ChangeSet {
    let extra = serde_json::json!({ "feeder": feeder, "appended": true });
    ChangeSet::new()
        .with_author("duckfeeder")
        .with_message(format!("{feeder}: appended rows"))
        .with_extra_info(extra.to_string())
}
