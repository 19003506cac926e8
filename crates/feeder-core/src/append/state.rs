//! What the buffers hold, as it is under their lock.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustc_hash::FxHashMap;

use super::buffers::{Pushed, Refused, Sealed, Stamp, micros};
use super::chunk::Chunk;
use super::column::AppendTable;
use super::given::Rows;
use super::lake::KnownColumns;
use super::options::{AppendOptions, Overflow};
use super::problem::Problem;
use super::row::Scratch;
use super::table::{Head, TableBuffer};
use crate::control::StoredPosition;
use crate::error::{FeederError, FeederErrorKind};

#[derive(Debug)]
pub(super) struct State {
    pub(super) tables: Vec<TableBuffer>,
    pub(super) by_name: FxHashMap<String, usize>,
    /// Columns of the lake's append tables that are not in use here yet.
    pub(super) lake: KnownColumns,
    /// Positions of tables that are not in use here yet.
    pub(super) stored: Vec<StoredPosition>,
    pub(super) scratch: Scratch,
    pub(super) next_seq: i64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) oldest: Option<Instant>,
    pub(super) flush: bool,
    /// Since when somebody waits for a commit.
    pub(super) awaited: Option<Instant>,
    pub(super) in_flight: Option<Arc<Sealed>>,
    pub(super) in_flight_bytes: u64,
    pub(super) ready: bool,
    /// Nothing more is taken.
    pub(super) closed: Option<Arc<FeederError>>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            tables: Vec::new(),
            by_name: FxHashMap::default(),
            lake: KnownColumns::default(),
            stored: Vec::new(),
            scratch: Scratch::default(),
            // Grows over restarts, too, without anything to remember.
            next_seq: micros(SystemTime::now()),
            bytes: 0,
            rows: 0,
            oldest: None,
            flush: false,
            awaited: None,
            in_flight: None,
            in_flight_bytes: 0,
            ready: false,
            closed: None,
        }
    }

    pub(super) fn add(&mut self, spec: AppendTable) -> Result<usize, Problem> {
        let same = |table: &&TableBuffer| {
            table.spec.schema.eq_ignore_ascii_case(&spec.schema)
                && table.spec.table.eq_ignore_ascii_case(&spec.table)
        };
        if let Some(other) = self.tables.iter().find(same) {
            return Err(Problem::Unfit(format!(
                "{spec} is the table of {:?} already",
                other.spec.name
            )));
        }
        if spec.name.is_empty() || spec.schema.is_empty() || spec.table.is_empty() {
            return Err(Problem::unfit("a table without a name"));
        }
        let name = spec.name.clone();
        let mut table = TableBuffer::new(spec)?;
        adopt(&mut table, &self.lake);
        self.stored.retain(|stored| {
            let position = &stored.position;
            let of = position.schema == table.spec.schema && position.table == table.spec.table;
            if of {
                table.committed(&position.producer, position.position, stored.snapshot);
            }
            !of
        });
        let index = self.tables.len();
        self.tables.push(table);
        self.by_name.insert(name, index);
        Ok(index)
    }

    /// The table of that name; one that nobody declared takes its columns from its rows.
    pub(super) fn table(&mut self, name: &str) -> Result<usize, Refused> {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None if !self.ready => return Err(Refused::NotReady),
            None => {
                let spec = AppendTable::new(name);
                self.add(spec).map_err(|problem| unfit(name, &problem))?
            }
        };
        match self
            .tables
            .get(index)
            .and_then(|table| table.broken.as_ref())
        {
            Some(error) => Err(Refused::Broken(Arc::clone(error))),
            None => Ok(index),
        }
    }

    /// Where a producer's row is that it sent before.
    pub(super) fn replayed(
        &mut self,
        index: usize,
        stamp: Option<Stamp<'_>>,
        count: u64,
    ) -> Option<Pushed> {
        let Stamp { producer, seq } = stamp?;
        let table = self.tables.get_mut(index)?;
        let state = table.producers.get(producer)?;
        if seq > state.accepted {
            return None;
        }
        let known = match (state.committed, &state.chunk) {
            (Some((position, snapshot)), _) if seq <= position => Pushed::Known { snapshot },
            (_, Some(chunk)) => Pushed::Buffered(Arc::clone(chunk)),
            (_, None) => return None,
        };
        table.counts.duplicate += count;
        Some(known)
    }

    pub(super) fn make_room(
        &mut self,
        index: usize,
        count: u64,
        options: &AppendOptions,
        again: bool,
    ) -> Result<(), Refused> {
        while options.overflow == Overflow::DropOldest
            && self.bytes + self.in_flight_bytes >= options.memory
        {
            let oldest = self
                .tables
                .iter_mut()
                .filter_map(|table| Some((table.oldest_droppable()?, table)))
                .min_by_key(|(since, _)| *since);
            let Some((_, table)) = oldest else { break };
            let dropped = table.drop_oldest().map_err(|problem| {
                let name = table.spec.name.clone();
                unfit(&name, &problem)
            })?;
            if dropped == 0 {
                break;
            }
            self.rows = self.rows.saturating_sub(dropped);
            self.count_bytes();
        }
        if self.bytes + self.in_flight_bytes < options.memory {
            return Ok(());
        }
        if let Some(table) = self.tables.get_mut(index)
            && !again
        {
            match options.overflow {
                Overflow::Block => table.counts.blocked += count,
                Overflow::Fail | Overflow::DropOldest => table.counts.refused += count,
            }
        }
        Err(Refused::Full)
    }

    pub(super) fn append(
        &mut self,
        index: usize,
        rows: &impl Rows,
        head: Head,
        keep: bool,
        options: &AppendOptions,
    ) -> Result<Arc<Chunk>, Refused> {
        let ready = self.ready;
        let State {
            tables, scratch, ..
        } = self;
        let Some(table) = tables.get_mut(index) else {
            return Err(Refused::NotReady);
        };
        let before = table.bytes();
        let mut learnt = false;
        let appended = loop {
            if keep {
                table.keep_open_chunk();
            }
            match rows.append(table, head, scratch) {
                Err(Problem::NewField) if !ready => return Err(Refused::NotReady),
                Err(Problem::NewField) if !learnt => {
                    learnt = true;
                    if let Err(problem) = rows.learn(table) {
                        break Err(problem);
                    }
                }
                Err(Problem::Full) if table.open_rows() > 0 => {
                    if let Err(problem) = table.close_chunk() {
                        break Err(problem);
                    }
                }
                done => break done,
            }
        };
        let result = match appended {
            Ok(()) => Ok(take_chunk(table, rows.is_batch(), keep, options)),
            Err(problem) => {
                let count = u64::try_from(rows.count()).unwrap_or(u64::MAX);
                table.counts.unfit += count;
                Err(unfit(&table.spec.to_string(), &problem))
            }
        };
        let after = table.bytes();
        self.bytes = (self.bytes + after).saturating_sub(before);
        result
    }

    /// Somebody waits for a commit; whether the committer has to hear of it.
    pub(super) fn await_commit(&mut self) -> bool {
        let first = self.awaited.is_none() && self.rows > 0;
        if first {
            self.awaited = Some(Instant::now());
        }
        first
    }

    pub(super) fn is_due(&self, options: &AppendOptions, now: Instant) -> bool {
        if !self.ready || self.rows == 0 {
            return false;
        }
        self.flush
            || self.rows >= options.flush.max_rows
            || self.bytes >= options.flush.max_bytes.min(options.memory / 4)
            || self.deadline(options).is_some_and(|due| now >= due)
    }

    pub(super) fn deadline(&self, options: &AppendOptions) -> Option<Instant> {
        if !self.ready {
            return None;
        }
        let oldest = self.oldest.map(|since| since + options.flush.interval);
        let awaited = self.awaited.map(|since| since + options.durable_within);
        oldest.into_iter().chain(awaited).min()
    }

    pub(super) fn count_bytes(&mut self) {
        self.bytes = self.tables.iter().map(TableBuffer::bytes).sum();
    }
}

/// The chunk that holds what was just appended; a large one is ended.
fn take_chunk(
    table: &mut TableBuffer,
    is_batch: bool,
    keep: bool,
    options: &AppendOptions,
) -> Arc<Chunk> {
    if is_batch && let Some(last) = table.last_chunk() {
        last.droppable = !keep;
        return Arc::clone(&last.chunk);
    }
    let chunk = Arc::clone(table.open_chunk());
    if table.open_bytes() >= options.chunk_bytes()
        && let Err(problem) = table.close_chunk()
    {
        // The rows stay where they are, and the seal meets the same problem.
        tracing::error!(table = %table.spec, %problem, "a batch cannot be ended");
    }
    chunk
}

/// Takes the columns that the table has in the lake.
pub(super) fn adopt(table: &mut TableBuffer, lake: &KnownColumns) {
    let key = (table.spec.schema.clone(), table.spec.table.clone());
    let Some(columns) = lake.get(&key) else {
        return;
    };
    if let Err(problem) = table.adopt(columns) {
        let error = FeederError::permanent(
            FeederErrorKind::Config,
            format!("append table {}: {problem}", table.spec),
        )
        .with_remedy("declare the columns as they are in the lake, or append to another table");
        tracing::error!(error = %error, "rows cannot be appended");
        table.broken = Some(Arc::new(error));
    }
}

pub(super) fn unfit(target: &str, problem: &Problem) -> Refused {
    Refused::Error(FeederError::permanent(
        FeederErrorKind::Data,
        format!("row for {target}: {problem}"),
    ))
}
