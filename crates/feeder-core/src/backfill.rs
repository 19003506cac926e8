//! The first copy of a table: a snapshot of the source, straight into Parquet, beside the running stream.
//!
//! ```text
//!   slot (main or temporary) --exports--> snapshot at S --imported and exported again by--> the leader
//!   leader's snapshot --imported by--> workers, one transaction per ctid range --> files
//!   all ranges of a table done --> CopyEvent::Done, committed once the checkpoint has reached S
//! ```
//!
//! Each range is a transaction of its own that locks the table and compares its shape as of the snapshot with the
//! current one (rule 2 of ARCHITECTURE.md): DDL or TRUNCATE in between sends the table through another round.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cdc_source::{
    Connection, CopySession, CtidRange, Endpoint, SessionKind, SourceErrorKind, shape,
};
use parquet_writer::{EncodeOptions, RowBatchBuilder};
use pgoutput::{CopyBinaryDecoder, Lsn};
use storage::Storage;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, Fence};
use crate::copy_round::{CopyRequest, CopySnapshot, Leaf};
use crate::dead_letters::DeadLetters;
use crate::encode::{Op, RowEncoder, RowHead};
use crate::error::{FeederError, FeederErrorKind, from_source};
use crate::evolution::Found;
use crate::failpoint::{self, Failpoint};
use crate::file::{FileWriter, UploadedFile};
use crate::layout::SourceColumn;
use crate::table_look::LookedAt;

mod new_file;

/// Heap pages of one range: 128 MiB, which makes files of some ten megabytes.
const RANGE_PAGES: NonZeroU32 = NonZeroU32::new(16_384).unwrap();
/// Rows are handed to the encoder in batches of about this many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// `_df_seq` of the row that begins a copy: lower than that of any row it copies.
const RESET_SEQ: i64 = -(1 << 62);
/// Each range numbers its rows from a block of its own.
const RANGE_BLOCK: i64 = 1 << 40;

/// What a round tells the intake.
#[derive(Debug)]
pub(crate) enum CopyEvent {
    Progress {
        source_oid: u32,
        rows: u64,
        estimate: u64,
    },
    /// Uploaded; to be committed once the checkpoint has reached the point.
    Done {
        source_oid: u32,
        point: Lsn,
        files: Vec<UploadedFile>,
        rows: u64,
    },
    /// These tables are defined otherwise at the source: the lake follows once the stream has passed the look at them, and
    /// then they are copied.
    Changed {
        tables: Vec<(u32, Found)>,
        looked: LookedAt,
    },
    /// The table changed since the snapshot: it needs another round.
    Again { source_oid: u32, reason: String },
    /// The table cannot be copied.
    Failed { source_oid: u32, reason: String },
    /// The round is over; tables that are not done need another one.
    RoundEnded(Result<(), FeederError>),
}

/// What every round needs.
#[derive(Clone)]
pub(crate) struct CopyContext {
    pub(crate) endpoint: Endpoint,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) control: Control,
    pub(crate) fence: Arc<Fence>,
    pub(crate) options: EncodeOptions,
    pub(crate) workers: usize,
    pub(crate) stop: CancellationToken,
}

/// Copies `tables` under one snapshot and reports through `events`.
///
/// `exporter` is the connection that exported the snapshot; it is let go once the leader has it.
pub(crate) async fn run_round(
    context: CopyContext,
    exporter: Connection,
    snapshot: CopySnapshot,
    tables: Vec<CopyRequest>,
    events: mpsc::Sender<CopyEvent>,
) {
    let stop = context.stop.clone();
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        result = round(&context, exporter, snapshot, tables, &events) => result,
    };
    let _intake_gone = events.send(CopyEvent::RoundEnded(result)).await;
}

async fn round(
    context: &CopyContext,
    exporter: Connection,
    snapshot: CopySnapshot,
    tables: Vec<CopyRequest>,
    events: &mpsc::Sender<CopyEvent>,
) -> Result<(), FeederError> {
    let connection = connect(&context.endpoint).await?;
    let mut leader = CopySession::begin(connection, &snapshot.name)
        .await
        .map_err(from_source)?;
    let name = leader.export_snapshot().await.map_err(from_source)?;
    let timestamp = transaction_micros(&mut leader).await?;
    exporter.close().await;
    failpoint::reach(Failpoint::CopySnapshotShared);

    let (tables, queue) = plan(&mut leader, tables).await?;
    let queue = Arc::new(Mutex::new(queue));
    let shared = Arc::new(Round {
        context: context.clone(),
        snapshot: name,
        point: snapshot.point,
        timestamp,
        events: events.clone(),
    });
    let mut workers = JoinSet::new();
    for _ in 0..context.workers.max(1) {
        let shared = Arc::clone(&shared);
        let queue = Arc::clone(&queue);
        let tables = tables.clone();
        crate::own::spawn(&mut workers, async move {
            while let Some(job) = pop(&queue) {
                if let Some(table) = tables.get(job.table) {
                    shared.job(table, &job).await?;
                }
            }
            Ok::<(), FeederError>(())
        });
    }
    while let Some(joined) = workers.join_next().await {
        joined.map_err(|error| {
            FeederError::permanent(FeederErrorKind::Internal, "a copy worker ended")
                .with_source(error)
        })??;
    }
    leader.end().await.map_err(from_source)?;
    Ok(())
}

/// One range of one heap relation.
struct Job {
    table: usize,
    /// Position among the table's ranges, from 0.
    number: i64,
    /// `None` for a table without rows to copy: only the row that begins the copy is written.
    range: Option<(Leaf, CtidRange)>,
}

/// A table of the round, shared by the workers.
struct CopyTable {
    request: CopyRequest,
    rows: AtomicU64,
    progress: Mutex<Progress>,
}

struct Progress {
    ranges_left: usize,
    /// Nothing more is copied of a table that changed or failed.
    given_up: bool,
    files: Vec<UploadedFile>,
}

/// The time of the snapshot, in microseconds since 1970-01-01 UTC.
async fn transaction_micros(leader: &mut CopySession) -> Result<i64, FeederError> {
    let rows = leader
        .connection()
        .query("select (extract(epoch from now()) * 1000000)::pg_catalog.int8")
        .await
        .map_err(from_source)?;
    Ok(rows
        .first()
        .and_then(|row| row.get(0))
        .and_then(|micros| micros.parse().ok())
        .unwrap_or_default())
}

async fn plan(
    leader: &mut CopySession,
    requests: Vec<CopyRequest>,
) -> Result<(Vec<Arc<CopyTable>>, VecDeque<Job>), FeederError> {
    let mut queue = VecDeque::new();
    let mut tables = Vec::new();
    for (table, request) in requests.into_iter().enumerate() {
        let mut ranges = Vec::new();
        for leaf in &request.leaves {
            // The size now: pages that were added since the snapshot hold no row of it, and cost little.
            let pages = leader.pages(leaf.oid).await.map_err(from_source)?;
            for range in cdc_source::ctid_ranges(pages, RANGE_PAGES) {
                ranges.push(Some((leaf.clone(), range)));
            }
        }
        if ranges.is_empty() {
            ranges.push(None);
        }
        let ranges_left = ranges.len();
        for (number, range) in (0..).zip(ranges) {
            queue.push_back(Job {
                table,
                number,
                range,
            });
        }
        tables.push(Arc::new(CopyTable {
            progress: Mutex::new(Progress {
                ranges_left,
                given_up: false,
                files: Vec::new(),
            }),
            rows: AtomicU64::new(0),
            request,
        }));
    }
    Ok((tables, queue))
}

fn pop(queue: &Mutex<VecDeque<Job>>) -> Option<Job> {
    let queue = queue.lock();
    queue.unwrap_or_else(PoisonError::into_inner).pop_front()
}

impl CopyTable {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the workers of a round share.
struct Round {
    context: CopyContext,
    snapshot: String,
    point: Lsn,
    timestamp: i64,
    events: mpsc::Sender<CopyEvent>,
}

/// The dead letters of a range.
struct Letters {
    pending: Option<DeadLetters>,
    /// Begun with the first of them.
    writer: Option<FileWriter>,
}

impl Letters {
    fn memory_size(&self) -> usize {
        self.pending.as_ref().map_or(0, DeadLetters::memory_size)
    }
}

/// Why a range was not copied.
enum RangeError {
    Again(String),
    Failed(String),
    Feeder(FeederError),
}

impl From<cdc_source::SourceError> for RangeError {
    fn from(error: cdc_source::SourceError) -> Self {
        Self::Feeder(from_source(error))
    }
}

impl From<FeederError> for RangeError {
    fn from(error: FeederError) -> Self {
        Self::Feeder(error)
    }
}

impl Round {
    async fn job(&self, table: &CopyTable, job: &Job) -> Result<(), FeederError> {
        if table.progress().given_up {
            return Ok(());
        }
        let source_oid = table.request.lake.source_oid;
        let event = match self.range(table, job).await {
            Ok(files) => {
                let mut progress = table.progress();
                progress.files.extend(files);
                progress.ranges_left -= 1;
                if progress.ranges_left > 0 {
                    return Ok(());
                }
                CopyEvent::Done {
                    source_oid,
                    point: self.point,
                    files: std::mem::take(&mut progress.files),
                    // The row that begins the copy is ours, not the table's.
                    rows: table.rows.load(Ordering::Relaxed).saturating_sub(1),
                }
            }
            Err(RangeError::Again(reason)) => {
                table.progress().given_up = true;
                CopyEvent::Again { source_oid, reason }
            }
            Err(RangeError::Failed(reason)) => {
                table.progress().given_up = true;
                CopyEvent::Failed { source_oid, reason }
            }
            Err(RangeError::Feeder(error)) => return Err(error),
        };
        self.tell(event).await
    }

    async fn tell(&self, event: CopyEvent) -> Result<(), FeederError> {
        self.events.send(event).await.map_err(|_closed| {
            FeederError::permanent(FeederErrorKind::Internal, "the intake is gone")
        })
    }

    /// The session that a range is read in, with its table locked, and the COPY; `None` without rows to copy.
    async fn source(
        &self,
        request: &CopyRequest,
        job: &Job,
    ) -> Result<Option<(CopySession, String)>, RangeError> {
        let Some((leaf, range)) = &job.range else {
            return Ok(None);
        };
        let connection = connect(&self.context.endpoint).await?;
        let mut session = CopySession::begin(connection, &self.snapshot)
            .await
            .map_err(from_source)?;
        self.lock_and_compare(&mut session, &request.root).await?;
        let columns: Vec<String> = request
            .columns
            .iter()
            .map(|column| {
                column
                    .reader
                    .copy_expression(&cdc_source::quote_ident(&column.name))
            })
            .collect();
        let filter = request.row_filter.as_deref();
        let sql = cdc_source::render_copy(&leaf.schema, &leaf.name, &columns, Some(*range), filter);
        Ok(Some((session, sql)))
    }

    /// Copies one range into at most one file, and one of dead letters.
    async fn range(&self, table: &CopyTable, job: &Job) -> Result<Vec<UploadedFile>, RangeError> {
        let request = &table.request;
        // Before the source's table is locked: the catalog may be away.
        let mut writer = self.writer(&request.lake).await?;
        let mut source = match self.source(request, job).await {
            Ok(source) => source,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        };
        let mut letters = Letters {
            pending: request.lake.dead_letters.clone().map(DeadLetters::new),
            writer: None,
        };
        let rows = match self
            .copy(table, job, source.as_mut(), &mut writer, &mut letters)
            .await
        {
            Ok(rows) => rows,
            Err(error) => {
                writer.abort().await;
                if let Some(writer) = letters.writer {
                    writer.abort().await;
                }
                return Err(error);
            }
        };
        failpoint::reach(Failpoint::CopyRangeRead);
        let mut files = Vec::new();
        if rows > 0 {
            files.push(writer.finish().await?);
        } else {
            writer.abort().await;
        }
        if let Some(writer) = letters.writer {
            files.push(writer.finish().await?);
            failpoint::reach(Failpoint::DeadLettersUploaded);
        }
        failpoint::reach(Failpoint::CopyRangeUploaded);
        if let Some((session, _)) = source {
            session.end().await.map_err(from_source)?.close().await;
        }
        Ok(files)
    }

    /// Rule 2: what is read under the snapshot must be what the table is now, or the rows are not there.
    async fn lock_and_compare(
        &self,
        session: &mut CopySession,
        root: &Leaf,
    ) -> Result<(), RangeError> {
        session
            .lock_table(&root.schema, &root.name)
            .await
            .map_err(|error| match error.kind() {
                SourceErrorKind::ObjectMissing => {
                    RangeError::Again("it was dropped or renamed".to_owned())
                }
                _ => RangeError::Feeder(from_source(error)),
            })?;
        let before = session.shape(root.oid).await.map_err(from_source)?;
        let mut live = connect(&self.context.endpoint).await?;
        let now = shape::read(&mut live, &[root.oid])
            .await
            .map_err(from_source)?
            .remove(&root.oid);
        live.close().await;
        match (before, now) {
            (Some(before), Some(now)) => match before.difference(&now) {
                None => Ok(()),
                Some(difference) => Err(RangeError::Again(format!(
                    "{difference} after the snapshot was taken"
                ))),
            },
            _ => Err(RangeError::Again(
                "it was made or dropped after the snapshot was taken".to_owned(),
            )),
        }
    }

    async fn copy(
        &self,
        table: &CopyTable,
        job: &Job,
        source: Option<&mut (CopySession, String)>,
        writer: &mut FileWriter,
        letters: &mut Letters,
    ) -> Result<u64, RangeError> {
        let request = &table.request;
        let key: Vec<usize> = request
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| request.key.contains(&column.name))
            .map(|(position, _)| position)
            .collect();
        let names: Vec<&str> = request
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let columns: Vec<SourceColumn> =
            request.columns.iter().map(SourceColumn::of_copy).collect();
        let mut encoder = RowEncoder::new(&columns, &names, request.options);
        let mut batch = RowBatchBuilder::new(&request.lake.schema);
        let lsn = i64::try_from(self.point.get()).map_err(|_too_large| {
            RangeError::Failed("the consistent point is beyond 2^63".to_owned())
        })?;
        let mut head = RowHead {
            op: Op::Snapshot,
            timestamp: self.timestamp,
            lsn,
            seq: first_seq(job.number),
        };
        let mut total = 0_u64;
        if job.number == 0 {
            let reset = RowHead {
                op: Op::Reset,
                seq: RESET_SEQ,
                ..head
            };
            RowEncoder::append_marker(&mut batch, reset)
                .map_err(|error| RangeError::Failed(error.to_string()))?;
        }
        if let Some((session, sql)) = source {
            let mut decoder = CopyBinaryDecoder::new(names.len());
            let mut copy = session.copy(sql).await.map_err(from_source)?;
            while let Some(bytes) = copy.next().await.map_err(from_source)? {
                decoder.push(bytes);
                while let Some(row) = decoder.next_row().map_err(decode_error)? {
                    let none = || None::<std::iter::Empty<_>>;
                    encoder
                        .append(&mut batch, head, row.iter(), none(), none())
                        .map_err(|error| match &error.altered {
                            Some(_) => RangeError::Again(error.to_string()),
                            None => RangeError::Failed(error.to_string()),
                        })?;
                    if let (false, Some(pending)) =
                        (encoder.letters().is_empty(), &mut letters.pending)
                    {
                        let key = encoder.key_text(&key, row.iter());
                        let names = (&*request.lake.source, &*request.lake.target);
                        pending
                            .append(head, names, key.as_deref(), encoder.letters())
                            .map_err(|error| RangeError::Failed(error.to_string()))?;
                    }
                    head.seq += 1;
                }
                if batch.memory_size() >= BATCH_BYTES {
                    total += self.flush(table, &mut batch, writer).await?;
                }
                if letters.memory_size() >= BATCH_BYTES {
                    self.flush_letters(letters).await?;
                }
            }
            decoder.finish().map_err(decode_error)?;
        }
        if batch.rows() > 0 {
            total += self.flush(table, &mut batch, writer).await?;
        }
        self.flush_letters(letters).await?;
        Ok(total)
    }

    async fn flush_letters(&self, letters: &mut Letters) -> Result<(), RangeError> {
        let Some(pending) = letters
            .pending
            .as_mut()
            .filter(|letters| !letters.is_empty())
        else {
            return Ok(());
        };
        let rows = pending
            .finish()
            .map_err(|error| RangeError::Failed(error.to_string()))?;
        let writer = match &mut letters.writer {
            Some(writer) => writer,
            none => none.insert(self.writer(pending.table()).await?),
        };
        Ok(writer.write(rows).await?)
    }

    async fn flush(
        &self,
        table: &CopyTable,
        batch: &mut RowBatchBuilder,
        writer: &mut FileWriter,
    ) -> Result<u64, RangeError> {
        let rows = u64::try_from(batch.rows()).unwrap_or(u64::MAX);
        let record = batch
            .finish()
            .map_err(|error| RangeError::Failed(error.to_string()))?;
        writer.write(record).await?;
        let done = table.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let request = &table.request;
        self.tell(CopyEvent::Progress {
            source_oid: request.lake.source_oid,
            rows: done,
            estimate: request.estimated_rows,
        })
        .await?;
        Ok(rows)
    }
}

/// `_df_seq` of the first row of a table's range. They count up from it.
fn first_seq(range: i64) -> i64 {
    -(range + 1) * RANGE_BLOCK
}

async fn connect(endpoint: &Endpoint) -> Result<Connection, FeederError> {
    Connection::connect(endpoint, SessionKind::Sql)
        .await
        .map_err(from_source)
}

fn decode_error(error: pgoutput::DecodeError) -> RangeError {
    RangeError::Feeder(
        FeederError::permanent(FeederErrorKind::Data, "a COPY row could not be decoded")
            .with_source(error),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_copy_are_numbered_below_zero_after_the_row_that_begins_it() {
        // 32 TiB, the largest table, has 2^18 ranges; a partitioned one may have many of them.
        let ranges = (0..5).chain([1 << 18, (1 << 22) - 2]);
        let mut above = 0;
        for range in ranges {
            let first = first_seq(range);
            let last = first + RANGE_BLOCK - 1;
            assert!(last < above, "range {range} begins where another one is");
            assert!(first > RESET_SEQ);
            above = first;
        }
    }

    #[test]
    fn a_range_has_fewer_rows_than_its_block() {
        // Each row has a line pointer of four bytes, so a page of 32 KiB has room for 8192 at the most.
        let rows = i64::from(RANGE_PAGES.get()) * 8192;
        assert!(rows < RANGE_BLOCK);
    }

    #[test]
    fn jobs_are_taken_once_and_in_order() {
        let job = |number| Job {
            table: 0,
            number,
            range: None,
        };
        let queue = Mutex::new((0..3).map(job).collect());
        let taken: Vec<i64> = std::iter::from_fn(|| pop(&queue))
            .map(|job| job.number)
            .collect();
        assert_eq!(taken, [0, 1, 2]);
    }
}
