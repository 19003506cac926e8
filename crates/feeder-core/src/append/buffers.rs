//! The rows of all tables between their producers and the committer: bounded, sealed as a whole, settled as a whole.
//!
//! ```text
//!   push -> open chunks --seal--> in flight --commit--> settle: chunks learn their snapshot
//! ```
//!
//! What is sealed stays here until it is settled, so that a committer that gives up loses nothing: the next one finds
//! it, asks the positions of the producers whether it is in the lake already, and else commits it again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::chunk::{Chunk, stopped};
use super::column::{AppendTable, Column};
use super::given::Rows;
use super::infer;
use super::lake::KnownColumns;
use super::options::AppendOptions;
use super::state::{State, adopt, unfit};
use super::table::{AppendCounts, ClosedChunk, Head, TableBuffer};
use crate::control::{AppendPosition, StoredPosition};
use crate::error::{FeederError, FeederErrorKind};
use crate::own;

/// Rows of one table that are on their way into the lake.
#[derive(Debug)]
pub(crate) struct SealedTable {
    /// Its place among the tables of the buffers.
    pub(crate) index: usize,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) chunks: Vec<ClosedChunk>,
    pub(crate) positions: Vec<AppendPosition>,
    /// The name of its file, when that is to be one of JSON lines: the same at each attempt.
    pub(crate) json_lines: Option<Uuid>,
}

impl SealedTable {
    pub(crate) fn rows(&self) -> u64 {
        let rows: usize = self.chunks.iter().map(|chunk| chunk.batch.num_rows()).sum();
        u64::try_from(rows).unwrap_or(u64::MAX)
    }
}

/// Everything that commits together.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) tables: Vec<SealedTable>,
}

/// What a producer says of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) producer: &'a str,
    pub(crate) seq: i64,
}

/// Where a row is that was pushed.
#[derive(Debug)]
pub(crate) enum Pushed {
    Buffered(Arc<Chunk>),
    /// A producer's row that is in the lake already.
    Known {
        snapshot: i64,
    },
    /// The stream is disabled.
    Ignored,
}

/// Why a row was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room now.
    Full,
    /// The tables of the lake are not known yet.
    NotReady,
    Error(FeederError),
    /// As [`Self::Error`], told to many.
    Broken(Arc<FeederError>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Buffers {
    options: AppendOptions,
    state: Mutex<State>,
    /// Something changed that a producer may wait for.
    changes: watch::Sender<()>,
    /// Something changed that the committer may wait for.
    work: Notify,
}

impl Buffers {
    /// With declared tables.
    ///
    /// # Errors
    /// A declaration that cannot be.
    pub(crate) fn new(
        options: AppendOptions,
        tables: Vec<AppendTable>,
    ) -> Result<Self, FeederError> {
        let buffers = Self::empty(options);
        for table in tables {
            if buffers.state().by_name.contains_key(&table.name) {
                return Err(FeederError::permanent(
                    FeederErrorKind::Config,
                    format!("append table {} is declared twice", table.name),
                ));
            }
            buffers.declare(table)?;
        }
        Ok(buffers)
    }

    /// Without declared tables.
    pub(crate) fn empty(options: AppendOptions) -> Self {
        let (changes, _) = watch::channel(());
        Self {
            options,
            state: Mutex::new(State::new()),
            changes,
            work: Notify::new(),
        }
    }

    pub(crate) fn options(&self) -> &AppendOptions {
        &self.options
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A row whose Serialize panicked is taken out again by the next one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees what happens from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes rows in, or says why not. `durable`: somebody waits for their commit. `again`: it was refused before.
    pub(crate) fn push(
        &self,
        target: &str,
        stamp: Option<Stamp<'_>>,
        rows: &impl Rows,
        durable: bool,
        again: bool,
    ) -> Result<Pushed, Refused> {
        if self.options.disabled {
            return Ok(Pushed::Ignored);
        }
        // What the row's own Serialize logs is our activity, and appending from inside it would wait for itself.
        if own::is_active() {
            return Err(Refused::Error(FeederError::permanent(
                FeederErrorKind::Config,
                format!("a row for {target} was appended by duckfeeder's own work"),
            )));
        }
        own::sync(|| self.push_locked(target, stamp, rows, durable, again))
    }

    fn push_locked(
        &self,
        target: &str,
        stamp: Option<Stamp<'_>>,
        rows: &impl Rows,
        durable: bool,
        again: bool,
    ) -> Result<Pushed, Refused> {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(error) = &state.closed {
            return Err(Refused::Broken(Arc::clone(error)));
        }
        if stamp.is_some() && !state.ready {
            return Err(Refused::NotReady);
        }
        let index = state.table(target)?;
        let count = u64::try_from(rows.count()).unwrap_or(u64::MAX);
        if let Some(known) = state.replayed(index, stamp, count) {
            if durable && state.await_commit() {
                self.work.notify_one();
            }
            return Ok(known);
        }
        if state.bytes + state.in_flight_bytes >= self.options.memory {
            state.make_room(index, count, &self.options, again)?;
        }
        if count == 0 {
            return Ok(Pushed::Ignored);
        }
        let head = Head {
            now: micros(SystemTime::now()),
            seq: stamp.map_or(state.next_seq, |stamp| stamp.seq),
        };
        let before = (state.oldest, state.is_due(&self.options, Instant::now()));
        let chunk = state.append(index, rows, head, stamp.is_some(), &self.options)?;
        let last = head
            .seq
            .saturating_add(i64::try_from(count).unwrap_or(i64::MAX) - 1);
        if let Some(table) = state.tables.get_mut(index) {
            table.counts.accepted += count;
            let producer = stamp.map_or("", |stamp| stamp.producer);
            table.accepted(producer, last, Arc::clone(&chunk));
        }
        if stamp.is_none() {
            state.next_seq = last.saturating_add(1);
        }
        state.rows += count;
        state.oldest = state.oldest.or_else(|| Some(Instant::now()));
        let awaited = durable && state.await_commit();
        let due = state.is_due(&self.options, Instant::now());
        if before.0.is_none() || awaited || (due && !before.1) {
            self.work.notify_one();
        }
        Ok(Pushed::Buffered(chunk))
    }

    /// Declares a table, unless one of its name is there.
    ///
    /// # Errors
    /// A declaration that cannot be.
    pub(crate) fn declare(&self, table: AppendTable) -> Result<(), FeederError> {
        let mut state = self.state();
        if state.by_name.contains_key(&table.name) {
            return Ok(());
        }
        let message = format!("append table {} ({table})", table.name);
        match state.add(table) {
            Ok(_index) => Ok(()),
            Err(problem) => Err(FeederError::permanent(
                FeederErrorKind::Config,
                format!("{message}: {problem}"),
            )),
        }
    }

    /// Makes the columns of a new table known from all of its first rows.
    pub(crate) fn learn_all<T: Serialize>(
        &self,
        target: &str,
        rows: &[T],
    ) -> Result<(), Arc<FeederError>> {
        if self.options.disabled || own::is_active() {
            return Ok(());
        }
        own::sync(|| {
            let mut guard = self.state();
            let state = &mut *guard;
            if state.closed.is_some() {
                // The append says so.
                return Ok(());
            }
            let index = match state.table(target) {
                Ok(index) => index,
                Err(Refused::Error(error)) => return Err(Arc::new(error)),
                Err(Refused::Broken(error)) => return Err(error),
                Err(Refused::Full | Refused::NotReady) => return Ok(()),
            };
            let Some(table) = state.tables.get_mut(index) else {
                return Ok(());
            };
            if !table.is_known() {
                let fields = infer::all_fields(rows, table.spec.infer_timestamps);
                if let Err(problem) = table.learn_fields(fields)
                    && let Refused::Error(error) = unfit(target, &problem)
                {
                    return Err(Arc::new(error));
                }
            }
            Ok(())
        })
    }

    /// The greatest number of a producer that is in the lake.
    pub(crate) fn position(&self, target: &str, producer: &str) -> Option<i64> {
        let mut state = self.state();
        let index = state.table(target).ok()?;
        let producer = state.tables.get(index)?.producers.get(producer)?;
        producer.committed.map(|(position, _)| position)
    }

    /// Has everything that is buffered committed soon; the chunks whose fate tells when it is.
    pub(crate) fn flush(&self) -> Vec<Arc<Chunk>> {
        let mut state = self.state();
        let mut chunks = Vec::new();
        for table in &mut state.tables {
            if table.open_rows() > 0 {
                chunks.push(Arc::clone(table.open_chunk()));
            } else if let Some(last) = table.last_chunk() {
                chunks.push(Arc::clone(&last.chunk));
            }
        }
        if let Some(sealed) = &state.in_flight {
            let last = sealed.tables.iter().filter_map(|table| table.chunks.last());
            chunks.extend(last.map(|chunk| Arc::clone(&chunk.chunk)));
        }
        state.flush = !chunks.is_empty();
        drop(state);
        self.work.notify_one();
        chunks
    }

    /// Waits until there is something to commit.
    pub(crate) async fn due(&self) {
        loop {
            let changed = self.work.notified();
            let deadline = {
                let state = self.state();
                if state.in_flight.is_some() || state.is_due(&self.options, Instant::now()) {
                    return;
                }
                state.deadline(&self.options)
            };
            match deadline {
                Some(deadline) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(deadline.into()) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Everything that is to be committed next; what was sealed before and is not settled comes first.
    pub(crate) fn seal(&self) -> Result<Option<Arc<Sealed>>, FeederError> {
        let mut state = self.state();
        if let Some(sealed) = &state.in_flight {
            return Ok(Some(Arc::clone(sealed)));
        }
        let mut tables = Vec::new();
        for (index, table) in state.tables.iter_mut().enumerate() {
            if table.rows() == 0 {
                continue;
            }
            let chunks = table.take().map_err(|problem| {
                let message = format!("rows of {} cannot be taken: {problem}", table.spec);
                FeederError::permanent(FeederErrorKind::Internal, message)
            })?;
            tables.push(SealedTable {
                index,
                schema: table.spec.schema.clone(),
                table: table.spec.table.clone(),
                columns: table.columns().to_vec(),
                chunks,
                positions: table.take_moved(),
                json_lines: table.spec.json_lines.then(Uuid::now_v7),
            });
        }
        state.oldest = None;
        state.awaited = None;
        state.flush = false;
        if tables.is_empty() {
            return Ok(None);
        }
        let sealed = Arc::new(Sealed { tables });
        state.in_flight_bytes = std::mem::take(&mut state.bytes);
        state.rows = 0;
        state.in_flight = Some(Arc::clone(&sealed));
        Ok(Some(sealed))
    }

    /// What was sealed is in the lake.
    pub(crate) fn settle(&self, snapshot: i64) {
        let mut state = self.state();
        if let Some(sealed) = state.in_flight.take() {
            for sealed in &sealed.tables {
                let Some(table) = state.tables.get_mut(sealed.index) else {
                    continue;
                };
                if table.broken.is_some() {
                    continue;
                }
                table.counts.committed += sealed.rows();
                for position in &sealed.positions {
                    table.committed(&position.producer, position.position, snapshot);
                }
                for chunk in &sealed.chunks {
                    chunk.chunk.decide(Ok(snapshot));
                }
            }
            state.in_flight_bytes = 0;
        }
        drop(state);
        self.changes.send_replace(());
        self.work.notify_one();
    }

    /// A sealed table cannot be written: its rows are lost, and nothing more is taken for it.
    pub(crate) fn break_table(&self, index: usize, error: FeederError) {
        let error = Arc::new(error);
        let mut state = self.state();
        let in_flight = state.in_flight.clone();
        let Some(table) = state.tables.get_mut(index) else {
            return;
        };
        tracing::error!(table = %table.spec, error = error.explained(), remedy = error.remedy(), "rows cannot be appended");
        table.broken = Some(Arc::clone(&error));
        let buffered = table.take().unwrap_or_default();
        let sealed = in_flight.iter().flat_map(|sealed| &sealed.tables);
        let sealed = sealed.filter(|sealed| sealed.index == index);
        for chunk in buffered
            .iter()
            .chain(sealed.flat_map(|sealed| &sealed.chunks))
        {
            let rows = u64::try_from(chunk.batch.num_rows()).unwrap_or(u64::MAX);
            table.counts.lost += rows;
            chunk.chunk.decide(Err(Arc::clone(&error)));
        }
        state.count_bytes();
        drop(state);
        self.changes.send_replace(());
    }

    /// What the lake says at the beginning of a run, before anything is committed by it.
    pub(crate) fn begin(&self, lake: KnownColumns, stored: &[StoredPosition]) {
        let mut state = self.state();
        let committed = state
            .in_flight
            .as_ref()
            .and_then(|sealed| in_lake(sealed, stored));
        if let Some(snapshot) = committed {
            drop(state);
            self.settle(snapshot);
            state = self.state();
        }
        state.lake = lake;
        let State { tables, lake, .. } = &mut *state;
        for table in tables.iter_mut() {
            adopt(table, lake);
        }
        state.stored.clear();
        for StoredPosition { position, snapshot } in stored {
            let of = |table: &&mut TableBuffer| {
                table.spec.schema == position.schema && table.spec.table == position.table
            };
            if position.producer.is_empty() {
                state.next_seq = state.next_seq.max(position.position.saturating_add(1));
            }
            if let Some(table) = state.tables.iter_mut().find(of) {
                table.committed(&position.producer, position.position, *snapshot);
            } else {
                state.stored.push(StoredPosition {
                    position: position.clone(),
                    snapshot: *snapshot,
                });
            }
        }
        state.ready = true;
        drop(state);
        self.changes.send_replace(());
        self.work.notify_one();
    }

    /// Nothing more is taken; what was taken is committed.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed.get_or_insert_with(|| Arc::new(closed()));
        state.flush = true;
        drop(state);
        self.changes.send_replace(());
        self.work.notify_one();
    }

    /// The end: what is not in the lake now will not be.
    pub(crate) fn abandon(&self, error: Option<Arc<FeederError>>) {
        let mut state = self.state();
        let reason = error.unwrap_or_else(|| Arc::new(stopped()));
        let closed = match &state.closed {
            Some(closed) if reason.kind() == FeederErrorKind::Stopped => Arc::clone(closed),
            _ => Arc::clone(&reason),
        };
        state.closed = Some(closed);
        let in_flight = state.in_flight.take();
        let sealed = in_flight.iter().flat_map(|sealed| &sealed.tables);
        for sealed in sealed {
            if let Some(table) = state.tables.get_mut(sealed.index)
                && table.broken.is_none()
            {
                table.counts.lost += sealed.rows();
            }
            for chunk in &sealed.chunks {
                chunk.chunk.decide(Err(Arc::clone(&reason)));
            }
        }
        for table in &mut state.tables {
            for chunk in table.take().unwrap_or_default() {
                table.counts.lost += u64::try_from(chunk.batch.num_rows()).unwrap_or(u64::MAX);
                chunk.chunk.decide(Err(Arc::clone(&reason)));
            }
        }
        state.count_bytes();
        state.in_flight_bytes = 0;
        state.rows = 0;
        drop(state);
        self.changes.send_replace(());
    }

    /// Whether the tables of the lake are known, or why they never will be.
    pub(crate) fn is_ready(&self) -> Result<bool, Arc<FeederError>> {
        let state = self.state();
        match &state.closed {
            Some(error) => Err(Arc::clone(error)),
            None => Ok(state.ready || self.options.disabled),
        }
    }

    /// Whether nothing waits for its commit.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.in_flight.is_none() && state.rows == 0
    }

    /// Rows that are buffered or being committed, in bytes.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        let state = self.state();
        state.bytes + state.in_flight_bytes
    }

    /// The counts of each table, by its name in the lake.
    pub(crate) fn counts(&self) -> Vec<(String, AppendCounts)> {
        let state = self.state();
        let counts = state.tables.iter();
        counts
            .map(|table| (table.spec.to_string(), table.counts))
            .collect()
    }
}

/// Whether what was sealed is in the lake: positions and rows commit together.
fn in_lake(sealed: &Sealed, stored: &[StoredPosition]) -> Option<i64> {
    let moved = sealed
        .tables
        .iter()
        .flat_map(|table| &table.positions)
        .next()?;
    let found = stored.iter().find(|stored| stored.position == *moved)?;
    Some(found.snapshot)
}

fn closed() -> FeederError {
    FeederError::permanent(
        FeederErrorKind::Stopped,
        "the append stream was stopped and takes no more rows",
    )
}

pub(super) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
